//! The right to write for a run, and the right of a process to have it.
//!
//! # What a lease is
//!
//! A *node* is one process that runs tasks. It lives in the store as a row with a *lease*: a moment until which nobody
//! may take its runs away. The node renews that one lease by a *heartbeat*, however many tasks it runs, so staying alive
//! costs the same for one run and for ten thousand. A run belongs to a pair: the node, and the *epoch* that the node's
//! claim gave it. Two questions follow, and they have different judges.
//!
//! # What the store decides
//!
//! *Who may write?* Whoever's node and epoch stand on the task's own row, in the statement that writes. Nothing else is
//! asked, not even whether the node is alive: a comparison with another row would be a read, and what is only read may
//! change before the write. Whoever takes a run away raises its epoch in the same step; from then on every write of the
//! old holder is *fenced*, however late it comes and however long it slept.
//!
//! *Who is dead?* Death is a write. A sweeper marks the node dead in one statement that compares the lease with the
//! store's clock; a heartbeat is one statement that refuses a node which is dead or whose lease is over. One of the two
//! comes first, and the other is told. A dead node stays dead: its process joins again under a fresh name. Only then are
//! its runs taken over, each by a compare-and-set of its own.
//!
//! # What the node may believe
//!
//! The store protects the record. It cannot reach into the process and stop the work, so the node stops it by itself,
//! *before* its lease runs out, by a clock that nobody sets and that counts suspension ([`crate::BootClock`]). It counts
//! from the moment at which the last good heartbeat was *sent*: the store counts from a later one, so the node is never
//! the more optimistic of the two.
//!
//! ```text
//!  sent                renewed by then               60 %        80 %     90 %   100 %
//!   |----------------------|--------------------------|-----------|--------|------|--------->
//!   |  30 %: the next heartbeat                        |           |        |      | the store may
//!   |                                                  |           |        |      | bury the node
//!   |<---------- the trust window ------------------->|           |        |
//!   |  starts are answered from memory                 |           |        | work that has not let go
//!   |                                                  |           |        | ends with its process
//!   |                                    work is asked to stop     |
//!   |                                                      commands get SIGKILL,
//!   |                                                      native work is dropped
//! ```
//!
//! Within the trust window a start of a key that runs here is answered from memory. After it the node believes nothing:
//! starts go to the store, work is asked to stop, then ended, and a process whose native work does not let go ends
//! itself ([`OnLeaseLost`]). A process that was stopped from outside and goes on after its lease finds all of these
//! moments past and does all of it at once; what its work does in the instant before that is the one thing that no lease
//! can promise. Hand [`crate::Context::epoch`] on to systems outside where that matters.
//!
//! # What this module decides
//!
//! [`RunLease`] is the capability: it comes into being only from a claim that this process won, and what writes for a
//! run exists only on it. The stages above are the one function `Stage::of`. It never decides whether a node is alive
//! (the store does), nor what an ending is (see [`crate::state`]).

use std::time::Duration;

use crate::{
    Key, NodeId, Timestamp, limits,
    store::Won,
    task::{Epoch, Losses, Run, RunTerms, Seq},
    trace::TraceContext,
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
    retry_count: u32,
    terms: RunTerms,
    losses: Losses,
    trace: Option<TraceContext>,
}

/// What a process does whose work has not let go when its lease is nearly over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnLeaseLost {
    /// It ends itself at once (`abort`): nothing else stops work that holds its thread.
    Abort,
    /// It leaves the work to itself, counted as stuck, and fenced on record. For programs that have more to do than to
    /// run tasks, and whose work does no harm when it goes on beside another attempt.
    #[default]
    Detach,
}

/// What a node may do, by the time since its last good heartbeat was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// What it holds is its own.
    Trusted,
    /// Work is asked to stop.
    Stop,
    /// Work is ended or dropped.
    Drop,
    /// The process ends where its work has not let go.
    Abort,
}

impl Stage {
    /// By the time since the last good heartbeat was sent.
    #[must_use]
    pub fn of(since_sent: Duration, lease: Duration) -> Self {
        let past = |percent| since_sent >= part(lease, percent);
        if past(limits::LEASE_ABORT_PERCENT) {
            Self::Abort
        } else if past(limits::LEASE_DROP_PERCENT) {
            Self::Drop
        } else if past(limits::LEASE_STOP_PERCENT) {
            Self::Stop
        } else {
            Self::Trusted
        }
    }
}

/// Some percent of a lease.
pub(crate) fn part(lease: Duration, percent: u32) -> Duration {
    lease * percent / 100
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
            retry_count: won.retry_count,
            terms: won.terms,
            losses: won.losses,
            trace: won.trace.clone(),
        }
    }

    /// Retries of the run so far.
    #[must_use]
    pub fn retry_count(&self) -> u32 {
        self.retry_count
    }

    /// How often the run may be tried, and for how long.
    #[must_use]
    pub fn terms(&self) -> RunTerms {
        self.terms
    }

    /// Attempts of the run that were lost before this one.
    #[must_use]
    pub fn losses(&self) -> Losses {
        self.losses
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

    /// When the run was started: its first attempt, whichever this one is.
    #[must_use]
    pub fn since(&self) -> Timestamp {
        self.since
    }

    /// The trace that the start of the run was part of.
    #[must_use]
    pub fn trace(&self) -> Option<&TraceContext> {
        self.trace.as_ref()
    }

    /// The seq after which this attempt writes.
    #[must_use]
    pub fn start_seq(&self) -> Seq {
        self.start_seq
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_believes_less_the_longer_its_heartbeat_is_out() {
        let stage = |percent| Stage::of(part(limits::LEASE, percent), limits::LEASE);
        let stages = [0, 59, 60, 79, 80, 89, 90, 100, 100_000].map(stage);
        use Stage::{Abort, Drop, Stop, Trusted};
        assert_eq!(stages, [Trusted, Trusted, Stop, Stop, Drop, Drop, Abort, Abort, Abort]);
        const {
            assert!(
                limits::LEASE_RENEW_PERCENT * 2 <= limits::LEASE_STOP_PERCENT,
                "one heartbeat may be lost"
            )
        };
    }
}
