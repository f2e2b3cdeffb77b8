//! What waits is given to one node, in the order in which it was queued.

use std::{collections::HashSet, sync::Arc};

use soloist::{
    Ending, NewTask, NodeId, Status,
    event::terminal,
    lease::RunLease,
    state::Place,
    store::{Applied, Claim, ClaimRequest, QueuedClaim},
};
use tokio::sync::Barrier;

use crate::{
    Harness,
    stage::{Stage, change, committed, completed, json, key, model, outsider},
};

const RACERS: usize = 64;

/// 64 nodes' claims of one queued run, 20 rounds.
pub async fn s1_a_queued_run_is_claimed_once_among_64<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let handles = [stage.store.clone(), stage.another().await];
    for round in 0..20 {
        let key = stage.queued(&round.to_string()).await;
        let start = Arc::new(Barrier::new(RACERS));
        let racers: Vec<_> = (0..RACERS)
            .map(|n| {
                let (store, start) = (handles[n % 2].clone(), start.clone());
                let node = stage.node.clone();
                let request = QueuedClaim { node, models: vec![(model("Model"), None)], at: stage.now() };
                tokio::spawn(async move {
                    start.wait().await;
                    store.claim_queued(request).await.expect("the store works")
                })
            })
            .collect();
        let mut winners = Vec::new();
        for racer in racers {
            winners.extend(racer.await.expect("no racer panics"));
        }
        assert_eq!(winners.len(), 1, "one of {RACERS} concurrent claims of {key} wins");
        let (won_key, won) = winners.remove(0);
        assert_eq!((&won_key, won.run, won.attempt, won.epoch.0), (&key, 1, 1, 1));
        assert_eq!(stage.task(&key).await.epoch.0, 1);
    }
}

/// Whether there is anything to claim can be asked without a claim.
pub async fn the_queue_says_whether_anything_waits_in_it<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let beside = stage.another().await;
    stage.running("running").await;
    stage.pending("pending").await;
    let ready = async || beside.waiting().await.expect("the store works").ready;
    assert!(!ready().await, "nothing was queued");
    stage.queued("queued").await;
    assert!(ready().await);
    stage.next_queued().await.expect("it waits");
    assert!(!ready().await, "it was claimed");
}

/// 64 claims of 64 queued runs get one each.
pub async fn s1_concurrent_claims_share_no_queued_run<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let handles = [stage.store.clone(), stage.another().await];
    for n in 0..RACERS {
        stage.queued(&n.to_string()).await;
    }
    let claims: Vec<_> = (0..RACERS)
        .map(|n| {
            let store = handles[n % 2].clone();
            let node = stage.node.clone();
            let request = QueuedClaim { node, models: vec![(model("Model"), None)], at: stage.now() };
            tokio::spawn(async move { store.claim_queued(request).await.expect("the store works") })
        })
        .collect();
    let mut keys = HashSet::new();
    for claim in claims {
        let (key, _) = claim.await.expect("no panic").expect("there is one for each");
        assert!(keys.insert(key));
    }
    assert!(stage.next_queued().await.is_none());
}

/// First in, first out, whatever they are called; what is queued again stands at the end.
pub async fn runs_are_claimed_in_the_order_in_which_they_were_queued<H: Harness>() {
    let stage = Stage::<H>::new().await;
    for id in ["c", "a", "b"] {
        stage.pending(id).await;
    }
    for id in ["a", "c", "b"] {
        let request = ClaimRequest { place: Place::Queue, ..stage.request(&key(id)) };
        assert!(matches!(stage.ask(request).await, Claim::Queued(_)));
    }
    let next = async || stage.next_queued().await.expect("one waits").0;
    let first = next().await;
    assert_eq!(first.key().id(), "a");
    committed(&stage.apply(stage.requeued(&first)).await);
    let order = [next().await, next().await, next().await];
    assert_eq!(order.each_ref().map(|lease| lease.key().id()), ["c", "b", "a"]);
}

