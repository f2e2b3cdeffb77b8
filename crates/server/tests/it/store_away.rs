//! A store that cannot be asked for a while.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use async_trait::async_trait;
use soloist::{
    Create, Delete, Event, Json, Key, MemoryStore, ModelKey, NewTask, NodeId, Run, Status, Store, StoreError,
    Task, TaskFilter, TaskPage, Timestamp,
    store::{
        Applied, Claim, ClaimRequest, Current, EventRange, Evidence, Heartbeat, Held, NewNode, QueuedClaim,
        Renewal, Signal, Signalled, StoreResult, Transition, Won,
    },
};
use soloist_server::ServerOptions;
use soloist_wire::sse::Frame;
use tokio::sync::watch;

use crate::{
    client::SSE,
    server::{Server, coordinator_on},
};

/// A real store, and a switch in the line to it.
#[derive(Default)]
struct Line {
    store: MemoryStore,
    cut: Arc<AtomicBool>,
}

/// The heartbeat of a node, over the same line.
struct Beat {
    heartbeat: Box<dyn Heartbeat>,
    cut: Arc<AtomicBool>,
}

fn whole(cut: &AtomicBool) -> StoreResult<()> {
    if cut.load(SeqCst) {
        return Err(StoreError::Unavailable("cannot reach db.internal:5432".into()));
    }
    Ok(())
}

impl Heartbeat for Beat {
    fn renew(&mut self) -> StoreResult<Renewal> {
        whole(&self.cut)?;
        self.heartbeat.renew()
    }
    fn leave(&mut self) -> StoreResult<()> {
        whole(&self.cut)?;
        self.heartbeat.leave()
    }
}

impl Line {
    fn store(&self) -> StoreResult<&MemoryStore> {
        whole(&self.cut).map(|()| &self.store)
    }
}

#[async_trait]
impl Store for Line {
    async fn join(&self, node: NewNode) -> StoreResult<Box<dyn Heartbeat>> {
        let heartbeat = self.store()?.join(node).await?;
        Ok(Box::new(Beat { heartbeat, cut: self.cut.clone() }))
    }
    async fn bury(&self, evidence: Evidence) -> StoreResult<Vec<NodeId>> {
        self.store()?.bury(evidence).await
    }
    async fn serves(&self, model: &ModelKey) -> StoreResult<bool> {
        self.store()?.serves(model).await
    }
    async fn create(&self, task: NewTask, at: Timestamp) -> StoreResult<Create> {
        self.store()?.create(task, at).await
    }
    async fn claim(&self, request: ClaimRequest) -> StoreResult<Claim> {
        self.store()?.claim(request).await
    }
    async fn claim_queued(&self, request: QueuedClaim) -> StoreResult<Option<(Key, Won)>> {
        self.store()?.claim_queued(request).await
    }
    async fn queued(&self) -> StoreResult<bool> {
        self.store()?.queued().await
    }
    async fn apply(&self, transition: Transition) -> StoreResult<Applied> {
        self.store()?.apply(transition).await
    }
    async fn orphans(&self, limit: usize) -> StoreResult<Vec<Held>> {
        self.store()?.orphans(limit).await
    }
    async fn held(&self, node: &NodeId, status: Status) -> StoreResult<Vec<Held>> {
        self.store()?.held(node, status).await
    }
    async fn rows(&self, keys: Vec<Key>) -> StoreResult<Vec<Option<Current>>> {
        self.store()?.rows(keys).await
    }
    async fn inbox(&self, node: &NodeId) -> StoreResult<u64> {
        self.store()?.inbox(node).await
    }
    fn changes(&self) -> watch::Receiver<u64> {
        self.store.changes()
    }
    async fn tidy(&self, at: Timestamp) -> StoreResult<bool> {
        self.store()?.tidy(at).await
    }
    async fn task(&self, key: &Key) -> StoreResult<Option<Task>> {
        self.store()?.task(key).await
    }
    async fn list(&self, filter: TaskFilter) -> StoreResult<TaskPage> {
        self.store()?.list(filter).await
    }
    async fn events(&self, key: &Key, range: EventRange) -> StoreResult<Vec<Event>> {
        self.store()?.events(key, range).await
    }
    async fn delete(&self, key: &Key, at: Timestamp) -> StoreResult<Delete> {
        self.store()?.delete(key, at).await
    }
    async fn signal(&self, key: &Key, name: &str, data: Json, at: Timestamp) -> StoreResult<Signalled> {
        self.store()?.signal(key, name, data, at).await
    }
    async fn signals(&self, key: &Key, run: Run, after: u64, limit: usize) -> StoreResult<Vec<Signal>> {
        self.store()?.signals(key, run, after, limit).await
    }
}

#[tokio::test]
async fn while_the_store_is_away_programs_are_told_and_event_sources_come_back() {
    let line = Arc::new(Line::default());
    let server = Server::on(coordinator_on(line.clone()).await, ServerOptions::default()).await;
    server.call("PUT", "/tasks/demo/Steps/1", &[], "").await;
    line.cut.store(true, SeqCst);
    for (method, path) in [
        ("GET", "/tasks"),
        ("GET", "/tasks/demo/Steps/1"),
        ("POST", "/tasks/demo/Steps/1/start"),
        ("GET", "/stream/demo/Steps/1"),
    ] {
        let away = server.call(method, path, &[], "").await;
        assert_eq!((away.status, &*away.code()), (503, "store_unavailable"), "{method} {path}");
        assert!(away.header("retry-after").is_some());
        assert!(!away.body.contains("db.internal"), "what only the operator should know: {away:?}");
    }
    assert_eq!(server.get("/health").await.status, 200);
    let mut viewer = server.send("GET", "/stream/demo/Steps/1", &[SSE], "").await;
    assert_eq!(viewer.status, 200);
    assert!(matches!(viewer.frame().await, Some(Frame::Retry(2_000..=4_000))));
    assert!(matches!(viewer.frame().await, Some(Frame::Comment(_))));
    assert_eq!(viewer.frame().await, None);

    line.cut.store(false, SeqCst);
    assert_eq!(server.watch("/stream/demo/Steps/1").await.events().await.len(), 1);
}
