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
    Cancel, CancelOptions, Delete, Failure, From, Json, MemoryStore, Start, Status, Store, StoreError,
    SubscribeOptions, Subscribed, Timestamp,
    store::{Applied, Change, StoreResult, Transition, Writer},
};
use soloist_store_contract::line::{Between, Call, Line};
use tokio::sync::Semaphore;

use crate::models::{create, drain, open_on, start, watch};

/// A real store behind a line that can be held or cut.
#[derive(Default)]
struct Faults {
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

fn corrupt() -> StoreError {
    StoreError::Corrupt("a row that cannot be".into())
}

fn cut() -> StoreError {
    StoreError::Unavailable("the line is cut".into())
}

#[async_trait]
impl Between for Faults {
    fn store(&self) -> &dyn Store {
        &self.store
    }

    async fn before(&self, call: Call<'_>) -> StoreResult<()> {
        match call {
            Call::Claim => drop(self.claims.fetch_add(1, Ordering::SeqCst)),
            Call::ClaimQueued => drop(self.claims_of_queued.fetch_add(1, Ordering::SeqCst)),
            Call::Rows if self.rows_are_corrupt.load(Ordering::SeqCst) => return Err(corrupt()),
            Call::Apply(transition) => return self.before_write(transition),
            _ => {}
        }
        Ok(())
    }

