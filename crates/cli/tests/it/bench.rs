//! `soloist bench`: short measurements of real servers, and what is left of them.

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    path::Path,
    time::Instant,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::program::{DEADLINE, Done, Running, Server, soloist};

fn bench(dir: &Path, args: &[&str]) -> Done {
    Done::of(soloist(dir).args(["bench"]).args(args).args(["--json", "--dir", "."]).output().unwrap())
}

#[track_caller]
fn figure(report: &Value, name: &str) -> f64 {
    let figures = report["figures"].as_array().unwrap();
    let figure = figures.iter().find(|figure| figure["name"] == name);
    figure.unwrap_or_else(|| panic!("there is no {name}: {report}"))["value"].as_f64().unwrap()
}

/// These figures are there and more than nothing, and so many checks were made.
#[track_caller]
fn measured(report: &Value, bench: &str, figures: &[&str], checks: usize) {
    assert_eq!(report["bench"], bench);
    for name in figures {
        assert!(figure(report, name) > 0.0, "{name}: {report}");
    }
    let made = report["checks"].as_array().unwrap();
    assert_eq!(made.len(), checks, "{report}");
    assert!(made.iter().all(|check| check["count"].as_u64() > Some(0)), "{report}");
    for known in
        ["date", "soloist", "server", "cpu", "cpus", "kernel", "load_average_before", "load_average_after"]
    {
        assert!(!report["machine"][known].is_null(), "{known}: {report}");
    }
}

#[test]
fn starts_are_measured_and_compared_and_nothing_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("measured.json");
    let args = ["start", "--seconds", "1", "--connections", "8", "--save", "measured.json"];
    let report = bench(dir.path(), &args).exits(0).json();
    let figures = [
        "hot_refusals",
        "hot_health",
        "hot_refusals_of_health",
        "hot_cpu",
        "distinct_starts",
        "distinct_completed",
        "distinct_latency_p50",
        "distinct_latency_p99.9",
        "distinct_latency_max",
        "results",
        "results_latency_p99",
        "repeats",
        "peak_memory",
    ];
    measured(&report, "start", &figures, 5);
    assert!(figure(&report, "distinct_latency_p50") <= figure(&report, "distinct_latency_p99"), "{report}");
    assert!(report["machine"]["fsync_p99_ms"].as_f64() > Some(0.0), "{report}");
    assert_ne!(report["machine"]["file_system"], "unknown");
    assert_eq!(serde_json::from_str::<Value>(&fs::read_to_string(&file).unwrap()).unwrap(), report);
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left, ["measured.json"], "the server and its store are gone");

    let mut better = report.clone();
    for figure in better["figures"].as_array_mut().unwrap() {
        figure["value"] = (figure["value"].as_f64().unwrap() * 2.0).into();
    }
    fs::write(dir.path().join("better.json"), better.to_string()).unwrap();
    let compare = |args: &[&str]| Done::of(soloist(dir.path()).arg("bench").args(args).output().unwrap());
    let compared = compare(&["--json", "--compare", "measured.json", "better.json"]).exits(0).json();
    let compared = compared.as_array().unwrap();
    assert_eq!(compared.len(), report["figures"].as_array().unwrap().len());
    // What was written down in decimals may come back with another last digit.
    let is_double = |one: &Value| (one["ratio"].as_f64().unwrap() - 2.0).abs() < 1e-9 || one["old"] == 0.0;
    assert!(compared.iter().all(is_double), "{compared:?}");
    let text = compare(&["--compare", "measured.json", "better.json"]).exits(0).out;
    let line = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    assert!(
        line("distinct starts").contains("2.000") && line("distinct starts").ends_with("better"),
        "{text}"
    );
    assert!(line("distinct latency p50").ends_with("worse"), "{text}");
    fs::write(dir.path().join("other.json"), "{}").unwrap();
    assert!(compare(&["--compare", "measured.json", "other.json"]).exits(2).err.contains("other.json"));
}

#[test]
fn a_server_that_runs_already_is_measured_where_it_is_named() {
    let server = Server::new();
    let running = ["start", "--distinct", "--seconds", "1", "--connections", "4", "--url", &server.url];
    let report = bench(server.dir.path(), &running).exits(0).json();
    measured(&report, "start", &["health", "distinct_starts"], 2);
    let unknown = report["figures"].as_array().unwrap().iter().all(|figure| figure["name"] != "distinct_cpu");
    assert!(unknown && report["options"]["store"].is_null(), "{report}");
    let table = server
        .run(&["bench", "start", "--repeats", "--seconds", "1", "--dir", ".", "--url", &server.url])
        .exits(0)
        .out;
    assert!(table.contains("repeats latency p99.9") && table.contains("file system"), "{table}");
    assert!(server.run(&["list", "--json"]).exits(0).out.contains("BurstTask"), "it was this server");
}

