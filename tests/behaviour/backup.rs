//! A copy of a database in use is a database: whole, of one moment, and servable.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use system_tests::{
    checker::{At, check},
    eventually,
    server::Server,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_is_made_under_load_opens_is_consistent_and_serves() {
    let server = Arc::new(Server::start().await);
    let keys: Vec<String> = (0..4).map(|n| format!("demo/BurstTask/{n}")).collect();
    for key in &keys {
        server.create(key, r#"{"events":1500,"bytes":1000,"rate":0}"#).await;
    }
    // Starts without pause, so that runs begin, write and end while the copy is made.
    let load: Vec<_> = keys.iter().map(|key| tokio::spawn(starts(server.clone(), key.clone()))).collect();
    let some = || async { server.task(&keys[3]).await["run"].as_u64() > Some(2) };
    eventually("the load has begun", some).await;
    for round in 0..3 {
        let mut before = BTreeMap::new();
        for key in &keys {
            before.insert(key.clone(), server.task(key).await["last_seq"].as_u64().unwrap());
        }
        let dir = Arc::new(tempfile::tempdir().unwrap());
        let copy = dir.path().join("soloist.db");
        let backup =
            system_tests::program().args(["--json", "backup"]).arg(&copy).current_dir(server.dir()).output();
        let backup = backup.unwrap();
        assert!(backup.status.success(), "{backup:?}");
        let said: serde_json::Value = serde_json::from_slice(&backup.stdout).unwrap();
        assert_eq!(
            (&said["tasks"], said["bytes"].as_u64()),
            (&4.into(), Some(copy.metadata().unwrap().len()))
        );
        let names: Vec<_> = dir.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["soloist.db"], "nothing is left beside it");

        let copied = check(&copy, At::AnyMoment, &BTreeMap::new());
        println!("round {round}: {copied:?}, {said}");
        let served = Server::start_in(dir.clone(), "127.0.0.1:0").await;
        for key in &keys {
            // Settled at the start: no process of the copy has what ran at that moment.
            let task = served.task(key).await;
            assert!(matches!(task["status"].as_str(), Some("failed" | "completed" | "pending")), "{task}");
            assert!(
                task["last_seq"].as_u64().unwrap() >= before[key],
                "{key}: what was there before is missing"
            );
            let run = task["run"].as_u64().unwrap();
            assert_eq!(served.begin(key).await, (true, run + 1));
            let done = || async { served.task(key).await["status"] == "completed" };
            eventually("the copy runs it", done).await;
        }
        served.stop().await;
        check(&copy, At::Rest, &BTreeMap::new());
    }
    load.iter().for_each(tokio::task::JoinHandle::abort);
}

async fn starts(server: Arc<Server>, key: String) {
    loop {
        server.begin(&key).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
