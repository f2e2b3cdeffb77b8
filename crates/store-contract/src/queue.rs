//! A start that finds no slot waits, and the node that takes it becomes its holder.

use std::sync::Arc;

use soloist::{
    Delete, Ending, Failure, Policy, Status,
    event::terminal,
    state::Place,
    store::{Applied, Claim, ClaimRequest, Current, Signalled},
};
use tokio::sync::Barrier;

use crate::{
    Harness,
    stage::{Stage, change, committed, completed, json, outsider},
};

const RACERS: usize = 64;

/// Run + 1, attempt 1, the epoch as it was, and nobody holds it.
pub async fn a_start_for_the_queue_waits_for_a_node<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let key = stage.pending("1").await;
    for (run, epoch) in [(1, 0), (2, 1)] {
        let request = ClaimRequest { place: Place::Queue, ..stage.request(&key) };
        let at = request.at;
        let Claim::Queued(row) = stage.ask(request).await else { panic!("it is startable") };
        let task = stage.task(&key).await;
        assert_eq!(row, Current::from(&task));
        assert_eq!((task.status, task.run, task.attempt), (Status::Queued, run, 1));
        assert_eq!((task.epoch.0, task.node, task.started_at), (epoch, None, None));
        assert_eq!((task.updated_at, task.run_start_seq), (at, task.last_seq));
        assert_eq!((task.completed_at, task.final_value), (None, None), "what the last run left");
        assert!(stage.store.orphans(10).await.expect("the store works").is_empty());

        let (lease, won) = stage.next_queued().await.expect("it waits");
        assert_eq!((won.run, won.attempt, won.epoch.0), (run, 1, epoch + 1));
        assert_eq!((won.input.as_str(), won.retry_count), ("{}", 0));
        let task = stage.task(&key).await;
        assert_eq!((task.status, task.node.as_ref()), (Status::Running, Some(&stage.node)));
        assert_eq!(task.started_at, Some(lease.since()));
        assert!(lease.since() > at, "it was started when a node took it");
        stage.append(&lease, won.last_seq, 1).await;
        committed(&stage.finish(&lease, won.last_seq + 1, completed("1")).await);
    }
    assert!(stage.next_queued().await.is_none());
}

/// Wherever the second start would go; the queue keeps one place for it.
pub async fn a_start_of_a_queued_task_loses<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let key = stage.queued("1").await;
    let row = Current::from(&stage.task(&key).await);
    for place in [Place::Here, Place::Queue] {
        for policy in [Policy::Restart, Policy::Once] {
            let Claim::Active(told) = stage.ask(ClaimRequest { place, policy, ..stage.request(&key) }).await
            else {
                panic!("it is queued")
            };
            assert_eq!(told, row);
        }
    }
    assert!(stage.next_queued().await.is_some() && stage.next_queued().await.is_none());
}

/// 64 starts of one task, half of them for the queue, 20 rounds.
pub async fn s1_a_start_has_one_winner_wherever_it_goes<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let handles = [stage.store.clone(), stage.another().await];
    for round in 0..20 {
        let key = stage.pending(&round.to_string()).await;
        let start = Arc::new(Barrier::new(RACERS));
        let racers: Vec<_> = (0..RACERS)
            .map(|n| {
                let (store, start) = (handles[n / 2 % 2].clone(), start.clone());
                let place = [Place::Here, Place::Queue][n % 2];
                let request = ClaimRequest { place, ..stage.request(&key) };
                tokio::spawn(async move {
                    start.wait().await;
                    store.claim(request).await.expect("the store works")
                })
            })
            .collect();
        let (mut running, mut queued) = (0, 0);
        for racer in racers {
            match racer.await.expect("no racer panics") {
                Claim::Won(_) => running += 1,
                Claim::Queued(_) => queued += 1,
                Claim::Active(row) => assert_eq!(row.run, 1),
                other => panic!("a loser was told {other:?}"),
            }
        }
        assert_eq!(running + queued, 1);
        assert_eq!(stage.next_queued().await.is_some(), queued == 1);
        assert_eq!(stage.task(&key).await.epoch.0, 1);
    }
}

/// With one event, under the epoch as it was; nobody is given it any more.
pub async fn a_queued_run_is_cancelled_at_once<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let (key, next) = (stage.queued("1").await, stage.queued("2").await);
    let row = Current::from(&stage.task(&key).await);
    let cancelled = Ending::Cancelled { reason: "never mind".into() };
    let event = terminal(&cancelled, None, stage.now());
    let cancel = outsider(
        &key,
        (row.epoch, row.run),
        Status::Queued,
        change(cancelled),
        Some(event.clone()),
        stage.now(),
    );
    assert_eq!(committed(&stage.apply(cancel.clone()).await), 1);
    assert_eq!(stage.log(&key).await, [event.at(1, 1, row.epoch)]);
    let task = stage.task(&key).await;
    assert_eq!((task.status, task.run, task.epoch), (Status::Cancelled, 1, row.epoch));
    assert_eq!(stage.next_queued().await.map(|(lease, _)| lease.key().clone()), Some(next));
    assert!(stage.next_queued().await.is_none());
    // Queued once more it stands there once, and the old cancel is told.
    let request = ClaimRequest { place: Place::Queue, ..stage.request(&key) };
    assert!(matches!(stage.ask(request).await, Claim::Queued(_)));
    // Nobody has held either run, so both have one epoch.
    assert!(matches!(stage.apply(cancel.clone()).await, Applied::Moved(row) if row.run == 2));
    assert!(stage.next_queued().await.is_some() && stage.next_queued().await.is_none());
    assert!(matches!(stage.apply(cancel).await, Applied::Fenced(Some(_))));
}

/// It is active: it is not deleted, and takes signals for its run.
pub async fn a_queued_task_is_active<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let key = stage.queued("1").await;
    assert_eq!(stage.delete(&key).await, Delete::Active(Status::Queued));
    let signalled = stage.store.signal(&key, "go", json("1"), stage.now()).await;
    assert_eq!(signalled, Ok(Signalled::Recorded { run: 1, number: 1 }));
    let (lease, _) = stage.next_queued().await.expect("it waits");
    assert_eq!(stage.store.signals(&key, lease.run(), 0, 10).await.expect("the store works").len(), 1);
}

/// The node that queued it is gone; the order is as it was.
pub async fn what_waits_outlives_the_process_that_queued_it<H: Harness>() {
    let stage = Stage::<H>::new().await;
    for id in ["1", "2"] {
        stage.queued(id).await;
    }
    let lost = stage.won(&stage.retried("3", 1).await).await;
    let stage = stage.restarted().await;
    committed(&stage.apply(stage.requeued(&lost)).await);
    let mut order = Vec::new();
    while let Some((lease, _)) = stage.next_queued().await {
        order.push(lease.key().id().to_owned());
        let failure = Failure::new("Boom", "it broke");
        committed(&stage.finish(&lease, lease.start_seq(), Ending::Failed { failure }).await);
    }
    assert_eq!(order, ["1", "2", "3"]);
}
