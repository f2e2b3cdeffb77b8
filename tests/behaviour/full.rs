//! A full disk: nothing is started, what runs waits, nothing is damaged, and it goes on when there is room.

use std::{collections::BTreeMap, fs::File, io::Write};

use system_tests::{
    checker::{At, check},
    eventually,
    server::Server,
};

/// Writes until there is no room left.
fn fill(server: &Server) {
    let mut file = File::create(server.small_disk().join("filler")).unwrap();
    for size in [1 << 20, 4 << 10, 1] {
        while file.write_all(&vec![0; size]).is_ok() {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_full_disk_starts_are_refused_running_work_waits_and_goes_on_when_there_is_room() {
    let server = Server::on_small_disk(32, 600).await;
    let (burst, waiting) = ("demo/BurstTask/b", "demo/ContinueTask/w");
    server.create(burst, r#"{"events":1000000,"bytes":200,"rate":500}"#).await;
    server.create(waiting, r#"{"message":"m"}"#).await;
    for key in [burst, waiting] {
        assert_eq!(server.begin(key).await, (true, 1));
    }
    let seq = async || server.task(burst).await["last_seq"].as_u64().unwrap();
    let writes = async || seq().await > 20;
    eventually("it writes", &writes).await;

    fill(&server);
    // What has room already (a log that was folded back) is still written; then nothing is.
    let mut refused = Vec::new();
    let mut created = Vec::new();
    let full = async |n: usize| {
        let key = format!("demo/ExampleTask/{n}");
        let body = r#"{"input":{"message":"m","delay_ms":0}}"#;
        let (status, answer) = server.call("PUT", &format!("/tasks/{key}"), body).await;
        (key, status, answer)
    };
    for n in 0.. {
        let (key, status, answer) = full(n).await;
        if status == 201 {
            created.push(key);
            continue;
        }
        assert_eq!((status, answer["code"].as_str()), (503, Some("store_full")), "{answer}");
        assert!(answer["detail"].as_str().unwrap().contains("disk of the store is full"), "{answer}");
        refused.push(key);
        if refused.len() == 5 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let (status, answer) = server.call("POST", &format!("/tasks/{waiting}/start"), "").await;
    assert_eq!((status, answer["started"].as_bool()), (200, Some(false)), "a start that loses needs no room");
    let stood = seq().await;
    for key in [burst, waiting] {
        assert_eq!(server.task(key).await["status"], "running", "what runs waits");
    }
    let events = server.call("GET", &format!("/tasks/{burst}/events?after=0&limit=10"), "").await;
    assert_eq!(events.1["events"].as_array().unwrap().len(), 10, "what is on record is read");

    std::fs::remove_file(server.small_disk().join("filler")).unwrap();
    let goes_on = async || seq().await > stood + 500;
    eventually("it goes on", &goes_on).await;
    for key in created.iter().chain(&refused) {
        server.create(key, r#"{"message":"m","delay_ms":0}"#).await;
        assert_eq!(server.begin(key).await.1, 1);
    }
    server.call("POST", &format!("/tasks/{waiting}/signals/continue"), "null").await;
    server.call("POST", &format!("/cancel/{burst}"), "").await;
    let over = async || server.stats().await["running"] == 0;
    eventually("all of it ends", &over).await;
    assert_eq!(server.task(waiting).await["status"], "completed");
    // SQLite does not open a path that leads through /proc. Nothing is written any more.
    for name in ["soloist.db", "soloist.db-wal"] {
        std::fs::copy(server.small_disk().join(name), server.dir().join(name)).unwrap();
    }
    let summary = check(&server.dir().join("soloist.db"), At::Rest, &BTreeMap::new());
    println!("{} were created on the full disk; {summary:?}", created.len());
    assert_eq!(summary.node_lost, 0);
}
