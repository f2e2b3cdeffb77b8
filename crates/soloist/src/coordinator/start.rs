//! The path of a start.
//!
//! Decides: in which order a start is answered: from memory while that is certainly true, else by a trip to the store,
//! which alone decides who wins. There is one trip under way for a key; starts that arrive meanwhile wait for the
//! next one and share it, so a thousand starts at one moment cost two trips at the most (the first wins, and all the
//! others find its run in memory).
//!
//! A trip belongs to no caller: it runs on its own, so that a caller that goes away between the claim and its answer
//! leaves no task running with nobody running it. Never: a check that decides a later write. The slot is reserved
//! before the claim and given back if it lost.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use super::{
    Inner,
    live::{Arrived, LiveRun, Waiter},
    supervise::Attempt,
    unknown_task,
};
use crate::{
    Error, Json, Key, Result,
    lease::RunLease,
    state::{Command, Place, Policy, Refusal, Status, next},
    store::{Claim, ClaimRequest},
    task::Start,
};

impl Inner {
    pub(super) async fn start(self: &Arc<Self>, key: &Key, policy: Policy) -> Result<Start> {
        self.check_open()?;
        let receiver = match self.live.arrive(key, policy) {
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

    /// One trip for starts of one key and policy.
    async fn trip(self: &Arc<Self>, key: &Key, policy: Policy) -> Answers {
        match self.live.active(key) {
            Some(active) => Answers::same(Ok(active)),
            None => self.ask_store(key, policy).await.unwrap_or_else(|error| Answers::same(Err(error))),
        }
    }

    async fn ask_store(self: &Arc<Self>, key: &Key, policy: Policy) -> Result<Answers> {
        self.check_open()?;
        let model = self.model(key.model_key())?;
        let Ok(slot) = model.slots.clone().try_acquire_owned() else {
            return self.refuse_full(key, policy, model.max_concurrent).await.map(|a| Answers::same(Ok(a)));
        };
        let request =
            ClaimRequest { key: key.clone(), node: self.node.clone(), policy, at: self.clock.now() };
        let lost = match self.store.claim(request).await? {
            Claim::Won(won) => {
                let lease = RunLease::from_claim(key.clone(), self.node.clone(), &won);
                return Ok(self.begin(lease, won.input, slot));
            }
            Claim::Active(current) => Start::AlreadyActive {
                run: current.run,
                status: current.status,
                node: current.node,
                since: current.started_at,
            },
            Claim::Finished(current) => Start::AlreadyFinished { run: current.run, status: current.status },
            Claim::Missing => return Err(unknown_task(key)),
            Claim::NodeDead => {
                let message = format!("the store holds this process ({}) for dead; restart it", self.node);
                return Err(Error::Unavailable { message });
            }
        };
        Ok(Answers::same(Ok(lost)))
    }

    /// No slot is free: a start that would win is refused, one that would lose is answered.
    async fn refuse_full(&self, key: &Key, policy: Policy, max: usize) -> Result<Start> {
        let task = self.store.task(key).await?.ok_or_else(|| unknown_task(key))?;
        match next(task.status, Command::Start(policy, Place::Here)) {
            Err(Refusal::AlreadyFinished) => {
                Ok(Start::AlreadyFinished { run: task.run, status: task.status })
            }
            Err(_) => Ok(Start::AlreadyActive {
                run: task.run,
                status: task.status,
                node: task.node,
                since: task.started_at,
            }),
            Ok(_) => Err(Error::LimitReached {
                code: "full",
                message: format!(
                    "all {max} slots of the model {} are taken; try again later, or raise max_concurrent",
                    key.model_key()
                ),
            }),
        }
    }

    /// Holds a run that was won, and lets its work begin.
    fn begin(self: &Arc<Self>, lease: RunLease, input: Json, slot: OwnedSemaphorePermit) -> Answers {
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
        let run = Arc::new(LiveRun::new(lease));
        self.live.hold(run.clone());
        self.tasks.spawn(Attempt::new(self.clone(), run, topic).supervise(input, slot));
        answers
    }
}

/// What a trip brought back: of those who shared one that won, one has won.
struct Answers {
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
            let (restart, once): (Vec<_>, Vec<_>) =
                waiters.into_iter().partition(|waiter| waiter.policy == Policy::Restart);
            for (policy, waiters) in [(Policy::Restart, restart), (Policy::Once, once)] {
                if !waiters.is_empty() {
                    let answers = self.inner.trip(&self.key, policy).await;
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
