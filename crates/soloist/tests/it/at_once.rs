//! A task is created and started by one call, which is one step at the store.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use soloist::{
    Cancel, CancelOptions, Coordinator, Create, Created, Error, From, IdempotencyKey, Json, Key, MemoryStore,
    ModelKey, ModelOptions, NewTask, Policy, Start, StartOptions, Status, Store, StoreError, TraceContext,
    store::StoreResult,
};
use soloist_store_contract::line::{Between, Call, Line};
use tokio::sync::Semaphore;

use crate::models::{OneAtATime, Wait, open_on, until, watch};

/// A store behind a line that counts, holds and loses the answers of creates that start their tasks.
#[derive(Default)]
struct Counted {
    store: MemoryStore,
    held: Option<Semaphore>,
    lose: AtomicUsize,
    at_once: AtomicUsize,
    claims: AtomicUsize,
    /// Looks at what this node holds, and at what others have written for it.
    looks: AtomicUsize,
    inboxes: AtomicUsize,
}

#[async_trait]
impl Between for Counted {
    fn store(&self) -> &dyn Store {
        &self.store
    }

    async fn after(&self, call: Call<'_>) -> StoreResult<()> {
        match call {
            Call::Claim => drop(self.claims.fetch_add(1, SeqCst)),
            Call::Held => drop(self.looks.fetch_add(1, SeqCst)),
            Call::Inbox(node) => {
                self.inboxes.fetch_max(usize::try_from(self.store.inbox(node).await?).unwrap(), SeqCst);
            }
            Call::CreateClaimed => {
                self.at_once.fetch_add(1, SeqCst);
                if let Some(held) = &self.held {
                    held.acquire().await.unwrap().forget();
                }
                let lost = self.lose.fetch_update(SeqCst, SeqCst, |n| n.checked_sub(1));
                if lost.is_ok() {
                    return Err(StoreError::Unavailable("the line is cut".into()));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl Counted {
    fn held() -> Arc<Line<Self>> {
        Arc::new(Line(Self { held: Some(Semaphore::new(0)), ..Self::default() }))
    }

    fn release(&self) {
        self.held.as_ref().unwrap().add_permits(1_000);
    }

    fn counts(&self) -> (usize, usize) {
        (self.at_once.load(SeqCst), self.claims.load(SeqCst))
    }
}

fn new(key: &str) -> NewTask {
    NewTask::named(key.parse().unwrap(), Json::parse("{}").unwrap())
}

async fn at_once(at: &Coordinator, new: NewTask) -> Created {
    at.create_and_start(new, StartOptions::default()).await.unwrap()
}

/// What its start was told.
fn told(created: &Created) -> Start {
    created.start.clone().expect("there is a task to start").unwrap()
}

/// The call of somebody who waits for its answer, which is held at the line; returns once the store has carried it out.
async fn under_way(line: &Line<Counted>, at: &Coordinator, key: &str) -> tokio::task::JoinHandle<Created> {
    let call = tokio::spawn({
        let (at, new) = (at.clone(), new(key));
        async move { at_once(&at, new).await }
    });
    let key: Key = key.parse().unwrap();
    while line.store.task(&key).await.unwrap().is_none() {
        tokio::task::yield_now().await;
    }
    call
}

/// A node that renews its lease, and so compares the record with what it runs, a few times a second.
async fn open_briefly(line: &Arc<Line<Counted>>) -> Coordinator {
    Coordinator::builder(line.clone())
        .register::<Wait>("t")
        .lease(Duration::from_secs(2))
        .open()
        .await
        .unwrap()
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.unwrap_or_else(|_| panic!("{what}"))
}

#[tokio::test]
async fn a_new_task_is_made_and_started_by_one_step_and_its_record_shows_the_run() {
    let line = Arc::new(Line(Counted::default()));
    let coordinator = open_on(line.clone()).await;
    let trace = TraceContext::new("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", None).unwrap();
    let options = StartOptions { trace: Some(trace.clone()), ..StartOptions::default() };
    let created = coordinator.create_and_start(new("t/Wait/1"), options).await.unwrap();
    assert_eq!(told(&created), Start::Started { run: 1 });
    let Create::Created(task) = created.create else { panic!("it is new") };
    assert_eq!((task.status, task.run, task.attempt, task.epoch.0), (Status::Running, 1, 1, 1));
    assert_eq!((task.node, task.trace), (Some(coordinator.node()), Some(trace)));
    assert_eq!(line.counts(), (1, 0), "one step, and no claim");
    until(&mut watch(&coordinator, &task.key, From::RunStart).await, "waiting").await;
    coordinator.signal(&task.key, "go", Json::null()).await.unwrap();
    assert_eq!(coordinator.ended(&task.key, 1).await.unwrap().status, Status::Completed);
    // Of an assigned name as well.
    let assigned = NewTask::assigned(ModelKey::new("t", "Wait").unwrap(), Json::parse("{}").unwrap());
    let created = at_once(&coordinator, assigned).await;
    assert_eq!(told(&created), Start::Started { run: 1 });
    assert_eq!(line.counts(), (2, 0));
    coordinator.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn what_is_there_is_started_as_any_other_and_another_task_is_not() {
    let line = Arc::new(Line(Counted::default()));
    let coordinator = open_on(line.clone()).await;
    coordinator.create(new("t/Wait/1")).await.unwrap();
    let created = at_once(&coordinator, new("t/Wait/1")).await;
    assert!(matches!(created.create, Create::Exists(_)), "{created:?}");
    assert_eq!((told(&created), line.counts()), (Start::Started { run: 1 }, (1, 1)));
    let again = at_once(&coordinator, new("t/Wait/1")).await;
    assert!(matches!(again.start, Some(Ok(Start::AlreadyActive { run: 1, .. }))), "{again:?}");
    let other = NewTask { input: Json::parse(r#"{"a":1}"#).unwrap(), ..new("t/Wait/1") };
    let differs = at_once(&coordinator, other).await;
    assert!(matches!(differs.create, Create::Differs(_)) && differs.start.is_none(), "{differs:?}");
    coordinator.shutdown(Duration::ZERO).await;
}

/// A key goes with each of the two, and is looked up by a step of its own.
#[tokio::test]
async fn a_start_under_a_key_is_a_step_of_its_own_and_is_told_the_same_again() {
    let line = Arc::new(Line(Counted::default()));
    let coordinator = open_on(line.clone()).await;
    let key = IdempotencyKey::new("k").unwrap();
    for is_repeat in [false, true] {
        let options = StartOptions { idempotency: Some(key.clone()), ..StartOptions::default() };
        let created = coordinator.create_and_start(new("t/Wait/1"), options).await.unwrap();
        match created.start.unwrap().unwrap() {
            Start::Started { run: 1 } if !is_repeat => {}
            Start::Replayed { started: true, run: 1, .. } if is_repeat => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(line.counts(), (0, 2));
    coordinator.shutdown(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s1_of_any_number_on_several_nodes_one_is_told_that_it_has_started_the_task() {
    let store = MemoryStore::new();
    let nodes = [open_on(Arc::new(store.clone())).await, open_on(Arc::new(store.clone())).await];
    for round in 0..50 {
        let key = format!("t/Wait/{round}");
        let calls: Vec<_> = (0..20)
            .map(|n| {
                let (node, new, key) = (nodes[n % 2].clone(), new(&key), key.parse::<Key>().unwrap());
                tokio::spawn(async move {
                    match n % 5 {
                        // A start beside them may come before the task, or win it.
                        4 => node.start(&key, StartOptions::default()).await.ok(),
                        _ => at_once(&node, new).await.start.map(Result::unwrap),
                    }
                })
            })
            .collect();
        let mut started = 0;
        for call in calls {
            match call.await.unwrap() {
                Some(Start::Started { run: 1 }) => started += 1,
                Some(Start::AlreadyActive { run: 1, .. }) | None => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(started, 1);
        let task = store.task(&key.parse().unwrap()).await.unwrap().unwrap();
        assert_eq!((task.run, task.attempt, task.epoch.0, task.status), (1, 1, 1, Status::Running));
    }
    for node in nodes {
        node.shutdown(Duration::ZERO).await;
    }
}

/// The run is on record, and the process does not know its name yet.
#[tokio::test]
async fn a_cancel_before_the_answer_reaches_the_work_wherever_it_was_asked_for() {
    for is_elsewhere in [false, true] {
        let line = Counted::held();
        let coordinator = open_on(line.clone()).await;
        let other = open_on(Arc::new(line.store.clone())).await;
        let call = under_way(&line, &coordinator, "t/Wait/1").await;
        let key: Key = "t/Wait/1".parse().unwrap();
        let asked = if is_elsewhere { &other } else { &coordinator };
        let cancel = asked.cancel(&key, CancelOptions::default()).await.unwrap();
        assert_eq!(cancel, Cancel::Cancelling { run: 1 });
        if is_elsewhere {
            // What others have written for this node is looked at while nobody knows the run.
            let (inboxes, looks) = (1, line.looks.load(SeqCst));
            within("it looks", async {
                while line.inboxes.load(SeqCst) < inboxes || line.looks.load(SeqCst) == looks {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            })
            .await;
        }
        line.release();
        assert_eq!(told(&call.await.unwrap()), Start::Started { run: 1 });
        let ended = within("the work has heard of it", coordinator.ended(&key, 1)).await.unwrap();
        assert_eq!((ended.status, ended.attempt), (Status::Cancelled, 1));
        coordinator.shutdown(Duration::ZERO).await;
        other.shutdown(Duration::ZERO).await;
    }
}

/// Work that counts how often it was begun, and then goes on until it is cancelled. Its log would not tell: what is sent twice
/// under one epoch is there once.
#[derive(Default)]
struct Begun(AtomicUsize);

#[async_trait]
impl soloist::Runner for Begun {
    fn kind(&self) -> &'static str {
        "begun"
    }

    fn check(&self, _: &Json) -> soloist::Result<()> {
        Ok(())
    }

    async fn run(&self, _: Json, context: soloist::Context) -> Result<Json, soloist::Failure> {
        self.0.fetch_add(1, SeqCst);
        context.cancelled().await;
        Ok(Json::null())
    }
}

/// What is ours on record and known to nobody may be what a create is about to be told of.
#[tokio::test]
async fn s1_the_comparison_with_the_record_begins_no_run_whose_create_is_under_way() {
    let (line, begun) = (Counted::held(), Arc::new(Begun::default()));
    let model = ModelKey::new("t", "Begun").unwrap();
    let coordinator =
        Coordinator::builder(line.clone()).runner(model, begun.clone(), ModelOptions::default());
    let coordinator = coordinator.lease(Duration::from_secs(2)).open().await.unwrap();
    let call = under_way(&line, &coordinator, "t/Begun/1").await;
    // Two looks each, at what runs and at what is cancelled: so one comparison at least is through before the answer.
    let compared_again = async || {
        let looks = line.looks.load(SeqCst);
        within("it compares", async {
            while line.looks.load(SeqCst) < looks + 4 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    };
    compared_again().await;
    assert_eq!(begun.0.load(SeqCst), 0, "the create is under way");
    line.release();
    assert_eq!(told(&call.await.unwrap()), Start::Started { run: 1 });
    compared_again().await;
    assert_eq!((begun.0.load(SeqCst), coordinator.stats().running), (1, 1));
    coordinator.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn s1_a_run_whose_creates_answer_is_lost_is_begun_by_the_node_that_has_won_it() {
    let line = Arc::new(Line(Counted { lose: AtomicUsize::new(1), ..Counted::default() }));
    let coordinator = open_briefly(&line).await;
    let lost = coordinator.create_and_start(new("t/Wait/1"), StartOptions::default()).await;
    assert!(matches!(lost, Err(Error::Unavailable { .. })), "{lost:?}");
    let key: Key = "t/Wait/1".parse().unwrap();
    let mut viewer = watch(&coordinator, &key, From::RunStart).await;
    within("the run that is ours on record begins", until(&mut viewer, "waiting")).await;
    let again = at_once(&coordinator, new("t/Wait/1")).await;
    assert!(matches!(again.start, Some(Ok(Start::AlreadyActive { run: 1, .. }))), "{again:?}");
    assert_eq!(coordinator.task(&key).await.unwrap().epoch.0, 1);
    coordinator.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn whoever_goes_away_before_the_answer_leaves_a_task_that_runs() {
    let line = Counted::held();
    let coordinator = open_on(line.clone()).await;
    let call = under_way(&line, &coordinator, "t/Wait/1").await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    assert_eq!(coordinator.stats().starting, 1, "it is under way");
    line.release();
    let key: Key = "t/Wait/1".parse().unwrap();
    within("it runs", until(&mut watch(&coordinator, &key, From::RunStart).await, "waiting")).await;
    assert_eq!(coordinator.stats().starting, 0);
    coordinator.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn a_shutdown_waits_for_what_is_under_way_and_hands_it_on() {
    let line = Counted::held();
    let coordinator = open_on(line.clone()).await;
    let call = under_way(&line, &coordinator, "t/Wait/1").await;
    let shutdown = tokio::spawn({
        let coordinator = coordinator.clone();
        async move { coordinator.shutdown(Duration::from_secs(60)).await }
    });
    coordinator.draining().cancelled().await;
    line.release();
    assert_eq!(told(&call.await.unwrap()), Start::Started { run: 1 });
    let key: Key = "t/Wait/1".parse().unwrap();
    line.store.signal(&key, "go", Json::null(), soloist::Timestamp::now()).await.unwrap();
    within("it ends", shutdown).await.unwrap();
    assert_eq!(line.store.task(&key).await.unwrap().unwrap().status, Status::Completed);
    let late = coordinator.create_and_start(new("t/Wait/2"), StartOptions::default()).await;
    assert!(matches!(late, Err(Error::Closed)), "{late:?}");
}

#[tokio::test]
async fn where_no_slot_is_free_it_waits_and_where_all_nodes_count_it_is_claimed_by_itself() {
    for max_concurrent_total in [None, Some(1)] {
        let line = Arc::new(Line(Counted::default()));
        let model = ModelKey::new("t", "One").unwrap();
        let options = ModelOptions { max_concurrent: 1, max_concurrent_total, ..ModelOptions::default() };
        let coordinator = Coordinator::builder(line.clone()).runner(model, Arc::new(OneAtATime), options);
        let coordinator = coordinator.open().await.unwrap();
        for id in ["1", "2"] {
            let created = at_once(&coordinator, new(&format!("t/One/{id}"))).await;
            assert_eq!(told(&created), Start::Started { run: 1 });
        }
        let (first, second): (Key, Key) = ("t/One/1".parse().unwrap(), "t/One/2".parse().unwrap());
        assert_eq!(coordinator.task(&first).await.unwrap().status, Status::Running);
        let waiting = coordinator.task(&second).await.unwrap();
        assert_eq!((waiting.status, waiting.position), (Status::Queued, Some(1)));
        let (at_once, claims) = if max_concurrent_total.is_none() { (2, 0) } else { (0, 2) };
        assert_eq!(line.counts(), (at_once, claims));
        for key in [&first, &second] {
            coordinator.signal(key, "go", Json::null()).await.unwrap();
            within("it has its turn", coordinator.ended(key, 1)).await.unwrap();
        }
        coordinator.shutdown(Duration::ZERO).await;
    }
}

/// The store holds the node for dead before the node knows: its task is on record, and nobody was told of a run.
#[tokio::test]
async fn a_node_that_is_dead_starts_nothing_and_says_so() {
    let line = Arc::new(Line(Counted::default()));
    let coordinator = open_briefly(&line).await;
    let buried = line.store.clone().with_boot_clock({
        let clock = crate::nodes::Hands::new();
        clock.advance(Duration::from_secs(3600 * 24 * 3650));
        clock
    });
    buried.bury(soloist::store::Evidence::Lease).await.unwrap();
    let created = at_once(&coordinator, new("t/Wait/1")).await;
    // Unless it has heard of it meanwhile, and has joined again.
    assert!(
        matches!(created.start, Some(Err(Error::Unavailable { .. }) | Ok(Start::Started { run: 1 }))),
        "{created:?}"
    );
    let Create::Created(task) = created.create else { panic!("it is new") };
    assert_eq!((task.status, task.run), (Status::Pending, 0));
    let started = async {
        loop {
            let options = StartOptions { policy: Policy::Once, ..StartOptions::default() };
            match coordinator.start(&task.key, options).await {
                Ok(Start::Started { run } | Start::AlreadyActive { run, .. }) => return run,
                Err(Error::Unavailable { .. }) => tokio::time::sleep(Duration::from_millis(5)).await,
                other => panic!("{other:?}"),
            }
        }
    };
    assert_eq!(within("it joins again", started).await, 1);
    coordinator.shutdown(Duration::ZERO).await;
}
