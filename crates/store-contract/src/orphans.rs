//! What a dead process held is found, and all that it was told is on record.

use futures_util::future::join_all;
use soloist::{Status, TaskFilter, store::Current};

use crate::{
    Harness,
    stage::{Stage, committed, completed, json, key},
};

/// Nor is what nobody holds.
pub async fn what_a_living_node_holds_is_no_orphan<H: Harness>() {
    let stage = Stage::<H>::new().await;
    stage.pending("1").await;
    stage.running("2").await;
    let finished = stage.running("3").await;
    stage.finish(&finished, 0, completed("1")).await;
    assert!(stage.store.orphans(10).await.expect("the store works").is_empty());
}

/// Running and cancelling tasks, with the row that a takeover compares; ended, they are no orphans any more.
pub async fn what_a_dead_process_held_is_an_orphan_until_it_was_ended<H: Harness>() {
    let stage = Stage::<H>::new().await;
    stage.pending("pending").await;
    let finished = stage.running("finished").await;
    stage.finish(&finished, 0, completed("1")).await;
    let (running, cancelling) = (stage.running("running").await, stage.running("cancelling").await);
    stage.append(&running, 0, 3).await;
    stage.cancel(&cancelling, "stop").await;

    let stage = stage.restarted().await;
    let beside = stage.running("beside").await;
    let orphans = stage.store.orphans(10).await.expect("the store works");
    let mut found: Vec<_> = orphans.iter().map(|orphan| orphan.key.id()).collect();
    found.sort_unstable();
    assert_eq!(found, ["cancelling", "running"]);
    for orphan in &orphans {
        assert_eq!(orphan.current, Current::from(&stage.task(&orphan.key).await));
        assert_eq!(orphan.current.node.as_ref(), Some(running.node()));
    }
    assert_eq!(committed(&stage.apply(stage.lost(&running)).await), 4);
    let left = stage.store.orphans(10).await.expect("the store works");
    assert_eq!(left.iter().map(|orphan| orphan.key.id()).collect::<Vec<_>>(), ["cancelling"]);
    assert_eq!(stage.task(beside.key()).await.status, Status::Running);
}

/// Records, events, signals, the order of the list, and the ids that were given out.
pub async fn all_that_was_answered_survives_the_process<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let lease = stage.running("1").await;
    stage.append(&lease, 0, 50).await;
    stage.finish(&lease, 50, completed(r#"{"a": [1.50]}"#)).await;
    let pending = stage.pending("2").await;
    stage.store.signal(&pending, "go", json("1"), stage.now()).await.expect("the store works");
    let assigned = || soloist::NewTask::assigned(lease.key().model_key().clone(), json("{}"));
    stage.store.create(assigned(), stage.now()).await.expect("created");
    let (record, log) = (stage.task(lease.key()).await, stage.log(lease.key()).await);

    let stage = stage.restarted().await;
    assert_eq!(format!("{:?}", stage.task(lease.key()).await), format!("{record:?}"));
    assert_eq!(stage.task(lease.key()).await.final_value, record.final_value);
    assert_eq!(stage.log(lease.key()).await, log);
    assert_eq!(stage.store.signals(&pending, 1, 0, 10).await.expect("the store works").len(), 1);
    stage.store.create(assigned(), stage.now()).await.expect("created");
    let all =
        stage.store.list(TaskFilter { limit: 10, ..TaskFilter::default() }).await.expect("the store works");
    assert_eq!(all.tasks.iter().map(|task| task.key.id()).collect::<Vec<_>>(), ["4", "3", "2", "1"]);
    let again = stage.won(lease.key()).await;
    assert_eq!((again.run(), again.epoch().0, again.start_seq()), (2, 2, 51));
}

/// At most as many as asked for; what is ended makes room for the rest.
pub async fn orphans_come_in_pages<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let ids: Vec<String> = (0..25).map(|n| n.to_string()).collect();
    let leases = join_all(ids.iter().map(|id| stage.running(id))).await;
    stage.bury(&stage.node).await;
    let mut sizes = Vec::new();
    loop {
        let orphans = stage.store.orphans(10).await.expect("the store works");
        if orphans.is_empty() {
            break;
        }
        sizes.push(orphans.len());
        for orphan in orphans {
            let lease = leases.iter().find(|lease| *lease.key() == orphan.key).expect("one of ours");
            committed(&stage.apply(stage.lost(lease)).await);
        }
    }
    assert_eq!(sizes, [10, 10, 5]);
    assert_eq!(stage.task(&key("7")).await.status, Status::Failed);
}
