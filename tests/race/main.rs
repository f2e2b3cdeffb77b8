//! The race that the project began with, against the built program and its database.
#![allow(missing_docs, clippy::unwrap_used)]

mod run;

use std::sync::Arc;

use system_tests::server::Server;

/// 20 rounds of so many concurrent starts of a fresh task, spread over the servers of one file.
async fn race(servers: &[Arc<Server>], starts: usize) {
    for round in 1..=20 {
        let key = format!("demo/ContinueTask/{round}");
        servers[0].create(&key, r#"{"message":"race"}"#).await;
        let starts: Vec<_> = (0..starts)
            .map(|n| {
                let (server, key) = (servers[n % servers.len()].clone(), key.clone());
                tokio::spawn(async move { server.begin(&key).await })
            })
            .collect();
        let mut won = 0;
        for start in starts {
            let (started, run) = start.await.unwrap();
            assert_eq!(run, 1, "round {round}");
            won += u32::from(started);
        }
        assert_eq!(won, 1, "round {round}");
        for server in servers {
            let task = server.task(&key).await;
            assert_eq!((task["status"].as_str(), task["epoch"].as_u64()), (Some("running"), Some(1)));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_100_concurrent_starts_over_http_exactly_one_wins_in_each_of_20_rounds() {
    race(&[Arc::new(Server::start().await)], 100).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s1_of_400_concurrent_starts_at_8_servers_of_one_file_exactly_one_wins_in_each_of_20_rounds() {
    let mut servers = vec![Arc::new(Server::start().await)];
    while servers.len() < 8 {
        servers.push(Arc::new(servers[0].beside().await));
    }
    race(&servers, 8 * 50).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_task_is_started_again_as_soon_as_its_end_is_seen() {
    let server = Server::start().await;
    server.create("demo/BurstTask/1", r#"{"events":1,"bytes":10,"rate":0}"#).await;
    for run in 1..=200 {
        assert_eq!(server.begin("demo/BurstTask/1").await, (true, run));
        let mut seen = system_tests::viewer::Seen::default();
        let mut viewer =
            system_tests::viewer::Connection::open(&server.address, "demo/BurstTask/1", &seen).await.unwrap();
        viewer.read(&mut seen, usize::MAX).await.unwrap();
        assert_eq!(seen.ids, [2 * run - 1, 2 * run], "the viewer of a run begins at its first event");
    }
}
