//! One winner, at however many nodes, and whoever dies meanwhile.

use std::{collections::BTreeMap, sync::Arc};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use rustix::process::Signal;
use soloist_test_postgres::Cluster;
use system_tests::{
    checker::{At, Told, check_postgres},
    seed,
    server::Server,
};

use crate::{futures::join_all, node, nodes};

const NODES: usize = 8;
const STARTS: usize = 100;
const ROUNDS: usize = 50;

/// The answers of all starts of one moment, the first of them at the node `first`; none where the node went away.
async fn starts(
    nodes: &[Arc<Server>],
    first: usize,
    key: &str,
    body: &'static str,
) -> Vec<Option<(bool, u64)>> {
    let path = format!("/tasks/{key}/start");
    let starts = (0..NODES * STARTS).map(|n| {
        let (node, path) = (nodes[(first + n) % NODES].clone(), path.clone());
        async move {
            let (status, answer) = node.try_call("POST", &path, body, None).await.ok()?;
            // A node that has just come, or loses its lease, may say that it cannot tell.
            (status < 500).then(|| {
                assert!(matches!(status, 200 | 202), "{status} {answer}");
                (answer["started"].as_bool().unwrap(), answer["run"].as_u64().unwrap())
            })
        }
    });
    join_all(starts).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s1_of_800_starts_at_8_nodes_exactly_one_wins_in_each_of_50_rounds() {
    let database = Cluster::shared().database("starts");
    let nodes = nodes(NODES, &database.url(), "").await;
    let mut told = BTreeMap::new();
    for round in 0..ROUNDS {
        let key = format!("demo/BurstTask/{round}");
        nodes[round % NODES].create(&key, r#"{"events":1,"bytes":1,"rate":0}"#).await;
        // Under `once` a run that is over already is an answer, and starts nothing.
        let mut answers = Told::default();
        for answer in starts(&nodes, round % NODES, &key, r#"{"policy":"once"}"#).await {
            let (started, run) = answer.expect("every node lives");
            if started { answers.won.push(run) } else { answers.lost.push(run) }
        }
        assert_eq!(answers.won, [1], "round {round}");
        told.insert(key, answers);
    }
    for n in 0..ROUNDS {
        crate::until(&nodes[0], &format!("demo/BurstTask/{n}"), "completed").await;
    }
    let summary = check_postgres(&database.url(), At::Rest, &told).await;
    assert_eq!((summary.tasks, summary.runs), (ROUNDS as u64, ROUNDS as u64));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s1_no_round_has_two_winners_while_nodes_are_killed() {
    let mut rng = StdRng::seed_from_u64(seed());
    let database = Cluster::shared().database("killed");
    let config = "lease_seconds = 2\n";
    let mut nodes = nodes(NODES, &database.url(), config).await;
    let mut unheard = 0;
    for round in 0..ROUNDS {
        let key = format!("demo/ContinueTask/{round}");
        nodes[0].create(&key, r#"{"message":"m"}"#).await;
        let doomed = rng.random_range(1..NODES);
        let starting = {
            let (nodes, key) = (nodes.clone(), key.clone());
            tokio::spawn(async move { starts(&nodes, doomed, &key, r#"{"policy":"once"}"#).await })
        };
        // Somewhere among them.
        tokio::time::sleep(std::time::Duration::from_micros(rng.random_range(0..10_000))).await;
        nodes[doomed].signal(Signal::KILL);
        let answers = starting.await.unwrap();
        let won = answers.iter().flatten().filter(|(started, _)| *started).count();
        assert!(won <= 1, "round {round}: {won} starts were told that they had won");
        assert!(answers.iter().flatten().all(|(_, run)| *run == 1), "round {round}");
        unheard += usize::from(won == 0);
        let task = nodes[0].task(&key).await;
        assert_eq!(task["run"], 1, "round {round}: {task}");
        nodes[doomed] = Arc::new(node(&database.url(), config).await);
    }
    println!("in {unheard} of {ROUNDS} rounds the winner was killed before it could say so");
    for round in 0..ROUNDS {
        let key = format!("demo/ContinueTask/{round}");
        // Where its node was killed it ends by itself.
        let (_, answer) = nodes[0].call("POST", &format!("/tasks/{key}/cancel?wait=30"), "").await;
        let task = nodes[0].task(&key).await;
        assert!(matches!(task["status"].as_str(), Some("cancelled" | "failed")), "{answer} {task}");
    }
    let summary = check_postgres(&database.url(), At::Rest, &BTreeMap::new()).await;
    assert_eq!(summary.runs, ROUNDS as u64);
}
