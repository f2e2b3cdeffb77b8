//! What is done to a task by somebody who does not hold its run: a cancel, or the takeover of what a dead node left.
//!
//! Decides: the loop of a compare-and-set. It reads the row, asks the state table, and hands the store the move
//! together with the epoch and status that it was computed from; where those are no longer true, nothing is written
//! and the loop goes round. Never writes to the log of a run that its holder may still write to: a cancel of a running
//! task changes the status and leaves the ending to the holder.

use std::{sync::Arc, time::Duration};

use super::{Inner, unknown_task};
use crate::{
    Error, Failure, Key, Result, Status,
    event::{self, Batch, Ending},
    fault, limits,
    state::{Command, EpochChange, Logged, Move, Refusal, next},
    store::{Applied, Change, Current, Rerun, Transition, Writer},
    task::{NextRun, Run},
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

    async fn cancel_until_answered(
        self: &Arc<Self>,
        key: &Key,
        reason: &str,
        only: Option<Run>,
    ) -> Result<Cancel> {
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
                // The task is to stop, and not only this run of it.
                Err(Refusal::AlreadyCancelling) if only.is_none() && task.next_run != NextRun::None => {
                    Move { to: task.status, epoch: EpochChange::Keep, logged: Logged::Nothing }
                }
                Err(Refusal::AlreadyCancelling) => {
                    self.live.cancel(key, task.epoch, task.cancellation_reason.unwrap_or_default());
                    return Ok(Cancel::Cancelling { run: task.run });
                }
                // The run after it is about to begin. Whoever cancels the task means that one as well.
                Err(_)
                    if only.is_none()
                        && task.next_run != NextRun::None
                        && self.begin_after(key, task.run).await.is_ok() =>
                {
                    continue;
                }
                Err(_) => return Ok(Cancel::NotRunning { status: task.status }),
            };
            let rerun = if only.is_some() { Rerun::Keep } else { Rerun::Forget };
            // Who asked first has given the reason.
            let reason = task.cancellation_reason.clone().unwrap_or_else(|| reason.to_owned());
            let change = match step.to {
                Status::Cancelling => Change::Cancelling { reason: reason.clone(), rerun },
                _ => Change::Cancelled { reason: reason.clone(), rerun },
            };
            fault::point("core:cancel-before");
            let settled = self.settle(key, &Current::from(&task), step, change, None).await?;
            fault::point("core:cancel-after");
            match settled {
                Settled::Done if step.to == Status::Cancelling => {
                    self.live.cancel(key, task.epoch, reason);
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
            (Logged::Retry, _, Change::Requeued { attempt, due_at, .. }) => {
                let wait = due_at.map_or(0, |due_at| due_at.as_micros().saturating_sub(at.as_micros()));
                let wait = Duration::from_micros(u64::try_from(wait).unwrap_or_default());
                failure.map(|failure| event::retry(*attempt, row.max_retries, wait, failure, at))
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
                // It may wait in the queue now, or one more run may be owed.
                self.queue.notify_one();
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
        Change::Cancelled { reason, .. } => Some(Ending::Cancelled { reason: reason.clone() }),
    }
}
