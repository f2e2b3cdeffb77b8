//! Everything that happens to a task besides a clean start and a clean end.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use soloist::{
    Cancel, CancelOptions, Coordinator, Event, Failure, From, Json, Key, MemoryStore, ModelKey, ModelOptions,
    NewTask, NextRun, OnTimeout, Policy, Retention, RunTerms, Runner, Start, StartOptions, Status, Timestamp,
};

use crate::models::{drain, until, watch};

/// Does what the input names, and counts how often it was run.
#[derive(Default)]
struct Work {
    runs: AtomicU32,
    together: AtomicU32,
    most: AtomicU32,
}

#[async_trait]
impl Runner for Work {
    fn kind(&self) -> &'static str {
        "test"
    }

    fn check(&self, _: &Json) -> soloist::Result<()> {
        Ok(())
    }

    async fn run(&self, input: Json, context: soloist::Context) -> Result<Json, Failure> {
        struct There<'a>(&'a AtomicU32);
        impl Drop for There<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::SeqCst);
            }
        }
        self.runs.fetch_add(1, Ordering::SeqCst);
        let together = self.together.fetch_add(1, Ordering::SeqCst) + 1;
        let _there = There(&self.together);
        self.most.fetch_max(together, Ordering::SeqCst);
        context.send_event("began", &context.attempt()).await?;
        let how: String = input.read()?;
        match how.split_once(' ').unwrap_or((&how, "")) {
            ("fails", times) if context.attempt() <= times.parse()? => Err(Failure::new("Boom", "not yet")),
            ("fails" | "quick", _) => Ok(Json::of(&context.attempt())?),
            ("busy", seconds) if context.attempt() == 1 => {
                let wait = Duration::from_secs(seconds.parse()?);
                Err(Failure::new("Busy", "429").retry_after(wait))
            }
            ("told", _) if context.attempt() == 1 => Err(Failure::new("Boom", "not yet")),
            ("busy" | "told", _) => {
                let trace = context.trace().map(|trace| (trace.traceparent(), trace.tracestate()));
                Ok(Json::of(&(context.started_at().as_micros(), trace))?)
            }
            ("hopeless", _) => Err(Failure::new("Hopeless", "it never will").is_final()),
            ("waits", _) => {
                tokio::select! {
                    signal = context.wait_signal("go", Duration::from_secs(3_600)) => Ok(signal?.unwrap_or(Json::null())),
                    () = context.cancelled() => Err(Failure::new("Stopped", "as asked")),
                }
            }
            ("yields", times) => {
                for _ in 0..times.parse()? {
                    tokio::task::yield_now().await;
                }
                Ok(Json::null())
            }
            ("deaf", _) => std::future::pending().await,
            ("reads", count) => {
                let mut read = Vec::new();
                for _ in 0..count.parse()? {
                    let signal = context.next_signal().await?;
                    read.push(format!("{}:{}", signal.name, signal.data.as_str()));
                    context.send_event("read", &signal.number).await?;
                }
                Ok(Json::of(&read)?)
            }
            (other, _) => Err(Failure::new("Unknown", other)),
        }
    }
}

fn model() -> ModelKey {
    ModelKey::new("t", "Work").unwrap()
}

async fn open_with(store: &MemoryStore, work: &Arc<Work>, options: ModelOptions) -> Coordinator {
    let builder = Coordinator::builder(Arc::new(store.clone())).linger(Duration::from_millis(50));
    builder.runner(model(), work.clone(), options).open().await.unwrap()
}

async fn open(options: ModelOptions) -> (Coordinator, Arc<Work>) {
    let work = Arc::new(Work::default());
    (open_with(&MemoryStore::new(), &work, options).await, work)
}

fn quickly(terms: RunTerms) -> ModelOptions {
    ModelOptions { terms, retry_delay: Duration::from_millis(20), ..ModelOptions::default() }
}

fn retries(max_retries: u32) -> RunTerms {
    RunTerms { max_retries, ..RunTerms::default() }
}

fn timeout(seconds: u32) -> RunTerms {
    RunTerms { timeout_seconds: Some(seconds), ..RunTerms::default() }
}

async fn create(coordinator: &Coordinator, id: &str, how: &str) -> Key {
    create_with(coordinator, id, how, |task| task).await
}

async fn create_with(
    coordinator: &Coordinator,
    id: &str,
    how: &str,
    with: impl Fn(NewTask) -> NewTask,
) -> Key {
    let key = model().with_id(id).unwrap();
    coordinator.create(with(NewTask::named(key.clone(), Json::of(how).unwrap()))).await.unwrap();
    key
}

