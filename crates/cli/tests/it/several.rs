//! Several servers on one file: what one does the others see, and the death of one is noticed by the others.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use super::program::{DEADLINE, Done, Running, Server, soloist};

/// Another server on the file of the first one.
struct Beside {
    running: Running,
    url: String,
}

impl Beside {
    fn new(first: &Server, lease_seconds: &str) -> Self {
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

fn record(done: Done) -> Value {
    serde_json::from_str(&done.out).unwrap_or_else(|e| panic!("{e}: {done:?}"))
}

/// Asks until the record says so, and tells how long that took.
fn until(mut ask: impl FnMut() -> Value, status: &str) -> (Value, Duration) {
    let begun = Instant::now();
    loop {
        let record = ask();
        if record["status"] == status {
            return (record, begun.elapsed());
        }
        assert!(begun.elapsed() < DEADLINE, "still {record}");
    }
}

#[test]
fn what_one_server_runs_the_other_shows_cancels_and_signals() {
    let server = Server::new();
    let beside = Beside::new(&server, "10");
    let burst = "demo/BurstTask/b";
    let input = r#"{"events":2000,"bytes":100,"rate":4000}"#;
    server.run(&["create", burst, "--input", input, "--start"]).exits(0);
    let watched = beside.run(&server, &["--json", "watch", burst]).exits(0);
    let seqs: Vec<u64> = watched
        .out
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok()?["seq"].as_u64())
        .collect();
    assert_eq!(seqs.len(), seqs.last().copied().unwrap() as usize);
    assert!(seqs.iter().zip(1..).all(|(seq, wanted)| *seq == wanted) && seqs.len() > 2000);

    let waiting = "demo/ContinueTask/c";
    server.run(&["create", waiting, "--input", r#"{"message":"m"}"#, "--start"]).exits(0);
    let lost = beside.run(&server, &["--json", "start", waiting]);
    assert!(lost.out.contains("\"started\":false"), "{lost:?}");
    beside.run(&server, &["signal", waiting, "continue"]).exits(0);
    until(|| record(server.run(&["--json", "show", waiting])), "completed");
    server.run(&["start", waiting]).exits(0);
    beside.run(&server, &["cancel", waiting]);
    until(|| record(server.run(&["--json", "show", waiting])), "cancelled");
    beside.running.signal(Signal::TERM);
    assert_eq!(beside.running.ended().0.code(), Some(0));
    server.run(&["list"]).exits(0);
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
    let (task, took) = until(|| record(beside.run(&server, &["--json", "show", key])), "failed");
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
fn a_server_that_was_stopped_beyond_its_lease_is_fenced_and_joins_again() {
    let server = Server::new();
    let beside = Beside::new(&server, "1");
    // Runs on the one with the short lease, far longer than this test takes. It writes nothing meanwhile: a process that
    // is stopped in the middle of a write holds up all others, whatever anybody does.
    let key = "demo/ContinueTask/b";
    let input = r#"{"message":"m"}"#;
    beside.run(&server, &["create", key, "--input", input, "--start"]).exits(0);
    let node = record(server.run(&["--json", "show", key]))["node"].clone();
    beside.running.signal(Signal::STOP);
    let (task, took) = until(|| record(server.run(&["--json", "show", key])), "failed");
    println!("a server that hangs, with a lease of 1 s, was buried after {} ms", took.as_millis());
    assert_eq!(task["error_type"], "NodeLost");
    let last_seq = task["last_seq"].clone();
    server.run(&["create", "demo/ContinueTask/c", "--input", r#"{"message":"m"}"#]).exits(0);

    beside.running.signal(Signal::CONT);
    let begun = Instant::now();
    let again = loop {
        let done = beside.run(&server, &["--json", "start", "demo/ContinueTask/c"]);
        if done.out.contains("\"started\":true") {
            break record(beside.run(&server, &["--json", "show", "demo/ContinueTask/c"]));
        }
        assert!(begun.elapsed() < DEADLINE, "it does not join again");
    };
    assert_ne!(again["node"], node, "it has a fresh name");
    assert_eq!(record(server.run(&["--json", "show", key]))["last_seq"], last_seq, "nothing of it came late");
    beside.running.signal(Signal::TERM);
    beside.running.ended();
}
