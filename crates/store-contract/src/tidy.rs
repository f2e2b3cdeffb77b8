//! What is of no use goes in small steps, and nothing that is of use goes with it.

use std::time::Duration;

use soloist::{
    Create, IdempotencyKey, NewTask, Policy, TaskFilter, Timestamp,
    idempotency::{Call, Idempotency},
    limits,
    store::{Claim, ClaimRequest, Renewal},
};

use crate::{
    Harness,
    stage::{Stage, committed, completed, json, key, model},
};

const HOUR: Duration = Duration::from_secs(3_600);

fn later(at: Timestamp, by: Duration) -> Timestamp {
    Timestamp::from_micros(at.as_micros() + i64::try_from(by.as_micros()).expect("less than an age"))
}

/// Clears away all that is of no use at a time.
///
/// # Panics
/// Where it does not come to an end.
pub async fn all<H: Harness>(stage: &Stage<H>, at: Timestamp) {
    let mut steps = 0;
    while stage.store.tidy(at).await.expect("the store works") {
        steps += 1;
        assert!(steps < 1_000, "it does not come to an end");
    }
}

/// Tasks in every status with their logs, signals, places in the queue, and holders, however old.
pub async fn nothing_that_is_in_use_is_cleared_away<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let pending = stage.pending("pending").await;
    stage.store.signal(&pending, "go", json("1"), stage.now()).await.expect("the store works");
    let (running, finished) = (stage.running("running").await, stage.running("finished").await);
    stage.append(&running, 0, 10).await;
    stage.finish(&finished, 0, completed("1")).await;
    stage.queued("queued").await;
    // What is there to be cleared, beside it.
    let deleted = stage.running("deleted").await;
    stage.append(&deleted, 0, 2 * limits::TIDY_MAX_ROWS as u64).await;
    stage.finish(&deleted, 2 * limits::TIDY_MAX_ROWS as u64, completed("1")).await;
    stage.delete(deleted.key()).await;
    let (idle, dead) = (stage.join().await, stage.join().await);
    stage.bury(&dead).await;

    let everything = async || {
        let all = TaskFilter { limit: 100, ..TaskFilter::default() };
        let mut text = String::new();
        for task in stage.store.list(all).await.expect("the store works").tasks {
            text.push_str(&format!("{task:?} {:?}\n", stage.log(&task.key).await));
            let signals = stage.store.signals(&task.key, 1, 0, 10).await.expect("the store works");
            text.push_str(&format!("{signals:?}\n"));
        }
        text
    };
    let before = everything().await;
    let now = stage.now();
    for by in [Duration::ZERO, HOUR, limits::IDEMPOTENCY_KEPT * 2, limits::TOMBSTONE_KEPT * 2] {
        all(&stage, later(now, by)).await;
        assert_eq!(everything().await, before);
    }
    for node in [&stage.node, &idle] {
        assert_eq!(stage.nodes.renew(node), Renewal::Renewed);
    }
    assert!(stage.store.serves(&model("Model")).await.expect("the store works").is_some());
    assert_eq!(committed(&stage.append(&running, 10, 1).await), 11);
    assert!(stage.next_queued().await.is_some());
}

/// A dead node stays dead while its run waits for a takeover, and after it.
pub async fn a_dead_node_is_not_forgotten_while_it_holds_a_run<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let lease = stage.running("1").await;
    stage.bury(&stage.node).await;
    let pending = stage.pending("2").await;
    for orphans in [1, 0] {
        all(&stage, later(stage.now(), limits::TOMBSTONE_KEPT * 2)).await;
        assert_eq!(stage.store.orphans(10).await.expect("the store works").len(), orphans);
        assert_eq!(stage.nodes.renew(&stage.node), Renewal::Dead);
        assert!(matches!(stage.claim(&pending, Policy::Restart).await, Claim::NodeDead));
        if orphans == 1 {
            committed(&stage.apply(stage.lost(&lease)).await);
        }
    }
}

/// As long as their task, and a day at least.
pub async fn keys_are_kept_as_long_as_their_task_and_a_day<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let named = IdempotencyKey::new("k").expect("a valid key");
    let new = |id: &str| {
        let new = NewTask::named(key(id), json("1"));
        NewTask { idempotency: Some(Idempotency::create(&named, &new, "")), ..new }
    };
    let start = |id: &str| {
        let idempotency = Some(Idempotency::start(&named, Call::Start, Policy::Restart));
        stage.ask(ClaimRequest { idempotency, ..stage.request(&key(id)) })
    };
    let create = |id: &str| stage.store.create(new(id), stage.now());
    for id in ["stays", "goes"] {
        assert!(matches!(create(id).await, Ok(Create::Created(_))));
    }
    assert!(matches!(start("stays").await, Claim::Won(_)));
    let made = stage.now();
    stage.delete(&key("goes")).await;

    all(&stage, later(made, limits::IDEMPOTENCY_KEPT - HOUR)).await;
    assert!(matches!(create("stays").await, Ok(Create::Replayed(_))));
    assert!(matches!(create("goes").await, Ok(Create::ReplayedDeleted(_))));
    all(&stage, later(made, limits::IDEMPOTENCY_KEPT + HOUR)).await;
    assert!(matches!(create("stays").await, Ok(Create::Replayed(_))));
    assert!(matches!(start("stays").await, Claim::Replayed { started: true, run: 1, .. }));
    assert!(matches!(create("goes").await, Ok(Create::Created(_))));
}

/// Their time, and no less.
pub async fn tombstones_go_when_their_time_is_over<H: Harness>() {
    let stage = Stage::<H>::new().await;
    for id in ["1", "2"] {
        let lease = stage.running(id).await;
        stage.append(&lease, 0, 2).await;
        stage.finish(&lease, 2, completed("1")).await;
        stage.delete(lease.key()).await;
    }
    let deleted = stage.now();
    all(&stage, later(deleted, limits::TOMBSTONE_KEPT - HOUR)).await;
    let task = stage.task(&stage.pending("1").await).await;
    assert_eq!((task.run, task.epoch.0, task.last_seq), (1, 1, 3));
    all(&stage, later(deleted, limits::TOMBSTONE_KEPT + HOUR)).await;
    let task = stage.task(&stage.pending("2").await).await;
    assert_eq!((task.run, task.epoch.0, task.last_seq), (0, 0, 0));
}
