//! The path of a start.
//!
//! Decides: in which order a start is answered: from memory while that is certainly true, else by a trip to the store,
//! which alone decides who wins. There is one trip under way for a key; starts that arrive meanwhile wait for the
//! next one and share it, so a thousand starts at one moment cost two trips at the most (the first wins, and all the
//! others find its run in memory).
//!
//! A trip belongs to no caller: it runs on its own, so that a caller that goes away between the claim and its answer
//! leaves no task running with nobody running it. Never: a check that decides a later write. The slot is reserved
//! before the claim and given back if it lost; a start that finds none free, or whose model is served by other nodes
//! only, goes to the queue by the same claim. A start under an idempotency key shares its trip with nobody: what that
//! key was told before only the store knows. Of those that share a trip the first one's options are asked with, its trace
//! among them.
//!
//! A start that asks for one more run of an active task notes so on its row, by the same claim. When the active run has
//! ended, whoever looks next begins the one after it, by a claim that names the run that has ended: so it is begun once, and
//! also where the process dies that was asked. A start that replaces an active run also cancels that run, by its number.
//! Where the whole task is cancelled or deleted before the promised run begins, no run ever gets its number: so of all
//! starts one at the most is told that it has started a run.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use super::{
    CancelOptions, Inner,
    live::{Arrived, LiveRun, Waiter},
    node::Session,
    supervise::Attempt,
    unknown_task,
};
use crate::{
    Error, Json, Key, Result, fault,
    hub::For,
    idempotency::Idempotency,
    key::ModelKey,
    lease::RunLease,
    limits,
    state::{Place, Policy, Status},
    store::{Claim, ClaimRequest, Current, EventRange, StoreResult},
    sync::atomic::Ordering,
    task::{NextRun, Run, Start, StartOptions},
};

/// The reason of the end of a run that was replaced.
pub(super) const REPLACED: &str = "Replaced";

impl Inner {
    pub(super) async fn start(self: &Arc<Self>, key: &Key, options: StartOptions) -> Result<Start> {
        let is_replacing = options.policy == Policy::Replace;
        let (answer, replaced, next, is_first) = match self.ask(key, options).await? {
            Start::Next { run, active, is_first, .. } if is_replacing => (None, active, run, is_first),
            // Its first use may have come no further than to the promise.
            replay @ Start::Replayed { started: false, run, .. } if is_replacing => {
                match self.promised_after(key, run).await? {
                    Some(active) => (Some(replay), active, run, false),
                    None => return Ok(replay),
                }
            }
            answer => return Ok(answer),
        };
        let (inner, key) = (self.clone(), key.clone());
        let replacing = async move { inner.replace(&key, replaced, next, is_first).await };
        let done = self.tasks.spawn(replacing).await.unwrap_or(Err(Error::Closed))?;
        Ok(answer.unwrap_or(done))
    }

    /// Cancels the run that is to be replaced, and waits until the next one has begun.
    async fn replace(self: &Arc<Self>, key: &Key, active: Run, next: Run, is_first: bool) -> Result<Start> {
        // Also where it is not the first: the one that was may have died before it came to this.
        let options = CancelOptions { reason: Some(REPLACED.to_owned()), run: Some(active) };
        self.cancel(key, options).await?;
        fault::point("core:replace-cancelled");
        tokio::select! {
            biased;
            ended = self.ended(key, active) => drop(ended?),
            // What was promised is on record, and is kept by another process.
            () = self.draining.cancelled() => return Err(Error::Closed),
        }
        Ok(match self.begin_after(key, active).await? {
            // It has begun; by now it may be over, or replaced itself.
            Start::AlreadyActive { run, .. } | Start::AlreadyFinished { run, .. }
                if is_first && (run == next || run > next && self.has_begun(key, next).await?) =>
            {
                Start::Started { run: next }
            }
            // The whole task was cancelled or deleted meanwhile: the promise was taken back, and no run has that number.
            answer => answer,
        })
    }

    /// The run after which a run that was promised is to begin; none where it has begun, or the promise was taken back.
    async fn promised_after(&self, key: &Key, promised: Run) -> Result<Option<Run>> {
        let row = self.store.rows(vec![key.clone()]).await?.into_iter().flatten().next();
        let stands = |row: &Current| row.next_run != NextRun::None && row.following_run() == promised;
        Ok(row.filter(stands).map(|row| row.run))
    }

    /// Whether a run that is older than the newest one has begun: then its end stands in the log, whose events are in the
    /// order of their runs. Where the task was deleted meanwhile nobody knows, and it counts as one that has not.
    async fn has_begun(&self, key: &Key, run: Run) -> Result<bool> {
        let mut after = 0;
        let mut until = self.task(key).await?.last_seq;
        while after < until {
            let middle = after.midpoint(until);
            let range = EventRange { after: middle, until, max_events: 1, max_bytes: 1 };
            match self.store.events(key, range).await?.first() {
                Some(event) if event.run == run => return Ok(true),
                Some(event) if event.run < run => after = event.seq,
                // What a deleted task of that key has left is no more to be read.
                _ => until = middle,
            }
        }
        Ok(false)
    }

