//! Wake-ups, and how a process catches up that has missed some.

use std::time::Duration;

use soloist::{
    Json, Key, NewTask, Timestamp,
    lease::RunLease,
    store::{Claim, ClaimRequest},
};
use soloist_store_contract::stage::{Stage, completed, key};
use tokio::{sync::watch, time::timeout};

use crate::stage::Private;

async fn risen(changes: &mut watch::Receiver<u64>, within: Duration) -> bool {
    timeout(within, changes.changed()).await.is_ok()
}

/// Until nothing has risen for a while.
async fn quiet(changes: &mut watch::Receiver<u64>) {
    while risen(changes, Duration::from_millis(300)).await {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_hears_only_of_tasks_that_it_looks_at() {
    let stage = Stage::<Private>::new().await;
    let other = stage.another().await;
    let (seen, unseen) = (stage.running("1").await, stage.running("2").await);
    let mut changes = other.changes();
    let look = async |key: &Key| other.rows(vec![key.clone()]).await.unwrap();
    look(seen.key()).await;
    quiet(&mut changes).await;
    for n in 0..10 {
        stage.append(&unseen, n, 1).await;
    }
    assert!(!risen(&mut changes, Duration::from_millis(300)).await);
    stage.append(&seen, 0, 1).await;
    assert!(risen(&mut changes, Duration::from_secs(5)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_whose_connection_for_wake_ups_was_cut_is_told_to_look_and_hears_again() {
    let stage = Stage::<Private>::new().await;
    let other = stage.another().await;
    let lease = stage.running("1").await;
    let mut changes = other.changes();
    for round in 0..3 {
        other.rows(vec![lease.key().clone()]).await.unwrap();
        quiet(&mut changes).await;
        stage.harness.cut();
        assert!(risen(&mut changes, Duration::from_secs(10)).await, "when it is back it looks again");
        quiet(&mut changes).await;
        other.rows(vec![lease.key().clone()]).await.unwrap();
        changes.mark_unchanged();
        stage.append(&lease, round, 1).await;
        assert!(risen(&mut changes, Duration::from_secs(10)).await, "and hears of commits again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_run_wakes_those_who_wait_for_its_slot_and_nobody_else() {
    const MAX: Option<u32> = Some(1);
    let stage = Stage::<Private>::new().await;
    let other = stage.another().await;
    let mut changes = other.changes();
    let start = async |id: &str, max_total: Option<u32>| {
        let request = stage.request(&stage.pending(id).await);
        stage.ask(ClaimRequest { max_total, ..request }).await
    };
    let end = async |id: &str, claim: Claim| {
        let Claim::Won(won) = claim else { panic!("a slot is free") };
        let lease = RunLease::from_claim(key(id), stage.node.clone(), &won);
        stage.finish(&lease, 0, completed("1")).await;
    };
    // Nothing is bounded yet.
    let first = start("1", None).await;
    quiet(&mut changes).await;
    end("1", first).await;
    assert!(!risen(&mut changes, Duration::from_millis(300)).await, "nobody waits for it");
    // Nothing waits.
    let second = start("2", MAX).await;
    quiet(&mut changes).await;
    end("2", second).await;
    assert!(!risen(&mut changes, Duration::from_millis(300)).await, "nobody waits");
    let third = start("3", MAX).await;
    assert!(matches!(start("4", MAX).await, Claim::Queued(_)));
    quiet(&mut changes).await;
    end("3", third).await;
    assert!(risen(&mut changes, Duration::from_secs(5)).await, "somebody waits for this one");
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_hears_of_what_was_made_ready() {
    let stage = Stage::<Private>::new().await;
    let other = stage.another().await;
    let (mut changes, run_at) = (other.changes(), stage.now());
    let new = NewTask { run_at: Some(run_at), ..NewTask::named(key("1"), Json::null()) };
    stage.store.create(new, stage.now()).await.unwrap();
    let early = Timestamp::from_micros(run_at.as_micros() - 1);
    let request = ClaimRequest { at: early, ..stage.request(&key("1")) };
    assert!(matches!(stage.ask(request).await, Claim::Queued(_)));
    quiet(&mut changes).await;
    assert!(!stage.store.ripen(early).await.unwrap());
    assert!(!risen(&mut changes, Duration::from_millis(300)).await, "its time has not come");
    assert!(!stage.store.ripen(run_at).await.unwrap());
    assert!(risen(&mut changes, Duration::from_secs(5)).await);
}
