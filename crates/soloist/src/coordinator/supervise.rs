//! One attempt of a run, from the claim to the ending on record.
//!
//! Decides: when the work is over (it returned, failed, panicked, its time was over, it did not stop when asked, was fenced,
//! or is given up by a shutdown) and what goes to the store then. Two things go on side by side: the work, and the writer that takes
//! what waits in the pipeline, commits it and shows it, batch after batch. When both are through, the ending is one
//! atomic step: status, result and the one terminal event.
//!
//! The order at the end keeps two promises. From the moment the ending is handed to the store, starts go to the store
//! as well; and this process forgets the run before anybody is shown the terminal event. So whoever sees `complete`
//! and starts again at once wins.
//!
//! If the process dies anywhere in here, the row still names its node and epoch: the next process finds it and ends
//! it. If an answer of the store is lost, the very same write is sent again, and the store says that it is there.
//! If somebody else took the task meanwhile, the write is fenced, the work is stopped, and nothing is ended.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use tokio::{
    sync::OwnedSemaphorePermit,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{Inner, ModelOptions, OnTimeout, live::LiveRun, takeover::retries_left};
use crate::{
    Context, Failure, Json,
    event::{self, Batch, Ending, Event},
    fault,
    hub::TopicUse,
    lease::RunLease,
    limits,
    panic::Caught,
    pipeline::{Closed, Pipeline, Taken, TimedOut},
    retry,
    runner::Signals,
    state::{Command, EpochChange, Retries, Status, next},
    store::{Applied, Change, Rerun, StoreError, Transition, Writer},
    sync::atomic::Ordering,
    task::{Losses, Seq},
};

pub(super) struct Attempt {
    inner: Arc<Inner>,
    run: Arc<LiveRun>,
    topic: TopicUse,
    pipeline: Arc<Pipeline>,
    /// When this attempt began.
    begun: Instant,
    /// The store refused a write of this attempt: it may not go on.
    lost: CancellationToken,
}

/// How the work came to its end.
enum Outcome {
    /// It returned.
    Returned(Json),
    /// It failed or panicked.
    Failed(Failure),
    /// It was asked to stop and did not, within its grace.
    Dropped,
    /// This process shuts down, and its grace is over.
    GivenUp,
    /// This node could not renew its lease in time.
    StoreLost,
    /// This node had lost its lease before the work was begun.
    NotBegun,
    /// Its time was over, and it is to be tried again.
    TimedOut(String),
}

/// How an attempt came to its end on record.
enum Ended {
    /// This process has put it there: its batch, to be shown once the run is forgotten.
    Here(Arc<Batch>),
    /// Somebody else has the task.
    Elsewhere,
    /// Nobody has, as far as this process knows.
    Unsettled,
}

/// Why an attempt may not write any more.
#[derive(Debug)]
enum Lost {
    /// Another epoch holds the task, or it is gone.
    Fenced,
    /// The store cannot keep its log.
    Corrupt(String),
    /// The store could not be asked until this process had to go.
    Abandoned,
}

impl Attempt {
    pub(super) fn new(inner: Arc<Inner>, run: Arc<LiveRun>, topic: TopicUse) -> Self {
        let (pipeline, lost) = (Arc::new(Pipeline::new()), CancellationToken::new());
        Self { inner, run, topic, pipeline, begun: Instant::now(), lost }
    }

    fn lease(&self) -> &RunLease {
        &self.run.lease
    }

    /// The whole attempt. The slot is given back when the work has really let go, and before anybody is told of the
    /// end: whoever sees it and starts again finds the slot free.
    pub(super) async fn supervise(self, input: Json, slot: OwnedSemaphorePermit) {
        if !self.run.session.trusted() {
            // The claim was under way for too long: somebody else may have the run already.
            let ended = self.end(Outcome::NotBegun, self.lease().start_seq()).await;
            drop(slot);
            return self.leave(ended);
        }
        let mut work = self.spawn_work(input);
        let attended = AssertUnwindSafe(self.attend(&mut work)).catch_unwind().await;
        let ended = match attended {
            Ok(ended) => ended,
            Err(_) => {
                let ended = AssertUnwindSafe(self.end_after_defect(&mut work)).catch_unwind().await;
                ended.unwrap_or(Ended::Unsettled)
            }
        };
        if work.is_finished() {
            drop(slot);
        } else {
            self.keep_stuck(work, slot);
        }
        self.leave(ended);
    }

