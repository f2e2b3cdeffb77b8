//! What a process believes, and what of it is under way.
//!
//! Decides: what a node does next, as `coordinator/{node,start,supervise,takeover,settle}.rs` do, with the product's table of
//! moves and its stages of a lease. A process may do nothing for any time: no step has to come before the clock moves on.

use soloist::{
    Epoch, Failure, Json, Losses, Status, Timestamp,
    lease::Stage,
    state::{Command, EpochChange, Retries, next},
    store::{Change, Rerun, Transition, Writer},
};

use crate::record::{Answer, Asked, Kind, Name, Row, Terms, Told, event, id, key, seconds};

/// A heartbeat under way; how long ago it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Beat {
    None,
    Sent { age: u8 },
    Answered { age: u8, is_renewed: bool },
}

/// A start, or the claim of a queued run, under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Trip {
    None,
    Sent(Asked),
    Answered(Asked, Told),
}

/// A write of a holder under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Writing {
    None,
    Sent(Write),
    Answered(Write, Answer),
}

/// How an attempt came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum How {
    Returned,
    Failed,
    /// It failed, or was dropped, when the lease could not be trusted any more.
    StoreLost,
    /// The claim was answered too late.
    NotBegun,
    /// The process shuts down.
    Drained,
}

/// What a holder writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum What {
    Append,
    End(How),
}

/// A write of a holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Write {
    pub held: Held,
    pub from: Status,
    pub what: What,
    /// Broken: the row was compared by then, and is not again.
    pub is_compared: bool,
}

/// A run that a process holds, as far as it knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Held {
    pub name: Name,
    pub run: u8,
    pub attempt: u8,
    pub epoch: u8,
    pub retry_count: u8,
    pub store_losses: u8,
    /// The end of the log, as it has written it.
    pub last_seq: u8,
    /// How many of its writes are on record.
    pub written: u8,
}

/// A run that a process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Live {
    pub held: Held,
    pub is_cancelling: bool,
    /// The work has let go, and an ending is handed to the store.
    pub is_ending: bool,
}

/// The record compared with what runs here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compared {
    None,
    /// The first look has found a run of ours that is not known here, of this name and epoch.
    Looked(Name, u8),
    /// So has a second one.
    Found(Name, Row),
}

/// An orphan that was looked at. Broken: what was left of the lease of its node at that time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Seen {
    pub row: Row,
    pub left: u8,
}

/// A process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Process {
    pub is_up: bool,
    /// Which of its names is the present one.
    pub name: u8,
    /// How long ago the last good heartbeat was sent.
    pub since: u8,
    /// The session is over.
    pub stop: bool,
    pub beat: Beat,
    pub trip: Trip,
    pub live: Option<Live>,
    pub writing: Writing,
    /// The epoch of an attempt that was stopped here without an ending on record.
    pub stopped: u8,
    pub seen: Option<Seen>,
    pub compared: Compared,
}

impl Process {
    pub fn joined(name: u8) -> Self {
        Self {
            is_up: true,
            name,
            since: 0,
            stop: false,
            beat: Beat::None,
            trip: Trip::None,
            live: None,
            writing: Writing::None,
            stopped: 0,
            seen: None,
            compared: Compared::None,
        }
    }

    pub fn down() -> Self {
        Self { is_up: false, stop: true, ..Self::joined(0) }
    }

    pub fn stage(&self, lease: u8) -> Stage {
        Stage::of(seconds(self.since), seconds(lease))
    }

    /// Whether this node's runs are certainly its own.
    pub fn is_trusted(&self, lease: u8) -> bool {
        self.is_up && !self.stop && self.stage(lease) == Stage::Trusted
    }

    /// Whether this process runs the task, or may just have claimed it.
    pub fn knows(&self) -> bool {
        self.live.is_some() || self.trip != Trip::None
    }

    /// Whether it runs the work of a run.
    pub fn works(&self) -> Option<&Held> {
        self.live.as_ref().filter(|live| !live.is_ending).map(|live| &live.held)
    }
}

impl Held {
    pub fn from_claim(name: Name, row: &Row) -> Self {
        Self {
            name,
            run: row.run,
            attempt: row.attempt,
            epoch: row.epoch,
            retry_count: row.retry_count,
            store_losses: row.store_losses,
            last_seq: row.last_seq,
            written: 0,
        }
    }
}

