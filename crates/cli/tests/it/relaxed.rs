//! `durability = "relaxed"`: a power cut may take events back, and no viewer takes others for them.

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{
    http::{call, until},
    program::{Running, Server},
};

/// How many events a task has.
fn last_seq(server: &Server, key: &str) -> u64 {
    call(&server.url, "GET", &format!("/tasks/{key}"), None, "").body["last_seq"].as_u64().unwrap()
}

fn event(watch: &mut Running) -> Value {
    serde_json::from_str(&watch.line()).unwrap()
}

#[test]
fn s5_a_viewer_of_events_that_a_power_cut_has_taken_is_told_of_the_gap() {
    let mut server = Server::configured("durability = \"relaxed\"\n");
    let address = server.address();
    let key = "demo/BurstTask/b";
    let input = r#"{"events":1000000,"bytes":10,"rate":500}"#;
    server.run(&["create", key, "--input", input, "--start"]).exits(0);
    let mut watch = Running::new(&mut server.command(&["--json", "watch", key]));
    let path = format!("/tasks/{key}");
    until(&server.url, &path, |task| task["last_seq"].as_u64() > Some(20));
    // What the disk has kept, of a moment before that of the power cut.
    server.run(&["backup", "kept.db"]).exits(0);
    let kept = last_seq(&server, key);
    let (mut seen, mut cursor) = (0, String::new());
    while seen < kept + 50 {
        let event = event(&mut watch);
        seen = event["seq"].as_u64().unwrap();
        cursor = event["cursor"].as_str().unwrap().to_owned();
    }
    watch.signal(Signal::STOP);
    let seen = last_seq(&server, key).max(seen);
    let cut = server.take();
    cut.signal(Signal::KILL);
    cut.ended();
    for name in std::fs::read_dir(server.dir.path()).unwrap().map(|entry| entry.unwrap().path()) {
        if name.to_string_lossy().contains("soloist.db") {
            std::fs::remove_file(name).unwrap();
        }
    }
    std::fs::rename(server.dir.path().join("kept.db"), server.dir.path().join("soloist.db")).unwrap();
    server.up(&address);
    // Another run writes other events in the places of those that were lost.
    until(&server.url, &path, |task| task["status"] == "failed");
    server.run(&["start", key]).exits(0);
    let (task, _) = until(&server.url, &path, |task| task["last_seq"].as_u64() > Some(seen + 100));
    assert_eq!((&task["run"], &task["epoch"]), (&json!(2), &json!(3)));
    watch.signal(Signal::CONT);
    // What had come before the cut is shown first.
    let gap = loop {
        let event = event(&mut watch);
        assert_ne!(event["run"], 2, "an event of the new run was taken for the next one of the old");
        if event["type"] == "gap" {
            break event;
        }
    };
    assert_eq!(gap["reason"], "unknown_cursor");
    let first = event(&mut watch);
    assert_eq!((&first["seq"], &first["run"]), (&gap["first_seq"], &json!(2)));
    // Nor does a program that stored where it was, and asks anew.
    assert_eq!(cursor, format!("{}-1", cursor.split('-').next().unwrap()));
    let mut resumed = Running::new(&mut server.command(&["--json", "watch", key, "--from", &cursor]));
    assert_eq!(event(&mut resumed), gap);
    assert_eq!(event(&mut resumed), first);
    server.run(&["watch", key, "--from", "12-"]).exits(2);
}

#[test]
fn a_relaxed_server_names_the_epoch_in_its_ids_and_a_crash_of_it_alone_takes_nothing() {
    let mut server = Server::configured("durability = \"relaxed\"\n");
    let address = server.address();
    let key = "demo/BurstTask/b";
    let input = r#"{"events":1000000,"bytes":10,"rate":500}"#;
    server.run(&["create", key, "--input", input, "--start"]).exits(0);
    let mut watch = Running::new(&mut server.command(&["--json", "watch", key]));
    while event(&mut watch)["seq"].as_u64() < Some(50) {}
    server.take().signal(Signal::KILL);
    server.up(&address);
    let mut seq = 50;
    loop {
        let event = event(&mut watch);
        seq += 1;
        assert_eq!(event["seq"], seq, "no gap, and none twice");
        if event["type"] == "error" {
            break;
        }
    }
    assert_eq!(watch.ended().0.code(), Some(1));
    let stream = server.run(&["--json", "watch", key, "--from", "49"]).exits(1);
    assert!(stream.out.starts_with("{\"seq\":50,"), "a plain seq is a cursor as well");
}
