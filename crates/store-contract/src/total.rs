//! Most runs of a model at a time, over all nodes.

use soloist::{
    NewTask,
    lease::RunLease,
    store::{Claim, ClaimRequest, Evidence, NewNode, QueuedClaim, Served},
};

use crate::{
    Harness,
    stage::{Stage, completed, json, key, model, served},
};

const MAX: u32 = 3;

/// A node that serves `app/Model`, of which at most [`MAX`] run at a time.
async fn join<H: Harness>(stage: &Stage<H>) -> soloist::NodeId {
    let models = vec![Served { max_total: Some(MAX), ..served("Model") }];
    let node = NewNode { models, ..stage.new_node() };
    let id = node.id.clone();
    stage.nodes.keep(&id, stage.store.join(node).await.expect("joined"));
    id
}

fn take(node: &soloist::NodeId, at: soloist::Timestamp) -> QueuedClaim {
    QueuedClaim { node: node.clone(), models: vec![(model("Model"), Some(MAX))], at }
}

/// 24 starts of 24 tasks at once on two nodes: three run, the others wait; each that ends lets one in.
pub async fn no_more_run_at_a_time_than_may<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let nodes = [join(&stage).await, join(&stage).await];
    let handles = [stage.store.clone(), stage.another().await];
    for n in 0..24 {
        stage.pending(&n.to_string()).await;
    }
    let starts: Vec<_> = (0..24)
        .map(|n: usize| {
            let (store, node) = (handles[n % 2].clone(), nodes[n % 2].clone());
            let request = stage.request(&key(&n.to_string()));
            let request = ClaimRequest { max_total: Some(MAX), node: node.clone(), ..request };
            tokio::spawn(async move {
                (node, store.claim(request.clone()).await.expect("the store works"), request)
            })
        })
        .collect();
    let (mut running, mut queued) = (Vec::new(), 0);
    for start in starts {
        match start.await.expect("no panic") {
            (node, Claim::Won(won), request) => running.push(RunLease::from_claim(request.key, node, &won)),
            (_, Claim::Queued(_), _) => queued += 1,
            (_, other, _) => panic!("{other:?}"),
        }
    }
    // Who finds others at the slots in that moment may wait although one is free.
    assert!(running.len() <= 3, "{} run", running.len());
    assert_eq!(running.len() + queued, 24);
    let mut ended = 0;
    while ended < 24 {
        // Both nodes look, at once.
        let looks: Vec<_> = (0..8_usize)
            .map(|n| {
                let (store, node) = (handles[n % 2].clone(), nodes[n % 2].clone());
                let request = take(&node, stage.now());
                tokio::spawn(
                    async move { (node, store.claim_queued(request).await.expect("the store works")) },
                )
            })
            .collect();
        for look in looks {
            if let (node, Some((key, won))) = look.await.expect("no panic") {
                running.push(RunLease::from_claim(key, node, &won));
            }
        }
        assert!(running.len() <= 3, "{} run", running.len());
        if queued > running.len() {
            assert!(!running.is_empty(), "they wait for ever");
        }
        let lease = running.pop().expect("one runs");
        stage.finish(&lease, lease.start_seq(), completed("1")).await;
        ended += 1;
    }
    assert!(handles[0].claim_queued(take(&nodes[0], stage.now())).await.expect("the store works").is_none());
}

/// What a dead node held counts until it was taken over, and no longer.
pub async fn a_dead_nodes_run_counts_until_it_was_taken_over<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let (dies, lives) = (join(&stage).await, join(&stage).await);
    let mut held = Vec::new();
    for n in 0..MAX {
        let key = stage.pending(&n.to_string()).await;
        let request = ClaimRequest { max_total: Some(MAX), node: dies.clone(), ..stage.request(&key) };
        let Claim::Won(won) = stage.ask(request).await else { panic!("a slot is free") };
        held.push(RunLease::from_claim(key, dies.clone(), &won));
    }
    let last = stage.pending("last").await;
    let request = ClaimRequest { max_total: Some(MAX), node: lives.clone(), ..stage.request(&last) };
    assert!(matches!(stage.ask(request).await, Claim::Queued(_)));
    stage.expire(&dies);
    stage.store.bury(Evidence::Lease).await.expect("the store works");
    let next = async || stage.store.claim_queued(take(&lives, stage.now())).await.expect("the store works");
    assert!(next().await.is_none());
    stage.apply(stage.lost(&held[0])).await;
    assert_eq!(next().await.map(|(key, _)| key), Some(last));
    assert!(next().await.is_none());
}

/// One model that is full holds up no other.
pub async fn a_full_model_holds_up_no_other<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let node = join(&stage).await;
    for n in 0..MAX + 1 {
        let key = stage.pending(&n.to_string()).await;
        stage.ask(ClaimRequest { max_total: Some(MAX), node: node.clone(), ..stage.request(&key) }).await;
    }
    let other = model("Other").with_id("1").expect("a valid id");
    stage.store.create(NewTask::named(other.clone(), json("{}")), stage.now()).await.expect("created");
    let queued = ClaimRequest { place: soloist::state::Place::Queue, ..stage.request(&other) };
    assert!(matches!(stage.ask(queued).await, Claim::Queued(_)));
    let models = vec![(model("Model"), Some(MAX)), (model("Other"), None)];
    let request = QueuedClaim { node: node.clone(), models, at: stage.now() };
    let taken = stage.store.claim_queued(request).await.expect("the store works").map(|(key, _)| key);
    assert_eq!(taken, Some(other));
}

/// First come, first served: what waits is not overtaken by what comes when a slot has just become free.
pub async fn a_start_stands_behind_those_that_wait_for_a_slot<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let node = join(&stage).await;
    let start = async |id: &str| {
        let key = stage.pending(id).await;
        let request = ClaimRequest { max_total: Some(MAX), node: node.clone(), ..stage.request(&key) };
        (key, stage.ask(request).await)
    };
    let mut held = Vec::new();
    for n in 0..MAX {
        let (key, Claim::Won(won)) = start(&n.to_string()).await else { panic!("a slot is free") };
        held.push(RunLease::from_claim(key, node.clone(), &won));
    }
    let (waits, Claim::Queued(_)) = start("waits").await else { panic!("no slot is free") };
    stage.finish(&held[0], 0, completed("1")).await;
    let (late, Claim::Queued(_)) = start("late").await else { panic!("one waits already") };
    let next = async || stage.store.claim_queued(take(&node, stage.now())).await.expect("the store works");
    assert_eq!(next().await.map(|(key, _)| key), Some(waits));
    stage.finish(&held[1], 0, completed("1")).await;
    assert_eq!(next().await.map(|(key, _)| key), Some(late));
}
