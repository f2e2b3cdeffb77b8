//! The right to write for a run.
//!
//! Decides: who may write as a run. A [`RunLease`] comes into being only from a claim that this process won, names
//! the epoch that the claim gave it, and is what every append and ending is compared with: a store accepts a write
//! only where the task's row still shows this node, this epoch and a held status, and makes that comparison in the
//! same statement that writes. So a process that was stalled while somebody else took the task over cannot write
//! late: its epoch is old, and it is told that it is *fenced*.
//!
//! Never decides: whether the node is alive (the store does), or what an ending is (see [`crate::state`]).

use crate::{
    Key, NodeId, Timestamp,
    store::Won,
    task::{Epoch, Run, Seq},
};

/// One node's right to write for one run of one task, under one epoch.
#[derive(Debug, Clone)]
pub struct RunLease {
    key: Key,
    node: NodeId,
    run: Run,
    attempt: u32,
    epoch: Epoch,
    since: Timestamp,
    start_seq: Seq,
}

impl RunLease {
    /// From a claim that `node` won; there is no other way.
    #[must_use]
    pub fn from_claim(key: Key, node: NodeId, won: &Won) -> Self {
        Self {
            key,
            node,
            run: won.run,
            attempt: won.attempt,
            epoch: won.epoch,
            since: won.started_at,
            start_seq: won.last_seq,
        }
    }

    /// The task.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// The node that holds it.
    #[must_use]
    pub fn node(&self) -> &NodeId {
        &self.node
    }

    /// The run.
    #[must_use]
    pub fn run(&self) -> Run {
        self.run
    }

    /// The attempt, from 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The epoch under which it writes.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// When the run was started.
    #[must_use]
    pub fn since(&self) -> Timestamp {
        self.since
    }

    /// The seq after which this attempt writes.
    #[must_use]
    pub fn start_seq(&self) -> Seq {
        self.start_seq
    }
}