    /// Forgets the run, and only then shows its end.
    fn leave(self, ended: Ended) {
        self.inner.queue.notify_one();
        self.run.ending();
        self.inner.live.forget(&self.run, !matches!(ended, Ended::Unsettled));
        fault::point("core:finish-forgotten");
        let last = if let Ended::Here(batch) = ended { Some(batch) } else { None };
        self.topic.run_ends(self.lease().epoch(), last);
        fault::point("core:finish-shown");
        self.inner.linger.keep(self.topic);
    }

    /// The work and its writer side by side, then the ending.
    async fn attend(&self, work: &mut JoinHandle<Result<Json, Failure>>) -> Ended {
        let (outcome, (last_seq, written)) = tokio::join!(self.watch(work), self.write());
        let_go(work).await;
        match written {
            Ok(()) if matches!(outcome, Outcome::GivenUp) && self.may_be_drained() && !work.is_finished() => {
                // Another attempt must not begin beside it. When this process has ended it is taken over.
                Ended::Unsettled
            }
            Ok(()) => self.end(outcome, last_seq).await,
            Err(Lost::Corrupt(what)) => {
                self.end(Outcome::Failed(Failure::new("StoreCorrupt", what)), last_seq).await
            }
            Err(lost) => {
                tracing::warn!(task.key = %self.lease().key(), run.epoch = %self.lease().epoch(), ?lost, "the run was stopped: it may not write any more");
                if matches!(lost, Lost::Fenced) { Ended::Elsewhere } else { Ended::Unsettled }
            }
        }
    }

    /// A panic of our own must not leave the task running with nobody running it: what is on record is all that is
    /// believed, and the run ends as failed.
    async fn end_after_defect(&self, work: &mut JoinHandle<Result<Json, Failure>>) -> Ended {
        tracing::error!(task.key = %self.lease().key(), "a defect of this program broke the run off; it ends as failed");
        work.abort();
        self.pipeline.close(Closed::Fenced);
        let_go(work).await;
        let last_seq = loop {
            match self.inner.store.task(self.lease().key()).await {
                Ok(Some(task)) => break task.last_seq,
                Ok(None) => return Ended::Elsewhere,
                Err(_) if self.inner.closing.is_cancelled() => return Ended::Unsettled,
                Err(_) => sleep(limits::STORE_RETRY_MAX).await,
            }
        };
        let failure = Failure::new("Internal", "a defect of the server broke the run off; see its log");
        self.end(Outcome::Failed(failure), last_seq).await
    }

    /// Work that was dropped and still has its thread keeps its slot, and is counted.
    fn keep_stuck(&self, work: JoinHandle<Result<Json, Failure>>, slot: OwnedSemaphorePermit) {
        self.inner.stuck.fetch_add(1, Ordering::Relaxed);
        let inner = self.inner.clone();
        tokio::spawn(async move {
            // Its result counts no more; only that it has let go.
            drop(work.await);
            inner.stuck.fetch_sub(1, Ordering::Relaxed);
            drop(slot);
        });
    }

    /// The work runs as a task of its own, so that it can be dropped wherever it waits.
    fn spawn_work(&self, input: Json) -> JoinHandle<Result<Json, Failure>> {
        let signals = Signals {
            store: self.inner.store.clone(),
            wake: self.run.signals.subscribe(),
            read: tokio::sync::Mutex::default(),
            read_any: tokio::sync::Mutex::default(),
        };
        let context = Context::new(
            self.lease().clone(),
            self.pipeline.clone(),
            self.run.cancel.clone(),
            signals,
            self.inner.clock.clone(),
        );
        let model = self.inner.models.get(self.lease().key().model_key());
        let runner = model.expect("a run is held for models that are served here").runner.clone();
        let working = self.run.session.work();
        let is_too_late = self.deadline_left() == Some(Duration::ZERO);
        tokio::spawn(Caught::new(async move {
            let _working = working;
            if is_too_late {
                // Nothing of it is done: its run ends.
                context.cancelled().await;
                return Err(Failure::new("Timeout", "the run had no time left"));
            }
            runner.run(input, context).await
        }))
    }