    /// Begins the run that was asked for while the one that has now ended was active, unless it was begun already.
    pub(super) async fn begin_after(self: &Arc<Self>, key: &Key, ended: Run) -> Result<Start> {
        // A run that is just claimed is on record before it is known here: its cancel would find nobody, and a comparison of
        // the record with what runs here would begin it once more.
        let _taking = self.taking.lock().await;
        // Whoever asked for it may be many, or gone: it is part of nobody's trace.
        let options = StartOptions::default();
        fault::point("core:next-before");
        let Answers { first, others } = self.ask_store(key, &options, Some(ended)).await?;
        fault::point("core:next-begun");
        if matches!(first, Ok(Start::Started { .. })) { others } else { first }
    }

    /// Begins what is owed: one more run of each task of which one was asked for.
    pub(super) async fn begin_owed(self: &Arc<Self>) -> StoreResult<()> {
        for (key, ended) in self.store.owed(limits::LIST_MAX_TASKS).await? {
            if let Err(error) = self.begin_after(&key, ended).await {
                // Nobody serves its model now, or the store is away: the next look finds it again.
                tracing::debug!(task.key = %key, %error, "the next run cannot be begun now; it is tried again");
            }
        }
        Ok(())
    }

    /// The answer to a start, by memory or by a trip to the store.
    async fn ask(self: &Arc<Self>, key: &Key, options: StartOptions) -> Result<Start> {
        self.check_open()?;
        let receiver = match self.live.arrive(key, options) {
            Arrived::Answered(answer) => return Ok(answer),
            Arrived::Waits(receiver) => receiver,
            Arrived::First(receiver) => {
                let trip = Trips { inner: self.clone(), key: key.clone(), through: false };
                self.tasks.spawn(trip.run());
                receiver
            }
        };
        receiver.await.unwrap_or_else(|_| {
            Err(Error::Unavailable {
                message: format!("the start of {key} broke off; ask for its status, or start it again"),
            })
        })
    }

    /// One trip for starts of one key that may share it.
    async fn trip(self: &Arc<Self>, key: &Key, options: &StartOptions) -> Answers {
        match self.live.active(key) {
            Some(active) if options.idempotency.is_none() && !options.policy.asks_for_more() => {
                Answers::same(Ok(active))
            }
            _ => self.ask_store(key, options, None).await.unwrap_or_else(|error| Answers::same(Err(error))),
        }
    }

    /// Asks the store for a run; where `after` is named only for the one after it.
    async fn ask_store(
        self: &Arc<Self>,
        key: &Key,
        options: &StartOptions,
        after: Option<Run>,
    ) -> Result<Answers> {
        self.check_open()?;
        let session = self.session();
        if !session.trusted() {
            return Err(joining_again());
        }
        let mut slot = self.slot(key.model_key()).await?;
        let idempotency = options.idempotency.as_ref();
        let request = ClaimRequest {
            key: key.clone(),
            node: session.node.clone(),
            policy: options.policy,
            place: if slot.is_some() { Place::Here } else { Place::Queue },
            after,
            max_total: self.models.get(key.model_key()).and_then(|model| model.options.max_concurrent_total),
            idempotency: idempotency.map(|key| Idempotency::start(key, options.call, options.policy)),
            trace: options.trace.clone(),
            at: self.clock.now(),
        };
        fault::point("core:claim-before");
        let claim = self.store.claim(request).await;
        if !matches!(claim, Ok(Claim::Won(_) | Claim::Queued(_))) {
            self.not_used(key.model_key(), slot.take());
        }
        let lost = match claim? {
            Claim::Won(won) => {
                fault::point("core:claim-won");
                let slot = slot.expect("a claim without a slot goes to the queue");
                let lease = RunLease::from_claim(key.clone(), session.node.clone(), &won);
                return Ok(self.begin(session, lease, won.input, slot));
            }
            Claim::Queued(row) => {
                fault::point("core:claim-queued");
                self.queued(key.model_key(), slot.is_some());
                return Ok(Answers { first: Ok(Start::Started { run: row.run }), others: Ok(active(row)) });
            }
            Claim::Active(row) => active(row),
            Claim::Rerun { current, first } => {
                fault::point("core:claim-noted");
                return Ok(Answers {
                    first: Ok(one_more(&current, first)),
                    others: Ok(one_more(&current, false)),
                });
            }
            Claim::Finished(row) => Start::AlreadyFinished { run: row.run, status: row.status },
            Claim::Replayed { started, run, current } => {
                Start::Replayed { started, run, status: current.status }
            }
            Claim::KeyReused => return Err(key_reused()),
            Claim::Missing => return Err(unknown_task(key)),
            Claim::NodeDead => {
                session.lost();
                return Err(joining_again());
            }
        };
        Ok(Answers::same(Ok(lost)))
    }

    /// The slot that a start takes before it asks. None where no slot is free here, or the model is served elsewhere: a start
    /// that wins waits for a node then.
    pub(super) async fn slot(&self, model: &ModelKey) -> Result<Option<OwnedSemaphorePermit>> {
        let Some(served) = self.models.get(model) else {
            return self.served_elsewhere(model).await.map(|_| None);
        };
        if served.is_waited_for.load(Ordering::Relaxed) {
            return Ok(None);
        }
        match served.slots.clone().try_acquire_owned() {
            Err(_) if model.is_own() => Err(busy(model)),
            slot => Ok(slot.ok()),
        }
    }

