//! Several nodes on one store, with a clock that the test moves: deaths, takeovers, and what crosses from one to another.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use soloist::{
    BootClock, CancelOptions, Coordinator, From, Json, Key, MemoryStore, NewTask, Start, StartOptions,
    Status, Store, StoreError, StreamTask,
    store::{Heartbeat, Renewal, StoreResult},
};
use soloist_store_contract::line::{Between, Call, Line};

use crate::models::{Count, End, Wait, create, drain, start, until, watch};

/// A boot clock that stands still until it is moved.
#[derive(Clone)]
pub(crate) struct Hands(Arc<AtomicU64>);

impl Hands {
    pub(crate) fn new() -> Self {
        Self(Arc::new(AtomicU64::new(1_000_000)))
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.0.fetch_add(u64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

impl BootClock for Hands {
    fn now(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::SeqCst))
    }

    fn boot_id(&self) -> &str {
        "this boot"
    }
}

const LEASE: Duration = Duration::from_secs(10);

/// A node on a store that judges by one clock, while the node itself reads another: one that does not notice how time
/// goes by is as a process that was suspended alone.
async fn node(store: &MemoryStore, judge: &Hands, own: &Hands) -> Coordinator {
    let store = Arc::new(store.clone().with_boot_clock(judge.clone()));
    let builder = Coordinator::builder(store).boot_clock(own.clone()).lease(LEASE);
    builder.register::<Count>("t").register::<Wait>("t").register::<End>("t").open().await.unwrap()
}

async fn until_status(coordinator: &Coordinator, key: &Key, status: Status) -> soloist::Task {
    let waited = async {
        loop {
            let task = coordinator.task(key).await.unwrap();
            if task.status == status {
                return task;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waited).await.expect("it gets there")
}

async fn create_with_retries(coordinator: &Coordinator, key: &str, max_retries: u32) -> Key {
    let key: Key = key.parse().unwrap();
    let new =
        NewTask { max_retries: Some(max_retries), ..NewTask::named(key.clone(), Json::parse("{}").unwrap()) };
    coordinator.create(new).await.unwrap();
    key
}

#[tokio::test(flavor = "multi_thread")]
async fn s6_a_suspended_node_stops_its_work_is_fenced_and_joins_again() {
    let store = MemoryStore::new();
    let (ours, theirs) = (Hands::new(), Hands::new());
    let a = node(&store, &theirs, &ours).await;
    let running = create(&a, "t/Wait/1", "{}").await;
    let cancelling = create(&a, "t/End/1", r#"{"how":"deaf"}"#).await;
    for key in [&running, &cancelling] {
        start(&a, key).await;
    }
    let mut viewer = watch(&a, &running, From::RunStart).await;
    until(&mut viewer, "waiting").await;
    a.cancel(&cancelling, CancelOptions { reason: Some("late".into()), run: None }).await.unwrap();
    let name = a.node();

    // Ten minutes pass; the first node is suspended and does not see them.
    theirs.advance(Duration::from_secs(600));
    let b = node(&store, &theirs, &theirs).await;
    let task = b.task(&running).await.unwrap();
    assert_eq!((task.status, task.epoch.0), (Status::Failed, 2));
    assert_eq!(task.failure.unwrap().error_type, "NodeLost");
    let task = b.task(&cancelling).await.unwrap();
    assert_eq!((task.status, task.cancellation_reason.as_deref()), (Status::Cancelled, Some("late")));

    // It goes on, writes late, and is refused; its viewers see the ending that the other node wrote.
    a.signal(&running, "go", Json::null()).await.unwrap();
    ours.advance(Duration::from_secs(600));
    assert_eq!(drain(&mut viewer).await.last().unwrap().event_type.as_str(), "error");
    while a.node() == name || a.stats().running > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let again = loop {
        // Between two names it starts nothing.
        match a.start(&running, StartOptions::default()).await {
            Ok(answer) => break answer,
            Err(error) => assert_eq!(error.code(), "store_unavailable"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert_eq!(again, Start::Started { run: 2 });
    let log = a.events(&running, 0, 1_000).await.unwrap().events;
    assert!(log.iter().zip(1..).all(|(event, seq)| event.seq == seq));
    assert!(log.windows(2).all(|pair| pair[0].epoch <= pair[1].epoch));
    b.shutdown(Duration::ZERO).await;
    a.shutdown(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_with_a_retry_left_goes_on_at_another_node_and_its_viewers_stay() {
    let store = MemoryStore::new();
    let (ours, theirs) = (Hands::new(), Hands::new());
    let a = node(&store, &theirs, &ours).await;
    let key = create_with_retries(&a, "t/Wait/1", 1).await;
    start(&a, &key).await;
    until(&mut watch(&a, &key, From::RunStart).await, "waiting").await;
    theirs.advance(Duration::from_secs(600));
    let b = node(&store, &theirs, &theirs).await;
    let mut viewer = watch(&b, &key, From::RunStart).await;
    let task = until_status(&b, &key, Status::Running).await;
    assert_eq!((task.run, task.attempt, task.retry_count, task.epoch.0), (1, 2, 1, 3));
    b.signal(&key, "go", Json::null()).await.unwrap();
    assert_eq!(drain(&mut viewer).await.last().unwrap().event_type.as_str(), "complete");
    let types: Vec<_> = b.events(&key, 0, 100).await.unwrap().events;
    let types: Vec<_> = types.iter().map(|event| event.event_type.as_str().to_owned()).collect();
    assert_eq!(types, ["waiting", "retry", "waiting", "complete"]);
    ours.advance(Duration::from_secs(600));
    a.shutdown(Duration::ZERO).await;
    b.shutdown(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s5_events_cancels_and_signals_cross_from_node_to_node() {
    let store = MemoryStore::new();
    let clock = Hands::new();
    let (a, b) = (node(&store, &clock, &clock).await, node(&store, &clock, &clock).await);
    let count = create(&a, "t/Count/1", r#"{"events":5000}"#).await;
    let mut viewers = Vec::new();
    for _ in 0..5 {
        viewers.push(watch(&b, &count, From::RunStart).await);
    }
    start(&a, &count).await;
    for mut viewer in viewers {
        let events = drain(&mut viewer).await;
        assert_eq!(events.len(), 5_001);
        assert!(events.iter().zip(1..).all(|(event, seq)| event.seq == seq));
    }
    let waiting = create(&a, "t/Wait/1", "{}").await;
    start(&a, &waiting).await;
    b.signal(&waiting, "go", Json::parse("7").unwrap()).await.unwrap();
    assert_eq!(b.ended(&waiting, 1).await.unwrap().final_value.unwrap().as_str(), "7");
    start(&a, &waiting).await;
    b.cancel(&waiting, CancelOptions::default()).await.unwrap();
    assert_eq!(b.ended(&waiting, 2).await.unwrap().status, Status::Cancelled);
    a.shutdown(Duration::ZERO).await;
    b.shutdown(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_on_a_node_that_does_not_serve_the_model_is_run_by_one_that_does() {
    let store = MemoryStore::new();
    let other = Coordinator::builder(Arc::new(store.clone())).register::<Count>("o").open().await.unwrap();
    let key: Key = "t/Wait/1".parse().unwrap();
    let new = || NewTask::named(key.clone(), Json::parse("{}").unwrap());
    assert_eq!(other.create(new()).await.unwrap_err().code(), "unknown_model");
    let serving = Coordinator::builder(Arc::new(store)).register::<Wait>("t").open().await.unwrap();
    other.create(new()).await.unwrap();
    assert_eq!(start(&other, &key).await, Start::Started { run: 1 });
    let task = until_status(&other, &key, Status::Running).await;
    assert_eq!((task.node, task.run, task.epoch.0), (Some(serving.node()), 1, 1));
    assert!(matches!(start(&other, &key).await, Start::AlreadyActive { run: 1, .. }));
    serving.shutdown(Duration::ZERO).await;
    other.shutdown(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_leaves_is_not_waited_for() {
    let store = MemoryStore::new();
    let clock = Hands::new();
    let (a, b) = (node(&store, &clock, &clock).await, node(&store, &clock, &clock).await);
    let key = create(&a, "t/Wait/1", "{}").await;
    a.shutdown(Duration::ZERO).await;
    start(&b, &key).await;
    let model = Wait::MODEL;
    assert!(Store::serves(&store, &soloist::ModelKey::new("t", model).unwrap()).await.unwrap().is_some());
    b.shutdown(Duration::ZERO).await;
    assert!(Store::serves(&store, &soloist::ModelKey::new("t", model).unwrap()).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_only_its_own_process_runs_is_started_by_nobody_else_and_seen_by_all() {
    let store = MemoryStore::new();
    let own = Coordinator::builder(Arc::new(store.clone())).register::<Wait>("cli").open().await.unwrap();
    let other = Coordinator::builder(Arc::new(store)).register::<Count>("t").open().await.unwrap();
    let key = create(&own, "cli/Wait/1", "{}").await;
    let refused = other.start(&key, StartOptions::default()).await.unwrap_err();
    assert_eq!(refused.code(), "not_served");
    let new = NewTask::named("cli/Wait/2".parse().unwrap(), Json::parse("{}").unwrap());
    assert_eq!(other.create(new).await.unwrap_err().code(), "not_served");
    // A viewer elsewhere waits for the start, also where it would start any other task.
    let options = soloist::SubscribeOptions { autostart: true, ..Default::default() };
    let soloist::Subscribed::Stream(mut viewer) = other.subscribe(&key, options).await.unwrap() else {
        panic!()
    };
    assert_eq!(other.task(&key).await.unwrap().status, Status::Pending);
    assert_eq!(start(&own, &key).await, Start::Started { run: 1 });
    until(&mut viewer, "waiting").await;
    other.signal(&key, "go", Json::null()).await.unwrap();
    assert_eq!(drain(&mut viewer).await.last().unwrap().event_type.as_str(), "complete");
    own.shutdown(Duration::ZERO).await;
    other.shutdown(Duration::ZERO).await;
}

/// A line on which the first heartbeat is under way for a while by the node's own clock, and no other comes through.
struct SlowHeartbeats {
    store: MemoryStore,
    own: Hands,
    sent: Arc<AtomicU64>,
    claims: AtomicU64,
}

const UNDER_WAY: Duration = Duration::from_millis(500);

struct SlowHeartbeat {
    heartbeat: Box<dyn Heartbeat>,
    own: Hands,
    sent: Arc<AtomicU64>,
}

impl Heartbeat for SlowHeartbeat {
    fn renew(&mut self) -> StoreResult<Renewal> {
        if self.sent.fetch_add(1, Ordering::SeqCst) > 0 {
            return Err(StoreError::Unavailable("the line is cut".into()));
        }
        let answer = self.heartbeat.renew();
        self.own.advance(UNDER_WAY);
        answer
    }

    fn leave(&mut self) -> StoreResult<()> {
        self.heartbeat.leave()
    }
}

#[async_trait]
impl Between for SlowHeartbeats {
    fn store(&self) -> &dyn Store {
        &self.store
    }

    async fn before(&self, call: Call<'_>) -> StoreResult<()> {
        if matches!(call, Call::Claim) {
            self.claims.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    }

    fn heartbeat(&self, heartbeat: Box<dyn Heartbeat>) -> Box<dyn Heartbeat> {
        Box::new(SlowHeartbeat { heartbeat, own: self.own.clone(), sent: self.sent.clone() })
    }
}

/// The store may count from that moment, so the node would be the more optimistic of the two if it counted from the answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_counts_its_lease_from_the_moment_at_which_its_heartbeat_was_sent() {
    let (own, lease) = (Hands::new(), Duration::from_secs(2));
    let line = Arc::new(Line(SlowHeartbeats {
        store: MemoryStore::new().with_boot_clock(Hands::new()),
        own: own.clone(),
        sent: Arc::default(),
        claims: AtomicU64::new(0),
    }));
    let node = Coordinator::builder(line.clone()).register::<Wait>("t").boot_clock(own.clone());
    let node = node.lease(lease).open().await.unwrap();
    let key = create(&node, "t/Wait/1", "{}").await;
    assert_eq!(start(&node, &key).await, Start::Started { run: 1 });
    assert!(matches!(start(&node, &key).await, Start::AlreadyActive { run: 1, .. }));
    assert_eq!(line.claims.load(Ordering::SeqCst), 1, "the lease is good, and memory answers");
    // When the next one is sent, the node has made up its mind about the first.
    while line.sent.load(Ordering::SeqCst) < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Since it was answered 40 % of the lease are gone, and since it was sent 65 %.
    own.advance(lease * 40 / 100);
    let answer = node.start(&key, StartOptions::default()).await;
    let by_memory = answer.is_ok() && line.claims.load(Ordering::SeqCst) == 1;
    assert!(!by_memory, "a lease in which nothing may be believed any more has answered {answer:?}");
    node.shutdown(Duration::ZERO).await;
}
