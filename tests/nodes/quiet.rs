//! What it costs to stay alive.

use std::time::{Duration, Instant};

use soloist_test_postgres::Cluster;

use crate::{futures::join_all, node};

/// Statistics of the database: rows of `node` that were updated.
fn renewals(database: &soloist_test_postgres::Database<'_>) -> u64 {
    database.sql("SELECT n_tup_upd FROM pg_stat_user_tables WHERE relname = 'node'").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_running_tasks_cost_one_heartbeat_write_per_interval() {
    let database = Cluster::shared().database("quiet");
    let server = std::sync::Arc::new(node(&database.url(), "lease_seconds = 2\n").await);
    let tasks = (0..1_000).map(|n| {
        let server = server.clone();
        async move {
            let key = format!("demo/ContinueTask/{n}");
            server.create(&key, r#"{"message":"m","timeout_ms":3600000}"#).await;
            server.begin(&key).await;
        }
    });
    join_all(tasks).await;
    assert_eq!(server.stats().await["running"], 1_000);
    // Statistics come late; from here on only differences count.
    let settle = Duration::from_secs(2);
    tokio::time::sleep(settle).await;
    let (begun, before) = (Instant::now(), renewals(&database));
    tokio::time::sleep(Duration::from_secs(9)).await;
    let (took, after) = (begun.elapsed(), renewals(&database));
    let due = took.as_secs_f64() / 0.6;
    println!(
        "{} heartbeats in {took:?} with 1,000 running tasks; one every 0.6 s would be {due:.1}",
        after - before
    );
    assert!(after - before >= 1, "the statistics say nothing");
    assert!((after - before) as f64 <= due + 3.0, "{} updates of the node's row", after - before);
    assert_eq!(server.stats().await["running"], 1_000);
}
