//! Start once, over HTTP.

use std::sync::Arc;

use futures_util::future::join_all;
use serde_json::json;
use tokio::sync::Barrier;

use crate::server::Server;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s1_of_100_concurrent_starts_one_wins_and_99_are_told_the_same_run() {
    const RACERS: usize = 100;
    let server = Arc::new(Server::start().await);
    server.call("PUT", "/tasks/demo/Hold/x", &[], "").await;
    for round in 1..=20 {
        let line = Arc::new(Barrier::new(RACERS));
        let racers = (0..RACERS).map(|_| {
            let (server, line) = (server.clone(), line.clone());
            tokio::spawn(async move {
                line.wait().await;
                server.post("/tasks/demo/Hold/x/start", "").await
            })
        });
        let answers: Vec<_> = join_all(racers).await.into_iter().map(Result::unwrap).collect();
        let won = answers.iter().filter(|a| a.status == 202).collect::<Vec<_>>();
        assert_eq!(won.len(), 1, "round {round}");
        assert_eq!(won[0].json(), json!({"started": true, "run": round, "status": "running"}));
        for lost in answers.iter().filter(|a| a.status != 202) {
            let answer = lost.json();
            assert_eq!(
                (lost.status, &answer["started"], &answer["run"]),
                (200, &json!(false), &json!(round)),
                "round {round}"
            );
        }
        let ended = server.post("/cancel/demo/Hold/x", "").await;
        assert_eq!(ended.status, 200, "round {round}: {ended:?}");
    }
}

#[tokio::test]
async fn whoever_is_told_complete_reads_completed_and_starts_again_at_once() {
    let server = Server::start().await;
    server.call("PUT", "/tasks/demo/SaysComplete/x", &[], "").await;
    let mut seq = 0;
    for run in 1..=50 {
        let start = server.post("/tasks/demo/SaysComplete/x/start", "").await;
        assert_eq!(start.json(), json!({"started": true, "run": run, "status": "running"}));
        let mut viewer = server.watch("/stream/demo/SaysComplete/x").await;
        let complete = viewer.event().await.unwrap();
        assert_eq!(complete.event_type, "complete");
        let record = server.get("/tasks/demo/SaysComplete/x").await.json();
        assert_eq!(
            (&record["status"], &record["final_value"]),
            (&json!("completed"), &json!(7)),
            "run {run}"
        );
        // What the work said is part of the one ending, and the system's fields stand beside it.
        let data: serde_json::Value = serde_json::from_str(&complete.data).unwrap();
        assert_eq!(
            (&data["message"], &data["final_value"], &data["_run"]),
            (&json!("Done"), &json!(7), &json!(run))
        );
        seq += 1;
        assert_eq!(complete.id, Some(seq.to_string()));
        assert_eq!(viewer.event().await, None, "one ending a run");
    }
}
