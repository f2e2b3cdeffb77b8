//! The database goes away: restarted, its connections cut, gone for a while.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use soloist_test_postgres::{Cluster, Options};
use system_tests::{
    checker::{At, Told, check_postgres},
    eventually, seed,
};

use crate::{create, futures::join_all, node, nodes, until, watch};

/// A cluster of its own, which can be stopped, and keeps what it has committed.
fn cluster() -> Cluster {
    Cluster::start(&Options { fsync: true, ..Options::default() })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_s5_s7_a_database_that_is_restarted_and_cut_ten_times_under_50_runs_loses_nothing() {
    let mut rng = StdRng::seed_from_u64(seed());
    let cluster = cluster();
    let database = cluster.database("restarted");
    let url = database.url();
    let nodes = nodes(3, &url, "lease_seconds = 20\n").await;
    let keys: Vec<String> = (0..50).map(|n| format!("demo/BurstTask/{n}")).collect();
    for (n, key) in keys.iter().enumerate() {
        create(&nodes[n % 3], key, r#"{"events":1500,"bytes":50,"rate":50}"#, 1).await;
        nodes[n % 3].begin(key).await;
    }
    let viewers = keys.iter().enumerate().flat_map(|(n, key)| {
        // One where it runs, one elsewhere.
        [n % 3, (n + 1) % 3].map(|at| watch(vec![nodes[at].address.clone()], key.clone()))
    });
    let watching = tokio::spawn(join_all(viewers.collect::<Vec<_>>()));
    for round in 0..10 {
        tokio::time::sleep(Duration::from_millis(rng.random_range(500..1_500))).await;
        if round % 2 == 0 {
            tokio::task::block_in_place(|| cluster.restart());
        } else {
            let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'soloist'";
            let cut = tokio::task::block_in_place(|| cluster.sql("postgres", cut));
            println!("round {round}: {cut} connections were cut");
        }
    }
    let watched = watching.await.unwrap();
    for key in &keys {
        until(&nodes[0], key, "completed").await;
    }
    let mut told: BTreeMap<String, Told> = BTreeMap::new();
    for (n, viewer) in watched.into_iter().enumerate() {
        let told = told.entry(keys[n / 2].clone()).or_default();
        told.won = vec![1];
        told.viewers.push(viewer);
    }
    let summary = check_postgres(&url, At::Rest, &told).await;
    println!("{summary:?}");
    assert_eq!((summary.runs, summary.viewers), (50, 100));
    assert_eq!(summary.retried, 0, "no outage was longer than the lease");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_database_is_away_starts_are_told_to_wait_and_what_runs_goes_on_afterwards() {
    let cluster = cluster();
    let database = cluster.database("away");
    let (url, config) = (database.url(), "lease_seconds = 60\n");
    let (holder, other) = (node(&url, config).await, Arc::new(node(&url, config).await));
    let key = "demo/BurstTask/b";
    holder.create(key, r#"{"events":2000,"bytes":50,"rate":200}"#).await;
    other.create("demo/BurstTask/later", r#"{"events":1,"bytes":1,"rate":0}"#).await;
    holder.begin(key).await;
    let viewers = [&holder, &*other].map(|at| tokio::spawn(watch(vec![at.address.clone()], key.to_owned())));
    let there = || async { other.task(key).await["last_seq"].as_u64() > Some(100) };
    eventually("it runs", there).await;
    tokio::task::block_in_place(|| cluster.stop());
    let away = Instant::now();
    let http = reqwest::Client::new();
    let start = format!("http://{}/tasks/demo/BurstTask/later/start", other.address);
    let refused = http.post(&start).send().await.unwrap();
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key("retry-after"));
    println!("a start was refused after {:?}", away.elapsed());
    let not_ready = || async { other.call("GET", "/health/ready", "").await.0 == 503 };
    eventually("readiness turns red", not_ready).await;
    assert_eq!(other.call("GET", "/health", "").await.0, 200);
    let streams = (holder.stats().await["viewers"].clone(), other.stats().await["viewers"].clone());
    assert_eq!(streams, (1.into(), 1.into()), "viewers stay");
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!((&holder.stats().await["viewers"], &holder.stats().await["running"]), (&1.into(), &1.into()));
    tokio::task::block_in_place(|| cluster.start_again());
    let ready = || async { other.call("GET", "/health/ready", "").await.0 == 200 };
    eventually("readiness turns green", ready).await;
    assert_eq!(other.begin("demo/BurstTask/later").await, (true, 1));
    let task = until(&other, key, "completed").await;
    assert_eq!((&task["run"], &task["attempt"]), (&1.into(), &1.into()), "it went on");
    until(&other, "demo/BurstTask/later", "completed").await;
    let mut told = Told { won: vec![1], ..Told::default() };
    for viewer in viewers {
        told.viewers.push(viewer.await.unwrap());
    }
    check_postgres(&url, At::Rest, &BTreeMap::from([(key.to_owned(), told)])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_beyond_the_lease_costs_an_attempt_and_no_retry() {
    let cluster = cluster();
    let database = cluster.database("lost");
    let (url, config) = (database.url(), "lease_seconds = 2\n");
    let (holder, other) = (node(&url, config).await, node(&url, config).await);
    let (again, once) = ("demo/BurstTask/again", "demo/BurstTask/once");
    for (key, retries) in [(again, 1), (once, 0)] {
        create(&holder, key, r#"{"events":3000,"bytes":50,"rate":300}"#, retries).await;
        holder.begin(key).await;
    }
    let viewers = [again, once]
        .map(|key| [&holder, &other].map(|at| tokio::spawn(watch(vec![at.address.clone()], key.to_owned()))));
    let there = || async { other.task(again).await["last_seq"].as_u64() > Some(100) };
    eventually("it runs", there).await;
    tokio::task::block_in_place(|| cluster.stop());
    tokio::time::sleep(Duration::from_secs(6)).await;
    tokio::task::block_in_place(|| cluster.start_again());
    let task = until(&other, once, "failed").await;
    assert_eq!(task["error_type"], "StoreLost", "{task}");
    let task = until(&other, again, "completed").await;
    assert_eq!(
        (&task["run"], &task["attempt"], &task["retry_count"]),
        (&1.into(), &2.into(), &0.into()),
        "{task}"
    );
    let mut told = BTreeMap::new();
    for (key, viewers) in [again, once].into_iter().zip(viewers) {
        let mut of_key = Told { won: vec![1], ..Told::default() };
        for viewer in viewers {
            of_key.viewers.push(viewer.await.unwrap());
        }
        told.insert(key.to_owned(), of_key);
    }
    let summary = check_postgres(&url, At::Rest, &told).await;
    println!("{summary:?}");
    assert_eq!(summary.retried, 1);
}