    async fn after(&self, call: Call<'_>) -> StoreResult<()> {
        let (held, lose) = match call {
            Call::Claim => (&self.claims_held, &self.lose_claims),
            Call::Task => {
                self.reads.fetch_add(1, Ordering::SeqCst);
                (&self.reads_held, &AtomicUsize::new(0))
            }
            Call::Apply(_) => (&None, &self.lose_answers),
            Call::Inbox(node) => {
                self.inbox.store(self.store.inbox(node).await?, Ordering::SeqCst);
                return Ok(());
            }
            _ => return Ok(()),
        };
        if let Some(held) = held {
            held.acquire().await.unwrap().forget();
        }
        if take_one(lose) { Err(cut()) } else { Ok(()) }
    }
}

impl Faults {
    fn before_write(&self, transition: &Transition) -> StoreResult<()> {
        if take_one(&self.lose_writes) {
            return Err(cut());
        }
        if self.writes.fetch_add(1, Ordering::SeqCst) > 0 {
            assert!(!take_one(&self.panics), "a defect of ours");
            if take_one(&self.corrupt) {
                return Err(corrupt());
            }
        }
        if transition.change.to().is_some_and(Status::is_finished) {
            self.work_at_ending.store(self.work.load(Ordering::SeqCst), Ordering::SeqCst);
        }
        Ok(())
    }
}

#[tokio::test]
async fn starts_that_arrive_while_a_trip_is_under_way_share_the_next_one() {
    let line = Arc::new(Line(Faults { claims_held: Some(Semaphore::new(0)), ..Faults::default() }));
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

/// Whoever has seen the end of a run, and starts the task again, is not told of that run by a claim that was sent before.
#[tokio::test]
async fn a_start_is_answered_by_no_claim_that_was_sent_before_it() {
    let line = Arc::new(Line(Faults { claims_held: Some(Semaphore::new(0)), ..Faults::default() }));
    let coordinator = open_on(line.clone()).await;
    let other = open_on(Arc::new(line.store.clone())).await;
    let key = create(&coordinator, "t/Wait/1", "{}").await;
    assert_eq!(start(&other, &key).await, Start::Started { run: 1 });
    let early = tokio::spawn({
        let (coordinator, key) = (coordinator.clone(), key.clone());
        async move { start(&coordinator, &key).await }
    });
    while line.claims.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    // The store has told that claim of the run at the other node. Before the answer is here, that run ends.
    other.cancel(&key, CancelOptions::default()).await.unwrap();
    other.ended(&key, 1).await.unwrap();
    let mut late = Box::pin(start(&coordinator, &key));
    assert!(futures_util::poll!(late.as_mut()).is_pending());
    line.claims_held.as_ref().unwrap().add_permits(2);
    assert!(matches!(early.await.unwrap(), Start::AlreadyActive { run: 1, .. }));
    assert_eq!(late.await, Start::Started { run: 2 });
}

#[tokio::test]
async fn a_cancel_that_is_committed_before_the_claim_is_answered_reaches_the_work() {
    let line = Arc::new(Line(Faults { claims_held: Some(Semaphore::new(0)), ..Faults::default() }));
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
        let line = Arc::new(Line(Faults {
            lose_writes: AtomicUsize::new(lose_writes),
            lose_answers: AtomicUsize::new(lose_answers),
            ..Faults::default()
        }));
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
    let line = Arc::new(Line(Faults { lose_writes: AtomicUsize::new(usize::MAX), ..Faults::default() }));
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
    let line = Arc::new(Line::<Faults>::default());
    let coordinator = open_on(line.clone()).await;
    let key = create(&coordinator, "t/Wait/1", "{}").await;
    start(&coordinator, &key).await;
    // Another process takes this one for dead, ends its run, and deletes the record.
    let (held, at) = (line.store.task(&key).await.unwrap().unwrap(), Timestamp::now());
    let lost = Transition {
        key: key.clone(),
        writer: Writer::Outsider { epoch: held.epoch, run: held.run, event: None },
        from: Status::Running,
        change: Change::Failed { failure: Failure::new("NodeLost", "its node died") },
        epoch_after: held.epoch.next(),
        at,
    };
    assert!(matches!(line.store.apply(lost).await, Ok(Applied::Committed { .. })));
    assert_eq!(line.store.delete(&key, None, at).await.unwrap(), Delete::Deleted);
    coordinator.signal(&key, "go", Json::null()).await.unwrap();
    coordinator.shutdown(Duration::ZERO).await;
    assert_eq!(coordinator.stats().running, 0);
    assert!(coordinator.task(&key).await.is_err());
}

#[tokio::test]
async fn a_viewer_that_read_pending_and_comes_late_does_not_start_the_finished_task_again() {
    let line = Arc::new(Line(Faults { reads_held: Some(Semaphore::new(0)), ..Faults::default() }));
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
        let line = Arc::new(Line(Faults {
            panics: AtomicUsize::new(panics),
            corrupt: AtomicUsize::new(corrupt),
            ..Faults::default()
        }));
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
    let line = Arc::new(Line(Faults { work_at_ending: AtomicBool::new(true), ..Faults::default() }));
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
    let line = Arc::new(Line(Faults { rows_are_corrupt: AtomicBool::new(true), ..Faults::default() }));
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
async fn open_briefly(line: &Arc<Line<Faults>>) -> soloist::Coordinator {
    let coordinator = soloist::Coordinator::builder(line.clone()).register::<crate::models::Wait>("t");
    coordinator.lease(Duration::from_secs(2)).open().await.unwrap()
}

#[tokio::test]
async fn s1_a_start_whose_answer_is_lost_is_begun_by_the_node_that_has_won_it() {
    let line = Arc::new(Line(Faults { lose_claims: AtomicUsize::new(1), ..Faults::default() }));
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
    let line = Arc::new(Line(Faults {
        lose_claims: AtomicUsize::new(1),
        reads_held: Some(Semaphore::new(0)),
        ..Faults::default()
    }));
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
    let line = Arc::new(Line::<Faults>::default());
    let coordinator = open_on(line.clone()).await;
    for id in 0..20 {
        let key = create(&coordinator, &format!("t/Count/{id}"), r#"{"events":3}"#).await;
        start(&coordinator, &key).await;
        drain(&mut watch(&coordinator, &key, From::RunStart).await).await;
    }
    assert_eq!(line.claims_of_queued.load(Ordering::SeqCst), 0, "slots are taken only where something waits");
    coordinator.shutdown(Duration::ZERO).await;
}

/// The only slot is taken by another run when the node finds what it has won: nothing of it was done, so nothing is lost.
#[tokio::test]
async fn a_run_whose_claim_was_lost_waits_for_a_slot_where_none_is_free() {
    let line = Arc::new(Line(Faults { lose_claims: AtomicUsize::new(1), ..Faults::default() }));
    let model = soloist::ModelKey::new("t", "One").unwrap();
    let options = soloist::ModelOptions { max_concurrent: 1, ..soloist::ModelOptions::default() };
    let runner = Arc::new(crate::models::OneAtATime);
    let coordinator = soloist::Coordinator::builder(line.clone()).runner(model, runner, options);
    let coordinator = coordinator.lease(Duration::from_secs(2)).open().await.unwrap();
    let lost = create(&coordinator, "t/One/1", "{}").await;
    coordinator.start(&lost, soloist::StartOptions::default()).await.unwrap_err();
    let other = create(&coordinator, "t/One/2", "{}").await;
    start(&coordinator, &other).await;
    let queued = async {
        while coordinator.task(&lost).await.unwrap().status != Status::Queued {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), queued).await.expect("it is put into the queue");
    coordinator.signal(&other, "go", Json::null()).await.unwrap();
    coordinator.signal(&lost, "go", Json::null()).await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(60), coordinator.ended(&lost, 1)).await;
    let task = ended.expect("it has its turn").unwrap();
    assert_eq!((task.status, task.run, task.attempt, task.retry_count), (Status::Completed, 1, 2, 0));
    coordinator.shutdown(Duration::ZERO).await;
}

/// The claim is on record, and its answer comes when the lease is over: the work must not begin.
#[tokio::test]
async fn a_claim_that_is_answered_after_the_lease_begins_no_work_here() {
    let line = Arc::new(Line(Faults { claims_held: Some(Semaphore::new(0)), ..Faults::default() }));
    let late = soloist::Coordinator::builder(line.clone()).register::<crate::models::Wait>("t");
    let clock = crate::nodes::Hands::new();
    let late = late.boot_clock(clock.clone()).lease(Duration::from_secs(2)).open().await.unwrap();
    let key = create(&late, "t/Wait/1", "{}").await;
    let starting = tokio::spawn({
        let (late, key) = (late.clone(), key.clone());
        async move { late.start(&key, soloist::StartOptions::default()).await }
    });
    while line.store.task(&key).await.unwrap().unwrap().status != Status::Running {
        tokio::task::yield_now().await;
    }
    // By the node's own clock alone; the store still holds it for alive.
    clock.advance(Duration::from_secs(10));
    line.claims_held.as_ref().unwrap().add_permits(1_000);
    assert_eq!(starting.await.unwrap().unwrap(), Start::Started { run: 1 });
    // It is put back, joined for again, and begun under the next name.
    let mut viewer = watch(&late, &key, From::RunStart).await;
    let viewed = tokio::time::timeout(Duration::from_secs(60), crate::models::until(&mut viewer, "waiting"));
    viewed.await.expect("it is begun again");
    let task = late.task(&key).await.unwrap();
    assert_eq!((task.run, task.attempt, task.retry_count, task.epoch.0), (1, 2, 0, 3));
    let log = late.events(&key, 0, 100).await.unwrap().events;
    let types: Vec<_> = log.iter().map(|event| event.event_type.as_str()).collect();
    assert_eq!(types, ["retry", "waiting"], "the first attempt has done nothing");
    late.shutdown(Duration::ZERO).await;
}

/// One of two stores, as the clients of a database see it that has failed over.
struct Failover {
    before: MemoryStore,
    after: MemoryStore,
    over: AtomicBool,
}

#[async_trait]
impl Between for Failover {
    fn store(&self) -> &dyn Store {
        if self.over.load(Ordering::SeqCst) { &self.after } else { &self.before }
    }
}

#[tokio::test]
async fn viewers_that_have_seen_what_a_failover_has_lost_are_sent_away_and_told_when_they_come_back() {
    let (before, after) = (MemoryStore::new(), MemoryStore::new());
    let mut key = None;
    for (store, events) in [(&before, 50), (&after, 10)] {
        let elsewhere = open_on(Arc::new(store.clone())).await;
        key = Some(create(&elsewhere, "t/Count/1", &format!(r#"{{"events":{events}}}"#)).await);
        start(&elsewhere, key.as_ref().unwrap()).await;
        elsewhere.ended(key.as_ref().unwrap(), 1).await.unwrap();
    }
    let key = key.unwrap();
    let line = Arc::new(Line(Failover { before, after, over: AtomicBool::new(false) }));
    let here = open_on(line.clone()).await;
    let follow = |from| SubscribeOptions { from, follow: true, autostart: false };
    let Subscribed::Stream(mut viewer) = here.subscribe(&key, follow(From::RunStart)).await.unwrap() else {
        panic!("it follows")
    };
    while viewer.cursor() < 51 {
        viewer.next().await.unwrap().expect("the log");
    }
    line.over.store(true, Ordering::SeqCst);
    let left = tokio::time::timeout(Duration::from_secs(60), viewer.next()).await;
    assert!(matches!(left, Ok(Ok(None))), "{left:?}");
    let back = follow(From::After(soloist::Cursor { seq: 51, epoch: None }));
    let Subscribed::Stream(mut viewer) = here.subscribe(&key, back).await.unwrap() else {
        panic!("it follows")
    };
    let told = viewer.next().await.unwrap().unwrap();
    assert!(matches!(told, soloist::Delivery::Gap { first_seq: 1, .. }), "{told:?}");
    here.shutdown(Duration::ZERO).await;
}
