//! Wake-ups, and how a process catches up that has missed some.

use std::time::Duration;

use soloist::Key;
use soloist_store_contract::stage::Stage;
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
