//! What happens when the store answers late, not at all, or after it has done what it was asked.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use soloist::{
    Cancel, CancelOptions, Create, Delete, Event, Failure, From, Json, Key, MemoryStore, ModelKey, NewTask,
    NodeId, Run, Start, Status, Store, StoreError, Task, TaskFilter, TaskPage, Timestamp,
    store::{
        Applied, Change, Claim, ClaimRequest, Current, EventRange, Evidence, Heartbeat, Held, NewNode,
        QueuedClaim, Signal, Signalled, StoreResult, Transition, Won, Writer,
    },
};
use tokio::sync::{Semaphore, watch};

use soloist::{SubscribeOptions, Subscribed};

use crate::models::{create, drain, open_on, start, watch};

/// A real store behind a line that can be held or cut.
#[derive(Default)]
struct Line {
    store: MemoryStore,
    /// Answers to claims wait for a permit, once set.
    claims_held: Option<Semaphore>,
    claims: AtomicUsize,
    claims_of_queued: AtomicUsize,
    /// So many claims are done, and answered as unavailable.
    lose_claims: AtomicUsize,
    /// Answers to reads of a record wait for a permit, once set.
    reads_held: Option<Semaphore>,
    reads: AtomicUsize,
    /// So many writes panic, once one has been let through.
    panics: AtomicUsize,
    /// So many writes are answered as corrupt, once one has been let through.
    corrupt: AtomicUsize,
    writes: AtomicUsize,
    /// Whether the work is there, and whether it was when its ending came.
    work: Arc<AtomicBool>,
    work_at_ending: AtomicBool,
    /// So many writes are not done, and answered as unavailable.
    lose_writes: AtomicUsize,
    /// So many writes are done, and answered as unavailable.
    lose_answers: AtomicUsize,
    /// What the node was told last of how much others have written for it.
    inbox: AtomicU64,
    /// No row of another's run can be read.
    rows_are_corrupt: AtomicBool,
}

fn take_one(counter: &AtomicUsize) -> bool {
    counter.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok()
}

fn cut() -> StoreError {
    StoreError::Unavailable("the line is cut".into())
}

