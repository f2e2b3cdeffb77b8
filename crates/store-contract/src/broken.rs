//! A store whose start race is lost on purpose, to show that a race test can fail.
//!
//! Decides: nothing well. It claims as many programs do: look whether the task runs, then set it running.

use std::sync::Arc;

use async_trait::async_trait;
use soloist::{
    Create, Delete, Event, Json, Key, ModelKey, NewTask, NodeId, Policy, Run, Status, Store, Task,
    TaskFilter, TaskPage, Timestamp,
    store::{
        Applied, Claim, ClaimRequest, Current, EventRange, Evidence, Heartbeat, Held, NewNode, QueuedClaim,
        Signal, Signalled, StoreResult, Transition, Won, guard,
    },
};
use tokio::sync::watch;

/// A store that checks and then acts: whoever saw a startable task believes that it has won it.
pub struct CheckThenAct(pub Arc<dyn Store>);

#[async_trait]
impl Store for CheckThenAct {
    async fn claim(&self, request: ClaimRequest) -> StoreResult<Claim> {
        let seen = self.0.task(&request.key).await?;
        let row = seen.as_ref().map(Current::from);
        if let Some(lost) = guard::lost_claim(row, request.policy, true) {
            return Ok(lost);
        }
        let seen = seen.expect("a task that is not there is no winner");
        // Between the check and the act others get their turn: the network, a lock, another thread.
        tokio::task::yield_now().await;
        let at = request.at;
        // What the record says by now is not looked at, as in an unconditional `UPDATE ... SET status = 'running'`.
        self.0.claim(ClaimRequest { policy: Policy::Restart, ..request }).await?;
        Ok(Claim::Won(Won {
            run: seen.run + 1,
            attempt: 1,
            epoch: seen.epoch.next(),
            last_seq: seen.last_seq,
            started_at: at,
            retry_count: 0,
            max_retries: seen.max_retries,
            input: seen.input,
        }))
    }

    async fn join(&self, node: NewNode) -> StoreResult<Box<dyn Heartbeat>> {
        self.0.join(node).await
    }

    async fn bury(&self, evidence: Evidence) -> StoreResult<Vec<NodeId>> {
        self.0.bury(evidence).await
    }

    async fn serves(&self, model: &ModelKey) -> StoreResult<bool> {
        self.0.serves(model).await
    }

    async fn create(&self, task: NewTask, at: Timestamp) -> StoreResult<Create> {
        self.0.create(task, at).await
    }

    async fn claim_queued(&self, request: QueuedClaim) -> StoreResult<Option<(Key, Won)>> {
        self.0.claim_queued(request).await
    }

    async fn queued(&self) -> StoreResult<bool> {
        self.0.queued().await
    }

    async fn apply(&self, transition: Transition) -> StoreResult<Applied> {
        self.0.apply(transition).await
    }

    async fn orphans(&self, limit: usize) -> StoreResult<Vec<Held>> {
        self.0.orphans(limit).await
    }

    async fn held(&self, node: &NodeId, status: Status) -> StoreResult<Vec<Held>> {
        self.0.held(node, status).await
    }

    async fn rows(&self, keys: Vec<Key>) -> StoreResult<Vec<Option<Current>>> {
        self.0.rows(keys).await
    }

    async fn inbox(&self, node: &NodeId) -> StoreResult<u64> {
        self.0.inbox(node).await
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes()
    }

    async fn tidy(&self, at: Timestamp) -> StoreResult<bool> {
        self.0.tidy(at).await
    }

    async fn task(&self, key: &Key) -> StoreResult<Option<Task>> {
        self.0.task(key).await
    }

    async fn list(&self, filter: TaskFilter) -> StoreResult<TaskPage> {
        self.0.list(filter).await
    }

    async fn events(&self, key: &Key, range: EventRange) -> StoreResult<Vec<Event>> {
        self.0.events(key, range).await
    }

    async fn delete(&self, key: &Key, at: Timestamp) -> StoreResult<Delete> {
        self.0.delete(key, at).await
    }

    async fn signal(&self, key: &Key, name: &str, data: Json, at: Timestamp) -> StoreResult<Signalled> {
        self.0.signal(key, name, data, at).await
    }

    async fn signals(&self, key: &Key, run: Run, after: u64, limit: usize) -> StoreResult<Vec<Signal>> {
        self.0.signals(key, run, after, limit).await
    }
}
