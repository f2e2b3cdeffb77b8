//! For simulations only: many coordinators on one thread, and the same history again from the same seed.
//!
//! A simulation gives every node a runtime of its own (current-thread, its clock paused), one store behind a line that is
//! slow, lossy and cut, and moves the time. What stands in the way of that in a real process is taken away here: random
//! numbers follow from a seed ([`seed`]), and a node's heartbeat and the watch over its lease are tasks of its runtime and
//! no threads, where its store hands out a [`SlowHeartbeat`] ([`crate::store::Heartbeat::simulated`]). Everything else is
//! the very code that runs anywhere.
//!
//! No part of the public interface: it may change at any time.

use async_trait::async_trait;

use crate::{
    chance,
    store::{Renewal, StoreResult},
};

/// Everything that is drawn at random on this thread follows from a seed, until it is none.
pub fn seed(seed: Option<u64>) {
    chance::seed(seed);
}

/// A [`crate::store::Heartbeat`] that takes its time, and blocks nothing.
#[async_trait]
pub trait SlowHeartbeat: Send {
    /// As [`crate::store::Heartbeat::renew`].
    async fn renew(&mut self) -> StoreResult<Renewal>;

    /// As [`crate::store::Heartbeat::leave`].
    async fn leave(&mut self) -> StoreResult<()>;
}
