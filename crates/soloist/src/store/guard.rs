//! The guards: who may claim, and whose write is accepted, as pure functions of a task's row.
//!
//! Decides: the answer that every store must give to a claim and to a transition. The memory store calls these
//! functions; an SQL store says the same in the `WHERE` of one statement and calls them to word the answer where that
//! statement matched no row. The contract suite holds both to a table over every combination.

use super::{Applied, Change, Claim, Current, StoreError, StoreResult, Transition, Writer};
use crate::{
    state::{Command, Place, Policy, Refusal, Status, next},
    task::{Delete, Epoch, NextRun, Run, Seq},
};

/// What a claim is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimVerdict {
    /// It wins.
    Win,
    /// A run is active.
    Active,
    /// A run is active (or has just ended), and one more begins when it has ended.
    Rerun,
    /// Finished, and the policy does not start it again.
    Finished,
    /// The claimer is dead.
    NodeDead,
}

/// Judges a claim by the task's row and by whether the claimer is alive.
#[must_use]
pub fn claim(row: &Current, policy: Policy, after: Option<Run>, node_alive: bool) -> ClaimVerdict {
    // The run that was promised is begun by a claim that names the one before it, and by no other: so that one start is told
    // that it has won it. And such a claim begins nothing else: the promise may have been taken back.
    if !row.status.is_active() {
        let is_owed = row.status.is_finished() && row.next_run != NextRun::None;
        match after {
            Some(after) if after != row.run || !is_owed => return ClaimVerdict::Finished,
            None if is_owed && policy.restarts() => return ClaimVerdict::Rerun,
            Some(_) | None => {}
        }
    }
    // Where the run would go makes no difference to whether the start wins.
    match next(row.status, Command::Start(policy, Place::Here)) {
        Err(Refusal::AlreadyFinished) => ClaimVerdict::Finished,
        Err(_) => ClaimVerdict::Active,
        Ok(_) if row.status.is_active() => ClaimVerdict::Rerun,
        Ok(_) if node_alive => ClaimVerdict::Win,
        Ok(_) => ClaimVerdict::NodeDead,
    }
}

/// The answer to a claim that writes nothing, from the row that a store read for it; `None` where that row is startable, or
/// where it is to be noted that one more run is wanted, so that the claim must be tried (again).
#[must_use]
pub fn lost_claim(
    row: Option<Current>,
    policy: Policy,
    after: Option<Run>,
    node_alive: bool,
) -> Option<Claim> {
    let Some(row) = row else { return Some(Claim::Missing) };
    match claim(&row, policy, after, node_alive) {
        ClaimVerdict::Win => None,
        ClaimVerdict::Rerun if row.next_run >= NextRun::wanted(policy) || row.status.is_finished() => {
            Some(Claim::Rerun { current: row, first: false })
        }
        ClaimVerdict::Rerun => None,
        ClaimVerdict::Active => Some(Claim::Active(row)),
        ClaimVerdict::Finished => Some(Claim::Finished(row)),
        ClaimVerdict::NodeDead => Some(Claim::NodeDead),
    }
}

/// Why a task is not deleted; `None` where it is. A task that was created anew under a deleted key goes on from that
/// one's run without having run: where a run is named, it must have ended.
#[must_use]
pub fn kept(row: &Current, run: Option<Run>) -> Option<Delete> {
    match run {
        _ if row.status.is_active() => Some(Delete::Active(row.status)),
        Some(run) if run != row.run || row.status == Status::Pending => Some(Delete::OtherRun),
        _ => None,
    }
}

/// Holds a transition to itself, before any row is looked at: a holder's events are dense from `after` on and written
/// under its epoch, only a task that somebody holds is asked to stop, and only a running one is queued again. One that
/// contradicts itself would break the record, so it is refused alone, and nothing of it is written.
///
/// # Errors
/// [`StoreError::Corrupt`], naming the task.
pub fn well_formed(t: &Transition) -> StoreResult<()> {
    if matches!(t.change, Change::Cancelling { .. }) && !t.from.is_held() {
        return Err(StoreError::Corrupt(format!("{} cannot be asked to stop while it is {}", t.key, t.from)));
    }
    if matches!(t.change, Change::Requeued { .. }) && t.from != Status::Running {
        return Err(StoreError::Corrupt(format!("{} cannot be queued again while it is {}", t.key, t.from)));
    }
    let Writer::Holder { epoch, events, after, .. } = &t.writer else { return Ok(()) };
    if (*after + 1..).zip(events).all(|(seq, event)| event.seq == seq && event.epoch == *epoch) {
        return Ok(());
    }
    Err(StoreError::Corrupt(format!("the events handed in for {} are not dense under one epoch", t.key)))
}

/// Whether a transition may be committed on this row: the compare of the compare-and-set.
#[must_use]
pub fn admits(row: &Current, t: &Transition) -> bool {
    let status = match t.change {
        Change::Append => row.status.is_held(),
        _ => row.status == t.from,
    };
    let writer = match &t.writer {
        Writer::Holder { node, epoch, after, .. } => {
            row.status.is_held()
                && row.epoch == *epoch
                && row.node.as_ref() == Some(node)
                && row.last_seq == *after
        }
        Writer::Outsider { epoch, run, .. } => row.epoch == *epoch && row.run == *run,
    };
    status && writer
}

/// The answer to a transition that was not committed, from the row (`None`: no such task). `epoch_at` tells the epoch
/// of the event with a seq, where the log has it.
pub fn refused(row: Option<Current>, t: &Transition, epoch_at: impl Fn(Seq) -> Option<Epoch>) -> Applied {
    let Some(row) = row else { return Applied::Fenced(None) };
    match &t.writer {
        Writer::Holder { node, epoch, events, .. } => {
            // Sent again after a lost answer: the last of these events stands in the log under this very epoch.
            if events.last().is_some_and(|e| row.last_seq >= e.seq && epoch_at(e.seq) == Some(*epoch)) {
                return Applied::AlreadyThere;
            }
            let holds = row.status.is_held() && row.epoch == *epoch && row.node.as_ref() == Some(node);
            if holds { Applied::Moved(row) } else { Applied::Fenced(Some(row)) }
        }
        Writer::Outsider { epoch, .. } => {
            if row.epoch == *epoch {
                Applied::Moved(row)
            } else {
                Applied::Fenced(Some(row))
            }
        }
    }
}
