//! A node lives as long as it renews its lease, and a late renewal is told.

use std::{
    slice::from_ref,
    sync::{Arc, Barrier},
    time::Duration,
};

use soloist::{
    NodeId, Store,
    lease::RunLease,
    store::{Claim, ClaimRequest, Evidence, NewNode, Renewal},
};
use tokio::task::spawn_blocking;

use crate::{
    Harness,
    stage::{LEASE, Stage, committed, model, served},
};

const SECOND: Duration = Duration::from_secs(1);

/// The nodes that one call has buried.
pub(crate) async fn bury(store: &Arc<dyn Store>, evidence: Evidence) -> Vec<NodeId> {
    store.bury(evidence).await.expect("the store works")
}

/// Whether a node may claim.
pub(crate) async fn lives<H: Harness>(stage: &Stage<H>, node: &NodeId) -> bool {
    let key = stage.pending(&format!("claimed-by-{node}")).await;
    match stage.ask(ClaimRequest { node: node.clone(), ..stage.request(&key) }).await {
        Claim::Won(won) => {
            let lease = RunLease::from_claim(key, node.clone(), &won);
            committed(&stage.apply(stage.lost(&lease)).await);
            true
        }
        Claim::NodeDead => false,
        other => panic!("a claim of a pending task was told {other:?}"),
    }
}

/// For a whole lease from each renewal.
pub async fn a_renewed_lease_keeps_its_node_alive<H: Harness>() {
    let stage = Stage::<H>::new().await;
    for _ in 0..5 {
        stage.boot.advance(LEASE - SECOND);
        assert_eq!(stage.nodes.renew(&stage.node), Renewal::Renewed);
        assert!(bury(&stage.store, Evidence::Lease).await.is_empty());
    }
    assert!(lives(&stage, &stage.node).await);
}

/// Each node has the lease that it named.
pub async fn a_lease_is_as_long_as_its_node_asked_for<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let long = NewNode { lease: LEASE * 100, ..stage.new_node() };
    let id = long.id.clone();
    stage.nodes.keep(&id, stage.store.join(long).await.expect("joined"));
    stage.boot.advance(LEASE * 99);
    assert_eq!(bury(&stage.store, Evidence::Lease).await, from_ref(&stage.node));
    assert_eq!(stage.nodes.renew(&id), Renewal::Renewed);
    stage.boot.advance(LEASE * 100);
    assert_eq!(bury(&stage.store, Evidence::Lease).await, [id]);
}

/// Nobody has buried it yet, and it must not go on: others may believe in its death already.
pub async fn a_lease_that_is_over_is_not_renewed<H: Harness>() {
    let stage = Stage::<H>::new().await;
    stage.boot.advance(LEASE);
    assert_eq!(stage.nodes.renew(&stage.node), Renewal::Dead);
    assert_eq!(stage.nodes.renew(&stage.node), Renewal::Dead);
    assert_eq!(bury(&stage.store, Evidence::Lease).await, from_ref(&stage.node));
}

/// Dead is dead for good; nobody else is.
pub async fn a_late_renewal_is_told_that_its_node_is_dead<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let other = stage.join().await;
    stage.bury(&stage.node).await;
    assert_eq!(stage.nodes.renew(&stage.node), Renewal::Dead);
    assert_eq!(stage.nodes.renew(&other), Renewal::Renewed);
    assert!(!lives(&stage, &stage.node).await && lives(&stage, &other).await);
}

/// A renewal and a burial while the lease runs out, 200 rounds: the node was renewed and lives, or it was buried, by
/// one call, and told.
pub async fn a_renewal_and_a_burial_of_one_moment_never_both_happen<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let (other, mut lived) = (stage.another().await, 0);
    for round in 0..200 {
        let node = stage.join().await;
        let mut heartbeat = stage.nodes.take(&node);
        stage.boot.advance(LEASE - SECOND);
        let start = Arc::new(Barrier::new(3));
        let (renews, moves) = (start.clone(), start.clone());
        let clock = stage.boot.clone();
        let moving = spawn_blocking(move || {
            moves.wait();
            clock.advance(2 * SECOND);
        });
        let renewing = spawn_blocking(move || {
            renews.wait();
            // A little later from round to round, so that either comes first.
            (0..round % 10 * 500).for_each(|_| std::hint::spin_loop());
            (heartbeat.renew().expect("the store works"), heartbeat)
        });
        start.wait();
        let mut buried = bury(&other, Evidence::Lease).await;
        moving.await.expect("no panic");
        let (renewal, mut heartbeat) = renewing.await.expect("no panic");
        buried.extend(bury(&other, Evidence::Lease).await);
        let burials = buried.iter().filter(|id| **id == node).count();
        match renewal {
            Renewal::Renewed => {
                lived += 1;
                assert_eq!((burials, lives(&stage, &node).await), (0, true));
                assert_eq!(heartbeat.renew(), Ok(Renewal::Renewed));
            }
            Renewal::Dead => {
                assert_eq!((burials, lives(&stage, &node).await), (1, false));
                assert_eq!(heartbeat.renew(), Ok(Renewal::Dead));
            }
        }
    }
    println!("renewed in {lived} of 200 rounds");
}

/// Nobody waits for its lease, and what it still held is found.
pub async fn a_node_that_left_is_dead_at_once<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let lease = stage.running("1").await;
    let mut heartbeat = stage.nodes.take(&stage.node);
    heartbeat.leave().expect("the store works");
    assert!(!lives(&stage, &stage.node).await);
    assert_eq!(heartbeat.renew(), Ok(Renewal::Dead));
    let orphans = stage.store.orphans(10).await.expect("the store works");
    assert_eq!(orphans.iter().map(|orphan| &orphan.key).collect::<Vec<_>>(), [lease.key()]);
    stage.boot.advance(LEASE);
    assert!(bury(&stage.store, Evidence::Lease).await.is_empty(), "it is dead already");
}

/// By a node that lives; what it does not serve, it does not.
pub async fn a_model_is_served_where_a_living_node_serves_it<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let serves =
        async |name: &str| stage.store.serves(&model(name)).await.expect("the store works").is_some();
    assert!(serves("Model").await && !serves("Other").await);
    let both = NewNode { models: vec![served("Model"), served("Other")], ..stage.new_node() };
    let id = both.id.clone();
    stage.nodes.keep(&id, stage.another().await.join(both).await.expect("joined"));
    assert!(serves("Model").await && serves("Other").await);
    stage.bury(&stage.node).await;
    assert!(serves("Model").await && serves("Other").await);
    stage.nodes.take(&id).leave().expect("the store works");
    assert!(!serves("Model").await && !serves("Other").await);
}
