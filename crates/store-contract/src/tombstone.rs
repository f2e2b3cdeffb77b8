//! A key that was deleted and is used again goes on from its numbers, so that whoever still writes or reads by the old
//! ones is told.

use soloist::{
    Delete, Key, Status,
    lease::RunLease,
    store::{Applied, EventRange},
};

use crate::{
    Harness,
    stage::{ALL, Stage, append, committed, completed, events},
};

/// A task with one finished run of three events, deleted.
async fn deleted<H: Harness>(stage: &Stage<H>, id: &str) -> RunLease {
    let lease = stage.running(id).await;
    stage.append(&lease, 0, 2).await;
    stage.finish(&lease, 2, completed("1")).await;
    assert_eq!(stage.delete(lease.key()).await, Delete::Deleted);
    lease
}

async fn seqs<H: Harness>(stage: &Stage<H>, key: &Key, range: EventRange) -> Vec<u64> {
    let events = stage.store.events(key, range).await.expect("the store works");
    events.iter().map(|event| event.seq).collect()
}

/// Run, epoch and seq.
pub async fn s2_s3_a_task_created_anew_goes_on_from_the_deleted_one<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let old = deleted(&stage, "1").await;
    let key = stage.pending("1").await;
    let task = stage.task(&key).await;
    assert_eq!((task.status, task.run, task.attempt), (Status::Pending, 1, 0));
    assert_eq!((task.epoch, task.last_seq, task.run_start_seq), (old.epoch(), 3, 3));
    let lease = stage.won(&key).await;
    assert_eq!((lease.run(), lease.epoch(), lease.start_seq()), (2, old.epoch().next(), 3));
    assert_eq!(committed(&stage.append(&lease, 3, 2).await), 5);
    assert_eq!(seqs(&stage, &key, ALL).await, [4, 5]);
}

/// Again and again: the numbers never go back.
pub async fn numbers_rise_over_any_number_of_deletes<H: Harness>() {
    let stage = Stage::<H>::new().await;
    for n in 1..=5 {
        let key = stage.pending("1").await;
        let lease = stage.won(&key).await;
        assert_eq!((lease.run(), lease.epoch().0, lease.start_seq()), (n, n, n - 1));
        stage.finish(&lease, n - 1, completed("1")).await;
        assert_eq!(stage.delete(&key).await, Delete::Deleted);
        // One that never ran leaves them as they were.
        stage.pending("1").await;
        assert_eq!(stage.delete(&key).await, Delete::Deleted);
    }
}

/// Its node and its epoch may fit nothing of the successor: pending, running, or finished.
pub async fn s6_the_holder_of_a_deleted_task_is_fenced_by_its_successor<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let zombie = deleted(&stage, "1").await;
    let write = || append(&zombie, 3, events(&zombie, 3, 1, zombie.since()));
    let again = || append(&zombie, 0, events(&zombie, 0, 2, zombie.since()));
    let fenced = async || {
        for late in [write(), again()] {
            let answer = stage.apply(late).await;
            assert!(matches!(answer, Applied::Fenced(_)), "{answer:?}");
        }
    };
    fenced().await;
    let key = stage.pending("1").await;
    fenced().await;
    let lease = stage.won(&key).await;
    fenced().await;
    assert!(matches!(stage.cancel(&zombie, "late").await, Applied::Fenced(Some(_))));
    assert_eq!(committed(&stage.finish(&lease, 3, completed("2")).await), 4);
    fenced().await;
    assert_eq!(seqs(&stage, &key, ALL).await, [4]);
}

/// At once, for every handle, also while the successor's grow; clearing them away takes nothing of its.
pub async fn readers_never_meet_the_events_of_a_deleted_task<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let other = stage.another().await;
    let first = stage.running("1").await;
    stage.append(&first, 0, 3_000).await;
    stage
        .store
        .signal(first.key(), "go", crate::stage::json("1"), stage.now())
        .await
        .expect("the store works");
    stage.finish(&first, 3_000, completed("1")).await;
    stage.delete(first.key()).await;
    let key = first.key();
    let ranges = [ALL, EventRange { after: 5, until: 10, ..ALL }, EventRange { after: 2_999, ..ALL }];
    for range in ranges {
        assert!(other.events(key, range).await.expect("the store works").is_empty());
    }
    stage.pending("1").await;
    for range in ranges {
        assert!(other.events(key, range).await.expect("the store works").is_empty());
    }
    let lease = stage.won(key).await;
    assert_eq!(committed(&stage.append(&lease, 3_001, 2).await), 3_003);
    for _ in 0..2 {
        assert_eq!(seqs(&stage, key, ALL).await, [3_002, 3_003]);
        assert_eq!(seqs(&stage, key, EventRange { after: 3_002, ..ALL }).await, [3_003]);
        assert_eq!(seqs(&stage, key, ranges[1]).await, [0; 0]);
        crate::tidy::all(&stage, stage.now()).await;
    }
}

/// It survives the process that deleted it.
pub async fn a_tombstone_outlives_the_process<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let old = deleted(&stage, "1").await;
    let stage = stage.restarted().await;
    let lease = stage.won(&stage.pending("1").await).await;
    assert_eq!((lease.run(), lease.epoch(), lease.start_seq()), (2, old.epoch().next(), 3));
}
