//! The start race: of any number of claims of one startable task exactly one wins.

use std::sync::Arc;

use soloist::{
    Ending, Failure, Key, NodeId, Policy, Status,
    lease::RunLease,
    store::{Claim, ClaimRequest, Current, Won},
};
use tokio::sync::Barrier;

use crate::{
    Harness,
    stage::{Stage, committed, completed, json, key},
};

const RACERS: usize = 256;
const ROUNDS: usize = 20;

/// 256 claims of one pending task at once, 20 rounds.
pub async fn s1_a_claim_has_one_winner_among_256<H: Harness>() {
    let stage = Stage::<H>::new().await;
    for round in 0..ROUNDS {
        let key = stage.pending(&format!("race-{round}")).await;
        race(&stage, &key, 1).await;
    }
}

/// 256 claims of one finished task at once, 20 rounds.
pub async fn s1_a_restart_has_one_winner_among_256<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let lease = stage.running("again").await;
    stage.finish(&lease, 0, completed("1")).await;
    let key = lease.key();
    for run in 2..2 + ROUNDS as u64 {
        let won = race(&stage, key, run).await;
        let held = RunLease::from_claim(key.clone(), stage.node.clone(), &won);
        committed(&stage.apply(stage.lost(&held)).await);
    }
}

/// All racers leave one barrier together, over two handles; one wins, the others are told of the run that won.
async fn race<H: Harness>(stage: &Stage<H>, key: &Key, run: u64) -> Won {
    let start = Arc::new(Barrier::new(RACERS));
    let handles = [stage.store.clone(), stage.another().await];
    let racers: Vec<_> = (0..RACERS)
        .map(|i| {
            let (start, store) = (start.clone(), handles[i % 2].clone());
            let request = stage.request(key);
            tokio::spawn(async move {
                start.wait().await;
                store.claim(request).await.expect("the store works")
            })
        })
        .collect();
    let mut winners = Vec::new();
    for racer in racers {
        match racer.await.expect("no racer panics") {
            Claim::Won(won) => {
                assert_eq!((won.run, won.attempt), (run, 1));
                winners.push(won);
            }
            Claim::Active(active) => assert_eq!((active.status, active.run), (Status::Running, run)),
            other => panic!("a loser of {key} was told {other:?}"),
        }
    }
    assert_eq!(winners.len(), 1, "one of {RACERS} concurrent claims of {key} wins");
    assert_eq!(stage.task(key).await.run, run);
    winners.remove(0)
}

/// Run and epoch after each of five starts.
pub async fn s2_every_claim_raises_run_and_epoch_by_one<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let key = stage.pending("1").await;
    for n in 1..=5 {
        let lease = stage.won(&key).await;
        assert_eq!((lease.run(), lease.epoch().0, lease.attempt(), lease.start_seq()), (n, n, 1, n - 1));
        stage.finish(&lease, n - 1, completed("null")).await;
        let task = stage.task(&key).await;
        assert_eq!((task.run, task.epoch.0, task.run_start_seq, task.last_seq), (n, n, n - 1, n));
    }
}