    /// A slot was taken for a start that had no use for it: whoever found none free meanwhile waits in the queue.
    pub(super) fn not_used(&self, model: &ModelKey, slot: Option<OwnedSemaphorePermit>) {
        let has_slot = slot.is_some();
        drop(slot);
        let is_waited_for = |model: &super::Model| model.is_waited_for.load(Ordering::Relaxed);
        if has_slot && self.models.get(model).is_some_and(is_waited_for) {
            self.queue.notify_one();
        }
    }

    /// A run was queued, by a start that had a slot or had none.
    pub(super) fn queued(&self, model: &ModelKey, had_slot: bool) {
        // Not what waits for its time; that holds up nobody.
        if let (Some(model), false) = (self.models.get(model), had_slot) {
            model.is_waited_for.store(true, Ordering::Relaxed);
        }
        // A slot may have become free since: whoever gave it back has looked before this was there.
        self.queue.notify_one();
    }

    /// Holds a run that was won, and lets its work begin.
    pub(super) fn begin(
        self: &Arc<Self>,
        session: Arc<Session>,
        lease: RunLease,
        input: Json,
        slot: OwnedSemaphorePermit,
    ) -> Answers {
        let answers = Answers {
            first: Ok(Start::Started { run: lease.run() }),
            others: Ok(Start::AlreadyActive {
                run: lease.run(),
                status: Status::Running,
                node: Some(lease.node().clone()),
                since: Some(lease.since()),
            }),
        };
        let topic = self.hub.topic(lease.key(), For::Run);
        topic.run_begins(lease.epoch(), lease.start_seq());
        let run = Arc::new(LiveRun::new(session, lease));
        self.live.hold(run.clone());
        fault::point("core:claim-held");
        self.tasks.spawn(Attempt::new(self.clone(), run, topic).supervise(input, slot));
        answers
    }
}

fn active(row: Current) -> Start {
    Start::AlreadyActive { run: row.run, status: row.status, node: row.node, since: row.started_at }
}

fn one_more(row: &Current, is_first: bool) -> Start {
    Start::Next {
        run: row.following_run(),
        active: row.run,
        status: row.status,
        node: row.node.clone(),
        since: row.started_at,
        is_first,
    }
}

/// Nobody else could take it from a queue.
fn busy(model: &ModelKey) -> Error {
    Error::refused(
        "not_served",
        format!("this process runs as many tasks of {model} as it may; try again later"),
    )
}

fn joining_again() -> Error {
    Error::Unavailable {
        message: "this process has lost its lease and joins the store again; try again in a moment"
            .to_owned(),
    }
}

fn key_reused() -> Error {
    Error::invalid(
        "idempotency_key_reused",
        "this idempotency key was used before for another request; use a fresh key for a new request",
    )
}

/// What a trip brought back: of those who shared one that won, one has won.
pub(super) struct Answers {
    first: Result<Start>,
    others: Result<Start>,
}

impl Answers {
    /// What the one that won is told.
    pub(super) fn first(self) -> Result<Start> {
        self.first
    }

    fn same(answer: Result<Start>) -> Self {
        Self { first: answer.clone(), others: answer }
    }

    /// Tells everybody. Who won is the first that is still there to hear it.
    fn tell(self, waiters: Vec<Waiter>) {
        let mut first = Some(self.first);
        for waiter in waiters {
            let answer = first.take().unwrap_or_else(|| self.others.clone());
            if let Err(unheard @ Ok(Start::Started { .. } | Start::Next { is_first: true, .. })) =
                waiter.answer.send(answer)
            {
                first = Some(unheard);
            }
        }
    }
}

/// The trips of one key, one after the other, until nobody waits.
struct Trips {
    inner: Arc<Inner>,
    key: Key,
    through: bool,
}

impl Trips {
    async fn run(mut self) {
        while let Some(waiters) = self.inner.live.next_trip(&self.key) {
            let (alone, shared): (Vec<_>, Vec<_>) =
                waiters.into_iter().partition(|waiter| waiter.options.idempotency.is_some());
            let mut shared_by = Policy::ALL.map(|policy| (policy, Vec::new()));
            for waiter in shared {
                let of_policy = shared_by.iter_mut().find(|(policy, _)| *policy == waiter.options.policy);
                of_policy.expect("all policies are there").1.push(waiter);
            }
            let shared = shared_by.into_iter().map(|(_, waiters)| waiters);
            for waiters in shared.chain(alone.into_iter().map(|waiter| vec![waiter])) {
                if let Some(options) = waiters.first().map(|waiter| waiter.options.clone()) {
                    let answers = self.inner.trip(&self.key, &options).await;
                    answers.tell(waiters);
                }
            }
        }
        self.through = true;
    }
}

impl Drop for Trips {
    fn drop(&mut self) {
        if !self.through {
            self.inner.live.break_off(&self.key);
        }
    }
}
