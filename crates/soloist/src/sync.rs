//! The locks, atomics, channels and threads of this crate, in one place.
//!
//! Decides nothing: they are those of the standard library. The tests of interleavings compile these same sources under
//! `cfg(shuttle)`, with counterparts that let a scheduler choose who goes on (`tests/interleavings`).

#[cfg(not(shuttle))]
pub(crate) use std::{
    sync::{Mutex, MutexGuard, RwLock, atomic, mpsc},
    thread,
};

#[cfg(shuttle)]
pub(crate) use interleaved::{
    mpsc,
    sync::{Mutex, MutexGuard, RwLock, atomic},
    thread,
};
