//! Nodes that are restarted one after the other, cancels that come from elsewhere, and signals over a takeover.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use soloist_test_postgres::Cluster;
use system_tests::{
    checker::{At, Told, check_postgres},
    eventually,
    server::Server,
};

use crate::{create, futures::join_all, node, nodes, until, watch};

const TASKS: usize = 100;

/// 100 running tasks that may be retried once, 300 viewers that come back by themselves, each at the next node in turn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s5_a_rolling_restart_of_three_nodes_loses_no_event_and_fails_no_task() {
    let database = Cluster::shared().database("rolling");
    let config = format!(
        "store = \"{}\"\nlease_seconds = 20\nshutdown_grace_seconds = 1\nlog = \"warn\"\n",
        database.url()
    );
    let mut servers = Vec::new();
    for _ in 0..3 {
        servers.push(Server::start_with(&config, "127.0.0.1:0").await);
    }
    let addresses: Vec<String> = servers.iter().map(|server| server.address.clone()).collect();
    let keys: Vec<String> = (0..TASKS).map(|n| format!("demo/BurstTask/{n}")).collect();
    for (n, key) in keys.iter().enumerate() {
        create(&servers[n % 3], key, r#"{"events":200,"bytes":20,"rate":20}"#, 1).await;
        servers[n % 3].begin(key).await;
    }
    let viewers: Vec<_> = keys
        .iter()
        .flat_map(|key| (0..3).map(move |n| (key.clone(), n)))
        .map(|(key, n)| {
            let mut addresses = addresses.clone();
            addresses.rotate_left(n);
            tokio::spawn(async move { (key.clone(), watch(addresses, key).await) })
        })
        .collect();
    let all = async |server: &Server| {
        let viewers = || async { server.stats().await["viewers"].as_u64().unwrap() > 50 };
        eventually("its viewers are there", viewers).await;
    };
    all(&servers[0]).await;
    for address in &addresses {
        let mut server = servers.remove(0);
        let begun = Instant::now();
        server.signal(Signal::TERM);
        let away = || async {
            server.try_call("GET", "/health/ready", "", None).await.map_or(true, |(status, _)| status == 503)
        };
        eventually("it is not sent new work", away).await;
        if let Ok((status, answer)) =
            server.try_call("POST", "/tasks/demo/BurstTask", r#"{"start":true}"#, None).await
        {
            assert_eq!((status, answer["code"].as_str()), (503, Some("shutting_down")), "{answer}");
        }
        assert!(server.ends_within(Duration::from_secs(60)).await, "it ends by itself");
        drop(server);
        println!(
            "a node with a third of 100 runs and 300 viewers: gone {:?} after SIGTERM (grace 1 s)",
            begun.elapsed()
        );
        servers.push(Server::start_with(&config, address).await);
        // The others are not restarted before this one serves again.
        let serves = || async { servers[servers.len() - 1].call("GET", "/health/ready", "").await.0 == 200 };
        eventually("it serves again", serves).await;
    }
    let mut told = BTreeMap::<String, Told>::new();
    for viewer in viewers {
        let (key, watched) = viewer.await.unwrap();
        told.entry(key).or_insert_with(|| Told { won: vec![1], ..Told::default() }).viewers.push(watched);
    }
    let (mut drained, mut attempts) = (0, 0);
    for key in &keys {
        let task = until(&servers[0], key, "completed").await;
        assert_eq!(
            (&task["run"], &task["retry_count"]),
            (&1.into(), &0.into()),
            "a drain counts no retry: {task}"
        );
        let attempt = task["attempt"].as_u64().unwrap();
        drained += u64::from(attempt > 1);
        attempts += attempt;
    }
    println!("{drained} of {TASKS} tasks were handed on, {attempts} attempts in all; none has failed");
    assert!(drained > 0, "the restarts came too late to tell anything");
    let summary = check_postgres(&database.url(), At::Rest, &told).await;
    // All of them by the hand of the node that had them: a lost node would have cost a retry.
    assert_eq!(
        (summary.retried, summary.viewers),
        (attempts - TASKS as u64, 3 * TASKS as u64),
        "{summary:?}"
    );
}

/// The time from a cancel that is sent to one node to the `cancelled` event of a run at another one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_from_another_node_takes_no_poll_to_arrive() {
    let database = Cluster::shared().database("cancels");
    let nodes = nodes(2, &database.url(), "").await;
    let mut took = Vec::new();
    for n in 0..200 {
        let key = format!("demo/ContinueTask/{n}");
        nodes[0].create(&key, r#"{"message":"m"}"#).await;
        nodes[0].begin(&key).await;
        let running =
            || async { nodes[0].call("GET", &format!("/tasks/{key}/events"), "").await.1["last_seq"] == 1 };
        eventually("its work waits", running).await;
        let begun = Instant::now();
        let (status, answer) = nodes[1].call("POST", &format!("/tasks/{key}/cancel?wait=60"), "").await;
        took.push(begun.elapsed());
        assert_eq!((status, answer["status"].as_str()), (200, Some("cancelled")), "{answer}");
    }
    took.sort_unstable();
    let (p50, p99) = (took[took.len() / 2], took[took.len() * 99 / 100]);
    println!("a cancel from another node, from the request to its cancelled event: p50 {p50:?}, p99 {p99:?}");
    // The net below the wake-ups is a look a second: with it alone half of them would take longer.
    assert!(p50 < Duration::from_millis(400), "p50 {p50:?}, p99 {p99:?}");
}

/// Sent before, during and after the wait, to both nodes, while the node that reads them is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_attempt_that_finishes_has_read_all_50_signals_in_order_once() {
    let database = Cluster::shared().database("signals");
    let config = r#"lease_seconds = 2
[[model]]
app = "a"
model = "Reads"
runner = "exec"
shell = true
command = ["read -r input; for n in $(seq 50); do read -r line || exit 9; printf '{\"event\":\"read\",\"data\":%s}\\n' \"$line\"; done; echo '{\"event\":\"result\",\"data\":\"all\"}'"]
signals = "stdin"
max_retries = 1
"#;
    let holder = node(&database.url(), config).await;
    let other = node(&database.url(), config).await;
    let key = "a/Reads/1";
    let signal = async |server: &Server, n: u32| {
        let (status, answer) =
            server.call("POST", &format!("/tasks/{key}/signals/s{}", n % 3), &n.to_string()).await;
        assert_eq!((status, &answer["run"]), (202, &1.into()), "{answer}");
    };
    holder.create(key, "{}").await;
    for n in 0..10 {
        signal(&holder, n).await;
    }
    holder.begin(key).await;
    for n in 10..30 {
        signal(if n % 2 == 0 { &holder } else { &other }, n).await;
    }
    let read = || async { other.task(key).await["last_seq"].as_u64() == Some(30) };
    eventually("the first attempt has read them", read).await;
    holder.signal(Signal::KILL);
    for n in 30..40 {
        signal(&other, n).await;
    }
    let taken = || async { other.task(key).await["attempt"] == 2 };
    eventually("it is taken over", taken).await;
    for n in 40..50 {
        signal(&other, n).await;
    }
    let task = until(&other, key, "completed").await;
    assert_eq!((&task["attempt"], &task["final_value"]), (&2.into(), &"all".into()), "{task}");
    let (_, page) = other.call("GET", &format!("/tasks/{key}/events?after=31&limit=1000"), "").await;
    let events = page["events"].as_array().unwrap().iter().filter(|event| event["type"] == "read");
    let read: Vec<(u64, String, u64)> = events
        .map(|event| {
            let data = &event["data"];
            let name = data["signal"].as_str().unwrap().to_owned();
            (data["number"].as_u64().unwrap(), name, data["data"].as_u64().unwrap())
        })
        .collect();
    assert_eq!(read, (0..50).map(|n| (n + 1, format!("s{}", n % 3), n)).collect::<Vec<_>>());
    let (status, answer) = other.call("POST", &format!("/tasks/{key}/signals/late"), "1").await;
    assert_eq!((status, answer["code"].as_str()), (409, Some("not_running")), "{answer}");
}

