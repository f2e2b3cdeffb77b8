//! A line to a store, for tests of those who use one: what is held up, cut or counted on the way.
//!
//! Decides: nothing. Every call reaches the real store behind the line, and its answer comes back, unless the test's
//! [`Between`] says otherwise.

use std::ops::Deref;

use async_trait::async_trait;
use soloist::{
    Create, Delete, Event, Json, Key, ModelKey, NewTask, NodeId, Run, RunTerms, Status, Store, Task,
    TaskFilter, TaskPage, Timestamp,
    store::{
        Applied, Claim, ClaimRequest, Current, EventRange, Evidence, FirstClaim, Heartbeat, Held, NewNode,
        Prune, QueuedClaim, Signal, Signalled, StoreResult, Transition, Waiting, Won,
    },
};
use tokio::sync::watch;

/// A call on its way to the store or back: the verb, with what a test looks at.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "they are the verbs of the store")]
pub enum Call<'a> {
    Join,
    Bury,
    Serves,
    Create,
    CreateClaimed,
    Claim,
    ClaimQueued,
    Waiting,
    Ripen,
    Owed,
    Beside,
    Prune,
    Apply(&'a Transition),
    Orphans,
    Held,
    Rows,
    Inbox(&'a NodeId),
    Tidy,
    Task,
    List,
    Events,
    Delete,
    Signal,
    Signals,
}

/// What stands between the callers of a store and the store.
#[async_trait]
pub trait Between: Send + Sync + 'static {
    /// The real store.
    fn store(&self) -> &dyn Store;

    /// Before a call reaches the store. An error is its answer, and the store is not asked.
    async fn before(&self, _call: Call<'_>) -> StoreResult<()> {
        Ok(())
    }

    /// When the store has answered. An error takes the place of the answer.
    async fn after(&self, _call: Call<'_>) -> StoreResult<()> {
        Ok(())
    }

    /// A claim, between the two.
    async fn claim(&self, request: ClaimRequest) -> StoreResult<Claim> {
        self.store().claim(request).await
    }

    /// What keeps a node alive that joined over this line.
    fn heartbeat(&self, heartbeat: Box<dyn Heartbeat>) -> Box<dyn Heartbeat> {
        heartbeat
    }
}

/// The store at the far end of a line.
#[derive(Debug, Default)]
pub struct Line<B>(pub B);

impl<B> Deref for Line<B> {
    type Target = B;

    fn deref(&self) -> &B {
        &self.0
    }
}

impl<B: Between> Line<B> {
    async fn pass<T>(&self, call: Call<'_>, answer: impl Future<Output = StoreResult<T>>) -> StoreResult<T> {
        self.0.before(call).await?;
        let answer = answer.await;
        self.0.after(call).await?;
        answer
    }
}

#[async_trait]
impl<B: Between> Store for Line<B> {
    async fn join(&self, node: NewNode) -> StoreResult<Box<dyn Heartbeat>> {
        let joined = self.pass(Call::Join, self.store().join(node)).await?;
        Ok(self.heartbeat(joined))
    }
    async fn bury(&self, evidence: Evidence) -> StoreResult<Vec<NodeId>> {
        self.pass(Call::Bury, self.store().bury(evidence)).await
    }
    fn can_be_away(&self) -> bool {
        self.store().can_be_away()
    }
    async fn serves(&self, model: &ModelKey) -> StoreResult<Option<RunTerms>> {
        self.pass(Call::Serves, self.store().serves(model)).await
    }
    async fn create(&self, task: NewTask, at: Timestamp) -> StoreResult<Create> {
        self.pass(Call::Create, self.store().create(task, at)).await
    }
    async fn create_claimed(&self, task: NewTask, claim: FirstClaim, at: Timestamp) -> StoreResult<Create> {
        self.pass(Call::CreateClaimed, self.store().create_claimed(task, claim, at)).await
    }
    async fn claim(&self, request: ClaimRequest) -> StoreResult<Claim> {
        self.pass(Call::Claim, self.0.claim(request)).await
    }
    async fn claim_queued(&self, request: QueuedClaim) -> StoreResult<Option<(Key, Won)>> {
        self.pass(Call::ClaimQueued, self.store().claim_queued(request)).await
    }
    async fn waiting(&self) -> StoreResult<Waiting> {
        self.pass(Call::Waiting, self.store().waiting()).await
    }
    async fn ripen(&self, at: Timestamp) -> StoreResult<bool> {
        self.pass(Call::Ripen, self.store().ripen(at)).await
    }
    async fn owed(&self, limit: usize) -> StoreResult<Vec<(Key, Run)>> {
        self.pass(Call::Owed, self.store().owed(limit)).await
    }
    async fn beside(&self, node: &NodeId) -> StoreResult<bool> {
        self.pass(Call::Beside, self.store().beside(node)).await
    }
    async fn prune(&self, request: Prune, at: Timestamp) -> StoreResult<Vec<Key>> {
        self.pass(Call::Prune, self.store().prune(request, at)).await
    }
    async fn apply(&self, transition: Transition) -> StoreResult<Applied> {
        self.pass(Call::Apply(&transition), self.store().apply(transition.clone())).await
    }
    async fn orphans(&self, limit: usize) -> StoreResult<Vec<Held>> {
        self.pass(Call::Orphans, self.store().orphans(limit)).await
    }
    async fn held(&self, node: &NodeId, status: Status) -> StoreResult<Vec<Held>> {
        self.pass(Call::Held, self.store().held(node, status)).await
    }
    async fn rows(&self, keys: Vec<Key>) -> StoreResult<Vec<Option<Current>>> {
        self.pass(Call::Rows, self.store().rows(keys)).await
    }
    async fn inbox(&self, node: &NodeId) -> StoreResult<u64> {
        self.pass(Call::Inbox(node), self.store().inbox(node)).await
    }
    fn changes(&self) -> watch::Receiver<u64> {
        self.store().changes()
    }
    async fn tidy(&self, at: Timestamp) -> StoreResult<bool> {
        self.pass(Call::Tidy, self.store().tidy(at)).await
    }
    async fn task(&self, key: &Key) -> StoreResult<Option<Task>> {
        self.pass(Call::Task, self.store().task(key)).await
    }
    async fn list(&self, filter: TaskFilter) -> StoreResult<TaskPage> {
        self.pass(Call::List, self.store().list(filter)).await
    }
    async fn events(&self, key: &Key, range: EventRange) -> StoreResult<Vec<Event>> {
        self.pass(Call::Events, self.store().events(key, range)).await
    }
    async fn delete(&self, key: &Key, run: Option<Run>, at: Timestamp) -> StoreResult<Delete> {
        self.pass(Call::Delete, self.store().delete(key, run, at)).await
    }
    async fn signal(&self, key: &Key, name: &str, data: Json, at: Timestamp) -> StoreResult<Signalled> {
        self.pass(Call::Signal, self.store().signal(key, name, data, at)).await
    }
    async fn signals(&self, key: &Key, run: Run, after: u64, limit: usize) -> StoreResult<Vec<Signal>> {
        self.pass(Call::Signals, self.store().signals(key, run, after, limit)).await
    }
}
