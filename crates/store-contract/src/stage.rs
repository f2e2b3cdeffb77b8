//! Where a promise is played: one storage, one handle, one living node, and tasks brought into any state through the
//! store's own verbs.
//!
//! Decides: what the suite writes. Times rise with each call, so that no two writes share one.

use std::{
    slice::from_ref,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use soloist::{
    Data, Delete, Ending, Epoch, Event, Failure, Json, Key, Losses, ModelKey, NewTask, NodeId, Policy, Run,
    RunTerms, Seq, Status, Store, Task, Timestamp,
    event::{self, NewEvent},
    lease::RunLease,
    state::Place,
    store::{
        Applied, Change, Claim, ClaimRequest, EventRange, Evidence, NewNode, QueuedClaim, Rerun, Served,
        Transition, Won, Writer,
    },
};

use crate::{Harness, boot::ManualBootClock, nodes::Nodes};

/// How long a node of the suite lives after each renewal.
pub const LEASE: Duration = Duration::from_secs(10);

/// All events of a log.
pub const ALL: EventRange =
    EventRange { after: 0, until: Seq::MAX, max_events: usize::MAX, max_bytes: usize::MAX };

/// A storage with one open handle and one living node, which serves `app/Model`.
pub struct Stage<H> {
    /// The storage.
    pub harness: H,
    /// A handle on it.
    pub store: Arc<dyn Store>,
    /// A living node.
    pub node: NodeId,
    /// What leases are measured by.
    pub boot: ManualBootClock,
    /// What keeps this node and others alive.
    pub nodes: Nodes,
    clock: AtomicI64,
}

impl<H: Harness> Stage<H> {
    /// An empty storage, opened and joined.
    pub async fn new() -> Self {
        let boot = ManualBootClock::at(Duration::from_secs(3_600));
        Self::open(H::fresh().await, boot, AtomicI64::new(1_800_000_000_000_000)).await
    }

    async fn open(harness: H, boot: ManualBootClock, clock: AtomicI64) -> Self {
        let store = harness.open(boot.clone()).await;
        let mut stage = Self { harness, store, node: NodeId::random(), boot, nodes: Nodes::default(), clock };
        stage.node = stage.join().await;
        stage
    }

    /// The process dies without a word. Another one opens the storage, joins, and buries it once its lease is over.
    pub async fn restarted(self) -> Self {
        let Self { harness, store, node, boot, nodes, clock } = self;
        drop((nodes, store));
        boot.advance(LEASE);
        let stage = Self::open(harness, boot, clock).await;
        let buried = stage.store.bury(Evidence::Lease).await.expect("the store works");
        assert!(buried.contains(&node) && !buried.contains(&stage.node), "{buried:?}");
        stage
    }

    /// A handle of another process beside this one.
    pub async fn another(&self) -> Arc<dyn Store> {
        self.harness.open(self.boot.clone()).await
    }

    /// A node that serves `app/Model`.
    pub fn new_node(&self) -> NewNode {
        NewNode { id: NodeId::random(), lease: LEASE, models: vec![served("Model")], at: self.now() }
    }

    /// Another living node.
    pub async fn join(&self) -> NodeId {
        let node = self.new_node();
        let id = node.id.clone();
        self.nodes.keep(&id, self.store.join(node).await.expect("joined"));
        id
    }

    /// Moves the clock past the lease of a node, which has not renewed it for so long; all others have.
    pub fn expire(&self, node: &NodeId) {
        self.nodes.renew_all_but(node);
        self.boot.advance(LEASE / 2);
        self.nodes.renew_all_but(node);
        self.boot.advance(LEASE / 2);
    }

    /// Puts the death of a node on record.
    pub async fn bury(&self, node: &NodeId) {
        self.expire(node);
        let buried = self.store.bury(Evidence::Lease).await.expect("the store works");
        assert_eq!(buried, from_ref(node));
    }

    /// A time later than all before it.
    pub fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.clock.fetch_add(1_001, Ordering::Relaxed))
    }

    /// A new pending task `app/Model/<id>`.
    pub async fn pending(&self, id: &str) -> Key {
        let key = key(id);
        self.store.create(NewTask::named(key.clone(), json("{}")), self.now()).await.expect("created");
        key
    }

    /// A new running task.
    pub async fn running(&self, id: &str) -> RunLease {
        let key = self.pending(id).await;
        self.won(&key).await
    }

    /// A new pending task with retries.
    pub async fn retried(&self, id: &str, max_retries: u32) -> Key {
        let new = NewTask { max_retries: Some(max_retries), ..NewTask::named(key(id), json("{}")) };
        self.store.create(new, self.now()).await.expect("created");
        key(id)
    }

    /// A new task that waits for a node to run it.
    pub async fn queued(&self, id: &str) -> Key {
        let key = self.pending(id).await;
        let request = ClaimRequest { place: Place::Queue, ..self.request(&key) };
        assert!(matches!(self.ask(request).await, Claim::Queued(_)));
        key
    }

    /// A start of a task by the stage's node, to be run there; finished ones are started again.
    pub fn request(&self, key: &Key) -> ClaimRequest {
        ClaimRequest {
            key: key.clone(),
            node: self.node.clone(),
            policy: Policy::Restart,
            place: Place::Here,
            after: None,
            max_total: None,
            idempotency: None,
            trace: None,
            at: self.now(),
        }
    }

    /// The answer to a claim.
    pub async fn ask(&self, request: ClaimRequest) -> Claim {
        self.store.claim(request).await.expect("the store works")
    }

    /// A claim by the stage's node.
    pub async fn claim(&self, key: &Key, policy: Policy) -> Claim {
        self.ask(ClaimRequest { policy, ..self.request(key) }).await
    }

    /// The stage's node takes what was queued first.
    pub async fn next_queued(&self) -> Option<(RunLease, Won)> {
        self.next_queued_of(&["Model"]).await
    }

    /// The stage's node takes what was queued first of some models.
    pub async fn next_queued_of(&self, models: &[&str]) -> Option<(RunLease, Won)> {
        let models = models.iter().map(|name| (model(name), None)).collect();
        let request = QueuedClaim { node: self.node.clone(), models, at: self.now() };
        let (key, won) = self.store.claim_queued(request).await.expect("the store works")?;
        Some((RunLease::from_claim(key, self.node.clone(), &won), won))
    }

    /// A claim that wins.
    pub async fn won(&self, key: &Key) -> RunLease {
        match self.claim(key, Policy::Restart).await {
            Claim::Won(won) => RunLease::from_claim(key.clone(), self.node.clone(), &won),
            lost => panic!("the claim of {key} lost: {lost:?}"),
        }
    }

    /// Applies a transition.
    pub async fn apply(&self, transition: Transition) -> Applied {
        self.store.apply(transition).await.expect("the store works")
    }

    /// Appends `count` events after a seq, as the holder.
    pub async fn append(&self, lease: &RunLease, after: Seq, count: u64) -> Applied {
        self.apply(append(lease, after, events(lease, after, count, self.now()))).await
    }

    /// Ends a running run after a seq, as its holder.
    pub async fn finish(&self, lease: &RunLease, after: Seq, ending: Ending) -> Applied {
        self.apply(finish(lease, after, Status::Running, ending, self.now())).await
    }

    /// Asks a running run to stop, as somebody else.
    pub async fn cancel(&self, lease: &RunLease, reason: &str) -> Applied {
        self.cancelling(lease, reason, Rerun::Keep).await
    }

    /// Asks a running run to stop, as somebody who cancels its whole task.
    pub async fn cancel_all(&self, lease: &RunLease, reason: &str) -> Applied {
        self.cancelling(lease, reason, Rerun::Forget).await
    }

    async fn cancelling(&self, lease: &RunLease, reason: &str, rerun: Rerun) -> Applied {
        let change = Change::Cancelling { reason: reason.to_owned(), rerun };
        self.apply(outsider(
            lease.key(),
            (lease.epoch(), lease.run()),
            Status::Running,
            change,
            None,
            self.now(),
        ))
        .await
    }

    /// The transition that ends a running run whose node is lost, by somebody else: the epoch rises.
    pub fn lost(&self, lease: &RunLease) -> Transition {
        let lost = Ending::Failed { failure: Failure::new("NodeLost", "its node died") };
        let event = event::terminal(&lost, None, self.now());
        let end = outsider(
            lease.key(),
            (lease.epoch(), lease.run()),
            Status::Running,
            change(lost),
            Some(event),
            self.now(),
        );
        Transition { epoch_after: lease.epoch().next(), ..end }
    }

    /// The transition that ends a run which was asked to stop and whose node is lost, by somebody else: the epoch rises.
    pub fn lost_while_cancelling(&self, lease: &RunLease) -> Transition {
        let cancelled = Ending::Cancelled { reason: "stop".into() };
        let event = event::terminal(&cancelled, None, self.now());
        let change = change(cancelled);
        let end = outsider(
            lease.key(),
            (lease.epoch(), lease.run()),
            Status::Cancelling,
            change,
            Some(event),
            self.now(),
        );
        Transition { epoch_after: lease.epoch().next(), ..end }
    }

    /// The transition that queues a running run whose node is lost for its next attempt, by somebody else: the epoch
    /// rises.
    pub fn requeued(&self, lease: &RunLease) -> Transition {
        let change = Change::Requeued {
            attempt: lease.attempt() + 1,
            retry_count: lease.attempt(),
            losses: Losses { node: lease.losses().node + 1, ..lease.losses() },
            due_at: None,
        };
        let event = sent("retry", Data::Json(json(r#"{"error_type":"NodeLost"}"#)), self.now());
        let requeue = outsider(
            lease.key(),
            (lease.epoch(), lease.run()),
            Status::Running,
            change,
            Some(event),
            self.now(),
        );
        Transition { epoch_after: lease.epoch().next(), ..requeue }
    }

    /// Deletes a task.
    pub async fn delete(&self, key: &Key) -> Delete {
        self.store.delete(key, None, self.now()).await.expect("the store works")
    }

    /// A record that must be there.
    pub async fn task(&self, key: &Key) -> Task {
        self.store.task(key).await.expect("the store works").expect("the task is there")
    }

    /// The whole log of a task, checked to be dense.
    pub async fn log(&self, key: &Key) -> Vec<Event> {
        let log = self.store.events(key, ALL).await.expect("the store works");
        assert!(log.iter().zip(1..).all(|(event, seq)| event.seq == seq), "the log of {key} is dense");
        log
    }
}

/// `app/Model/<id>`.
#[must_use]
pub fn key(id: &str) -> Key {
    Key::new("app", "Model", id).expect("a valid id")
}

/// `app/<name>`.
#[must_use]
pub fn model(name: &str) -> ModelKey {
    ModelKey::new("app", name).expect("a valid model")
}

/// That model, as a node serves it.
#[must_use]
pub fn served(name: &str) -> Served {
    Served { model: model(name), terms: RunTerms::default(), max_total: None }
}

/// JSON that is valid.
#[must_use]
pub fn json(text: &str) -> Json {
    Json::parse(text).expect("valid JSON")
}

/// An event that work might send.
#[must_use]
pub fn sent(event_type: &str, data: Data, at: Timestamp) -> NewEvent {
    NewEvent::from_work(event_type, data, at).expect("a valid event")
}

/// `count` events of a run after a seq, each unlike the others.
#[must_use]
pub fn events(lease: &RunLease, after: Seq, count: u64, at: Timestamp) -> Vec<Event> {
    (after + 1..=after + count)
        .map(|seq| {
            let data = Data::Json(json(&format!(r#"{{"seq": {seq}, "run": {}}}"#, lease.run())));
            sent("progress", data, at).at(seq, lease.run(), lease.epoch())
        })
        .collect()
}

/// The transition that appends events, as the holder.
#[must_use]
pub fn append(lease: &RunLease, after: Seq, events: Vec<Event>) -> Transition {
    Transition {
        key: lease.key().clone(),
        writer: Writer::Holder { node: lease.node().clone(), epoch: lease.epoch(), events, after },
        from: Status::Running,
        change: Change::Append,
        epoch_after: lease.epoch(),
        at: lease.since(),
    }
}

/// The transition that ends a run, as its holder, with its terminal event.
#[must_use]
pub fn finish(lease: &RunLease, after: Seq, from: Status, ending: Ending, at: Timestamp) -> Transition {
    let last = event::terminal(&ending, None, at).at(after + 1, lease.run(), lease.epoch());
    Transition { from, change: change(ending), at, ..append(lease, after, vec![last]) }
}

/// A transition by somebody who does not hold the run; the epoch stays.
#[must_use]
pub fn outsider(
    key: &Key,
    (epoch, run): (Epoch, Run),
    from: Status,
    change: Change,
    event: Option<NewEvent>,
    at: Timestamp,
) -> Transition {
    let writer = Writer::Outsider { epoch, run, event };
    Transition { key: key.clone(), writer, from, change, epoch_after: epoch, at }
}

/// What an ending makes of the record.
#[must_use]
pub fn change(ending: Ending) -> Change {
    match ending {
        Ending::Completed { final_value } => Change::Completed { final_value },
        Ending::Failed { failure } => Change::Failed { failure },
        Ending::Cancelled { reason } => Change::Cancelled { reason, rerun: Rerun::Keep },
    }
}

/// A run that completed with this value.
#[must_use]
pub fn completed(value: &str) -> Ending {
    Ending::Completed { final_value: json(value) }
}

/// The seq that a commit left.
///
/// # Panics
/// Where it was no commit.
#[track_caller]
pub fn committed(applied: &Applied) -> Seq {
    match applied {
        Applied::Committed { last_seq } => *last_seq,
        other => panic!("not committed: {other:?}"),
    }
}