    fn options(&self) -> &ModelOptions {
        let model = self.inner.models.get(self.lease().key().model_key());
        &model.expect("a run is held for models that are served here").options
    }

    /// Whether a shutdown hands the run to another node: where it may be tried again at all. That counts as no retry.
    fn may_be_drained(&self) -> bool {
        self.lease().terms().max_retries > 0 && !self.lease().key().model_key().is_own()
    }

    /// What is left of the time of the run over all its attempts, where that is bounded.
    fn deadline_left(&self) -> Option<Duration> {
        let seconds = self.lease().terms().deadline_seconds?;
        let over_at = self.lease().since().as_micros().saturating_add(i64::from(seconds) * 1_000_000);
        let left = over_at.saturating_sub(self.inner.clock.now().as_micros());
        Some(Duration::from_micros(u64::try_from(left).unwrap_or_default()))
    }

    /// Ready when the time of the attempt, or that of its run, is over.
    async fn times_out(&self) -> TimedOut {
        let terms = self.lease().terms();
        let attempt = terms.timeout_seconds.map(|seconds| {
            let left = Duration::from_secs(seconds.into()).saturating_sub(self.begun.elapsed());
            (left, format!("Timeout after {seconds} s"), self.options().on_timeout == OnTimeout::Retry)
        });
        let run = terms.deadline_seconds.zip(self.deadline_left()).map(|(seconds, left)| {
            (left, format!("Deadline of {seconds} s over all attempts is over"), false)
        });
        let first = attempt.into_iter().chain(run).min_by_key(|(left, ..)| *left);
        let Some((left, reason, is_retried)) = first else { return std::future::pending().await };
        sleep(left).await;
        let is_retried =
            is_retried && retries_left(self.lease().retry_count(), terms.max_retries) == Retries::Left;
        TimedOut { reason, is_retried }
    }

    /// Waits for the end of the work, and closes the pipeline behind it.
    async fn watch(&self, work: &mut JoinHandle<Result<Json, Failure>>) -> Outcome {
        let session = &self.run.session;
        let (mut timed_out, mut times_out) = (None, Box::pin(self.times_out()));
        let mut overstays = Box::pin(self.overstays());
        let mut outcome = loop {
            tokio::select! {
                // Work that finished counts, even if its time is over in the same moment.
                biased;
                joined = &mut *work => break match joined {
                    Ok(Ok(value)) => Outcome::Returned(value),
                    Ok(Err(failure)) => Outcome::Failed(failure),
                    Err(_) => Outcome::Failed(Failure::new("Aborted", "the runtime dropped the work")),
                },
                () = &mut overstays => break Outcome::Dropped,
                () = self.inner.giving_up.cancelled() => break Outcome::GivenUp,
                () = self.lost.cancelled() => break Outcome::GivenUp,
                () = session.drop.cancelled() => break Outcome::StoreLost,
                what = &mut times_out, if timed_out.is_none() => {
                    // On record before the work is asked to stop: what it does then is not what it did by itself.
                    timed_out = Some(what.clone());
                    self.pipeline.time_out(what);
                }
                () = session.stop.cancelled(), if !self.run.cancel.is_cancelled() => self.run.cancel.cancel(),
            }
        };
        // By the clock: whatever ended the work because the lease was over may be seen before anybody has said so here.
        if !session.trusted() && matches!(outcome, Outcome::Failed(_)) {
            outcome = Outcome::StoreLost;
        }
        if let (Some(TimedOut { reason, is_retried: true }), Outcome::Failed(_) | Outcome::Dropped) =
            (timed_out, &outcome)
        {
            outcome = Outcome::TimedOut(reason);
        }
        if !work.is_finished() {
            self.run.cancel.cancel();
            work.abort();
        }
        self.pipeline.close(Closed::Ended);
        match outcome {
            Outcome::Returned(value) if value.as_str().len() > limits::FINAL_VALUE_MAX_BYTES => {
                let bytes = value.as_str().len();
                let error = crate::Error::too_large("the final value", bytes, limits::FINAL_VALUE_MAX_BYTES);
                Outcome::Failed(Failure::new("LimitReached", error.to_string()))
            }
            outcome => outcome,
        }
    }