/// The record shows the holder, and the winner gets the input.
pub async fn a_claim_puts_the_run_on_record<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let key = key("1");
    let new = soloist::NewTask::named(key.clone(), json(r#"{"a": 1}"#));
    stage.store.create(new, stage.now()).await.expect("created");
    let request = ClaimRequest { policy: Policy::Once, ..stage.request(&key) };
    let at = request.at;
    let Claim::Won(won) = stage.ask(request).await else { panic!("it is pending") };
    assert_eq!((won.started_at, won.input.as_str(), won.last_seq), (at, r#"{"a": 1}"#, 0));
    let task = stage.task(&key).await;
    assert_eq!((task.status, task.run, task.attempt, task.epoch.0), (Status::Running, 1, 1, 1));
    assert_eq!((task.node, task.started_at, task.updated_at), (Some(stage.node.clone()), Some(at), at));
}

/// After a restart nothing of any way to end is left.
pub async fn a_claim_clears_what_the_last_run_left<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let failure = Failure::new("Boom", "it broke").with_traceback("here");
    let endings =
        [completed(r#""done""#), Ending::Failed { failure }, Ending::Cancelled { reason: "enough".into() }];
    for (n, ending) in endings.into_iter().enumerate() {
        let lease = stage.running(&n.to_string()).await;
        stage.finish(&lease, 0, ending.clone()).await;
        assert_eq!(stage.task(lease.key()).await.status, ending.status());
        let again = stage.won(lease.key()).await;
        let task = stage.task(lease.key()).await;
        assert_eq!((task.status, task.started_at), (Status::Running, Some(again.since())));
        assert_eq!((task.completed_at, task.failed_at, task.cancelled_at), (None, None, None), "{ending:?}");
        assert_eq!(
            (task.final_value, task.failure, task.cancellation_reason),
            (None, None, None),
            "{ending:?}"
        );
    }
}

/// A loser learns the run, its status, its node and its start.
pub async fn a_loser_is_told_who_holds_the_task<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let lease = stage.running("1").await;
    stage.append(&lease, 0, 3).await;
    for policy in [Policy::Restart, Policy::Once] {
        let Claim::Active(row) = stage.claim(lease.key(), policy).await else { panic!("it is running") };
        assert_eq!(row, Current::from(&stage.task(lease.key()).await));
        assert_eq!(
            (row.node, row.started_at, row.last_seq),
            (Some(stage.node.clone()), Some(lease.since()), 3)
        );
    }
    stage.cancel(&lease, "stop").await;
    let Claim::Active(row) = stage.claim(lease.key(), Policy::Restart).await else {
        panic!("it is cancelling")
    };
    assert_eq!((row.status, row.cancellation_reason.as_deref()), (Status::Cancelling, Some("stop")));
}

/// `once` starts what is pending, and nothing that is finished.
pub async fn under_once_a_finished_task_stays_finished<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let lease = stage.running("1").await;
    stage.finish(&lease, 0, completed("1")).await;
    let Claim::Finished(row) = stage.claim(lease.key(), Policy::Once).await else { panic!("it is finished") };
    assert_eq!((row.status, row.run, row.node), (Status::Completed, 1, None));
    assert_eq!(stage.task(lease.key()).await.final_value, Some(json("1")));
    assert!(matches!(stage.claim(lease.key(), Policy::Restart).await, Claim::Won(_)));
    let fresh = stage.pending("2").await;
    assert!(matches!(stage.claim(&fresh, Policy::Once).await, Claim::Won(_)));
}

/// A start never takes over: the old run would never get its ending.
pub async fn an_orphan_is_active_until_it_was_ended<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let lease = stage.running("1").await;
    let stage = stage.restarted().await;
    let Claim::Active(row) = stage.claim(lease.key(), Policy::Restart).await else {
        panic!("it is an orphan")
    };
    assert_eq!(row.node.as_ref(), Some(lease.node()));
    committed(&stage.apply(stage.lost(&lease)).await);
    assert_eq!(stage.won(lease.key()).await.epoch().0, 3);
}

/// Neither one that never joined nor one that is dead.
pub async fn a_node_that_is_not_alive_claims_nothing<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let key = stage.pending("1").await;
    let claim = |node: NodeId| stage.ask(ClaimRequest { node, ..stage.request(&key) });
    assert!(matches!(claim(NodeId::random()).await, Claim::NodeDead));
    stage.bury(&stage.node).await;
    assert!(matches!(claim(stage.node.clone()).await, Claim::NodeDead));
    let task = stage.task(&key).await;
    assert_eq!((task.status, task.run, task.epoch.0), (Status::Pending, 0, 0));
    assert!(stage.store.orphans(10).await.expect("the store works").is_empty());
}

/// Also when it was there once.
pub async fn an_unknown_task_is_missing<H: Harness>() {
    let stage = Stage::<H>::new().await;
    assert!(matches!(stage.claim(&key("none"), Policy::Restart).await, Claim::Missing));
    let key = stage.pending("1").await;
    stage.delete(&key).await;
    assert!(matches!(stage.claim(&key, Policy::Restart).await, Claim::Missing));
}
