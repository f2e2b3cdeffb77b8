//! What waits in the queue for its time, and what stands in it.

use std::time::Duration;

use soloist::{
    NewTask, Status, Timestamp,
    lease::RunLease,
    state::Place,
    store::{Change, Claim, ClaimRequest, Transition, Waiting},
};

use crate::{
    Harness,
    stage::{Stage, committed, completed, json, key, model},
};

fn later(at: Timestamp, by: Duration) -> Timestamp {
    Timestamp::from_micros(at.as_micros() + i64::try_from(by.as_micros()).expect("short"))
}

const MINUTE: Duration = Duration::from_secs(60);

async fn waiting<H: Harness>(stage: &Stage<H>) -> Waiting {
    stage.store.waiting().await.expect("the store works")
}

async fn ripen<H: Harness>(stage: &Stage<H>, at: Timestamp) {
    while stage.store.ripen(at).await.expect("the store works") {}
}

/// The transition that gives a run back, for an attempt that waits.
fn retried<H: Harness>(stage: &Stage<H>, lease: &RunLease, due_at: Timestamp) -> Transition {
    let mut requeue = stage.requeued(lease);
    let Change::Requeued { due_at: due, .. } = &mut requeue.change else { panic!("it is queued again") };
    *due = Some(due_at);
    requeue
}

/// It is queued, whatever place was asked for, and taken when its time has come; later runs of it wait no more.
pub async fn a_task_with_a_time_is_run_when_it_has_come<H: Harness>() {
    let stage = Stage::<H>::new().await;
    for (id, place) in [("here", Place::Here), ("queue", Place::Queue)] {
        let run_at = later(stage.now(), MINUTE);
        let new = NewTask { run_at: Some(run_at), ..NewTask::named(key(id), json("{}")) };
        stage.store.create(new, stage.now()).await.expect("created");
        let Claim::Queued(row) = stage.ask(ClaimRequest { place, ..stage.request(&key(id)) }).await else {
            panic!("its time has not come")
        };
        assert_eq!((row.status, row.run, row.epoch.0, row.node), (Status::Queued, 1, 0, None));
        let task = stage.task(&key(id)).await;
        assert_eq!((task.run_at, task.due_at, task.position), (Some(run_at), Some(run_at), None));
        assert_eq!(waiting(&stage).await, Waiting { ready: false, next_due: Some(run_at), owed: false });
        ripen(&stage, Timestamp::from_micros(run_at.as_micros() - 1)).await;
        assert!(stage.next_queued().await.is_none());
        ripen(&stage, run_at).await;
        assert_eq!(stage.task(&key(id)).await.due_at, None);
        assert_eq!(waiting(&stage).await, Waiting { ready: true, ..Waiting::default() });
        let (lease, _) = stage.next_queued().await.expect("its time has come");
        committed(&stage.finish(&lease, 0, completed("1")).await);
        let request = ClaimRequest { at: later(run_at, MINUTE), ..stage.request(&key(id)) };
        let Claim::Won(won) = stage.ask(request).await else { panic!("its time has long come") };
        assert_eq!(won.run, 2);
    }
    assert_eq!(waiting(&stage).await, Waiting::default());
}

/// A retry waits as long as it was told to, and nothing behind it waits for it.
pub async fn a_retry_waits_for_its_time_and_holds_up_nobody<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let first = stage.won(&stage.retried("1", 3).await).await;
    let due_at = later(stage.now(), MINUTE);
    committed(&stage.apply(retried(&stage, &first, due_at)).await);
    stage.queued("2").await;
    assert_eq!(waiting(&stage).await, Waiting { ready: true, next_due: Some(due_at), owed: false });
    assert_eq!(stage.next_queued().await.expect("it waits for nothing").0.key(), &key("2"));
    assert!(stage.next_queued().await.is_none());
    let task = stage.task(&key("1")).await;
    assert_eq!(
        (task.status, task.attempt, task.retry_count, task.due_at),
        (Status::Queued, 2, 1, Some(due_at))
    );
    assert_eq!((task.losses.node, task.losses.store), (1, 0));
    ripen(&stage, due_at).await;
    let (lease, won) = stage.next_queued().await.expect("its time has come");
    assert_eq!((lease.key(), won.attempt, won.retry_count, won.losses.node), (&key("1"), 2, 1, 1));
    assert_eq!(won.terms.max_retries, 3);
}

/// Whoever was queued first is taken first, also where it had to wait for its time.
pub async fn what_waited_for_its_time_keeps_its_place<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let mut due = Vec::new();
    for (id, minutes) in [("a", 3), ("b", 1), ("c", 2)] {
        let run_at = later(stage.now(), MINUTE * minutes);
        let new = NewTask { run_at: Some(run_at), ..NewTask::named(key(id), json("{}")) };
        stage.store.create(new, stage.now()).await.expect("created");
        assert!(matches!(stage.ask(stage.request(&key(id))).await, Claim::Queued(_)));
        due.push(run_at);
    }
    stage.queued("d").await;
    assert_eq!(waiting(&stage).await.next_due, Some(due[1]));
    ripen(&stage, due[2]).await;
    assert_eq!(waiting(&stage).await, Waiting { ready: true, next_due: Some(due[0]), owed: false });
    let positions = async |ids: [&str; 4]| {
        let mut positions = Vec::new();
        for id in ids {
            positions.push(stage.task(&key(id)).await.position);
        }
        positions
    };
    assert_eq!(positions(["a", "b", "c", "d"]).await, [None, Some(1), Some(2), Some(3)]);
    ripen(&stage, due[0]).await;
    assert_eq!(positions(["a", "b", "c", "d"]).await, [Some(1), Some(2), Some(3), Some(4)]);
    for id in ["a", "b", "c", "d"] {
        assert_eq!(stage.next_queued().await.expect("it waits").0.key(), &key(id));
    }
}

/// A position is among those of its model, and of nothing else.
pub async fn a_position_is_told_of_what_waits_for_a_node<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let other = model("Other").with_id("1").expect("a valid id");
    stage.store.create(NewTask::named(other.clone(), json("{}")), stage.now()).await.expect("created");
    stage.ask(ClaimRequest { place: Place::Queue, ..stage.request(&other) }).await;
    let first = stage.queued("1").await;
    let second = stage.queued("2").await;
    let pending = stage.pending("3").await;
    for (key, position) in [(&other, Some(1)), (&first, Some(1)), (&second, Some(2)), (&pending, None)] {
        assert_eq!(stage.task(key).await.position, position, "{key}");
    }
    stage.next_queued().await.expect("it waits");
    assert_eq!(stage.task(&first).await.position, None);
    assert_eq!(stage.task(&second).await.position, Some(1));
}

/// Cancelled, it is gone from there.
pub async fn what_waits_for_its_time_is_cancelled_at_once<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let lease = stage.won(&stage.retried("1", 1).await).await;
    let due_at = later(stage.now(), MINUTE);
    committed(&stage.apply(retried(&stage, &lease, due_at)).await);
    let task = stage.task(lease.key()).await;
    let change = Change::Cancelled { reason: "never mind".into(), rerun: soloist::store::Rerun::Keep };
    let writer = crate::stage::outsider(
        lease.key(),
        (task.epoch, task.run),
        Status::Queued,
        change,
        None,
        stage.now(),
    );
    committed(&stage.apply(writer).await);
    assert_eq!(waiting(&stage).await, Waiting::default());
    assert_eq!(stage.task(lease.key()).await.due_at, None);
    ripen(&stage, later(due_at, MINUTE)).await;
    assert!(stage.next_queued().await.is_none());
}
