//! A node that dies, and one that only seems to: its runs go on elsewhere, and viewers see one log.

use std::{collections::BTreeMap, time::Instant};

use rustix::process::Signal;
use soloist_test_postgres::Cluster;
use system_tests::{
    checker::{At, Told, check_postgres},
    eventually,
};

use crate::{create, node, until, watch};

/// Viewers here and there while the run of `key` changes hands.
struct Viewers {
    steady: Vec<tokio::task::JoinHandle<system_tests::checker::Watched>>,
}

impl Viewers {
    fn of(key: &str, addresses: &[&str]) -> Self {
        let watch = |address: &&str| tokio::spawn(watch(vec![(*address).to_owned()], key.to_owned()));
        Self { steady: addresses.iter().map(watch).collect() }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s5_s6_a_node_that_was_stopped_beyond_its_lease_writes_nothing_more_and_its_run_goes_on() {
    let database = Cluster::shared().database("stopped");
    let config = "lease_seconds = 2\n";
    let stopped = node(&database.url(), config).await;
    let key = "demo/BurstTask/b";
    create(&stopped, key, r#"{"events":4000,"bytes":20,"rate":400}"#, 1).await;
    stopped.begin(key).await;
    let (second, third) = (node(&database.url(), config).await, node(&database.url(), config).await);
    let viewers = Viewers::of(key, &[&third.address, &third.address, &second.address]);
    let there = || async { third.task(key).await["last_seq"].as_u64() > Some(400) };
    eventually("it runs", there).await;
    let name = stopped.stats().await["node"].clone();
    stopped.signal(Signal::STOP);
    let stopped_at = Instant::now();
    let taken =
        || async { third.task(key).await["attempt"] == 2 && third.task(key).await["status"] == "running" };
    eventually("it is taken over", taken).await;
    println!("a node that hangs: its run goes on elsewhere after {:?} (lease 2 s)", stopped_at.elapsed());
    stopped.signal(Signal::CONT);
    // It finds itself dead, stops its work, and joins again under another name.
    let joined = || async { stopped.stats().await["node"] != name && stopped.stats().await["running"] == 0 };
    eventually("the stopped node has let go, and joined again", joined).await;
    let task = until(&third, key, "completed").await;
    assert_eq!(
        (&task["run"], &task["attempt"], &task["retry_count"]),
        (&1.into(), &2.into(), &1.into()),
        "{task}"
    );
    let mut told = Told { won: vec![1], ..Told::default() };
    for viewer in viewers.steady {
        told.viewers.push(viewer.await.unwrap());
    }
    let told = BTreeMap::from([(key.to_owned(), told)]);
    let summary = check_postgres(&database.url(), At::Rest, &told).await;
    assert_eq!((summary.node_lost, summary.retried, summary.viewers), (1, 1, 3), "one clean change of epoch");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s5_a_killed_node_is_taken_over_within_its_lease_and_a_second_and_viewers_miss_nothing() {
    let database = Cluster::shared().database("killed_holder");
    let config = "lease_seconds = 3\n";
    let holder = node(&database.url(), config).await;
    let key = "demo/BurstTask/b";
    create(&holder, key, r#"{"events":3000,"bytes":20,"rate":500}"#, 1).await;
    holder.begin(key).await;
    let (second, third) = (node(&database.url(), config).await, node(&database.url(), config).await);
    let viewers = Viewers::of(key, &[&second.address, &third.address]);
    // At the node that dies; they go on elsewhere by their cursor.
    let moving = [&second, &third]
        .map(|next| tokio::spawn(watch(vec![holder.address.clone(), next.address.clone()], key.to_owned())));
    let there = || async { third.task(key).await["last_seq"].as_u64() > Some(400) };
    eventually("it runs", there).await;
    let before = holder.stats().await["viewers"].as_u64();
    holder.signal(Signal::KILL);
    let killed = Instant::now();
    let taken = || async { third.task(key).await["attempt"] == 2 };
    eventually("it is taken over", taken).await;
    let took = killed.elapsed();
    println!("a killed node: taken over after {took:?} (lease 3 s); it had {before:?} viewers");
    assert!(took.as_secs_f64() < 3.0 + 1.0 + 2.0, "{took:?}, with two seconds for a slow machine");
    until(&third, key, "completed").await;
    let mut told = Told { won: vec![1], ..Told::default() };
    for viewer in viewers.steady.into_iter().chain(moving) {
        told.viewers.push(viewer.await.unwrap());
    }
    let told = BTreeMap::from([(key.to_owned(), told)]);
    let summary = check_postgres(&database.url(), At::Rest, &told).await;
    assert_eq!((summary.node_lost, summary.retried, summary.viewers), (1, 1, 4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s7_a_lost_run_without_retries_ends_as_node_lost() {
    let database = Cluster::shared().database("no_retries");
    let config = "lease_seconds = 1\n";
    let holder = node(&database.url(), config).await;
    let other = node(&database.url(), config).await;
    create(&holder, "demo/ContinueTask/c", r#"{"message":"m"}"#, 0).await;
    holder.begin("demo/ContinueTask/c").await;
    holder.signal(Signal::KILL);
    let task = until(&other, "demo/ContinueTask/c", "failed").await;
    assert_eq!(task["error_type"], "NodeLost", "{task}");
    let summary = check_postgres(&database.url(), At::Rest, &BTreeMap::new()).await;
    assert_eq!(summary.node_lost, 1);
}

/// Wall clocks of nodes that are ten minutes apart in either direction: only timestamps differ.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_whose_clocks_are_ten_minutes_apart_work_together_as_any_others() {
    let database = Cluster::shared().database("clocks");
    let config = format!("store = \"{}\"\nlease_seconds = 2\n", database.url());
    let mut servers = Vec::new();
    for by in [600, -600, 0] {
        servers.push(system_tests::clock::stepped(&config, by).await);
    }
    let key = "demo/BurstTask/b";
    create(&servers[0], key, r#"{"events":3000,"bytes":20,"rate":500}"#, 1).await;
    servers[0].begin(key).await;
    let addresses = servers[1..].iter().map(|server| &*server.address).collect::<Vec<_>>();
    let viewers = Viewers::of(key, &addresses);
    let names = [servers[1].stats().await["node"].clone(), servers[2].stats().await["node"].clone()];
    let there = || async { servers[1].task(key).await["last_seq"].as_u64() > Some(1_500) };
    eventually("longer than a lease", there).await;
    assert_eq!(servers[1].task(key).await["attempt"], 1, "nobody believes that another is dead");
    servers[0].signal(Signal::KILL);
    let killed = Instant::now();
    let taken = || async { servers[2].task(key).await["attempt"] == 2 };
    eventually("it is taken over", taken).await;
    assert!(killed.elapsed().as_secs_f64() < 2.0 + 1.0 + 2.0, "{:?}", killed.elapsed());
    until(&servers[2], key, "completed").await;
    assert_eq!(
        [&servers[1].stats().await["node"], &servers[2].stats().await["node"]],
        [&names[0], &names[1]]
    );
    let mut told = Told { won: vec![1], ..Told::default() };
    for viewer in viewers.steady {
        told.viewers.push(viewer.await.unwrap());
    }
    check_postgres(&database.url(), At::Rest, &BTreeMap::from([(key.to_owned(), told)])).await;
}
