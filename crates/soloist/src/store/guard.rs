//! The guards: who lives, who may claim, and whose write is accepted, as pure functions of a node's and a task's row.
//!
//! Decides: the answer that every store must give to a heartbeat, a burial, a claim and a transition. The memory store
//! calls these functions; an SQL store says the same in the `WHERE` of one statement and calls them to word the answer
//! where that statement matched no row. The contract suite holds both to tables over every combination, and the model in
//! `tests/model` checks what follows from them in every order of steps.

use std::time::Duration;

use super::{
    Applied, Change, Claim, ClaimRequest, Current, Evidence, Renewal, StoreError, StoreResult, Transition,
    Writer,
};
use crate::{
    state::{Command, Place, Policy, Refusal, Status, next},
    task::{Delete, Epoch, NextRun, Run, Seq},
};

/// The part of a node's row that decides whether it lives.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NodeRow {
    /// Its death is on record, by a burial or by its own wish.
    pub dead: bool,
    /// The boot of its host in which its lease was written.
    pub boot_id: String,
    /// How long it lives after each renewal.
    pub lease: Duration,
    /// Until when nobody may take its runs away, since that boot.
    pub lease_until: Duration,
}

/// What leases are judged by: the time since a boot, and which boot. A store that is judged by the clock of a database
/// has one boot for ever.
#[derive(Debug, Clone, Copy)]
pub struct Now<'a> {
    /// The boot.
    pub boot_id: &'a str,
    /// The time since then.
    pub time: Duration,
}

impl NodeRow {
    /// A node that joins now.
    #[must_use]
    pub fn joined(lease: Duration, now: Now<'_>) -> Self {
        Self { dead: false, boot_id: now.boot_id.to_owned(), lease, lease_until: now.time + lease }
    }

    /// Whether the lease is over by the clock of this boot. One that ends later than any renewal could have put it was
    /// written before that clock was set back.
    #[must_use]
    pub fn lease_is_over(&self, now: Now<'_>) -> bool {
        self.boot_id != now.boot_id
            || self.lease_until <= now.time
            || self.lease_until > now.time + self.lease
    }
}

/// Whether a node (`None`: it never joined, or is forgotten) is alive on record. A lease that is over makes nobody dead:
/// death is a write.
#[must_use]
pub fn is_alive(node: Option<&NodeRow>) -> bool {
    node.is_some_and(|node| !node.dead)
}

/// Judges a heartbeat. Where it is [`Renewal::Renewed`], the node lives on for a whole lease from now.
#[must_use]
pub fn renews(node: Option<&NodeRow>, now: Now<'_>) -> Renewal {
    match node {
        Some(node) if !node.dead && !node.lease_is_over(now) => Renewal::Renewed,
        _ => Renewal::Dead,
    }
}

/// Whether a node is to be marked dead: it is not yet, and the evidence is enough.
#[must_use]
pub fn buries(node: &NodeRow, evidence: Evidence, now: Now<'_>) -> bool {
    let is_over = match evidence {
        Evidence::Certain => node.boot_id != now.boot_id,
        Evidence::Lease => node.lease_is_over(now),
    };
    is_over && !node.dead
}

/// Whether a task is held by a node that is dead or gone, so that somebody must end or requeue its run.
#[must_use]
pub fn is_orphaned(row: &Current, holder: Option<&NodeRow>) -> bool {
    row.node.is_some() && !is_alive(holder)
}

/// Whether a run may be taken from the queue: it waits, its time has come (`is_due`), fewer of its model run than may, and
/// the claimer is alive.
#[must_use]
pub fn takes_from_queue(row: &Current, is_due: bool, is_full: bool, claimer: Option<&NodeRow>) -> bool {
    next(row.status, Command::Claim).is_ok() && is_due && !is_full && is_alive(claimer)
}

/// What the first use of an idempotency key was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FirstUse<'a> {
    /// The digest of its request.
    pub digest: &'a str,
    /// Whether it won.
    pub started: bool,
    /// The run that it was told of.
    pub run: Run,
}

/// The answer to a claim whose idempotency key was used before. It comes before anything else, and nothing is written.
#[must_use]
pub fn repeated(first: FirstUse<'_>, request: &ClaimRequest, current: Current) -> Claim {
    if request.idempotency.as_ref().is_some_and(|used| used.digest == first.digest) {
        Claim::Replayed { started: first.started, run: first.run, current }
    } else {
        Claim::KeyReused
    }
}

/// What the first use of an idempotency key leaves, from the row after its claim; `None` where nothing was decided, so
/// that the request may be sent again.
#[must_use]
pub fn first_use(answer: &Claim, run: Run) -> Option<(bool, Run)> {
    match answer {
        Claim::Won(_) | Claim::Queued(_) => Some((true, run)),
        Claim::Rerun { current, .. } => Some((false, current.following_run())),
        Claim::Active(_) | Claim::Finished(_) => Some((false, run)),
        Claim::Missing | Claim::NodeDead | Claim::Replayed { .. } | Claim::KeyReused => None,
    }
}

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

/// How many numbers after the newest run's no run may have, once one more run that was asked for is not to begin: where the
/// whole task is cancelled, or deleted.
#[must_use]
pub fn taken_back(next_run: NextRun, before: u64) -> u64 {
    before + u64::from(next_run != NextRun::None)
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
