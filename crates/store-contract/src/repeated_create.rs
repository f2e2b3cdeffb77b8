//! A create that is sent again under its key creates one task, and is told of that.

use futures_util::future::join_all;
use soloist::{Create, IdempotencyKey, NewTask, Status, TaskFilter, idempotency::Idempotency};

use crate::{
    Harness,
    stage::{Stage, json, key, model},
};

/// A create under a key.
pub(crate) fn create(text: &str, new: NewTask) -> NewTask {
    let key = IdempotencyKey::new(text).expect("a valid key");
    NewTask { idempotency: Some(Idempotency::create(&key, &new, "")), ..new }
}

/// Whatever became of the task, also in another process; nothing is created twice.
pub async fn a_create_sent_again_creates_nothing<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let named = create("k", NewTask::named(key("1"), json(r#"{"a":1,"b":2}"#)));
    let assigned = create("k", NewTask::assigned(model("Other"), json("1")));
    for new in [&named, &assigned] {
        assert!(matches!(stage.store.create(new.clone(), stage.now()).await, Ok(Create::Created(_))));
    }
    stage.won(&key("1")).await;
    let stage = stage.restarted().await;
    let again = create("k", NewTask::named(key("1"), json(r#"{"b": 2, "a": 1}"#)));
    for (new, id, status) in
        [(again, "app/Model/1", Status::Running), (assigned, "app/Other/1", Status::Pending)]
    {
        let answer = stage.store.create(new, stage.now()).await;
        let Ok(Create::Replayed(task)) = answer else { panic!("sent again it was told {answer:?}") };
        assert_eq!((task.key.to_string().as_str(), task.status), (id, status));
        assert_eq!(format!("{task:?}"), format!("{:?}", stage.task(&task.key).await));
    }
    let all = TaskFilter { limit: 10, ..TaskFilter::default() };
    assert_eq!(stage.store.list(all).await.expect("the store works").tasks.len(), 2);
}

/// Another input, and another owner.
pub async fn a_key_used_for_another_create_is_refused<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let new = NewTask::assigned(model("Model"), json("1"));
    let ask = |text: &str, new: NewTask| stage.store.create(create(text, new), stage.now());
    assert!(matches!(ask("k", new.clone()).await, Ok(Create::Created(_))));
    let input = NewTask { input: json("2"), ..new.clone() };
    let owner = NewTask { owner: Some("bob".into()), ..new.clone() };
    for other in [input, owner] {
        assert!(matches!(ask("k", other).await, Ok(Create::KeyReused)));
    }
    assert!(matches!(ask("k", new).await, Ok(Create::Replayed(task)) if task.key == key("1")));
}

/// It made nothing, and is told the same task as long as that is there.
pub async fn a_create_that_found_its_task_keeps_its_key<H: Harness>() {
    let stage = Stage::<H>::new().await;
    stage.pending("1").await;
    let new = create("k", NewTask::named(key("1"), json("{}")));
    assert!(matches!(stage.store.create(new.clone(), stage.now()).await, Ok(Create::Exists(_))));
    assert!(matches!(stage.store.create(new.clone(), stage.now()).await, Ok(Create::Replayed(_))));
    let other = create("k", NewTask::named(key("1"), json("7")));
    assert!(matches!(stage.store.create(other, stage.now()).await, Ok(Create::KeyReused)));
    stage.delete(&key("1")).await;
    assert!(matches!(stage.store.create(new, stage.now()).await, Ok(Create::ReplayedDeleted(_))));
}

/// It is not created a second time, also where somebody else has created one of that name since.
pub async fn a_create_sent_again_after_a_delete_is_told_so<H: Harness>() {
    let stage = Stage::<H>::new().await;
    for (n, new) in [NewTask::named(key("x"), json("1")), NewTask::assigned(model("Model"), json("1"))]
        .into_iter()
        .enumerate()
    {
        let new = create(&n.to_string(), new);
        let Ok(Create::Created(task)) = stage.store.create(new.clone(), stage.now()).await else {
            panic!("it is new")
        };
        stage.delete(&task.key).await;
        let told = async || match stage.store.create(new.clone(), stage.now()).await {
            Ok(Create::ReplayedDeleted(key)) => key,
            other => panic!("sent again it was told {other:?}"),
        };
        assert_eq!(told().await, task.key);
        assert!(stage.store.task(&task.key).await.expect("the store works").is_none());
        stage.pending(task.key.id()).await;
        assert_eq!(told().await, task.key);
    }
}

/// 64 at once, over two handles: one task, and all are told of it.
pub async fn of_many_repeats_of_one_create_one_creates<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let handles = [stage.store.clone(), stage.another().await];
    let creates = (0..64).map(|n| {
        let new = create("k", NewTask::assigned(model("Model"), json("1")));
        let (store, at) = (handles[n % 2].clone(), stage.now());
        tokio::spawn(async move { store.create(new, at).await.expect("the store works") })
    });
    let mut created = 0;
    for answer in join_all(creates.collect::<Vec<_>>()).await {
        match answer.expect("no panic") {
            Create::Created(task) => {
                created += 1;
                assert_eq!(task.key, key("1"));
            }
            Create::Replayed(task) => assert_eq!(task.key, key("1")),
            other => panic!("a repeat was told {other:?}"),
        }
    }
    let all = TaskFilter { limit: 100, ..TaskFilter::default() };
    assert_eq!((created, stage.store.list(all).await.expect("the store works").tasks.len()), (1, 1));
}