    /// Ready when the work was asked to stop and its grace is over.
    async fn overstays(&self) {
        self.run.cancelled.cancelled().await;
        sleep(limits::CANCEL_GRACE).await;
    }

    /// Commits what the work sends, batch after batch, and shows each once it is on record. Returns the seq of the
    /// last one, and why it broke off if it did.
    async fn write(&self) -> (Seq, Result<(), Lost>) {
        let mut last_seq = self.lease().start_seq();
        while let Some(taken) = self.pipeline.take().await {
            let waiting = match taken {
                Taken::Events(waiting) => waiting,
                Taken::TimedOut(what) => match self.write_timeout(what, last_seq).await {
                    Ok(written) => {
                        last_seq = written;
                        continue;
                    }
                    Err(lost) => {
                        self.pipeline.close(Closed::Fenced);
                        self.lost.cancel();
                        return (last_seq, Err(lost));
                    }
                },
            };
            let (run, epoch) = (self.lease().run(), self.lease().epoch());
            let events: Vec<Event> = waiting
                .into_iter()
                .zip(last_seq + 1..)
                .map(|(event, seq)| event.at(seq, run, epoch))
                .collect();
            let append = self.transition(events.clone(), last_seq, Status::Running, Change::Append);
            fault::point("core:append-before");
            let answer = self.commit(append).await.and_then(|applied| match applied {
                Applied::Committed { .. } | Applied::AlreadyThere => Ok(()),
                Applied::Fenced(_) => Err(Lost::Fenced),
                Applied::Moved(row) => Err(Lost::Corrupt(format!(
                    "the log ends at {} and not at {last_seq} as its holder wrote it",
                    row.last_seq
                ))),
            });
            if let Err(lost) = answer {
                self.pipeline.close(Closed::Fenced);
                self.lost.cancel();
                return (last_seq, Err(lost));
            }
            let batch = Arc::new(Batch::new(events));
            last_seq = batch.last_seq();
            fault::point("core:append-after");
            self.topic.show(batch);
            fault::point("core:append-shown");
        }
        (last_seq, Ok(()))
    }

    /// Notes on record that the time is over, then asks the work to stop. Returns the end of the log. A cancel that came first
    /// has done so already.
    async fn write_timeout(&self, what: TimedOut, last_seq: Seq) -> Result<Seq, Lost> {
        let event = event::timeout(&what.reason, self.inner.clock.now());
        let events = vec![event.at(last_seq + 1, self.lease().run(), self.lease().epoch())];
        let change = match what.is_retried {
            true => Change::Append,
            false => Change::Cancelling { reason: what.reason.clone(), rerun: Rerun::Keep },
        };
        tracing::info!(task.key = %self.lease().key(), run = self.lease().run(), reason = %what.reason, "asked to stop");
        fault::point("core:timeout-before");
        match self.commit(self.transition(events.clone(), last_seq, Status::Running, change)).await? {
            Applied::Committed { .. } | Applied::AlreadyThere => {
                fault::point("core:timeout-after");
                let batch = Arc::new(Batch::new(events));
                let last_seq = batch.last_seq();
                self.topic.show(batch);
                match what.is_retried {
                    true => self.run.stop(),
                    false => self.run.cancel(what.reason),
                }
                Ok(last_seq)
            }
            Applied::Moved(row) if row.status == Status::Cancelling && row.last_seq == last_seq => {
                self.run.cancel(row.cancellation_reason.unwrap_or_default());
                Ok(last_seq)
            }
            Applied::Moved(row) => Err(Lost::Corrupt(format!(
                "the log ends at {} and not at {last_seq} as its holder wrote it",
                row.last_seq
            ))),
            Applied::Fenced(_) => Err(Lost::Fenced),
        }
    }

