//! A node's line to the store: slow, lossy, and cut with its node.
//!
//! Decides: how long each request and each answer is on its way, and which of them never arrive. A request that is lost was
//! not done; one whose answer is lost was; in both cases the caller is told that the store is away, and cannot know.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use soloist::{
    Create, Delete, Event, Json, Key, ModelKey, NewTask, NodeId, Run, RunTerms, Status, Store, Task,
    TaskFilter, TaskPage, Timestamp,
    simulation::SlowHeartbeat,
    store::{
        Applied, Claim, ClaimRequest, Current, EventRange, Evidence, FirstClaim, Heartbeat, Held, NewNode,
        Prune, QueuedClaim, Renewal, Signal, Signalled, StoreResult, Transition, Waiting, Won,
    },
};
use tokio::{
    sync::{oneshot, watch},
    time::sleep,
};

use crate::{
    draw::{Dice, number},
    ground::{Ground, count, cut, now},
};

tokio::task_local! {
    /// Who asks, where it is a viewer: they have wake-ups in common, and are woken in any order.
    pub(crate) static ASKER: u64;
}

/// How many there were, by verb, what about, and who asks.
type Calls = BTreeMap<(&'static str, u64, u64), u64>;

#[derive(Clone)]
pub(crate) struct Line {
    pub(crate) ground: Arc<Ground>,
    pub(crate) node: usize,
    /// Which life of that node.
    pub(crate) life: u64,
    calls: Arc<Mutex<Calls>>,
}

/// What becomes of one call.
#[derive(Debug, Default)]
struct Fate {
    there_ms: u64,
    back_ms: u64,
    request_lost: bool,
    answer_lost: bool,
    /// When it arrives once more.
    again_ms: Option<u64>,
    order: u64,
}

impl Line {
    pub(crate) fn new(ground: Arc<Ground>, node: usize, life: u64) -> Self {
        Self { ground, node, life, calls: Arc::default() }
    }

    fn fate(&self, verb: &'static str, about: u64) -> Fate {
        let asker = ASKER.try_with(|asker| *asker).unwrap_or_default();
        let nth = {
            let mut calls = self.calls.lock().unwrap();
            let nth = calls.entry((verb, about, asker)).or_default();
            *nth += 1;
            *nth
        };
        let (weather, lease) = (&self.ground.weather, self.ground.weather.lease_ms);
        let mut dice = Dice::new(self.ground.seed, &[3, self.life, number(verb), about, asker, nth]);
        let order = dice.below(1 << 30);
        if self.ground.is_calm() {
            return Fate { order, ..Fate::default() };
        }
        let is_slow = self.ground.is_slow(self.node);
        let way = |dice: &mut Dice| {
            if is_slow {
                // One of the two ways, mostly.
                return if dice.per_mille(600) { 0 } else { dice.between(lease / 10, lease * 4 / 10) };
            }
            if dice.per_mille(weather.endless) {
                dice.between(lease / 2, lease * 2)
            } else if dice.per_mille(weather.slow) {
                dice.between(weather.usual_ms, lease / 2)
            } else if dice.per_mille(weather.at_once) {
                0
            } else {
                dice.between(1, weather.usual_ms)
            }
        };
        let (there_ms, back_ms) = (way(&mut dice), way(&mut dice));
        let request_lost = dice.per_mille(weather.lose_request);
        let answer_lost = dice.per_mille(weather.lose_answer);
        let again_ms = dice.per_mille(weather.twice).then(|| there_ms + dice.between(0, lease));
        Fate { there_ms, back_ms, request_lost, answer_lost, again_ms, order }
    }

    async fn call<T: Send + 'static>(
        &self,
        verb: &'static str,
        about: u64,
        carry_out: impl FnOnce(&Ground) -> StoreResult<T> + Send + 'static,
    ) -> StoreResult<T> {
        let fate = self.fate(verb, about);
        self.travel(fate, verb, carry_out).await
    }

    async fn travel<T: Send + 'static>(
        &self,
        fate: Fate,
        verb: &'static str,
        carry_out: impl FnOnce(&Ground) -> StoreResult<T> + Send + 'static,
    ) -> StoreResult<T> {
        count(&self.ground.counts.calls);
        if fate.request_lost {
            count(&self.ground.counts.requests_lost);
            sleep(Duration::from_millis(fate.there_ms)).await;
            return Err(cut(&format!("the request ({verb}) was lost")));
        }
        let node = self.node;
        let answer = if fate.there_ms == 0 {
            self.ground.reach(node).and_then(|()| carry_out(&self.ground))
        } else {
            let (answer, answered) = oneshot::channel();
            let request = move |ground: &Ground| {
                drop(answer.send(ground.reach(node).and_then(|()| carry_out(ground))));
            };
            self.ground.send(fate.there_ms, fate.order, Box::new(request));
            answered.await.unwrap_or_else(|_| Err(cut("the line broke")))
        };
        if fate.back_ms > 0 {
            sleep(Duration::from_millis(fate.back_ms)).await;
        }
        if fate.answer_lost && answer.is_ok() {
            count(&self.ground.counts.answers_lost);
            return Err(cut(&format!("the answer ({verb}) was lost; it may have been done")));
        }
        answer
    }
}