fn retries_left(retry_count: u8, terms: &Terms) -> Retries {
    if retry_count < terms.max_retries { Retries::Left } else { Retries::Spent }
}

/// Whether the run goes on: retries and losses by then.
fn next_attempt(held: &Held, how: How, terms: &Terms) -> Option<(u8, u8)> {
    let (retries, losses) = (held.retry_count, held.store_losses);
    let counted = |losses| (retries_left(retries, terms) == Retries::Left).then_some((retries + 1, losses));
    match how {
        How::Returned => None,
        How::Failed => counted(losses),
        How::StoreLost if losses == 0 && terms.max_retries > 0 => Some((retries, 1)),
        How::StoreLost => counted((losses + 1).min(2)),
        How::NotBegun => Some((retries, losses)),
        How::Drained => (terms.max_retries > 0).then_some((retries, losses)),
    }
}

impl Write {
    /// As the product hands it to a store; none where no rule ends a run from there.
    pub fn transition(&self, terms: &Terms) -> Option<Transition> {
        let held = &self.held;
        let (kind, change, epoch_after) = match self.what {
            What::Append => (Kind::Sent, Change::Append, held.epoch),
            What::End(how) => {
                let goes_on = next_attempt(held, how, terms);
                let retries = if goes_on.is_some() { Retries::Left } else { Retries::Spent };
                let command = match how {
                    How::Returned => Command::Complete,
                    How::Failed => Command::Fail(retries),
                    How::StoreLost => Command::NodeLost(retries),
                    How::NotBegun | How::Drained => Command::Drain(retries),
                };
                let step = next(self.from, command).ok()?;
                let (kind, change) = match goes_on.filter(|_| step.to == Status::Queued) {
                    Some((retry_count, store_losses)) => {
                        (Kind::Retry, requeued(held.attempt + 1, retry_count, store_losses))
                    }
                    None => (Kind::Ending, ended(step.to)),
                };
                (kind, change, held.epoch + u8::from(step.epoch == EpochChange::Rise))
            }
        };
        let epoch = Epoch(held.epoch.into());
        let after = held.last_seq.into();
        let events = vec![event(kind).at(after + 1, held.run.into(), epoch)];
        Some(Transition {
            key: key(),
            writer: Writer::Holder { node: id(held.name), epoch, events, after },
            from: self.from,
            change,
            epoch_after: Epoch(epoch_after.into()),
            at: Timestamp::from_micros(0),
        })
    }
}

fn requeued(attempt: u8, retry_count: u8, store_losses: u8) -> Change {
    Change::Requeued {
        attempt: attempt.into(),
        retry_count: retry_count.into(),
        losses: Losses { node: 0, store: store_losses.into() },
        due_at: None,
    }
}

fn ended(to: Status) -> Change {
    match to {
        Status::Completed => Change::Completed { final_value: Json::from_store("1") },
        Status::Cancelled => Change::Cancelled { reason: String::new(), rerun: Rerun::Keep },
        Status::Cancelling => Change::Cancelling { reason: String::new(), rerun: Rerun::Keep },
        _ => Change::Failed { failure: Failure::new("Failed", "") },
    }
}

/// What is done to a task by somebody who does not hold it, by the row that he has seen: a cancel, or the settling of a run
/// whose holder is lost. None where there is nothing to do.
pub fn settled(row: &Row, is_cancel: bool, keeps_epoch: bool, terms: &Terms) -> Option<Transition> {
    let command = match is_cancel {
        true => Command::Cancel,
        false => Command::NodeLost(retries_left(row.retry_count, terms)),
    };
    let step = next(row.status, command).ok()?;
    let change = match step.to {
        Status::Queued => requeued(row.attempt + 1, row.retry_count + 1, row.store_losses),
        to => ended(to),
    };
    let kind = match step.to {
        Status::Queued => Some(Kind::Retry),
        Status::Cancelling => None,
        _ => Some(Kind::Ending),
    };
    let rises = step.epoch == EpochChange::Rise && !keeps_epoch;
    let epoch = Epoch(row.epoch.into());
    Some(Transition {
        key: key(),
        writer: Writer::Outsider { epoch, run: row.run.into(), event: kind.map(event) },
        from: row.status,
        change,
        epoch_after: if rises { epoch.next() } else { epoch },
        at: Timestamp::from_micros(0),
    })
}