/// 100 reruns and 100 replaces from all nodes at once: one more run each time, and one that has replaced it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reruns_and_replaces_from_all_nodes_make_one_run_each() {
    let database = Cluster::shared().database("policies");
    let nodes = nodes(3, &database.url(), "").await;
    let key = "demo/ContinueTask/1";
    nodes[0].create(key, r#"{"message":"m"}"#).await;
    nodes[0].begin(key).await;
    let ask = async |policy: &'static str| {
        let asked = (0..100).map(|n| {
            let node: Arc<Server> = nodes[n % 3].clone();
            async move {
                let body = format!(r#"{{"policy":"{policy}"}}"#);
                node.call("POST", &format!("/tasks/{key}/start"), &body).await
            }
        });
        join_all(asked.collect::<Vec<_>>()).await
    };
    for (status, answer) in ask("rerun").await {
        assert_eq!(
            (status, &answer["started"], &answer["next_run"]),
            (202, &false.into(), &2.into()),
            "{answer}"
        );
    }
    nodes[1].call("POST", &format!("/tasks/{key}/signals/continue"), "1").await;
    let begun =
        || async { nodes[2].task(key).await["run"] == 2 && nodes[2].task(key).await["status"] == "running" };
    eventually("the rerun has begun", begun).await;
    let started =
        ask("replace").await.into_iter().filter(|(_, answer)| answer["started"] == true).count() as u64;
    let task = until(&nodes[0], key, "running").await;
    assert_eq!(task["run"].as_u64(), Some(2 + started), "each new run has one that has started it: {task}");
    assert_eq!(task["next_run"], serde_json::Value::Null);
}