/// A node's way to stay alive, over its line.
struct Beat {
    line: Line,
    node: NodeId,
    heartbeat: Arc<Mutex<Box<dyn Heartbeat>>>,
}

impl Heartbeat for Beat {
    fn renew(&mut self) -> StoreResult<Renewal> {
        unreachable!("a simulation does not block")
    }

    fn leave(&mut self) -> StoreResult<()> {
        unreachable!("a simulation does not block")
    }

    fn simulated(&mut self) -> Option<Box<dyn SlowHeartbeat>> {
        let (line, node, heartbeat) = (self.line.clone(), self.node.clone(), self.heartbeat.clone());
        Some(Box::new(Beat { line, node, heartbeat }))
    }
}

#[async_trait]
impl SlowHeartbeat for Beat {
    async fn renew(&mut self) -> StoreResult<Renewal> {
        let (heartbeat, id, node) = (self.heartbeat.clone(), self.node.clone(), self.line.node);
        let renewing = move |ground: &Ground| ground.renew(node, &id, &mut **heartbeat.lock().unwrap());
        let sent = self.line.ground.now_ms();
        let renewal = self.line.call("renew", 0, renewing).await?;
        self.line.ground.oracle().heard(&self.node, sent, renewal);
        Ok(renewal)
    }

    async fn leave(&mut self) -> StoreResult<()> {
        let (heartbeat, id, node) = (self.heartbeat.clone(), self.node.clone(), self.line.node);
        let leaving = move |ground: &Ground| ground.leave(node, &id, &mut **heartbeat.lock().unwrap());
        self.line.call("leave", 0, leaving).await
    }
}

fn of_key(key: &Key) -> u64 {
    number(&key.to_string())
}

#[async_trait]
impl Store for Line {
    async fn join(&self, node: NewNode) -> StoreResult<Box<dyn Heartbeat>> {
        let (id, at, life) = (node.id.clone(), self.node, self.life);
        let sent = self.ground.now_ms();
        let heartbeat = self.call("join", 0, move |ground| ground.join(at, life, node)).await?;
        self.ground.oracle().heard(&id, sent, Renewal::Renewed);
        Ok(Box::new(Beat { line: self.clone(), node: id, heartbeat: Arc::new(Mutex::new(heartbeat)) }))
    }

    async fn bury(&self, evidence: Evidence) -> StoreResult<Vec<NodeId>> {
        let node = self.node;
        self.call("bury", 0, move |ground| ground.bury(node, evidence)).await
    }

    fn can_be_away(&self) -> bool {
        self.ground.weather.can_be_away
    }

    async fn serves(&self, model: &ModelKey) -> StoreResult<Option<RunTerms>> {
        let model = model.clone();
        self.call("serves", 0, move |ground| now(ground.store.serves(&model))).await
    }

    async fn beside(&self, node: &NodeId) -> StoreResult<bool> {
        let node = node.clone();
        self.call("beside", 0, move |ground| now(ground.store.beside(&node))).await
    }

    async fn create(&self, task: NewTask, at: Timestamp) -> StoreResult<Create> {
        let node = self.node;
        self.call("create", 0, move |ground| ground.create(node, task, at)).await
    }

    async fn create_claimed(&self, task: NewTask, claim: FirstClaim, at: Timestamp) -> StoreResult<Create> {
        let node = self.node;
        self.call("create_claimed", 0, move |ground| ground.create_claimed(node, task, claim, at)).await
    }

