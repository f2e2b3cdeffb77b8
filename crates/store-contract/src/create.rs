//! A key is made once.

use std::collections::HashSet;

use futures_util::future::join_all;
use soloist::{Create, ModelKey, NewTask, Status, Task};

use crate::{
    Harness,
    stage::{Stage, completed, json, key},
};

/// Everything that a creator did not say is empty.
pub async fn a_new_task_is_pending<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let at = stage.now();
    let mut new = NewTask::named(key("1"), json(r#"{"n":1}"#));
    new.owner = Some("ada".into());
    let Ok(Create::Created(created)) = stage.store.create(new, at).await else { panic!("it is new") };
    for task in [created, stage.task(&key("1")).await] {
        assert_eq!(
            (&task.key, task.input.as_str(), task.owner.as_deref()),
            (&key("1"), r#"{"n":1}"#, Some("ada"))
        );
        assert_eq!((task.status, task.run, task.attempt, task.epoch.0), (Status::Pending, 0, 0, 0));
        assert_eq!((task.created_at, task.updated_at, task.started_at), (at, at, None));
        assert_eq!((task.completed_at, task.failed_at, task.cancelled_at), (None, None, None));
        assert_eq!((task.final_value, task.failure, task.cancellation_reason), (None, None, None));
        assert_eq!(
            (task.retry_count, task.max_retries, task.timeout_seconds, task.run_at),
            (0, 0, None, None)
        );
        assert_eq!((task.node, task.last_seq, task.run_start_seq), (None, 0, 0));
    }
}

/// The same value in another text is the same; another value is told, and nothing of it is kept.
pub async fn a_task_that_is_there_stays_as_it_was<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let create = |text: &str| stage.store.create(NewTask::named(key("1"), json(text)), stage.now());
    let Ok(Create::Created(first)) = create(r#"{"a":1,"b":[2]}"#).await else { panic!("it is new") };
    let lease = stage.won(&key("1")).await;
    stage.finish(&lease, 0, completed("7")).await;
    let Ok(Create::Exists(same)) = create(r#"{ "b": [2], "a": 1 }"#).await else {
        panic!("the value is the same")
    };
    let Ok(Create::Differs(other)) = create(r#"{"a":1,"b":[3]}"#).await else {
        panic!("the value is another")
    };
    for task in [same, other] {
        assert_eq!((task.input.as_str(), task.created_at), (first.input.as_str(), first.created_at));
        assert_eq!((task.status, task.final_value), (Status::Completed, Some(json("7"))));
    }
}

/// 64 creates of one key, with one of two inputs.
pub async fn of_many_creates_of_one_key_one_makes_it<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let creates =
        (0..64).map(|n| stage.store.create(NewTask::named(key("1"), json(["1", "2"][n % 2])), stage.now()));
    let answers = join_all(creates).await;
    let made = answers.iter().position(|a| matches!(a, Ok(Create::Created(_)))).expect("one makes it");
    for (n, answer) in answers.iter().enumerate().filter(|(n, _)| *n != made) {
        match answer {
            Ok(Create::Exists(_)) => assert_eq!(n % 2, made % 2),
            Ok(Create::Differs(_)) => assert_ne!(n % 2, made % 2),
            other => panic!("a second create was told {other:?}"),
        }
    }
}

/// Each model counts for itself.
pub async fn assigned_ids_rise_from_1_within_a_model<H: Harness>() {
    let stage = Stage::<H>::new().await;
    for n in 1..=3 {
        for model in ["A", "B"] {
            assert_eq!(assign(&stage, model).await.key.to_string(), format!("app/{model}/{n}"));
        }
    }
}

/// A name that looks like a number is left alone.
pub async fn assigned_ids_skip_those_that_are_taken<H: Harness>() {
    let stage = Stage::<H>::new().await;
    for id in ["1", "2", "4"] {
        stage.pending(id).await;
    }
    assert_eq!(assign(&stage, "Model").await.key, key("3"));
    assert_eq!(assign(&stage, "Model").await.key, key("5"));
    stage.delete(&key("5")).await;
    assert_eq!(assign(&stage, "Model").await.key, key("6"), "an id is not assigned twice");
}

/// 64 at once get 64 ids.
pub async fn assigned_ids_differ_among_concurrent_creates<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let tasks = join_all((0..64).map(|_| assign(&stage, "Model"))).await;
    let ids: HashSet<u64> = tasks.iter().map(|task| task.key.numeric_id().expect("a number")).collect();
    assert_eq!(ids.len(), 64);
    assert!(ids.iter().all(|id| *id >= 1));
}

/// Spaces, the order of keys, the digits of numbers, a key that stands twice.
pub async fn the_input_is_kept_as_it_was_sent<H: Harness>() {
    let stage = Stage::<H>::new().await;
    for (n, text) in TEXTS.iter().enumerate() {
        let key = key(&n.to_string());
        stage.store.create(NewTask::named(key.clone(), json(text)), stage.now()).await.expect("created");
        assert_eq!(stage.task(&key).await.input.as_str(), *text);
    }
}

/// JSON that a careless store would change.
const TEXTS: [&str; 6] = [
    r#"{ "b" : 1 ,"a":2, "a":3}"#,
    "123456789012345678901234567890.10",
    "-0.0E+10",
    r#""\u0000 \u2028 \ud83d\ude00 \/""#,
    "\"\u{2028}\u{e9}\u{1f600}\"",
    "[]",
];

async fn assign<H: Harness>(stage: &Stage<H>, model: &str) -> Task {
    let model = ModelKey::new("app", model).expect("a valid model");
    match stage.store.create(NewTask::assigned(model, json("{}")), stage.now()).await {
        Ok(Create::Created(task)) => task,
        other => panic!("an assigned id is always new: {other:?}"),
    }
}
