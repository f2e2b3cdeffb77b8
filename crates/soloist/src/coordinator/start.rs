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
//! key was told before only the store knows.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use super::{
    Inner,
    live::{Arrived, LiveRun, Waiter},
    node::Session,
    supervise::Attempt,
    unknown_task,
};
use crate::{
    Error, Json, Key, Result,
    idempotency::Idempotency,
    lease::RunLease,
    state::{Place, Policy, Status},
    store::{Claim, ClaimRequest, Current},
    task::{Start, StartOptions},
};

impl Inner {
    pub(super) async fn start(self: &Arc<Self>, key: &Key, options: StartOptions) -> Result<Start> {
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
            Some(active) if options.idempotency.is_none() => Answers::same(Ok(active)),
            _ => self.ask_store(key, options).await.unwrap_or_else(|error| Answers::same(Err(error))),
        }
    }

    async fn ask_store(self: &Arc<Self>, key: &Key, options: &StartOptions) -> Result<Answers> {
        self.check_open()?;
        let session = self.session();
        if !session.trusted() {
            return Err(joining_again());
        }
        // Where no slot is free here, or the model is served elsewhere, a start that wins waits for a node.
        let slot = match self.models.get(key.model_key()) {
            Some(model) => match model.slots.clone().try_acquire_owned() {
                Err(_) if key.model_key().is_own() => return Err(busy(key)),
                slot => slot.ok(),
            },
            None => self.served_elsewhere(key.model_key()).await.map(|()| None)?,
        };
        let idempotency = options.idempotency.as_ref();
        let request = ClaimRequest {
            key: key.clone(),
            node: session.node.clone(),
            policy: options.policy,
            place: if slot.is_some() { Place::Here } else { Place::Queue },
            idempotency: idempotency.map(|key| Idempotency::start(key, options.call, options.policy)),
            at: self.clock.now(),
        };
        let lost = match self.store.claim(request).await? {
            Claim::Won(won) => {
                let slot = slot.expect("a claim without a slot goes to the queue");
                let lease = RunLease::from_claim(key.clone(), session.node.clone(), &won);
                return Ok(self.begin(session, lease, won.input, slot));
            }
            Claim::Queued(row) => {
                // A slot may have become free since: whoever gave it back has looked before this was there.
                self.queue.notify_one();
                return Ok(Answers { first: Ok(Start::Started { run: row.run }), others: Ok(active(row)) });
            }
            Claim::Active(row) => active(row),
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
        let topic = self.hub.topic(lease.key());
        topic.run_begins(lease.epoch(), lease.start_seq());
        let run = Arc::new(LiveRun::new(session, lease));
        self.live.hold(run.clone());
        self.tasks.spawn(Attempt::new(self.clone(), run, topic).supervise(input, slot));
        answers
    }
}

fn active(row: Current) -> Start {
    Start::AlreadyActive { run: row.run, status: row.status, node: row.node, since: row.started_at }
}

/// Nobody else could take it from a queue.
fn busy(key: &Key) -> Error {
    Error::refused(
        "not_served",
        format!("this process runs as many tasks of {} as it may; try again later", key.model_key()),
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
    fn same(answer: Result<Start>) -> Self {
        Self { first: answer.clone(), others: answer }
    }

    /// Tells everybody. Who won is the first that is still there to hear it.
    fn tell(self, waiters: Vec<Waiter>) {
        let mut first = Some(self.first);
        for waiter in waiters {
            let answer = first.take().unwrap_or_else(|| self.others.clone());
            if let Err(unheard @ Ok(Start::Started { .. })) = waiter.answer.send(answer) {
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
            let (restart, once): (Vec<_>, Vec<_>) =
                shared.into_iter().partition(|waiter| waiter.options.policy == Policy::Restart);
            let trips = [restart, once].into_iter().chain(alone.into_iter().map(|waiter| vec![waiter]));
            for waiters in trips {
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
