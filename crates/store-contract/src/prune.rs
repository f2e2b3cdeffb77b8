//! What ended long ago goes.

use soloist::{
    Key, Policy, Status, Timestamp,
    store::{Claim, Prune},
};

use crate::{
    Harness,
    stage::{Stage, completed, json, key, model},
};

async fn ended<H: Harness>(stage: &Stage<H>, id: &str) -> Timestamp {
    let lease = stage.running(id).await;
    stage.append(&lease, 0, 3).await;
    stage.finish(&lease, 3, completed("1")).await;
    stage.task(lease.key()).await.completed_at.expect("it has completed")
}

async fn prune<H: Harness>(stage: &Stage<H>, status: Status, before: Timestamp, limit: usize) -> Vec<Key> {
    let request = Prune { model: model("Model"), status, before, limit };
    stage.store.prune(request, stage.now()).await.expect("the store works")
}

/// The oldest first, up to a number, of a model and an ending; with a tombstone, and without their events.
pub async fn what_ended_long_ago_is_deleted_oldest_first<H: Harness>() {
    let stage = Stage::<H>::new().await;
    for id in ["1", "2", "3"] {
        ended(&stage, id).await;
    }
    let last = ended(&stage, "4").await;
    assert!(prune(&stage, Status::Failed, last, 10).await.is_empty());
    assert_eq!(prune(&stage, Status::Completed, last, 2).await, [key("1"), key("2")]);
    assert_eq!(prune(&stage, Status::Completed, last, 2).await, [key("3")]);
    assert!(
        prune(&stage, Status::Completed, last, 2).await.is_empty(),
        "the last one is not older than itself"
    );
    assert!(stage.store.task(&key("1")).await.expect("the store works").is_none());
    assert!(stage.log(&key("1")).await.is_empty());
    stage.store.create(soloist::NewTask::named(key("1"), json("{}")), stage.now()).await.expect("created");
    let anew = stage.task(&key("1")).await;
    assert_eq!((anew.run, anew.epoch.0, anew.last_seq), (1, 1, 4), "it goes on from its tombstone");
}

/// Not what is active, was never started, was started again, or is to be run once more.
pub async fn what_is_in_use_is_not_pruned<H: Harness>() {
    let stage = Stage::<H>::new().await;
    stage.pending("pending").await;
    stage.queued("queued").await;
    stage.running("running").await;
    ended(&stage, "again").await;
    stage.won(&key("again")).await;
    let owed = stage.running("owed").await;
    assert!(matches!(stage.claim(owed.key(), Policy::Rerun).await, Claim::Rerun { .. }));
    stage.finish(&owed, 0, completed("1")).await;
    let future = Timestamp::from_micros(stage.now().as_micros() + 1_000_000_000);
    for status in Status::ALL {
        assert!(prune(&stage, status, future, 10).await.is_empty(), "{status}");
    }
}