    /// Whether and when the run goes on with another attempt: retries and losses by then, and the wait. None where it does
    /// not, by its retries or because its time would be over.
    fn next_attempt(&self, outcome: &Outcome) -> Option<(u32, Losses, Duration)> {
        let (retry_count, terms, losses) =
            (self.lease().retry_count(), self.lease().terms(), self.lease().losses());
        let counted = |losses, wait| {
            let is_left = retries_left(retry_count, terms.max_retries) == Retries::Left;
            let is_in_time = self.deadline_left().is_none_or(|left| wait < left);
            (is_left && is_in_time).then_some((retry_count + 1, losses, wait))
        };
        let delay = || retry::delay(self.options().retry_delay, retry_count + 1);
        match outcome {
            // Work that knows when it makes sense may ask for a longer wait, and never for a shorter one.
            Outcome::Failed(failure) if failure.retryable => {
                let asked = failure.retry_after.unwrap_or_default().min(limits::RETRY_AFTER_MAX);
                counted(losses, delay().max(asked))
            }
            Outcome::TimedOut(_) => counted(losses, delay()),
            // An outage of the store is nobody's failure: the first one costs no retry where there are any.
            Outcome::StoreLost => {
                let lost = Losses { store: losses.store + 1, ..losses };
                let is_free = losses.store == 0 && terms.max_retries > 0;
                if is_free { Some((retry_count, lost, Duration::ZERO)) } else { counted(lost, delay()) }
            }
            Outcome::GivenUp if self.may_be_drained() => Some((retry_count, losses, Duration::ZERO)),
            // Nothing of it has been done, so it goes on as if it had never been taken; but nobody takes from the queue what
            // only its own process runs.
            Outcome::NotBegun if !self.lease().key().model_key().is_own() => {
                Some((retry_count, losses, Duration::ZERO))
            }
            Outcome::Returned(_)
            | Outcome::Failed(_)
            | Outcome::Dropped
            | Outcome::GivenUp
            | Outcome::NotBegun => None,
        }
    }

    /// Puts the ending on record. Returns its batch, to be shown once this process has forgotten the run.
    ///
    /// A store that says of its own rows that they are broken is asked again, with a failure that says so, until it
    /// takes it or this process ends: nothing else would end the run.
    async fn end(&self, mut outcome: Outcome, last_seq: Seq) -> Ended {
        let mut held_back = self.pipeline.held_back().map(|event| event.data);
        let mut reason = self.run.ending();
        let mut from = if reason.is_some() { Status::Cancelling } else { Status::Running };
        loop {
            let next_attempt = self.next_attempt(&outcome);
            let retries = if next_attempt.is_some() { Retries::Left } else { Retries::Spent };
            let command = match &outcome {
                Outcome::Returned(_) => Command::Complete,
                Outcome::Failed(_) | Outcome::TimedOut(_) => Command::Fail(retries),
                Outcome::Dropped => Command::Drop,
                Outcome::GivenUp | Outcome::NotBegun => Command::Drain(retries),
                Outcome::StoreLost => Command::NodeLost(retries),
            };
            let Ok(step) = next(from, command) else {
                tracing::error!(task.key = %self.lease().key(), %from, ?command, "no rule ends this run from here");
                return Ended::Unsettled;
            };
            let (run, epoch, now) = (self.lease().run(), self.lease().epoch(), self.inner.clock.now());
            let (event, change) = match next_attempt.filter(|_| step.to == Status::Queued) {
                Some((retry_count, losses, wait)) => {
                    let (attempt, max_retries) =
                        (self.lease().attempt() + 1, self.lease().terms().max_retries);
                    let due_at = self.inner.due_after(wait);
                    let why = event::retry(attempt, max_retries, wait, &failure_of(&outcome), now);
                    (why, Change::Requeued { attempt, retry_count, losses, due_at })
                }
                None => {
                    let ending = ending(step.to, &outcome, reason.clone());
                    (event::terminal(&ending, held_back.as_ref(), now), ending.into())
                }
            };
            let events = vec![event.at(last_seq + 1, run, epoch)];
            let mut transition = self.transition(events.clone(), last_seq, from, change);
            if step.epoch == EpochChange::Rise {
                transition.epoch_after = epoch.next();
            }
            let [before, after] = places(command, step.to);
            fault::point(before);
            match self.commit(transition).await {
                Ok(Applied::Committed { .. } | Applied::AlreadyThere) => {
                    fault::point(after);
                    return Ended::Here(Arc::new(Batch::new(events)));
                }
                // A cancel came first: the table says what this ending is now.
                Ok(Applied::Moved(row)) if row.status != from && row.status.is_held() => {
                    from = row.status;
                    reason = row.cancellation_reason;
                }
                Err(Lost::Corrupt(what)) if !self.inner.closing.is_cancelled() => {
                    outcome = Outcome::Failed(Failure::new("StoreCorrupt", what));
                    held_back = None;
                    sleep(limits::STORE_RETRY_MAX).await;
                }
                Ok(Applied::Fenced(_)) => {
                    tracing::warn!(task.key = %self.lease().key(), run.epoch = %epoch, "the ending was refused: another epoch holds the task");
                    return Ended::Elsewhere;
                }
                Ok(Applied::Moved(_)) | Err(_) => {
                    tracing::warn!(task.key = %self.lease().key(), run.epoch = %epoch, "the ending is not on record");
                    return Ended::Unsettled;
                }
            }
        }
    }

