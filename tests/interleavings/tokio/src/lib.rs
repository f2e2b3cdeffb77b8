//! What the product uses of tokio, as the scheduler of the interleavings runs it.
//!
//! Locks, channels and `select!` are those of `shuttle-tokio`. Tasks are its as well, behind a handle that is finished when
//! it has answered, as tokio's is. Time is that of the tests ([`interleaved::time`]).

#![forbid(unsafe_code)]

pub mod sync;
pub mod task;
pub mod time;

pub use shuttle_tokio::{join, pin, select};

pub use task::spawn;
