//! However the work ends, the run ends right, once.

use std::time::Duration;

use soloist::{Cancel, CancelOptions, From, Start, Status};

use crate::models::{create, drain, open, start, until, watch};

async fn run(how: &str) -> (soloist::Task, Vec<soloist::Event>) {
    let coordinator = open().await;
    let key = create(&coordinator, "t/End/1", &format!(r#"{{"how":"{how}"}}"#)).await;
    start(&coordinator, &key).await;
    let seen = drain(&mut watch(&coordinator, &key, From::RunStart).await).await;
    (coordinator.task(&key).await.unwrap(), seen)
}

#[tokio::test]
async fn a_panic_is_recorded_as_a_failure_with_its_place() {
    let (task, seen) = run("panic").await;
    let failure = task.failure.unwrap();
    assert_eq!((task.status, failure.error_type.as_str()), (Status::Failed, "Panic"));
    assert_eq!(failure.message, "it blew up with 42");
    assert!(failure.traceback.unwrap().contains("models.rs:"));
    let last = seen.last().unwrap();
    assert_eq!(last.data.as_str(), r#"{"message":"it blew up with 42","error_type":"Panic","_system":true}"#);
}

#[tokio::test]
async fn an_error_is_recorded_with_its_type_message_and_traceback() {
    let (task, seen) = run("error").await;
    let failure = task.failure.unwrap();
    assert_eq!((task.status, failure.error_type.as_str()), (Status::Failed, "ParseIntError"));
    assert!(failure.traceback.unwrap().contains("ParseIntError: invalid digit"));
    assert!(task.failed_at.is_some() && task.completed_at.is_none() && task.node.is_none());
    assert_eq!(seen.last().unwrap().event_type.as_str(), "error");
}

#[tokio::test]
async fn work_that_sends_nothing_still_ends_with_one_terminal_event() {
    let (task, seen) = run("silent").await;
    assert_eq!((task.status, seen.len(), task.last_seq), (Status::Completed, 1, 1));
}

#[tokio::test]
async fn a_complete_that_the_work_sends_becomes_part_of_the_one_real_ending() {
    let (task, seen) = run("complete").await;
    let types: Vec<_> = seen.iter().map(|e| e.event_type.as_str()).collect();
    assert_eq!(types, ["step", "complete"]);
    assert_eq!(seen[1].data.as_str(), r#"{"message":"Done","final_value":"value","_system":true}"#);
    assert_eq!(task.final_value.unwrap().as_str(), r#""value""#);
}

#[tokio::test]
async fn deeply_nested_data_of_the_work_end_the_run_like_any_other() {
    let (task, seen) = run("deep").await;
    assert_eq!((task.status, seen.len()), (Status::Completed, 1));
    assert!(seen[0].data.as_str().starts_with(r#"{"deep":[[["#));
}

#[tokio::test]
async fn an_over_long_result_fails_with_a_readable_error() {
    let (task, _) = run("huge").await;
    assert_eq!((task.status, task.failure.unwrap().error_type.as_str()), (Status::Failed, "LimitReached"));
}

#[tokio::test]
async fn cancelled_work_ends_cancelled_with_the_reason() {
    let coordinator = open().await;
    let key = create(&coordinator, "t/Wait/1", "{}").await;
    start(&coordinator, &key).await;
    let mut viewer = watch(&coordinator, &key, From::RunStart).await;
    until(&mut viewer, "waiting").await;
    let other = CancelOptions { run: Some(7), reason: None };
    assert_eq!(coordinator.cancel(&key, other).await.unwrap(), Cancel::OtherRun { active: 1 });
    let options = CancelOptions { reason: Some("enough".into()), run: Some(1) };
    assert_eq!(coordinator.cancel(&key, options.clone()).await.unwrap(), Cancel::Cancelling { run: 1 });
    let task = coordinator.ended(&key, 1).await.unwrap();
    assert_eq!((task.status, task.cancellation_reason.as_deref()), (Status::Cancelled, Some("enough")));
    assert_eq!(
        drain(&mut viewer).await.last().unwrap().data.as_str(),
        r#"{"reason":"enough","_system":true}"#
    );
    let again = coordinator.cancel(&key, options).await.unwrap();
    assert_eq!(again, Cancel::NotRunning { status: Status::Cancelled });
}

#[tokio::test]
async fn a_pending_task_is_cancelled_at_once_and_its_viewers_are_told() {
    let coordinator = open().await;
    let key = create(&coordinator, "t/Wait/1", "{}").await;
    let mut viewer = watch(&coordinator, &key, From::RunStart).await;
    assert_eq!(
        coordinator.cancel(&key, CancelOptions::default()).await.unwrap(),
        Cancel::Cancelled { run: 0 }
    );
    let seen = drain(&mut viewer).await;
    assert_eq!((seen.len(), seen[0].event_type.as_str(), seen[0].run), (1, "cancelled", 0));
}

#[tokio::test]
async fn work_that_finished_counts_even_if_a_cancel_was_on_its_way() {
    let coordinator = open().await;
    let key = create(&coordinator, "t/End/1", r#"{"how":"cancelled but done"}"#).await;
    start(&coordinator, &key).await;
    until(&mut watch(&coordinator, &key, From::RunStart).await, "ready").await;
    coordinator.cancel(&key, CancelOptions::default()).await.unwrap();
    let task = coordinator.ended(&key, 1).await.unwrap();
    assert_eq!((task.status, task.cancellation_reason), (Status::Completed, None));
}

#[tokio::test(start_paused = true)]
async fn work_that_does_not_let_go_is_dropped_after_its_grace_and_the_epoch_rises() {
    let coordinator = open().await;
    let key = create(&coordinator, "t/End/1", r#"{"how":"deaf"}"#).await;
    start(&coordinator, &key).await;
    until(&mut watch(&coordinator, &key, From::RunStart).await, "deaf").await;
    let asked = tokio::time::Instant::now();
    coordinator.cancel(&key, CancelOptions::default()).await.unwrap();
    let task = coordinator.ended(&key, 1).await.unwrap();
    assert_eq!((task.status, task.epoch.0), (Status::Cancelled, 2));
    assert!(asked.elapsed() >= soloist::limits::CANCEL_GRACE);
    assert_eq!(start(&coordinator, &key).await, Start::Started { run: 2 });
    assert_eq!(coordinator.task(&key).await.unwrap().epoch.0, 3);
}

#[tokio::test]
async fn a_signal_sent_before_the_work_listens_is_handed_to_it() {
    let coordinator = open().await;
    let key = create(&coordinator, "t/Wait/1", "{}").await;
    for (name, data) in [("other", "1"), ("go", r#"{"b": 2, "a": 1}"#)] {
        coordinator.signal(&key, name, soloist::Json::parse(data).unwrap()).await.unwrap();
    }
    start(&coordinator, &key).await;
    let task = coordinator.ended(&key, 1).await.unwrap();
    assert_eq!(task.final_value.unwrap().as_str(), r#"{"b": 2, "a": 1}"#);
    start(&coordinator, &key).await;
    until(&mut watch(&coordinator, &key, From::RunStart).await, "waiting").await;
    coordinator.signal(&key, "go", soloist::Json::parse("3").unwrap()).await.unwrap();
    assert_eq!(coordinator.ended(&key, 2).await.unwrap().final_value.unwrap().as_str(), "3");
}

#[tokio::test]
async fn a_shutdown_waits_for_work_and_records_what_it_gives_up() {
    let coordinator = open().await;
    let quick = create(&coordinator, "t/Count/1", r#"{"events":1000}"#).await;
    let endless = create(&coordinator, "t/Wait/1", "{}").await;
    for key in [&quick, &endless] {
        start(&coordinator, key).await;
    }
    let mut viewer = watch(&coordinator, &endless, From::RunStart).await;
    until(&mut viewer, "waiting").await;
    coordinator.shutdown(Duration::from_millis(200)).await;
    assert_eq!(coordinator.task(&quick).await.unwrap().status, Status::Completed);
    let task = coordinator.task(&endless).await.unwrap();
    assert_eq!((task.status, task.failure.unwrap().error_type.as_str()), (Status::Failed, "Drained"));
    assert_eq!(drain(&mut viewer).await.last().unwrap().event_type.as_str(), "error");
    let late = coordinator.start(&quick, soloist::StartOptions::default()).await;
    assert_eq!(late.unwrap_err().code(), "shutting_down");
}
