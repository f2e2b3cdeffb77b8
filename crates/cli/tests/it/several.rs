//! Several servers on one file: what one does the others see, and the death of one is noticed by the others.

use std::time::{Duration, SystemTime};

use rustix::process::Signal;
use serde_json::Value;

use super::{
    http::{call, until},
    program::{Done, Running, Server, soloist},
};

/// Another server on the file of the first one.
pub(crate) struct Beside {
    running: Running,
    pub(crate) url: String,
}

impl Beside {
    pub(crate) fn new(first: &Server, lease_seconds: &str) -> Self {
        let args = ["--json", "serve", "--demo", "--listen", "127.0.0.1:0"];
        let mut running =
            Running::new(soloist(first.dir.path()).args(args).env("SOLOIST_LEASE_SECONDS", lease_seconds));
        let said: Value = serde_json::from_str(&running.line()).unwrap();
        Self { running, url: said["listening"].as_str().unwrap().to_owned() }
    }

    fn run(&self, first: &Server, args: &[&str]) -> Done {
        let mut command = soloist(first.dir.path());
        Done::of(command.args(args).env("SOLOIST_URL", &self.url).output().unwrap())
    }
}

#[test]
fn what_one_server_runs_the_other_shows_cancels_and_signals() {
    let server = Server::new();
    let beside = Beside::new(&server, "10");
    let burst = "demo/BurstTask/b";
    let input = r#"{"events":2000,"bytes":100,"rate":4000}"#;
    server.run(&["create", burst, "--input", input, "--start"]).exits(0);
    let mut watch = Running::new(
        soloist(server.dir.path()).args(["--json", "watch", burst]).env("SOLOIST_URL", &beside.url),
    );
    let mut delays = Vec::new();
    for wanted in 1.. {
        let event: Value = serde_json::from_str(&watch.line()).unwrap();
        assert_eq!(event["seq"], wanted);
        if let Some(sent) = event["data"]["t_ns"].as_u64() {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
            delays.push(now.saturating_sub(Duration::from_nanos(sent)));
        }
        if event["type"] == "complete" {
            break;
        }
    }
    assert_eq!(watch.ended().0.code(), Some(0));
    assert_eq!(delays.len(), 2000);
    delays.sort();
    println!("from the work to a viewer at the other server: p50 {:?}, p99 {:?}", delays[1000], delays[1980]);

    let waiting = "demo/ContinueTask/c";
    server.run(&["create", waiting, "--input", r#"{"message":"m"}"#, "--start"]).exits(0);
    let lost = beside.run(&server, &["--json", "start", waiting]);
    assert!(lost.out.contains("\"started\":false"), "{lost:?}");
    beside.run(&server, &["signal", waiting, "continue"]).exits(0);
    until(&server.url, &format!("/tasks/{waiting}"), |record| record["status"] == "completed");
    server.run(&["start", waiting]).exits(0);
    beside.run(&server, &["cancel", waiting]);
    until(&server.url, &format!("/tasks/{waiting}"), |record| record["status"] == "cancelled");
    beside.running.signal(Signal::TERM);
    assert_eq!(beside.running.ended().0.code(), Some(0));
    server.run(&["list"]).exits(0);
}

#[test]
fn what_a_server_cannot_end_before_it_stops_goes_on_at_the_one_beside_it() {
    let mut server = Server::configured("shutdown_grace_seconds = 1");
    let beside = Beside::new(&server, "10");
    let key = "demo/ContinueTask/c";
    let create = ["create", key, "--input", r#"{"message":"m"}"#, "--max-retries", "1", "--start"];
    server.run(&create).exits(0);
    let mut watch = {
        let mut command = soloist(server.dir.path());
        Running::new(command.args(["watch", key]).env("SOLOIST_URL", &beside.url))
    };
    assert!(watch.line().contains("waiting"));
    let stopping = server.take();
    stopping.signal(Signal::TERM);
    let (status, log) = stopping.ended();
    assert_eq!(status.code(), Some(0), "{log}");
    let (task, took) = until(&beside.url, &format!("/tasks/{key}"), |record| record["status"] == "running");
    println!("it went on {took:?} after the other server had stopped");
    assert_eq!((&task["run"], &task["attempt"], &task["retry_count"]), (&1.into(), &2.into(), &0.into()));
    assert!(watch.line().contains("attempt 2 at once (up to 1 retry), after Drained: "));
    assert!(watch.line().contains("waiting"));
    beside.run(&server, &["signal", key, "continue"]).exits(0);
    assert_eq!(watch.ended().0.code(), Some(0));
}

#[test]
fn the_death_of_a_server_is_noticed_by_the_one_beside_it() {
    let mut server = Server::new();
    let beside = Beside::new(&server, "10");
    let key = "demo/ContinueTask/c";
    server.run(&["create", key, "--input", r#"{"message":"m"}"#, "--start"]).exits(0);
    let mut watch = {
        let mut command = soloist(server.dir.path());
        Running::new(command.args(["watch", key]).env("SOLOIST_URL", &beside.url))
    };
    assert!(watch.line().contains("waiting"));
    let killed = server.take();
    killed.signal(Signal::KILL);
    let (task, took) = until(&beside.url, &format!("/tasks/{key}"), |record| record["status"] == "failed");
    println!("the death was on record after {} ms", took.as_millis());
    assert_eq!((&task["error_type"], &task["epoch"]), (&"NodeLost".into(), &2.into()));
    // Far within the lease of ten seconds: the operating system has let go of the lock.
    assert!(took < Duration::from_secs(8), "{took:?}");
    assert!(watch.line().contains("NodeLost"));
    assert_eq!(watch.ended().0.code(), Some(1));
    killed.ended();
    beside.run(&server, &["start", key]).exits(0);
}

#[test]
fn a_death_whose_lock_file_is_gone_is_noticed_by_the_lease() {
    let mut server = Server::configured("lease_seconds = 1");
    let beside = Beside::new(&server, "10");
    let key = "demo/ContinueTask/c";
    server.run(&["create", key, "--input", r#"{"message":"m"}"#, "--start"]).exits(0);
    let node = server.run(&["--json", "show", key]).json()["node"].clone();
    let lock = server.dir.path().join(format!("soloist.db-{}", node.as_str().unwrap()));
    std::fs::remove_file(lock).unwrap();
    let killed = server.take();
    killed.signal(Signal::KILL);
    killed.ended();
    let (task, took) = until(&beside.url, &format!("/tasks/{key}"), |record| record["status"] == "failed");
    println!("without its lock file, with a lease of 1 s, the death was on record after {took:?}");
    assert_eq!(task["error_type"], "NodeLost");
    beside.run(&server, &["start", key]).exits(0);
}

#[test]
fn a_server_that_was_stopped_beyond_its_lease_is_fenced_and_joins_again() {
    let server = Server::new();
    let beside = Beside::new(&server, "1");
    // Runs on the one with the short lease, far longer than this test takes. It writes nothing meanwhile: a process that
    // is stopped in the middle of a write holds up all others, whatever anybody does.
    let key = "demo/ContinueTask/b";
    let input = r#"{"message":"m"}"#;
    beside.run(&server, &["create", key, "--input", input, "--start"]).exits(0);
    let node = server.run(&["--json", "show", key]).json()["node"].clone();
    beside.running.signal(Signal::STOP);
    let (task, took) = until(&server.url, &format!("/tasks/{key}"), |record| record["status"] == "failed");
    println!("a server that hangs, with a lease of 1 s, was buried after {} ms", took.as_millis());
    assert_eq!((&task["error_type"], &task["epoch"]), (&"NodeLost".into(), &2.into()));
    let events = format!("/tasks/{key}/events");
    let log = call(&server.url, "GET", &events, None, "").body;
    assert_eq!(log["events"].as_array().unwrap().last().unwrap()["type"], "error");

    beside.running.signal(Signal::CONT);
    until(&beside.url, "/stats", |stats| {
        stats["node"] != node && stats["running"] == 0 && stats["stuck"] == 0
    });
    assert_eq!(call(&server.url, "GET", &events, None, "").body, log, "nothing of it came late");
    // It is a whole node again, under its fresh name, and goes on with the next epoch.
    let again = beside.run(&server, &["--json", "start", key]).exits(0).json();
    assert_eq!((&again["started"], &again["run"]), (&true.into(), &2.into()));
    let task = call(&beside.url, "GET", &format!("/tasks/{key}"), None, "").body;
    assert_ne!(task["node"], node);
    assert_eq!(task["epoch"], 3);
    beside.run(&server, &["signal", key, "continue"]).exits(0);
    until(&server.url, &format!("/tasks/{key}"), |record| record["status"] == "completed");
    beside.running.signal(Signal::TERM);
    assert_eq!(beside.running.ended().0.code(), Some(0));
}