    fn transition(&self, events: Vec<Event>, after: Seq, from: Status, change: Change) -> Transition {
        Transition {
            key: self.lease().key().clone(),
            writer: Writer::Holder {
                node: self.lease().node().clone(),
                epoch: self.lease().epoch(),
                events,
                after,
            },
            from,
            change,
            epoch_after: self.lease().epoch(),
            at: self.inner.clock.now(),
        }
    }

    /// Sends a write until the store has answered it, unchanged and before any later one.
    async fn commit(&self, transition: Transition) -> Result<Applied, Lost> {
        let mut wait = limits::STORE_RETRY_MIN;
        loop {
            match self.inner.store.apply(transition.clone()).await {
                Ok(applied) => return Ok(applied),
                Err(StoreError::Corrupt(what)) => {
                    tracing::error!(task.key = %transition.key, error = %what, "the store is corrupt");
                    return Err(Lost::Corrupt(what));
                }
                Err(StoreError::Unavailable(why) | StoreError::Full(why)) => {
                    tracing::warn!(task.key = %transition.key, error = %why, "the store cannot write; the run waits");
                }
            }
            tokio::select! {
                biased;
                () = self.inner.closing.cancelled() => return Err(Lost::Abandoned),
                () = sleep(wait) => wait = (wait * 2).min(limits::STORE_RETRY_MAX),
            }
        }
    }
}

/// The fault points around the end of an attempt.
fn places(command: Command, to: Status) -> [&'static str; 2] {
    match (command, to) {
        (Command::Drain(_), Status::Queued) => ["core:drain-before", "core:drain-after"],
        (_, Status::Queued) => ["core:requeue-before", "core:requeue-after"],
        _ => ["core:finish-before", "core:finish-after"],
    }
}

/// Waits until dropped work has really stopped, before anything on record lets another attempt begin. Work that blocks
/// its thread is not waited for longer than [`limits::DROP_WAIT`]; it counts as stuck.
async fn let_go(work: &mut JoinHandle<Result<Json, Failure>>) {
    if !work.is_finished() {
        let _ = timeout(limits::DROP_WAIT, work).await;
    }
}

/// What a finished status says on record.
fn ending(to: Status, outcome: &Outcome, reason: Option<String>) -> Ending {
    match (to, outcome) {
        (Status::Completed, Outcome::Returned(value)) => Ending::Completed { final_value: value.clone() },
        (Status::Cancelled, _) => {
            Ending::Cancelled { reason: reason.unwrap_or_else(|| super::settle::DEFAULT_REASON.to_owned()) }
        }
        _ => Ending::Failed { failure: failure_of(outcome) },
    }
}

/// Why an attempt ended that did not return.
fn failure_of(outcome: &Outcome) -> Failure {
    match outcome {
        Outcome::Failed(failure) => failure.clone(),
        Outcome::TimedOut(reason) => Failure::new("Timeout", reason.clone()),
        Outcome::StoreLost => {
            Failure::new("StoreLost", "the store could not be reached for so long that the work had to stop")
        }
        Outcome::NotBegun => Failure::new("Drained", "the node lost its lease before the work began"),
        Outcome::GivenUp | Outcome::Returned(_) | Outcome::Dropped => {
            Failure::new("Drained", "the process was shut down before the work ended")
        }
    }
}

impl std::convert::From<Ending> for Change {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Completed { final_value } => Self::Completed { final_value },
            Ending::Failed { failure } => Self::Failed { failure },
            Ending::Cancelled { reason } => Self::Cancelled { reason, rerun: Rerun::Keep },
        }
    }
}