    async fn claim(&self, request: ClaimRequest) -> StoreResult<Claim> {
        let node = self.node;
        self.call("claim", of_key(&request.key), move |ground| ground.claim(node, request)).await
    }

    async fn claim_queued(&self, request: QueuedClaim) -> StoreResult<Option<(Key, Won)>> {
        let node = self.node;
        self.call("claim_queued", 0, move |ground| ground.claim_queued(node, request)).await
    }

    async fn waiting(&self) -> StoreResult<Waiting> {
        self.call("waiting", 0, |ground| now(ground.store.waiting())).await
    }

    async fn ripen(&self, at: Timestamp) -> StoreResult<bool> {
        self.call("ripen", 0, move |ground| now(ground.store.ripen(at))).await
    }

    async fn owed(&self, limit: usize) -> StoreResult<Vec<(Key, Run)>> {
        self.call("owed", 0, move |ground| now(ground.store.owed(limit))).await
    }

    async fn apply(&self, transition: Transition) -> StoreResult<Applied> {
        let (fate, node, life) = (self.fate("apply", of_key(&transition.key)), self.node, self.life);
        if let Some(again_ms) = fate.again_ms {
            // The same write once more, whenever: it is recognised, or it is too late.
            count(&self.ground.counts.twice);
            let again = transition.clone();
            let request = move |ground: &Ground| drop(ground.apply(node, life, again));
            self.ground.send(again_ms.max(1), fate.order, Box::new(request));
        }
        self.travel(fate, "apply", move |ground| ground.apply(node, life, transition)).await
    }

    async fn orphans(&self, limit: usize) -> StoreResult<Vec<Held>> {
        self.call("orphans", 0, move |ground| now(ground.store.orphans(limit))).await
    }

    async fn held(&self, node: &NodeId, status: Status) -> StoreResult<Vec<Held>> {
        let node = node.clone();
        self.call("held", 0, move |ground| now(ground.store.held(&node, status))).await
    }

    async fn rows(&self, keys: Vec<Key>) -> StoreResult<Vec<Option<Current>>> {
        self.call("rows", 0, move |ground| now(ground.store.rows(keys))).await
    }

    async fn inbox(&self, node: &NodeId) -> StoreResult<u64> {
        let node = node.clone();
        self.call("inbox", 0, move |ground| now(ground.store.inbox(&node))).await
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.ground.listen()
    }

    async fn tidy(&self, at: Timestamp) -> StoreResult<bool> {
        self.call("tidy", 0, move |ground| now(ground.store.tidy(at))).await
    }

    async fn task(&self, key: &Key) -> StoreResult<Option<Task>> {
        let (about, key) = (of_key(key), key.clone());
        self.call("task", about, move |ground| now(ground.store.task(&key))).await
    }

    async fn list(&self, filter: TaskFilter) -> StoreResult<TaskPage> {
        self.call("list", 0, move |ground| now(ground.store.list(filter))).await
    }

    async fn events(&self, key: &Key, range: EventRange) -> StoreResult<Vec<Event>> {
        let (about, key) = (of_key(key), key.clone());
        self.call("events", about, move |ground| now(ground.store.events(&key, range))).await
    }

    async fn delete(&self, key: &Key, run: Option<Run>, at: Timestamp) -> StoreResult<Delete> {
        let (about, key, node) = (of_key(key), key.clone(), self.node);
        self.call("delete", about, move |ground| ground.delete(node, &key, run, at)).await
    }

    async fn prune(&self, request: Prune, at: Timestamp) -> StoreResult<Vec<Key>> {
        let node = self.node;
        self.call("prune", 0, move |ground| ground.prune(node, request, at)).await
    }

    async fn signal(&self, key: &Key, name: &str, data: Json, at: Timestamp) -> StoreResult<Signalled> {
        let (about, key, name, node) = (of_key(key), key.clone(), name.to_owned(), self.node);
        self.call("signal", about, move |ground| ground.signal(node, &key, &name, data, at)).await
    }

    async fn signals(&self, key: &Key, run: Run, after: u64, limit: usize) -> StoreResult<Vec<Signal>> {
        let (about, key) = (of_key(key), key.clone());
        self.call("signals", about, move |ground| now(ground.store.signals(&key, run, after, limit))).await
    }
}
