//! What is done to a task by somebody who does not hold its run: a cancel, or the takeover of what a dead node left.
//!
//! Decides: the loop of a compare-and-set. It reads the row, asks the state table, and hands the store the move
//! together with the epoch and status that it was computed from; where those are no longer true, nothing is written
//! and the loop goes round. Never writes to the log of a run that its holder may still write to: a cancel of a running
//! task changes the status and leaves the ending to the holder.

use std::sync::Arc;

use super::{Inner, unknown_task};
use crate::{
    Error, Failure, Key, Result, Status,
    event::{self, Batch, Ending},
    limits,
    state::{Command, EpochChange, Logged, Move, Refusal, next},
    store::{Applied, Change, Current, Transition, Writer},
    task::Run,
};

/// The reason of a cancel whose caller gave none.
pub(super) const DEFAULT_REASON: &str = "Cancelled";

/// How a run is cancelled.
#[derive(Debug, Clone, Default)]
pub struct CancelOptions {
    /// Why; goes on record. At most [`limits::REASON_MAX_BYTES`] bytes.
    pub reason: Option<String>,
    /// Only this run: where another one is active, nothing is done.
    pub run: Option<Run>,
}

/// How a cancel was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancel {
    /// It had not begun and is cancelled.
    Cancelled {
        /// The run; 0 where there was none.
        run: Run,
    },
    /// It runs and is asked to stop (or was already).
    Cancelling {
        /// The run.
        run: Run,
    },
    /// Nothing is active.
    NotRunning {
        /// How the task stands.
        status: Status,
    },
    /// Another run than the named one is active.
    OtherRun {
        /// That one.
        active: Run,
    },
}

impl Inner {
    pub(super) async fn cancel(self: &Arc<Self>, key: &Key, options: CancelOptions) -> Result<Cancel> {
        let reason = options.reason.unwrap_or_else(|| DEFAULT_REASON.to_owned());
        if reason.len() > limits::REASON_MAX_BYTES {
            return Err(Error::too_large("the reason", reason.len(), limits::REASON_MAX_BYTES));
        }
        let (inner, key) = (self.clone(), key.clone());
        // To its end, even if the caller goes away: between the commit and the word to the work lies an await.
        let call =
            self.tasks.spawn(async move { inner.cancel_until_answered(&key, &reason, options.run).await });
        call.await.unwrap_or(Err(Error::Closed))
    }

    async fn cancel_until_answered(&self, key: &Key, reason: &str, only: Option<Run>) -> Result<Cancel> {
        loop {
            let task = self.store.task(key).await?.ok_or_else(|| unknown_task(key))?;
            if let Some(only) = only
                && only != task.run
                && task.status.is_active()
            {
                return Ok(Cancel::OtherRun { active: task.run });
            }
            if only.is_some_and(|only| only != task.run) {
                return Ok(Cancel::NotRunning { status: task.status });
            }
            let step = match next(task.status, Command::Cancel) {
                Ok(step) => step,
                Err(Refusal::AlreadyCancelling) => {
                    self.live.cancel(key, task.epoch, task.cancellation_reason.unwrap_or_default());
                    return Ok(Cancel::Cancelling { run: task.run });
                }
                Err(_) => return Ok(Cancel::NotRunning { status: task.status }),
            };
            let change = match step.to {
                Status::Cancelling => Change::Cancelling { reason: reason.to_owned() },
                _ => Change::Cancelled { reason: reason.to_owned() },
            };
            match self.settle(key, &Current::from(&task), step, change, None).await? {
                Settled::Done if step.to == Status::Cancelling => {
                    self.live.cancel(key, task.epoch, reason.to_owned());
                    return Ok(Cancel::Cancelling { run: task.run });
                }
                Settled::Done => return Ok(Cancel::Cancelled { run: task.run }),
                Settled::Moved => {}
                Settled::Gone => return Err(unknown_task(key)),
            }
        }
    }

    /// One compare-and-set by somebody who does not hold the run; `failure` is why its last attempt ended.
    pub(super) async fn settle(
        &self,
        key: &Key,
        row: &Current,
        step: Move,
        change: Change,
        failure: Option<&Failure>,
    ) -> Result<Settled> {
        let at = self.clock.now();
        let event = match (step.logged, ending(&change), &change) {
            (Logged::Terminal, Some(ending), _) => Some(event::terminal(&ending, None, at)),
            (Logged::Retry, _, Change::Requeued { attempt, .. }) => {
                failure.map(|failure| event::retry(*attempt, row.max_retries, failure, at))
            }
            _ => None,
        };
        let epoch_after = match step.epoch {
            EpochChange::Keep => row.epoch,
            EpochChange::Rise => row.epoch.next(),
        };
        let writer = Writer::Outsider { epoch: row.epoch, run: row.run, event: event.clone() };
        let transition = Transition { key: key.clone(), writer, from: row.status, change, epoch_after, at };
        match self.store.apply(transition).await? {
            Applied::Committed { last_seq } => {
                if let (Some(event), Some(topic)) = (event, self.hub.existing(key)) {
                    topic.show(Arc::new(Batch::new(vec![event.at(last_seq, row.run, epoch_after)])));
                }
                Ok(Settled::Done)
            }
            Applied::AlreadyThere | Applied::Moved(_) | Applied::Fenced(Some(_)) => Ok(Settled::Moved),
            Applied::Fenced(None) => Ok(Settled::Gone),
        }
    }
}

/// How a compare-and-set by an outsider was answered.
pub(super) enum Settled {
    Done,
    /// The row is not as it was read.
    Moved,
    Gone,
}

fn ending(change: &Change) -> Option<Ending> {
    match change {
        Change::Append | Change::Cancelling { .. } | Change::Requeued { .. } => None,
        Change::Completed { final_value } => Some(Ending::Completed { final_value: final_value.clone() }),
        Change::Failed { failure } => Some(Ending::Failed { failure: failure.clone() }),
        Change::Cancelled { reason } => Some(Ending::Cancelled { reason: reason.clone() }),
    }
}

/// The failure of an attempt whose node is gone.
pub(super) fn node_lost(message: &str) -> Failure {
    Failure::new("NodeLost", message)
}
