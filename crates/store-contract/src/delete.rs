//! What is deleted is gone.

use soloist::{Delete, Status, TaskFilter};

use crate::{
    Harness,
    stage::{Stage, completed, json, key},
};

/// Record, events, signals, and its place in the list.
pub async fn a_deleted_task_is_gone_with_its_events_and_signals<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let lease = stage.running("1").await;
    stage.append(&lease, 0, 10).await;
    stage.finish(&lease, 10, completed("1")).await;
    let pending = stage.pending("2").await;
    stage.store.signal(&pending, "go", json("1"), stage.now()).await.expect("the store works");
    let kept = stage.pending("3").await;
    for key in [lease.key(), &pending] {
        assert_eq!(stage.delete(key).await, Delete::Deleted);
        assert!(stage.store.task(key).await.expect("the store works").is_none());
        assert!(stage.log(key).await.is_empty());
        assert!(stage.store.signals(key, 1, 0, 10).await.expect("the store works").is_empty());
        assert_eq!(stage.delete(key).await, Delete::Missing);
    }
    let list =
        stage.store.list(TaskFilter { limit: 10, ..TaskFilter::default() }).await.expect("the store works");
    assert_eq!(list.tasks.iter().map(|t| &t.key).collect::<Vec<_>>(), [&kept]);
}

/// Running or cancelling: cancel it first.
pub async fn an_active_task_is_not_deleted<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let lease = stage.running("1").await;
    stage.append(&lease, 0, 1).await;
    assert_eq!(stage.delete(lease.key()).await, Delete::Active(Status::Running));
    stage.cancel(&lease, "stop").await;
    assert_eq!(stage.delete(lease.key()).await, Delete::Active(Status::Cancelling));
    assert_eq!(stage.log(lease.key()).await.len(), 1);
}

/// Whoever names a run deletes what it has read of, and nothing that has been started or created since.
pub async fn a_delete_that_names_a_run_leaves_any_other_alone<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let delete = |key, run| stage.store.delete(key, Some(run), stage.now());
    let pending = stage.pending("1").await;
    assert_eq!(delete(&pending, 0).await, Ok(Delete::OtherRun), "it has not run");
    let lease = stage.won(&pending).await;
    assert_eq!(delete(&pending, 1).await, Ok(Delete::Active(Status::Running)));
    stage.finish(&lease, 0, completed("1")).await;
    for other in [0, 2] {
        assert_eq!(delete(&pending, other).await, Ok(Delete::OtherRun));
    }
    let lease = stage.won(&pending).await;
    stage.finish(&lease, 1, completed("2")).await;
    assert_eq!(delete(&pending, 1).await, Ok(Delete::OtherRun), "it was started again");
    assert_eq!(delete(&pending, 2).await, Ok(Delete::Deleted));
    assert_eq!(delete(&pending, 2).await, Ok(Delete::Missing));
    stage.pending("1").await;
    assert_eq!(delete(&pending, 2).await, Ok(Delete::OtherRun), "it is another task, which has not run");
}

/// It says so.
pub async fn an_unknown_task_is_missing<H: Harness>() {
    let stage = Stage::<H>::new().await;
    assert_eq!(stage.delete(&key("none")).await, Delete::Missing);
}

/// Its input, its events, its signals and its result are those of the new one only.
pub async fn a_task_created_anew_has_nothing_of_the_deleted_one<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let lease = stage.running("1").await;
    stage.append(&lease, 0, 3).await;
    stage.finish(&lease, 3, completed("1")).await;
    stage.delete(lease.key()).await;
    let key = stage.pending("1").await;
    stage.store.signal(&key, "go", json("2"), stage.now()).await.expect("the store works");
    let task = stage.task(&key).await;
    assert_eq!((task.status, task.final_value, task.completed_at), (Status::Pending, None, None));
    assert!(stage.log(&key).await.is_empty());
    let lease = stage.won(&key).await;
    let signals = stage.store.signals(&key, lease.run(), 0, 10).await.expect("the store works");
    assert_eq!(signals.iter().map(|s| s.data.as_str()).collect::<Vec<_>>(), ["2"]);
    stage.append(&lease, lease.start_seq(), 2).await;
    assert_eq!(stage.store.events(&key, crate::stage::ALL).await.expect("the store works").len(), 2);
}