async fn start(coordinator: &Coordinator, key: &Key, policy: Policy) -> Start {
    let options = StartOptions { policy, ..StartOptions::default() };
    coordinator.start(key, options).await.unwrap()
}

fn types(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.event_type.as_str()).collect()
}

async fn watched(coordinator: &Coordinator, key: &Key) -> Vec<Event> {
    drain(&mut watch(coordinator, key, From::RunStart).await).await
}

#[tokio::test]
async fn a_task_that_fails_twice_and_then_succeeds_is_one_stream_with_two_retries() {
    let (coordinator, work) = open(quickly(retries(5))).await;
    let key = create(&coordinator, "1", "fails 2").await;
    let mut viewer = watch(&coordinator, &key, From::RunStart).await;
    start(&coordinator, &key, Policy::Restart).await;
    let seen = drain(&mut viewer).await;
    assert_eq!(types(&seen), ["began", "retry", "began", "retry", "began", "complete"]);
    for (event, attempt) in seen.iter().filter(|event| event.event_type.as_str() == "retry").zip([2, 3]) {
        let data: serde_json::Value = serde_json::from_str(event.data.as_str()).unwrap();
        assert_eq!((&data["attempt"], &data["max_retries"]), (&attempt.into(), &5.into()));
        assert_eq!((&data["error"], &data["error_type"]), (&"not yet".into(), &"Boom".into()));
        let delay = data["delay_seconds"].as_f64().unwrap();
        let expected = 0.020 * f64::from(1 << (attempt - 2));
        assert!((expected * 0.75..=expected * 1.25).contains(&delay), "{delay}");
    }
    let task = coordinator.task(&key).await.unwrap();
    assert_eq!((task.status, task.attempt, task.retry_count), (Status::Completed, 3, 2));
    assert_eq!(work.runs.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_run_fails_when_its_retries_are_spent() {
    let (coordinator, work) = open(quickly(retries(2))).await;
    let key = create(&coordinator, "1", "fails 9").await;
    start(&coordinator, &key, Policy::Restart).await;
    assert_eq!(types(&watched(&coordinator, &key).await).last(), Some(&"error"));
    let task = coordinator.task(&key).await.unwrap();
    assert_eq!((task.status, task.attempt, task.retry_count), (Status::Failed, 3, 2));
    assert_eq!(task.failure.unwrap().error_type, "Boom");
    // The next run has all of them again; a task may say otherwise than its model.
    start(&coordinator, &key, Policy::Restart).await;
    coordinator.ended(&key, 2).await.unwrap();
    assert_eq!(work.runs.load(Ordering::SeqCst), 6);
    let own =
        create_with(&coordinator, "2", "fails 9", |task| NewTask { max_retries: Some(0), ..task }).await;
    start(&coordinator, &own, Policy::Restart).await;
    watched(&coordinator, &own).await;
    assert_eq!(coordinator.task(&own).await.unwrap().retry_count, 0);
}

#[tokio::test]
async fn a_failure_that_is_final_is_not_retried() {
    let (coordinator, work) = open(quickly(retries(5))).await;
    let key = create(&coordinator, "1", "hopeless").await;
    start(&coordinator, &key, Policy::Restart).await;
    assert_eq!(types(&watched(&coordinator, &key).await), ["began", "error"]);
    assert_eq!((coordinator.task(&key).await.unwrap().attempt, work.runs.load(Ordering::SeqCst)), (1, 1));
}

/// How long the one retry of work waits that asks for so many seconds, as its event says.
async fn asked_for(seconds: u64, options: ModelOptions) -> f64 {
    let (coordinator, _) = open(options).await;
    let key = create(&coordinator, "1", &format!("busy {seconds}")).await;
    let mut viewer = watch(&coordinator, &key, From::RunStart).await;
    let before = Timestamp::now().as_micros();
    start(&coordinator, &key, Policy::Restart).await;
    let retry = loop {
        let Some(soloist::Delivery::Events(slice)) = viewer.next().await.unwrap() else { panic!("no retry") };
        if let Some(retry) = slice.events().iter().find(|event| event.event_type.as_str() == "retry") {
            break retry.clone();
        }
    };
    let data: serde_json::Value = serde_json::from_str(retry.data.as_str()).unwrap();
    let (delay, task) = (data["delay_seconds"].as_f64().unwrap(), coordinator.task(&key).await.unwrap());
    let waits = (task.due_at.unwrap().as_micros() - before) as f64 / 1e6;
    assert!((delay - 0.01..delay + 30.0).contains(&waits), "it says {delay} s and waits {waits} s");
    coordinator.cancel(&key, CancelOptions::default()).await.unwrap();
    delay
}

#[tokio::test(start_paused = true)]
async fn the_wait_that_a_failure_asks_for_counts_where_it_is_the_longer_one_and_is_bounded() {
    assert_eq!(asked_for(30, quickly(retries(1))).await, 30.0);
    let slowly = ModelOptions { retry_delay: Duration::from_secs(100), ..quickly(retries(1)) };
    let delay = asked_for(30, slowly).await;
    assert!((80.0..=120.0).contains(&delay), "{delay}");
    let longest = soloist::limits::RETRY_AFTER_MAX.as_secs_f64();
    assert_eq!(asked_for(u64::MAX, quickly(retries(1))).await, longest);
}

#[tokio::test]
async fn a_failure_that_asks_for_a_wait_beyond_the_deadline_of_the_run_ends_it() {
    let terms = RunTerms { deadline_seconds: Some(20), ..retries(5) };
    let (coordinator, work) = open(quickly(terms)).await;
    let key = create(&coordinator, "1", "busy 30").await;
    start(&coordinator, &key, Policy::Restart).await;
    assert_eq!(types(&watched(&coordinator, &key).await), ["began", "error"]);
    assert_eq!(work.runs.load(Ordering::SeqCst), 1);
    assert_eq!(
        coordinator.task(&key).await.unwrap().failure.unwrap().retry_after,
        None,
        "it is not on record"
    );
}

#[tokio::test]
async fn every_attempt_of_a_run_is_told_its_trace_and_when_the_run_began_and_the_next_run_is_not() {
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let (coordinator, _) = open(quickly(retries(1))).await;
    let key = create(&coordinator, "1", "told").await;
    let trace = soloist::TraceContext::new(parent, Some("a=1"));
    coordinator.start(&key, StartOptions { trace, ..StartOptions::default() }).await.unwrap();
    let told = async |run| {
        let task = coordinator.ended(&key, run).await.unwrap();
        assert_eq!((task.status, task.attempt), (Status::Completed, 2));
        let told: (i64, Option<(String, Option<String>)>) = task.final_value.unwrap().read().unwrap();
        assert_eq!(told.0, task.started_at.unwrap().as_micros());
        told.1
    };
    assert_eq!(told(1).await, Some((parent.to_owned(), Some("a=1".to_owned()))));
    start(&coordinator, &key, Policy::Restart).await;
    assert_eq!(told(2).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_waits_is_cancelled_at_once_and_holds_no_slot() {
    let options = ModelOptions { terms: retries(5), max_concurrent: 1, ..ModelOptions::default() };
    let (coordinator, work) = open(options).await;
    let key = create(&coordinator, "1", "fails 9").await;
    start(&coordinator, &key, Policy::Restart).await;
    let mut viewer = watch(&coordinator, &key, From::RunStart).await;
    until(&mut viewer, "retry").await;
    let task = coordinator.task(&key).await.unwrap();
    assert_eq!((task.status, task.retry_count, task.position), (Status::Queued, 1, None));
    assert!(task.due_at.is_some());
    let quick = create(&coordinator, "2", "quick").await;
    start(&coordinator, &quick, Policy::Restart).await;
    assert_eq!(coordinator.ended(&quick, 1).await.unwrap().status, Status::Completed);
    assert_eq!(
        coordinator.cancel(&key, CancelOptions::default()).await.unwrap(),
        Cancel::Cancelled { run: 1 }
    );
    assert_eq!(types(&drain(&mut viewer).await), ["cancelled"]);
    assert_eq!(work.runs.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn work_that_takes_too_long_is_cancelled_with_the_reason() {
    let (coordinator, _) = open(quickly(timeout(7))).await;
    let key = create(&coordinator, "1", "waits").await;
    start(&coordinator, &key, Policy::Restart).await;
    let begun = tokio::time::Instant::now();
    let seen = watched(&coordinator, &key).await;
    assert_eq!(types(&seen), ["began", "timeout", "cancelled"]);
    assert_eq!(seen[1].data.as_str(), r#"{"message":"Timeout after 7 s","_system":true}"#);
    assert_eq!(seen[2].data.as_str(), r#"{"reason":"Timeout after 7 s","_system":true}"#);
    assert!((7..9).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    let task = coordinator.task(&key).await.unwrap();
    assert_eq!((task.status, task.epoch.0), (Status::Cancelled, 1));
    assert_eq!(task.cancellation_reason.as_deref(), Some("Timeout after 7 s"));
}

#[tokio::test(start_paused = true)]
async fn work_that_takes_too_long_and_ignores_it_is_dropped() {
    let (coordinator, _) = open(quickly(RunTerms { max_retries: 3, ..timeout(7) })).await;
    let key = create(&coordinator, "1", "deaf").await;
    start(&coordinator, &key, Policy::Restart).await;
    assert_eq!(types(&watched(&coordinator, &key).await), ["began", "timeout", "cancelled"]);
    let task = coordinator.task(&key).await.unwrap();
    assert_eq!((task.status, task.epoch.0, task.attempt), (Status::Cancelled, 2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_timeout_is_retried_where_the_model_says_so_and_a_retry_is_left() {
    let terms = RunTerms { max_retries: 1, ..timeout(7) };
    for how in ["waits", "deaf"] {
        let options = ModelOptions { on_timeout: OnTimeout::Retry, ..quickly(terms) };
        let (coordinator, work) = open(options).await;
        let key = create(&coordinator, "1", how).await;
        start(&coordinator, &key, Policy::Restart).await;
        let seen = watched(&coordinator, &key).await;
        assert_eq!(types(&seen), ["began", "timeout", "retry", "began", "timeout", "cancelled"], "{how}");
        assert!(seen[2].data.as_str().contains(r#""error_type":"Timeout","error":"Timeout after 7 s""#));
        let task = coordinator.task(&key).await.unwrap();
        assert_eq!((task.status, task.attempt, task.retry_count), (Status::Cancelled, 2, 1));
        assert_eq!(work.runs.load(Ordering::SeqCst), 2);
    }
}

#[tokio::test]
async fn a_deadline_counts_over_all_attempts() {
    let terms = RunTerms { max_retries: 1_000, deadline_seconds: Some(1), ..RunTerms::default() };
    let (coordinator, _) = open(quickly(terms)).await;
    // Each attempt fails at once, so the next one is soon too late to begin.
    let key = create(&coordinator, "1", "fails 9999").await;
    start(&coordinator, &key, Policy::Restart).await;
    let seen = watched(&coordinator, &key).await;
    assert_eq!(types(&seen).last(), Some(&"error"), "{:?}", types(&seen));
    let task = coordinator.task(&key).await.unwrap();
    assert!(task.retry_count > 1 && task.retry_count < 10, "{}", task.retry_count);
    // One that hangs is stopped.
    let key = create(&coordinator, "2", "waits").await;
    start(&coordinator, &key, Policy::Restart).await;
    assert_eq!(types(&watched(&coordinator, &key).await), ["began", "timeout", "cancelled"]);
    let reason = coordinator.task(&key).await.unwrap().cancellation_reason.unwrap();
    assert_eq!(reason, "Deadline of 1 s over all attempts is over");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_cancel_that_races_the_end_of_the_work_agrees_with_record_and_stream_1000_times() {
    let (coordinator, _) = open(quickly(RunTerms::default())).await;
    let (mut completed, mut cancelled) = (0, 0);
    for round in 0..1_000_u32 {
        let key = create(&coordinator, &round.to_string(), "waits").await;
        start(&coordinator, &key, Policy::Restart).await;
        let mut viewer = watch(&coordinator, &key, From::RunStart).await;
        let signal = coordinator.clone();
        let signalled = key.clone();
        let going = tokio::spawn(async move { signal.signal(&signalled, "go", Json::null()).await });
        if round % 2 == 0 {
            tokio::task::yield_now().await;
        }
        let answer = coordinator.cancel(&key, CancelOptions::default()).await.unwrap();
        let _ = going.await.unwrap();
        let seen = drain(&mut viewer).await;
        let task = coordinator.task(&key).await.unwrap();
        let last = seen.last().unwrap().event_type.as_str();
        match (answer, task.status) {
            (Cancel::Cancelling { run: 1 }, Status::Cancelled) => {
                assert_eq!(last, "cancelled");
                cancelled += 1;
            }
            (Cancel::Cancelling { run: 1 } | Cancel::NotRunning { .. }, Status::Completed) => {
                assert_eq!((last, task.cancellation_reason), ("complete", None));
                completed += 1;
            }
            other => panic!("{other:?} and {last}"),
        }
        let endings = seen.iter().filter(|event| event.event_type.is_terminal()).count();
        assert_eq!((endings, task.last_seq), (1, seen.last().unwrap().seq));
    }
    println!("{completed} completed, {cancelled} cancelled");
    assert!(completed > 0 && cancelled > 0, "{completed} completed, {cancelled} cancelled");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_rerun_asked_for_by_100_at_once_is_one_more_run() {
    let (coordinator, work) = open(quickly(RunTerms::default())).await;
    let key = create(&coordinator, "1", "waits").await;
    start(&coordinator, &key, Policy::Restart).await;
    until(&mut watch(&coordinator, &key, From::RunStart).await, "began").await;
    let asked = (0..100).map(|_| {
        let (coordinator, key) = (coordinator.clone(), key.clone());
        tokio::spawn(async move { start(&coordinator, &key, Policy::Rerun).await })
    });
    let mut firsts = 0;
    for asked in asked.collect::<Vec<_>>() {
        let Start::Next { run: 2, active: 1, is_first, .. } = asked.await.unwrap() else { panic!() };
        firsts += u32::from(is_first);
    }
    assert_eq!(firsts, 1);
    assert_eq!(coordinator.task(&key).await.unwrap().next_run, NextRun::Rerun);
    coordinator.signal(&key, "go", Json::null()).await.unwrap();
    assert_eq!(coordinator.ended(&key, 1).await.unwrap().run, 1);
    until_run(&coordinator, &key, 2).await;
    coordinator.signal(&key, "go", Json::null()).await.unwrap();
    coordinator.ended(&key, 2).await.unwrap();
    // Nobody has asked for a third one.
    let stats = coordinator.stats();
    assert_eq!((stats.running, stats.starting), (0, 0));
    assert_eq!((coordinator.task(&key).await.unwrap().run, work.runs.load(Ordering::SeqCst)), (2, 2));
}

async fn until_run(coordinator: &Coordinator, key: &Key, run: u64) {
    let begun = async {
        while coordinator.task(key).await.unwrap().run < run {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), begun).await.expect("it begins");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_100_that_replace_a_run_at_once_one_has_done_it() {
    let (coordinator, work) = open(quickly(RunTerms::default())).await;
    let key = create(&coordinator, "1", "waits").await;
    start(&coordinator, &key, Policy::Restart).await;
    let mut viewer = watch(&coordinator, &key, From::RunStart).await;
    until(&mut viewer, "began").await;
    let asked = (0..100).map(|_| {
        let (coordinator, key) = (coordinator.clone(), key.clone());
        tokio::spawn(async move { start(&coordinator, &key, Policy::Replace).await })
    });
    let mut started = Vec::new();
    for asked in asked.collect::<Vec<_>>() {
        match asked.await.unwrap() {
            Start::Started { run } => started.push(run),
            // Those that came when the first ones were through have replaced that run in their turn.
            Start::AlreadyActive { run, .. } => assert!(run >= 2),
            Start::AlreadyFinished { run, status } => assert!(run >= 2 && status == Status::Cancelled),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(
        drain(&mut viewer).await.last().unwrap().data.as_str(),
        r#"{"reason":"Replaced","_system":true}"#
    );
    let task = coordinator.task(&key).await.unwrap();
    started.sort_unstable();
    assert_eq!(started, (2..=task.run).collect::<Vec<_>>(), "each run has one that started it");
    assert_eq!((task.status, task.next_run), (Status::Running, NextRun::None));
    assert_eq!(
        (work.most.load(Ordering::SeqCst), u64::from(work.runs.load(Ordering::SeqCst))),
        (1, task.run)
    );
    coordinator.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn a_rerun_that_was_promised_is_kept_by_whoever_is_left() {
    let (store, work) = (MemoryStore::new(), Arc::new(Work::default()));
    let first = open_with(&store, &work, quickly(RunTerms::default())).await;
    let key = create(&first, "1", "waits").await;
    start(&first, &key, Policy::Restart).await;
    assert!(matches!(start(&first, &key, Policy::Rerun).await, Start::Next { run: 2, .. }));
    first.shutdown(Duration::ZERO).await;
    assert_eq!(first.task(&key).await.unwrap().status, Status::Failed);
    let second = open_with(&store, &work, quickly(RunTerms::default())).await;
    until_run(&second, &key, 2).await;
    second.signal(&key, "go", Json::null()).await.unwrap();
    assert_eq!(second.ended(&key, 2).await.unwrap().status, Status::Completed);
}

#[tokio::test]
async fn a_replace_whose_asker_died_before_the_cancel_is_carried_out_by_the_holder() {
    let (store, work) = (MemoryStore::new(), Arc::new(Work::default()));
    let builder = Coordinator::builder(Arc::new(store.clone())).lease(Duration::from_secs(1));
    let holder = builder.runner(model(), work.clone(), quickly(RunTerms::default())).open().await.unwrap();
    let key = create(&holder, "1", "waits").await;
    start(&holder, &key, Policy::Restart).await;
    until(&mut watch(&holder, &key, From::RunStart).await, "began").await;
    // All that a process does before it dies.
    let promise = soloist::store::ClaimRequest {
        key: key.clone(),
        node: holder.node(),
        policy: Policy::Replace,
        place: soloist::state::Place::Here,
        after: None,
        max_total: None,
        idempotency: None,
        trace: None,
        at: Timestamp::now(),
    };
    let promised = soloist::Store::claim(&store, promise).await.unwrap();
    assert!(matches!(promised, soloist::store::Claim::Rerun { first: true, .. }));
    until_run(&holder, &key, 2).await;
    let log = holder.events(&key, 0, 100).await.unwrap().events;
    assert_eq!(types(&log)[..2], ["began", "cancelled"]);
}

#[tokio::test]
async fn a_cancel_of_the_task_takes_the_rerun_back_and_one_of_the_run_does_not() {
    let (coordinator, _) = open(quickly(RunTerms::default())).await;
    for (id, run, runs) in [("task", None, 1), ("run", Some(1), 2)] {
        let key = create(&coordinator, id, "waits").await;
        start(&coordinator, &key, Policy::Restart).await;
        start(&coordinator, &key, Policy::Rerun).await;
        coordinator.cancel(&key, CancelOptions { run, reason: None }).await.unwrap();
        coordinator.ended(&key, 1).await.unwrap();
        until_run(&coordinator, &key, runs).await;
        let task = coordinator.task(&key).await.unwrap();
        assert_eq!((task.run, task.next_run), (runs, NextRun::None));
    }
}

#[tokio::test]
async fn a_shutdown_hands_what_may_be_retried_to_another_node_and_counts_no_retry() {
    let (store, work) = (MemoryStore::new(), Arc::new(Work::default()));
    let first = open_with(&store, &work, quickly(retries(1))).await;
    let key = create(&first, "retried", "waits").await;
    let once = create_with(&first, "once", "waits", |task| NewTask { max_retries: Some(0), ..task }).await;
    for key in [&key, &once] {
        start(&first, key, Policy::Restart).await;
        until(&mut watch(&first, key, From::RunStart).await, "began").await;
    }
    let second = open_with(&store, &work, quickly(retries(1))).await;
    let mut viewer = watch(&second, &key, From::RunStart).await;
    first.shutdown(Duration::ZERO).await;
    second.signal(&key, "go", Json::of(&1).unwrap()).await.unwrap();
    let seen = drain(&mut viewer).await;
    assert_eq!(types(&seen), ["began", "retry", "began", "complete"]);
    assert!(seen[1].data.as_str().contains(r#""delay_seconds":0,"error_type":"Drained""#));
    let task = second.task(&key).await.unwrap();
    assert_eq!((task.status, task.attempt, task.retry_count), (Status::Completed, 2, 0));
    let task = second.task(&once).await.unwrap();
    assert_eq!((task.status, task.failure.unwrap().error_type.as_str()), (Status::Failed, "Drained"));
    assert!(first.leaving().is_cancelled(), "viewers are served elsewhere");
    second.shutdown(Duration::ZERO).await;
    assert!(!second.leaving().is_cancelled(), "nobody else would serve them");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_that_has_not_stopped_is_handed_to_nobody() {
    let (store, work) = (MemoryStore::new(), Arc::new(Work::default()));
    let builder = Coordinator::builder(Arc::new(store.clone())).lease(Duration::from_secs(3_600));
    let options = ModelOptions { terms: retries(3), ..ModelOptions::default() };
    let blocking = ModelKey::new("t", "Blocking").unwrap();
    let blocks = Arc::new(tokio::sync::Notify::new());
    // Let go when the test is over, however it ends.
    let (_release, released) = std::sync::mpsc::channel();
    let first = builder
        .runner(blocking.clone(), Arc::new(Blocking(blocks.clone(), released.into())), options)
        .open()
        .await
        .unwrap();
    let second = open_with(&store, &work, ModelOptions::default()).await;
    let key = blocking.with_id("1").unwrap();
    first.create(NewTask::named(key.clone(), Json::null())).await.unwrap();
    start(&first, &key, Policy::Restart).await;
    until(&mut watch(&first, &key, From::RunStart).await, "began").await;
    first.signal(&key, "block", Json::null()).await.unwrap();
    blocks.notified().await;
    first.shutdown(Duration::ZERO).await;
    assert_eq!(first.stats().stuck, 1);
    let task = second.task(&key).await.unwrap();
    assert_eq!((task.status, task.attempt), (Status::Running, 1), "its lease decides");
}

/// Holds its thread until the test lets it go, whatever it is asked.
struct Blocking(Arc<tokio::sync::Notify>, std::sync::Mutex<std::sync::mpsc::Receiver<()>>);

#[async_trait]
impl Runner for Blocking {
    fn kind(&self) -> &'static str {
        "blocking"
    }

    fn check(&self, _: &Json) -> soloist::Result<()> {
        Ok(())
    }

    async fn run(&self, _: Json, context: soloist::Context) -> Result<Json, Failure> {
        context.send_event("began", &()).await?;
        // Woken by the test and not by a timer: whoever drives the timers must not be the one that blocks.
        context.wait_signal("block", Duration::from_secs(3_600)).await?;
        self.0.notify_one();
        let _ = self.1.lock().unwrap().recv();
        Ok(Json::null())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_that_does_not_let_go_is_counted_keeps_its_slot_and_is_fenced() {
    /// Holds its thread until the test lets it go, then tries to say something.
    struct Held(std::sync::Mutex<std::sync::mpsc::Receiver<()>>, Arc<tokio::sync::Notify>, AtomicU32);

    #[async_trait]
    impl Runner for Held {
        fn kind(&self) -> &'static str {
            "held"
        }

        fn check(&self, _: &Json) -> soloist::Result<()> {
            Ok(())
        }

        async fn run(&self, _: Json, context: soloist::Context) -> Result<Json, Failure> {
            if context.key().id() == "next" {
                return Ok(Json::null());
            }
            self.1.notify_one();
            self.0.lock().unwrap().recv().unwrap();
            let late = futures_util::FutureExt::now_or_never(context.send_event("late", &()));
            self.2.fetch_add(u32::from(matches!(late, Some(Err(_)))), Ordering::SeqCst);
            Ok(Json::null())
        }
    }

    let (release, released) = std::sync::mpsc::channel();
    let blocks = Arc::new(tokio::sync::Notify::new());
    let held = Arc::new(Held(released.into(), blocks.clone(), AtomicU32::new(0)));
    let model = ModelKey::new("t", "Held").unwrap();
    let options = ModelOptions { max_concurrent: 1, ..ModelOptions::default() };
    let builder = Coordinator::builder(Arc::new(MemoryStore::new()));
    let coordinator = builder.runner(model.clone(), held.clone(), options).open().await.unwrap();
    let (stuck, next) = (model.with_id("stuck").unwrap(), model.with_id("next").unwrap());
    for key in [&stuck, &next] {
        coordinator.create(NewTask::named(key.clone(), Json::null())).await.unwrap();
    }
    start(&coordinator, &stuck, Policy::Restart).await;
    blocks.notified().await;
    coordinator.cancel(&stuck, CancelOptions::default()).await.unwrap();
    let task = coordinator.ended(&stuck, 1).await.unwrap();
    assert_eq!((task.status, task.epoch.0), (Status::Cancelled, 2));
    assert_eq!(coordinator.stats().stuck, 1);
    start(&coordinator, &next, Policy::Restart).await;
    let task = coordinator.task(&next).await.unwrap();
    assert_eq!((task.status, task.position), (Status::Queued, Some(1)), "its slot is taken");
    release.send(()).unwrap();
    assert_eq!(coordinator.ended(&next, 1).await.unwrap().status, Status::Completed);
    assert_eq!(
        (coordinator.stats().stuck, held.2.load(Ordering::SeqCst)),
        (0, 1),
        "it may not write any more"
    );
    assert_eq!(coordinator.task(&stuck).await.unwrap().last_seq, 1);
}

#[tokio::test(start_paused = true)]
async fn a_task_with_a_time_runs_then_and_not_before() {
    struct Paused(tokio::time::Instant);
    impl soloist::Clock for Paused {
        fn now(&self) -> Timestamp {
            Timestamp::from_micros(i64::try_from(self.0.elapsed().as_micros()).unwrap())
        }
    }
    let clock = Paused(tokio::time::Instant::now());
    let builder = Coordinator::builder(Arc::new(MemoryStore::new())).clock(clock);
    let builder = builder.runner(model(), Arc::new(Work::default()), ModelOptions::default());
    let coordinator = builder.open().await.unwrap();
    let run_at = Timestamp::from_micros(90_000_000);
    let key = create_with(&coordinator, "1", "quick", |task| NewTask { run_at: Some(run_at), ..task }).await;
    assert_eq!(start(&coordinator, &key, Policy::Restart).await, Start::Started { run: 1 });
    let task = coordinator.task(&key).await.unwrap();
    assert_eq!((task.status, task.due_at, task.position), (Status::Queued, Some(run_at), None));
    let task = coordinator.ended(&key, 1).await.unwrap();
    let started = task.started_at.unwrap().as_micros();
    assert!((90_000_000..91_500_000).contains(&started), "{started}");
}

#[tokio::test]
async fn a_start_does_not_overtake_what_waits_for_a_slot() {
    let (coordinator, _) = open(ModelOptions { max_concurrent: 1, ..ModelOptions::default() }).await;
    for round in 0..50 {
        let ids = ["a", "b", "c"].map(|id| format!("{id}{round}"));
        let first = create(&coordinator, &ids[0], "waits").await;
        let second = create(&coordinator, &ids[1], "quick").await;
        let third = create(&coordinator, &ids[2], "quick").await;
        start(&coordinator, &first, Policy::Restart).await;
        start(&coordinator, &second, Policy::Restart).await;
        coordinator.signal(&first, "go", Json::null()).await.unwrap();
        // Told of the end when the slot is free, and before anybody has looked at the queue.
        coordinator.ended(&first, 1).await.unwrap();
        start(&coordinator, &third, Policy::Restart).await;
        let (second, third) =
            (coordinator.ended(&second, 1).await.unwrap(), coordinator.ended(&third, 1).await.unwrap());
        assert!(second.started_at.unwrap() <= third.started_at.unwrap(), "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_run_over_all_nodes_than_the_total_says_and_all_of_them_run() {
    let (store, work) = (MemoryStore::new(), Arc::new(Work::default()));
    let options = ModelOptions { max_concurrent_total: Some(3), ..quickly(RunTerms::default()) };
    let nodes = [open_with(&store, &work, options).await, open_with(&store, &work, options).await];
    let mut keys = Vec::new();
    for n in 0..40 {
        let key = create(&nodes[n % 2], &n.to_string(), "yields 2000").await;
        start(&nodes[n % 2], &key, Policy::Restart).await;
        keys.push(key);
    }
    for key in &keys {
        assert_eq!(nodes[0].ended(key, 1).await.unwrap().status, Status::Completed);
    }
    assert_eq!(work.most.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn every_attempt_reads_all_signals_of_its_run_in_order_once() {
    let (store, work) = (MemoryStore::new(), Arc::new(Work::default()));
    let first = open_with(&store, &work, quickly(retries(1))).await;
    let second = open_with(&store, &work, quickly(retries(1))).await;
    let key = create(&first, "1", "reads 50").await;
    let send = async |numbers: std::ops::Range<u32>| {
        for n in numbers {
            let via = if n % 2 == 0 { &first } else { &second };
            via.signal(&key, &format!("s{}", n % 3), Json::of(&n).unwrap()).await.unwrap();
        }
    };
    send(0..10).await;
    start(&first, &key, Policy::Restart).await;
    let mut viewer = watch(&second, &key, From::RunStart).await;
    until(&mut viewer, "read").await;
    send(10..30).await;
    first.shutdown(Duration::ZERO).await;
    for n in 30..50_u32 {
        second.signal(&key, &format!("s{}", n % 3), Json::of(&n).unwrap()).await.unwrap();
    }
    drain(&mut viewer).await;
    let task = second.task(&key).await.unwrap();
    assert_eq!((task.status, task.attempt), (Status::Completed, 2));
    let read: Vec<String> = task.final_value.unwrap().read().unwrap();
    assert_eq!(read, (0..50).map(|n| format!("s{}:{n}", n % 3)).collect::<Vec<_>>());
    let late = second.signal(&key, "late", Json::null()).await.unwrap();
    assert!(matches!(late, soloist::store::Signalled::NotRunning(Status::Completed)), "{late:?}");
}

#[tokio::test]
async fn finished_tasks_go_when_their_time_is_over_and_their_viewers_are_told() {
    let retention = Retention { completed: Some(Duration::from_millis(200)), failed: None, cancelled: None };
    let (coordinator, _) = open(ModelOptions { retention, ..ModelOptions::default() }).await;
    let (done, failed) =
        (create(&coordinator, "1", "quick").await, create(&coordinator, "2", "hopeless").await);
    // It stays for the next run, so that nothing but the deletion ends it.
    let follow = soloist::SubscribeOptions { follow: true, ..soloist::SubscribeOptions::default() };
    let soloist::Subscribed::Stream(mut viewer) = coordinator.subscribe(&done, follow).await.unwrap() else {
        panic!("it has not seen anything")
    };
    for key in [&done, &failed] {
        start(&coordinator, key, Policy::Restart).await;
        coordinator.ended(key, 1).await.unwrap();
    }
    let told = tokio::time::timeout(Duration::from_secs(60), drain(&mut viewer)).await;
    assert_eq!(types(&told.expect("it is told")), ["began", "complete"]);
    assert_eq!(coordinator.task(&done).await.unwrap_err().code(), "unknown_task");
    assert_eq!(coordinator.task(&failed).await.unwrap().status, Status::Failed);
}
