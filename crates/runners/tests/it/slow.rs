//! A store that is slow slows the command down; nothing gathers in memory.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use soloist::{
    Create, Delete, Event, Json, Key, MemoryStore, ModelKey, NewTask, NodeId, Run, Status, Store, Task,
    TaskFilter, TaskPage, Timestamp, limits,
    store::{
        Applied, Claim, ClaimRequest, Current, EventRange, Evidence, Heartbeat, Held, NewNode, QueuedClaim,
        Signal, Signalled, StoreResult, Transition, Won,
    },
};
use tokio::sync::watch;

use crate::world::{DEADLINE, World, exec, shell};

/// A real store that takes no events until its gate is open.
struct Gated {
    store: MemoryStore,
    open: watch::Receiver<bool>,
}

#[async_trait]
impl Store for Gated {
    async fn join(&self, node: NewNode) -> StoreResult<Box<dyn Heartbeat>> {
        self.store.join(node).await
    }
    async fn bury(&self, evidence: Evidence) -> StoreResult<Vec<NodeId>> {
        self.store.bury(evidence).await
    }
    async fn serves(&self, model: &ModelKey) -> StoreResult<bool> {
        self.store.serves(model).await
    }
    async fn create(&self, task: NewTask, at: Timestamp) -> StoreResult<Create> {
        self.store.create(task, at).await
    }
    async fn claim(&self, request: ClaimRequest) -> StoreResult<Claim> {
        self.store.claim(request).await
    }
    async fn claim_queued(&self, request: QueuedClaim) -> StoreResult<Option<(Key, Won)>> {
        self.store.claim_queued(request).await
    }
    async fn queued(&self) -> StoreResult<bool> {
        self.store.queued().await
    }
    async fn apply(&self, transition: Transition) -> StoreResult<Applied> {
        self.open.clone().wait_for(|open| *open).await.unwrap();
        self.store.apply(transition).await
    }
    async fn orphans(&self, limit: usize) -> StoreResult<Vec<Held>> {
        self.store.orphans(limit).await
    }
    async fn held(&self, node: &NodeId, status: Status) -> StoreResult<Vec<Held>> {
        self.store.held(node, status).await
    }
    async fn rows(&self, keys: Vec<Key>) -> StoreResult<Vec<Option<Current>>> {
        self.store.rows(keys).await
    }
    async fn inbox(&self, node: &NodeId) -> StoreResult<u64> {
        self.store.inbox(node).await
    }
    fn changes(&self) -> watch::Receiver<u64> {
        self.store.changes()
    }
    async fn tidy(&self, at: Timestamp) -> StoreResult<bool> {
        self.store.tidy(at).await
    }
    async fn task(&self, key: &Key) -> StoreResult<Option<Task>> {
        self.store.task(key).await
    }
    async fn list(&self, filter: TaskFilter) -> StoreResult<TaskPage> {
        self.store.list(filter).await
    }
    async fn events(&self, key: &Key, range: EventRange) -> StoreResult<Vec<Event>> {
        self.store.events(key, range).await
    }
    async fn delete(&self, key: &Key, at: Timestamp) -> StoreResult<Delete> {
        self.store.delete(key, at).await
    }
    async fn signal(&self, key: &Key, name: &str, data: Json, at: Timestamp) -> StoreResult<Signalled> {
        self.store.signal(key, name, data, at).await
    }
    async fn signals(&self, key: &Key, run: Run, after: u64, limit: usize) -> StoreResult<Vec<Signal>> {
        self.store.signals(key, run, after, limit).await
    }
}

/// Bytes that a process has written so far.
fn written(pid: &str) -> usize {
    let io = std::fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    io.lines().find_map(|line| line.strip_prefix("wchar: ")).map_or(0, |bytes| bytes.parse().unwrap())
}

#[tokio::test]
async fn s8_a_store_that_takes_nothing_stops_the_command_through_its_pipe_and_nothing_is_lost() {
    let (gate, open) = watch::channel(false);
    let dir = tempfile::tempdir().unwrap();
    let mut options = shell("echo $$ > pid.new; mv pid.new pid; exec seq -f %01000g 1 20000");
    options.dir = Some(dir.path().to_owned());
    let store = Arc::new(Gated { store: MemoryStore::new(), open });
    let world = World::on(store, exec(options)).await;
    let (key, run) = world.start("t/Model", "{}").await;

    let stands_still = async {
        let (mut before, mut still) = (0, 0);
        while still < 40 {
            tokio::time::sleep(Duration::from_millis(25)).await;
            let pid = std::fs::read_to_string(dir.path().join("pid")).unwrap_or_default();
            let now = written(pid.trim());
            still = if now > 1000 && now == before { still + 1 } else { 0 };
            before = now;
        }
        before
    };
    let bytes = tokio::time::timeout(DEADLINE, stands_still).await.expect("the command is held");
    // What is being committed, what waits behind it, and what the pipe and the reader hold.
    let most = 2 * limits::PIPELINE_MAX_BYTES + (1 << 20);
    assert!(bytes < most, "{bytes} bytes were taken of a command that nobody keeps up with");

    gate.send(true).unwrap();
    let ran = world.ended(&key, run).await;
    assert_eq!(ran.task.status, Status::Completed);
    let lines = ran.lines();
    assert_eq!(lines.len(), 20_000);
    assert!(lines.iter().zip(1..).all(|(line, i)| line.len() == 1000 && line.parse() == Ok(i)));
}