#[async_trait]
impl Store for Line {
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
        self.claims.fetch_add(1, Ordering::SeqCst);
        let answer = self.store.claim(request).await;
        if let Some(held) = &self.claims_held {
            held.acquire().await.unwrap().forget();
        }
        if take_one(&self.lose_claims) { Err(cut()) } else { answer }
    }

    async fn claim_queued(&self, request: QueuedClaim) -> StoreResult<Option<(Key, Won)>> {
        self.claims_of_queued.fetch_add(1, Ordering::SeqCst);
        self.store.claim_queued(request).await
    }

    async fn queued(&self) -> StoreResult<bool> {
        self.store.queued().await
    }

    async fn apply(&self, transition: Transition) -> StoreResult<Applied> {
        if take_one(&self.lose_writes) {
            return Err(cut());
        }
        if self.writes.fetch_add(1, Ordering::SeqCst) > 0 {
            assert!(!take_one(&self.panics), "a defect of ours");
            if take_one(&self.corrupt) {
                return Err(StoreError::Corrupt("a row that cannot be".into()));
            }
        }
        if transition.change.to().is_some_and(Status::is_finished) {
            self.work_at_ending.store(self.work.load(Ordering::SeqCst), Ordering::SeqCst);
        }
        let answer = self.store.apply(transition).await;
        if take_one(&self.lose_answers) { Err(cut()) } else { answer }
    }

    async fn orphans(&self, limit: usize) -> StoreResult<Vec<Held>> {
        self.store.orphans(limit).await
    }

    async fn held(&self, node: &NodeId, status: Status) -> StoreResult<Vec<Held>> {
        self.store.held(node, status).await
    }

    async fn rows(&self, keys: Vec<Key>) -> StoreResult<Vec<Option<Current>>> {
        if self.rows_are_corrupt.load(Ordering::SeqCst) {
            return Err(StoreError::Corrupt("a row that cannot be".into()));
        }
        self.store.rows(keys).await
    }

    async fn inbox(&self, node: &NodeId) -> StoreResult<u64> {
        let inbox = self.store.inbox(node).await?;
        self.inbox.store(inbox, Ordering::SeqCst);
        Ok(inbox)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.store.changes()
    }

    async fn tidy(&self, at: Timestamp) -> StoreResult<bool> {
        self.store.tidy(at).await
    }

    async fn task(&self, key: &Key) -> StoreResult<Option<Task>> {
        let answer = self.store.task(key).await;
        self.reads.fetch_add(1, Ordering::SeqCst);
        if let Some(held) = &self.reads_held {
            held.acquire().await.unwrap().forget();
        }
        answer
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

#[tokio::test]
async fn starts_that_arrive_while_a_trip_is_under_way_share_the_next_one() {
    let line = Arc::new(Line { claims_held: Some(Semaphore::new(0)), ..Line::default() });
    let coordinator = open_on(line.clone()).await;
    let key = create(&coordinator, "t/Wait/1", "{}").await;
    let starts: Vec<_> = (0..50)
        .map(|_| {
            let (coordinator, key) = (coordinator.clone(), key.clone());
            tokio::spawn(async move { start(&coordinator, &key).await })
        })
        .collect();
    while line.claims.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    line.claims_held.as_ref().unwrap().add_permits(100);
    let mut won = 0;
    for answer in starts {
        won += usize::from(matches!(answer.await.unwrap(), Start::Started { run: 1 }));
    }
    assert_eq!((won, line.claims.load(Ordering::SeqCst)), (1, 1), "the others find the run in memory");
}

#[tokio::test]
async fn a_cancel_that_is_committed_before_the_claim_is_answered_reaches_the_work() {
    let line = Arc::new(Line { claims_held: Some(Semaphore::new(0)), ..Line::default() });
    let coordinator = open_on(line.clone()).await;
    let key = create(&coordinator, "t/Wait/1", "{}").await;
    let starting = tokio::spawn({
        let (coordinator, key) = (coordinator.clone(), key.clone());
        async move { start(&coordinator, &key).await }
    });
    while coordinator.task(&key).await.unwrap().status != Status::Running {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        coordinator.cancel(&key, CancelOptions::default()).await.unwrap(),
        Cancel::Cancelling { run: 1 }
    );
    line.claims_held.as_ref().unwrap().add_permits(1);
    assert_eq!(starting.await.unwrap(), Start::Started { run: 1 });
    assert_eq!(coordinator.ended(&key, 1).await.unwrap().status, Status::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn s3_s7_writes_and_answers_that_are_lost_leave_one_dense_log_with_one_ending() {
    for (lose_writes, lose_answers) in [(3, 0), (0, 1), (0, 2), (1, 2), (5, 5)] {
        let line = Arc::new(Line {
            lose_writes: AtomicUsize::new(lose_writes),
            lose_answers: AtomicUsize::new(lose_answers),
            ..Line::default()
        });
        let coordinator = open_on(line.clone()).await;
        let key = create(&coordinator, "t/Count/1", r#"{"events":10000}"#).await;
        start(&coordinator, &key).await;
        let seen = drain(&mut watch(&coordinator, &key, From::RunStart).await).await;
        assert!(seen.iter().map(|e| e.seq).eq(1..=10001), "{lose_writes} {lose_answers}");
        let endings = seen.iter().filter(|e| e.event_type.is_terminal()).count();
        assert_eq!((endings, coordinator.task(&key).await.unwrap().last_seq), (1, 10001));
    }
}

#[tokio::test(start_paused = true)]
async fn while_the_store_is_away_the_work_waits_and_nothing_is_shown() {
    let line = Arc::new(Line { lose_writes: AtomicUsize::new(usize::MAX), ..Line::default() });
    let coordinator = open_on(line.clone()).await;
    let key = create(&coordinator, "t/Count/1", r#"{"events":50000}"#).await;
    start(&coordinator, &key).await;
    let mut viewer = watch(&coordinator, &key, From::RunStart).await;
    assert!(tokio::time::timeout(Duration::from_secs(60), viewer.next()).await.is_err());
    line.lose_writes.store(0, Ordering::SeqCst);
    assert!(drain(&mut viewer).await.iter().map(|e| e.seq).eq(1..=50001));
}

#[tokio::test]
async fn a_task_that_is_deleted_under_its_run_fences_it() {
    let line = Arc::new(Line::default());
    let coordinator = open_on(line.clone()).await;
    let key = create(&coordinator, "t/Wait/1", "{}").await;
    start(&coordinator, &key).await;
    // Another process takes this one for dead, ends its run, and deletes the record.
    let (held, at) = (line.store.task(&key).await.unwrap().unwrap(), Timestamp::now());
    let lost = Transition {
        key: key.clone(),
        writer: Writer::Outsider { epoch: held.epoch, event: None },
        from: Status::Running,
        change: Change::Failed { failure: Failure::new("NodeLost", "its node died") },
        epoch_after: held.epoch.next(),
        at,
    };
    assert!(matches!(line.store.apply(lost).await, Ok(Applied::Committed { .. })));
    assert_eq!(line.store.delete(&key, at).await.unwrap(), Delete::Deleted);
    coordinator.signal(&key, "go", Json::null()).await.unwrap();
    coordinator.shutdown(Duration::ZERO).await;
    assert_eq!(coordinator.stats().running, 0);
    assert!(coordinator.task(&key).await.is_err());
}

#[tokio::test]
async fn a_viewer_that_read_pending_and_comes_late_does_not_start_the_finished_task_again() {
    let line = Arc::new(Line { reads_held: Some(Semaphore::new(0)), ..Line::default() });
    let coordinator = open_on(line.clone()).await;
    let key = create(&coordinator, "t/Count/1", r#"{"events":1}"#).await;
    let viewing = tokio::spawn({
        let (coordinator, key) = (coordinator.clone(), key.clone());
        async move {
            let autostart = SubscribeOptions { autostart: true, ..SubscribeOptions::default() };
            let Subscribed::Stream(mut viewer) = coordinator.subscribe(&key, autostart).await.unwrap() else {
                panic!("the stream is not over")
            };
            drain(&mut viewer).await
        }
    });
    while line.reads.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    // While the viewer's answer, "pending", is on its way, the task is started and completes.
    start(&coordinator, &key).await;
    while line.store.task(&key).await.unwrap().unwrap().status != Status::Completed {
        tokio::task::yield_now().await;
    }
    line.reads_held.as_ref().unwrap().add_permits(100);
    assert_eq!(viewing.await.unwrap().len(), 2);
    assert_eq!(coordinator.task(&key).await.unwrap().run, 1);
}

#[tokio::test(start_paused = true)]
async fn s7_a_defect_of_ours_and_a_store_that_says_corrupt_end_the_run_and_tell_its_viewers() {
    for (panics, corrupt, error_type) in [(1, 0, "Internal"), (0, 1, "StoreCorrupt"), (0, 4, "StoreCorrupt")]
    {
        let line = Arc::new(Line {
            panics: AtomicUsize::new(panics),
            corrupt: AtomicUsize::new(corrupt),
            ..Line::default()
        });
        let coordinator = open_on(line.clone()).await;
        let key = create(&coordinator, "t/Count/1", r#"{"events":10000}"#).await;
        start(&coordinator, &key).await;
        let seen = drain(&mut watch(&coordinator, &key, From::RunStart).await).await;
        let task = coordinator.task(&key).await.unwrap();
        assert_eq!((task.status, task.failure.unwrap().error_type.as_str()), (Status::Failed, error_type));
        assert!(seen.iter().map(|e| e.seq).eq(1..=task.last_seq));
        assert_eq!(seen.last().unwrap().event_type.as_str(), "error");
        assert_eq!(coordinator.stats().running, 0);
        assert_eq!(start(&coordinator, &key).await, Start::Started { run: 2 });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn dropped_work_has_really_stopped_before_the_record_lets_another_attempt_begin() {
    let line = Arc::new(Line { work_at_ending: AtomicBool::new(true), ..Line::default() });
    let model = soloist::ModelKey::new("t", "Deaf").unwrap();
    let runner = Arc::new(crate::models::Deaf(line.work.clone()));
    let coordinator = soloist::Coordinator::builder(line.clone())
        .runner(model, runner, soloist::ModelOptions::default())
        .open()
        .await
        .unwrap();
    let key = create(&coordinator, "t/Deaf/1", "{}").await;
    start(&coordinator, &key).await;
    crate::models::until(&mut watch(&coordinator, &key, From::RunStart).await, "deaf").await;
    assert!(line.work.load(Ordering::SeqCst));
    coordinator.shutdown(Duration::ZERO).await;
    assert_eq!(coordinator.task(&key).await.unwrap().status, Status::Failed);
    assert!(!line.work_at_ending.load(Ordering::SeqCst), "the ending came while the work was there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_from_elsewhere_arrives_although_the_log_of_another_task_cannot_be_read() {
    let line = Arc::new(Line { rows_are_corrupt: AtomicBool::new(true), ..Line::default() });
    let coordinator = open_on(line.clone()).await;
    let other = open_on(Arc::new(line.store.clone())).await;
    let unreadable = create(&other, "t/Wait/1", "{}").await;
    start(&other, &unreadable).await;
    let _viewer = watch(&coordinator, &unreadable, From::RunStart).await;
    let key = create(&coordinator, "t/Wait/2", "{}").await;
    start(&coordinator, &key).await;
    other.cancel(&key, CancelOptions::default()).await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(60), other.ended(&key, 1)).await;
    assert_eq!(ended.expect("the cancel is read").unwrap().status, Status::Cancelled);
    coordinator.shutdown(Duration::ZERO).await;
    other.shutdown(Duration::ZERO).await;
}

/// A node that renews its lease, and so compares the record with what it runs, a few times a second.
async fn open_briefly(line: &Arc<Line>) -> soloist::Coordinator {
    let coordinator = soloist::Coordinator::builder(line.clone()).register::<crate::models::Wait>("t");
    coordinator.lease(Duration::from_secs(2)).open().await.unwrap()
}

#[tokio::test]
async fn s1_a_start_whose_answer_is_lost_is_begun_by_the_node_that_has_won_it() {
    let line = Arc::new(Line { lose_claims: AtomicUsize::new(1), ..Line::default() });
    let coordinator = open_briefly(&line).await;
    let key = create(&coordinator, "t/Wait/1", "{}").await;
    let lost = coordinator.start(&key, soloist::StartOptions::default()).await;
    assert!(matches!(lost, Err(soloist::Error::Unavailable { .. })), "{lost:?}");
    let mut viewer = watch(&coordinator, &key, From::RunStart).await;
    let viewed = tokio::time::timeout(Duration::from_secs(60), crate::models::until(&mut viewer, "waiting"));
    viewed.await.expect("the run that is ours on record begins");
    assert_eq!(line.claims.load(Ordering::SeqCst), 1, "nobody has claimed it again");
    let task = coordinator.task(&key).await.unwrap();
    assert_eq!((task.run, task.epoch.0, task.status), (1, 1, Status::Running));
    coordinator.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn a_cancel_that_comes_while_a_run_is_taken_up_reaches_the_work() {
    let line = Arc::new(Line {
        lose_claims: AtomicUsize::new(1),
        reads_held: Some(Semaphore::new(0)),
        ..Line::default()
    });
    let coordinator = open_briefly(&line).await;
    let other = open_on(Arc::new(line.store.clone())).await;
    let key = create(&coordinator, "t/Wait/1", "{}").await;
    coordinator.start(&key, soloist::StartOptions::default()).await.unwrap_err();
    // The node reads the record of the run that it finds, and knows nothing of the run until then.
    while line.reads.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    let asked = other.cancel(&key, CancelOptions::default()).await.unwrap();
    assert_eq!(asked, Cancel::Cancelling { run: 1 });
    while line.inbox.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    line.reads_held.as_ref().unwrap().add_permits(1_000);
    let ended = tokio::time::timeout(Duration::from_secs(60), other.ended(&key, 1)).await;
    assert_eq!(ended.expect("the work has heard of it").unwrap().status, Status::Cancelled);
    coordinator.shutdown(Duration::ZERO).await;
    other.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn a_look_at_an_empty_queue_takes_no_slot_from_a_start() {
    let line = Arc::new(Line::default());
    let coordinator = open_on(line.clone()).await;
    for id in 0..20 {
        let key = create(&coordinator, &format!("t/Count/{id}"), r#"{"events":3}"#).await;
        start(&coordinator, &key).await;
        drain(&mut watch(&coordinator, &key, From::RunStart).await).await;
    }
    assert_eq!(line.claims_of_queued.load(Ordering::SeqCst), 0, "slots are taken only where something waits");
    coordinator.shutdown(Duration::ZERO).await;
}