/// Those that it has a slot for, in the order of the whole queue.
pub async fn a_node_is_given_only_what_it_asked_for<H: Harness>() {
    let stage = Stage::<H>::new().await;
    for (name, id) in [("A", "1"), ("B", "2"), ("C", "3"), ("A", "4"), ("B", "5")] {
        let key = model(name).with_id(id).expect("a valid id");
        stage.store.create(NewTask::named(key.clone(), json("{}")), stage.now()).await.expect("created");
        let request = ClaimRequest { place: Place::Queue, ..stage.request(&key) };
        assert!(matches!(stage.ask(request).await, Claim::Queued(_)));
    }
    let next = async |models: &[&str]| {
        stage.next_queued_of(models).await.map(|(lease, _)| lease.key().id().to_owned())
    };
    assert_eq!(next(&[]).await, None);
    assert_eq!(next(&["None"]).await, None);
    assert_eq!(next(&["B"]).await.as_deref(), Some("2"));
    assert_eq!(next(&["C", "B", "A"]).await.as_deref(), Some("1"));
    assert_eq!(next(&["A", "B"]).await.as_deref(), Some("4"));
    assert_eq!(next(&["A"]).await, None);
    assert_eq!(next(&["B", "C"]).await.as_deref(), Some("3"));
    assert_eq!(next(&["B", "C"]).await.as_deref(), Some("5"));
}

/// Nor does it queue anything.
pub async fn a_node_that_is_not_alive_is_given_nothing<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let (queued, pending) = (stage.queued("1").await, stage.pending("2").await);
    let dead = stage.join().await;
    stage.bury(&dead).await;
    for node in [dead, NodeId::random()] {
        let take = QueuedClaim { node: node.clone(), models: vec![(model("Model"), None)], at: stage.now() };
        assert!(stage.store.claim_queued(take).await.expect("the store works").is_none());
        let start = ClaimRequest { node, place: Place::Queue, ..stage.request(&pending) };
        assert!(matches!(stage.ask(start).await, Claim::NodeDead));
    }
    assert_eq!(stage.task(&queued).await.epoch.0, 0);
    assert_eq!(stage.task(&pending).await.status, Status::Pending);
    assert_eq!(stage.next_queued().await.map(|(lease, _)| lease.key().clone()), Some(queued));
}

/// A cancel of a queued run and a claim of it, 100 rounds: one of them comes first and the other is told.
pub async fn s7_a_cancel_and_a_claim_of_a_queued_run_never_both_happen<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let other = stage.another().await;
    for round in 0..100 {
        let key = stage.queued(&round.to_string()).await;
        let cancelled = Ending::Cancelled { reason: "never mind".into() };
        let event = terminal(&cancelled, None, stage.now());
        let task = stage.task(&key).await;
        let cancel = outsider(
            &key,
            (task.epoch, task.run),
            Status::Queued,
            change(cancelled),
            Some(event),
            stage.now(),
        );
        let cancelling = tokio::spawn({
            let other = other.clone();
            async move { other.apply(cancel).await.expect("the store works") }
        });
        let taken = stage.next_queued().await;
        let answer = cancelling.await.expect("no panic");
        let status = stage.task(&key).await.status;
        match (taken, &answer) {
            (None, Applied::Committed { last_seq: 1 }) => assert_eq!(status, Status::Cancelled),
            (Some((lease, _)), Applied::Fenced(Some(_))) => {
                assert_eq!(status, Status::Running);
                committed(&stage.finish(&lease, 0, completed("1")).await);
            }
            (taken, answer) => panic!("claimed: {}, cancelled: {answer:?}", taken.is_some()),
        }
    }
}

/// A node that dies with what it took from the queue leaves an orphan, as with any other run.
pub async fn what_a_dead_node_took_from_the_queue_is_an_orphan<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let key = stage.queued("1").await;
    let node = stage.join().await;
    let take = QueuedClaim { node: node.clone(), models: vec![(model("Model"), None)], at: stage.now() };
    let (_, won) = stage.store.claim_queued(take).await.expect("the store works").expect("it waits");
    stage.bury(&node).await;
    let orphans = stage.store.orphans(10).await.expect("the store works");
    assert_eq!(orphans.iter().map(|orphan| &orphan.key).collect::<Vec<_>>(), [&key]);
    let lease = RunLease::from_claim(key.clone(), node, &won);
    committed(&stage.apply(stage.lost(&lease)).await);
    assert_eq!(stage.task(&key).await.status, Status::Failed);
}
