//! A start has one winner, whoever asks and whenever.

use soloist::{CancelOptions, From, Policy, Start, StartOptions, Status};

use crate::models::{create, drain, open, start, watch};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_1000_concurrent_starts_exactly_one_wins() {
    let coordinator = open().await;
    for round in 0..20 {
        let key = create(&coordinator, &format!("t/Wait/{round}"), "{}").await;
        let starts: Vec<_> = (0..1000)
            .map(|_| {
                let (coordinator, key) = (coordinator.clone(), key.clone());
                tokio::spawn(async move { start(&coordinator, &key).await })
            })
            .collect();
        let mut won = 0;
        for answer in starts {
            match answer.await.unwrap() {
                Start::Started { run: 1 } => won += 1,
                Start::AlreadyActive { run: 1, status: Status::Running, since: Some(_), .. } => {}
                other => panic!("round {round}: {other:?}"),
            }
        }
        assert_eq!(won, 1, "round {round}");
        let task = coordinator.task(&key).await.unwrap();
        assert_eq!((task.status, task.run, task.epoch.0), (Status::Running, 1, 1));
    }
    assert_eq!(coordinator.stats().starting, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_sees_the_end_and_starts_again_at_once_wins() {
    let coordinator = open().await;
    let key = create(&coordinator, "t/Count/1", r#"{"events":2}"#).await;
    for run in 1..=1000 {
        assert_eq!(start(&coordinator, &key).await, Start::Started { run });
        let seen = drain(&mut watch(&coordinator, &key, From::RunStart).await).await;
        let seqs: Vec<u64> = seen.iter().map(|e| e.seq).collect();
        assert_eq!(
            seqs,
            [3 * run - 2, 3 * run - 1, 3 * run],
            "the viewer of a run begins at its first event"
        );
    }
}

#[tokio::test]
async fn under_the_policy_once_a_finished_task_stays_finished() {
    let coordinator = open().await;
    let key = create(&coordinator, "t/Count/1", r#"{"events":0}"#).await;
    let once = StartOptions { policy: Policy::Once, ..StartOptions::default() };
    assert_eq!(coordinator.start(&key, once.clone()).await.unwrap(), Start::Started { run: 1 });
    coordinator.ended(&key, 1).await.unwrap();
    let again = coordinator.start(&key, once).await.unwrap();
    assert_eq!(again, Start::AlreadyFinished { run: 1, status: Status::Completed });
    assert_eq!(start(&coordinator, &key).await, Start::Started { run: 2 });
}

#[tokio::test]
async fn a_start_whose_caller_has_gone_leaves_no_task_running_with_nobody_running_it() {
    let coordinator = open().await;
    for i in 0..100 {
        let key = create(&coordinator, &format!("t/Count/{i}"), r#"{"events":1}"#).await;
        let mut call = Box::pin(coordinator.start(&key, StartOptions::default()));
        let _ = futures_util::poll!(call.as_mut());
        drop(call);
        let mut viewer = watch(&coordinator, &key, From::RunStart).await;
        assert_eq!(drain(&mut viewer).await.last().unwrap().event_type.as_str(), "complete");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_cancel_that_overtakes_the_news_of_the_claim_still_stops_the_work() {
    let coordinator = open().await;
    for i in 0..300 {
        let key = create(&coordinator, &format!("t/Wait/{i}"), "{}").await;
        let starting = tokio::spawn({
            let (coordinator, key) = (coordinator.clone(), key.clone());
            async move { start(&coordinator, &key).await }
        });
        // Asks again until the start is on record, so that the cancel comes as early as it can.
        while coordinator.task(&key).await.unwrap().status == Status::Pending {
            tokio::task::yield_now().await;
        }
        coordinator.cancel(&key, CancelOptions::default()).await.unwrap();
        starting.await.unwrap();
        assert_eq!(coordinator.ended(&key, 1).await.unwrap().status, Status::Cancelled);
    }
}

#[tokio::test]
async fn nothing_is_kept_for_a_key_after_the_linger() {
    let coordinator = open().await;
    for i in 0..100 {
        let key = create(&coordinator, &format!("t/Count/{i}"), r#"{"events":3}"#).await;
        start(&coordinator, &key).await;
        coordinator.ended(&key, 1).await.unwrap();
    }
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    while coordinator.stats().kept > 0 {
        assert!(tokio::time::Instant::now() < deadline, "{:?}", coordinator.stats());
        tokio::task::yield_now().await;
    }
    let stats = coordinator.stats();
    assert_eq!((stats.running, stats.starting, stats.viewers, stats.stuck), (0, 0, 0, 0));
}

#[tokio::test]
async fn unknown_tasks_models_and_inputs_are_refused_and_nothing_is_created() {
    let coordinator = open().await;
    let new = |key: &str, input: &str| {
        soloist::NewTask::named(key.parse().unwrap(), soloist::Json::parse(input).unwrap())
    };
    let code = |r: soloist::Result<_>| r.map(|_: soloist::Create| ()).unwrap_err().code();
    assert_eq!(code(coordinator.create(new("t/Nope/1", "{}")).await), "unknown_model");
    assert_eq!(code(coordinator.create(new("t/Count/1", r#"{"events":"many"}"#)).await), "invalid_input");
    let big = format!(r#"{{"events":1,"x":"{}"}}"#, "x".repeat(soloist::limits::INPUT_MAX_BYTES));
    assert_eq!(code(coordinator.create(new("t/Count/1", &big)).await), "too_large");
    let missing = "t/Count/1".parse().unwrap();
    assert_eq!(
        coordinator.start(&missing, StartOptions::default()).await.unwrap_err().code(),
        "unknown_task"
    );
    assert_eq!(
        coordinator.list(soloist::TaskFilter { limit: 10, ..Default::default() }).await.unwrap().tasks.len(),
        0
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_sees_the_end_finds_the_slot_free() {
    let model = soloist::ModelKey::new("t", "One").unwrap();
    let coordinator = soloist::Coordinator::builder(std::sync::Arc::new(soloist::MemoryStore::new()))
        .runner(
            model,
            std::sync::Arc::new(crate::models::Quick),
            soloist::ModelOptions { max_concurrent: 1, ..soloist::ModelOptions::default() },
        )
        .open()
        .await
        .unwrap();
    let key = create(&coordinator, "t/One/1", "{}").await;
    for run in 1..=2000 {
        assert_eq!(start(&coordinator, &key).await, Start::Started { run });
        drain(&mut watch(&coordinator, &key, From::RunStart).await).await;
    }
}