#[test]
fn events_and_takeovers_are_measured() {
    let dir = tempfile::tempdir().unwrap();
    let report = bench(dir.path(), &["events", "--runs", "4", "--events", "300"]).exits(0).json();
    measured(&report, "events", &["events", "data", "written", "peak_memory", "floor_appends_64_KiB"], 2);
    let report = bench(dir.path(), &["takeover", "--runs", "5", "--lease-seconds", "1"]).exits(0).json();
    measured(
        &report,
        "takeover",
        &["takeover_min", "takeover_p50", "takeover_max", "takeover_max_of_lease_and_1_s"],
        1,
    );
    assert_eq!(report["checks"][0]["count"], 5);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn what_cannot_be_measured_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let said = |args: &[&str], exit: i32, word: &str| {
        let done = bench(dir.path(), args).exits(exit);
        assert!(done.err.contains(word), "{done:?}");
    };
    said(&["start", "--url", "http://127.0.0.1:1"], 5, "soloist serve");
    said(&["start", "--url", "https://localhost"], 2, "plain HTTP");
    said(&["start", "--pid", "1"], 2, "--url");
    said(&["start", "--server", "/not/there"], 1, "/not/there");
    said(&["start", "--store", "postgres://x@127.0.0.1:1/x"], 1, "127.0.0.1:1");
    let few = [
        "-c",
        "ulimit -n 40; exec \"$@\"",
        "sh",
        env!("CARGO_BIN_EXE_soloist"),
        "bench",
        "start",
        "--dir",
        ".",
    ];
    let mut limited = std::process::Command::new("sh");
    let done = Done::of(limited.args(few).current_dir(dir.path()).output().unwrap()).exits(2);
    assert!(done.err.contains("ulimit -n"), "{done:?}");
    said(&["takeover", "--store", "memory"], 2, "--store sqlite");
    said(&["takeover", "--url", "http://127.0.0.1:1"], 2, "leave out --url");
}

#[test]
fn a_wrong_answer_ends_the_measurement() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    // Whatever is asked, it has just started something.
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let body = r#"{"id":"1","started":true,"run":1,"status":"running"}"#;
                let answer = format!("HTTP/1.1 201 Created\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                let mut request = [0; 4096];
                while stream.read(&mut request).is_ok_and(|n| n > 0) {
                    let _ = stream.write_all(answer.as_bytes());
                }
            });
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let done = bench(dir.path(), &["start", "--hot", "--seconds", "1", "--url", &url]).exits(1);
    assert!(done.err.contains("wrong answer") && done.out.is_empty(), "{done:?}");
}

#[test]
fn a_measurement_that_is_killed_leaves_no_server_and_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["bench", "start", "--hot", "--seconds", "3600", "--dir", "."];
    let running = Running::new(soloist(dir.path()).args(args));
    let begun = Instant::now();
    let server = loop {
        if let Some(server) = child_of(running.pid()) {
            break server;
        }
        assert!(begun.elapsed() < DEADLINE, "no server comes up");
    };
    assert!(fs::read_dir(dir.path()).unwrap().count() > 0);
    kill_process(running.pid(), Signal::KILL).unwrap();
    running.ended();
    while lives(server) || fs::read_dir(dir.path()).unwrap().count() > 0 {
        assert!(begun.elapsed() < DEADLINE, "something is left");
    }
}

/// Whether a process is there that is more than a name which nobody has asked for.
fn lives(process: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero()));
    stat.is_ok_and(|stat| !stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z')))
}

/// The server that a process has started, once both it and what would remove it are there.
fn child_of(parent: Pid) -> Option<Pid> {
    let parent = parent.as_raw_nonzero();
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
    let children: Vec<i32> = children.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
    (children.len() == 2).then(|| Pid::from_raw(children[0]))?
}

#[test]
fn viewers_of_one_run_are_measured_beside_the_floor() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["fanout", "--viewers", "20", "--burst", "2000", "--rate", "50,100", "--seconds", "1"];
    let report =
        bench(dir.path(), &[&args[..], &["--idle", "100", "--stalled", "5"]].concat()).exits(0).json();
    let figures = [
        "burst_deliveries",
        "burst_cpu",
        "burst_read",
        "at_50_cpu",
        "at_50_latency_p50",
        "at_100_latency_p99.9",
        "single_latency_p99",
        "idle_viewer_memory",
        "floor_1_a_write",
        "floor_16_a_write",
        "floor_64_a_write",
        "peak_memory",
    ];
    measured(&report, "fanout", &figures, 1);
    // Each run has one event more, its end.
    let (burst, paced, single, unread) = (20 * 2_001, 20 * (51 + 101), 51, (1 + 1 + 5) * 6_001);
    assert_eq!(report["checks"][0]["count"], burst + paced + single + unread);
    let left = fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(left, 0, "the servers and their stores are gone");
}

#[test]
fn replays_are_measured() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["replay", "--single", "1500", "--repeats", "3", "--viewers", "10", "--events", "3000"];
    let report = bench(dir.path(), &args).exits(0).json();
    let figures =
        ["single_p50", "single_max", "together_took", "together_events", "together_rate", "peak_memory"];
    measured(&report, "replay", &figures, 1);
    assert_eq!(report["checks"][0]["count"], 3 * 1_501 + 10 * 3_001);
}

#[test]
fn viewers_of_a_server_that_runs_are_measured_too() {
    let server = Server::new();
    let args = ["fanout", "--burst", "500", "--viewers", "10", "--rate", "0", "--single", "0", "--idle", "0"];
    let rest = ["--stalled", "0", "--no-floor", "--url", &server.url];
    let report = bench(server.dir.path(), &[&args[..], &rest].concat()).exits(0).json();
    assert!(figure(&report, "burst_deliveries") > 0.0);
    assert_eq!(report["checks"][0]["count"], 10 * 501);
}
