//! Steps of the wall clock change nothing but timestamps: leases, lingers and orders do not look at it.

use std::{collections::BTreeMap, sync::Arc};

use system_tests::{
    checker::{At, Told, Watched, check},
    clock, eventually,
    viewer::{Connection, Seen},
};

fn seconds(timestamp: &serde_json::Value) -> i64 {
    timestamp.as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_second()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn steps_of_ten_minutes_in_either_direction_change_nothing_but_timestamps() {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    std::fs::write(dir.path().join("soloist.toml"), "lease_seconds = 2\nlinger_seconds = 1\n").unwrap();
    let step = dir.path().join("step");
    let stepped = clock::launch(dir.clone(), 0).await;
    let steady = stepped.beside().await;
    let node = stepped.stats().await["node"].clone();

    let key = "demo/BurstTask/b";
    stepped.create(key, r#"{"events":4000,"bytes":20,"rate":500}"#).await;
    stepped.begin(key).await;
    let watch = |address: &str| {
        let address = address.to_owned();
        tokio::spawn(async move {
            let mut seen = Seen::default();
            let mut viewer = Connection::open(&address, key, &seen).await.unwrap();
            viewer.read(&mut seen, usize::MAX).await.unwrap();
            Watched { ids: seen.ids, ..Watched::default() }
        })
    };
    let viewers = [watch(&stepped.address), watch(&steady.address)];
    let mut told = Told { won: vec![1], ..Told::default() };
    // Longer than a lease behind each step, so that a heartbeat which believed it would be missed.
    for (n, by) in [600, -600, 0].into_iter().enumerate() {
        let seq = 1_200 * (n as u64 + 1);
        let there = || async { steady.task(key).await["last_seq"].as_u64() > Some(seq) };
        eventually("it goes on", there).await;
        std::fs::write(&step, by.to_string()).unwrap();
        let other = format!("demo/ExampleTask/{n}");
        steady.create(&other, r#"{"message":"m","delay_ms":0}"#).await;
        let (won, _) = stepped.begin(&other).await;
        assert!(won, "a start is decided as ever");
        // Before anybody else may start it once more.
        let task = stepped.task(&other).await;
        steady.begin(&other).await;
        let (started, created) = (seconds(&task["started_at"]), seconds(&task["created_at"]));
        assert!((started - created - by).abs() < 60, "the step has come through: {task}");
        let (lost, run) = steady.begin(key).await;
        assert!(!lost && run == 1);
        told.lost.push(run);
    }
    for viewer in viewers {
        told.viewers.push(viewer.await.unwrap());
    }
    let over = || async { steady.task(key).await["status"] == "completed" };
    eventually("the run ends", over).await;
    for server in [&stepped, &steady] {
        let rest = || async {
            let stats = server.stats().await;
            ["running", "kept", "viewers"].iter().all(|count| stats[count] == 0)
        };
        eventually("nothing is kept beyond its linger", rest).await;
    }
    assert_eq!(stepped.stats().await["node"], node, "no lease was lost");
    let summary = check(&stepped.database(), At::Rest, &BTreeMap::from([(key.to_owned(), told)]));
    assert_eq!(summary.node_lost, 0);
}
