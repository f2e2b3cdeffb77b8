//! Death is a write: by evidence, once, and whoever claims in the same moment leaves an orphan or nothing.

use std::{slice::from_ref, time::Duration};

use soloist::{
    Status,
    lease::RunLease,
    store::{Claim, ClaimRequest, Evidence, QueuedClaim, Renewal},
};

use crate::{
    Harness,
    lease::{bury, lives},
    stage::{LEASE, Stage, committed, model},
};

const SECOND: Duration = Duration::from_secs(1);

/// Death is a write: until it is on record, what a node held is not taken from it.
pub async fn a_lease_that_is_over_makes_no_orphan_before_its_node_is_buried<H: Harness>() {
    let stage = Stage::<H>::new().await;
    stage.running("1").await;
    stage.boot.advance(LEASE * 10);
    assert!(stage.store.orphans(10).await.expect("the store works").is_empty());
    assert_eq!(bury(&stage.store, Evidence::Lease).await, from_ref(&stage.node));
    assert_eq!(stage.store.orphans(10).await.expect("the store works").len(), 1);
}

/// A lease is judged by a clock, and clocks are judged by somebody else.
pub async fn certain_evidence_alone_buries_nobody_by_lease<H: Harness>() {
    let stage = Stage::<H>::new().await;
    stage.join().await;
    stage.boot.advance(LEASE * 100);
    let other = stage.another().await;
    for store in [&stage.store, &other] {
        assert!(bury(store, Evidence::Certain).await.is_empty());
    }
    assert_eq!(bury(&other, Evidence::Lease).await.len(), 2);
}

/// Nothing lives on over a boot of its host, however long its lease.
pub async fn a_node_of_another_boot_is_dead<H: Harness>() {
    let stage = Stage::<H>::new().await;
    stage.running("1").await;
    for (boot, evidence) in [("boot-2", Evidence::Certain), ("boot-3", Evidence::Lease)] {
        let old = stage.join().await;
        let booted = stage.harness.open(stage.boot.of_boot(boot)).await;
        let mut heartbeat = booted.join(stage.new_node()).await.expect("joined");
        let buried = bury(&booted, evidence).await;
        assert!(buried.contains(&old), "{boot}: {buried:?}");
        assert!(!lives(&stage, &old).await, "{boot}");
        assert_eq!(heartbeat.renew(), Ok(Renewal::Renewed), "{boot}");
        heartbeat.leave().expect("the store works");
    }
    assert!(!lives(&stage, &stage.node).await);
    assert_eq!(stage.store.orphans(10).await.expect("the store works").len(), 1);
}

/// A host that was booted again under the same boot id (a virtual machine that was set back): the clock begins anew,
/// and the leases from before would last for ages.
pub async fn a_lease_that_ends_impossibly_late_is_over<H: Harness>() {
    let stage = Stage::<H>::new().await;
    stage.boot.set(5 * SECOND);
    let young = stage.join().await;
    assert_eq!(bury(&stage.store, Evidence::Lease).await, from_ref(&stage.node));
    assert_eq!(stage.nodes.renew(&young), Renewal::Renewed);
    assert!(!lives(&stage, &stage.node).await);
}

/// Several processes are the usual case.
pub async fn a_node_that_joins_buries_nobody<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let lease = stage.running("1").await;
    let other = stage.another().await;
    let joined = stage.new_node();
    let id = joined.id.clone();
    stage.nodes.keep(&id, other.join(joined).await.expect("joined"));
    assert!(stage.store.orphans(10).await.expect("the store works").is_empty());
    assert_eq!(committed(&stage.append(&lease, 0, 1).await), 1);
    for node in [&stage.node, &id] {
        assert_eq!(stage.nodes.renew(node), Renewal::Renewed);
        assert!(lives(&stage, node).await);
    }
}

/// 8 nodes die at once, and 32 calls over two handles find them.
pub async fn each_death_is_told_to_one_caller_of_many<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let mut expected = vec![stage.node.clone()];
    for _ in 0..7 {
        expected.push(stage.join().await);
    }
    stage.boot.advance(LEASE);
    let handles = [stage.store.clone(), stage.another().await];
    let calls: Vec<_> = (0..32)
        .map(|n| {
            let store = handles[n % 2].clone();
            tokio::spawn(async move { bury(&store, Evidence::Lease).await })
        })
        .collect();
    let mut buried = Vec::new();
    for call in calls {
        buried.extend(call.await.expect("no panic"));
    }
    buried.sort();
    expected.sort();
    assert_eq!(buried, expected);
}

/// Their leases are over, nobody has buried them yet, and they claim, from pending tasks or from the queue: each leaves
/// an orphan that the next look finds, or nothing.
pub async fn a_claim_and_a_burial_of_one_moment_leave_an_orphan_or_nothing<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let other = stage.another().await;
    let mut won = 0;
    for round in 0..60 {
        let node = stage.join().await;
        let id = round.to_string();
        let key = if round % 2 == 0 { stage.pending(&id).await } else { stage.queued(&id).await };
        let before = stage.task(&key).await;
        stage.expire(&node);
        let burying = || {
            let other = other.clone();
            tokio::spawn(async move { bury(&other, Evidence::Lease).await })
        };
        // Either comes first.
        let early = (round % 4 < 2).then(burying);
        let claiming = {
            let (store, node) = (stage.store.clone(), node.clone());
            let start = ClaimRequest { node: node.clone(), ..stage.request(&key) };
            let take = QueuedClaim { node, models: vec![(model("Model"), None)], at: stage.now() };
            tokio::spawn(async move {
                if round % 2 == 0 {
                    match store.claim(start).await.expect("the store works") {
                        Claim::Won(won) => Some(won),
                        Claim::NodeDead => None,
                        other => panic!("the claim was told {other:?}"),
                    }
                } else {
                    store.claim_queued(take).await.expect("the store works").map(|(_, won)| won)
                }
            })
        };
        let burying = early.unwrap_or_else(burying);
        let claimed = claiming.await.expect("no panic");
        assert_eq!(burying.await.expect("no panic"), from_ref(&node));
        let orphans = stage.store.orphans(10).await.expect("the store works");
        let Some(claimed) = claimed else {
            assert!(orphans.is_empty());
            assert_eq!(format!("{:?}", stage.task(&key).await), format!("{before:?}"));
            if round % 2 == 1 {
                let (lease, _) = stage.next_queued().await.expect("it waits still");
                committed(&stage.apply(stage.lost(&lease)).await);
            }
            continue;
        };
        won += 1;
        let lease = RunLease::from_claim(key.clone(), node, &claimed);
        assert_eq!(orphans.iter().map(|orphan| &orphan.key).collect::<Vec<_>>(), [&key]);
        assert_eq!(orphans[0].current.epoch, lease.epoch());
        committed(&stage.apply(stage.lost(&lease)).await);
        assert_eq!(stage.task(&key).await.status, Status::Failed);
    }
    println!("claimed in {won} of 60 rounds");
}
