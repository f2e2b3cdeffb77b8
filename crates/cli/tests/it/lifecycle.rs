//! Times, policies and retries from the command line, against a real server.

use std::time::{Duration, SystemTime};

use rustix::process::Signal;
use soloist::Timestamp;

use super::{
    http::until,
    program::{Done, Running, Server},
};

/// The time so far from now, as it is written.
fn from_now(time: Duration) -> String {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap() + time;
    Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap()).to_string()
}

#[test]
fn what_failed_lately_is_started_again_and_nothing_else() {
    let server = Server::new();
    let input = r#"{"message":"m"}"#;
    for id in ["a", "b"] {
        let key = format!("demo/FailTask/{id}");
        server.run(&["create", &key, "--input", input, "--start"]).exits(0);
        server.run(&["watch", &key]).exits(1);
    }
    server.run(&["create", "demo/ContinueTask/runs", "--input", input, "--start"]).exits(0);
    server.run(&["run", "--id", "one", "--store", "sqlite://soloist.db", "--", "false"]).exits(1);

    let dry = server.run(&["retry-failed", "--max-age-hours", "1", "--dry-run"]).exits(0);
    let lines: Vec<_> = dry.out.lines().collect();
    assert_eq!(lines.len(), 3, "{dry:?}");
    assert!(lines[0].starts_with("demo/FailTask/b  failed "), "{dry:?}");
    assert_eq!(lines[2], "would start 2 tasks that failed less than 1 hour ago; 1 skipped");
    let run =
        |id: &str| server.run(&["--json", "show", &format!("demo/FailTask/{id}")]).json()["run"].clone();
    assert_eq!((run("a"), run("b")), (1.into(), 1.into()), "a dry run starts nothing");

    let old = server.run(&["--json", "retry-failed", "--max-age-hours", "0"]).exits(0).json();
    assert_eq!(old, serde_json::json!({ "dry_run": false, "tasks": 0, "skipped": 0, "errors": 0 }));
    let other = ["--json", "retry-failed", "--max-age-hours", "1", "--model", "ExampleTask"];
    assert_eq!(server.run(&other).exits(0).json()["tasks"], 0);
    let real = server.run(&["--json", "retry-failed", "--max-age-hours", "1"]).exits(0).json();
    assert_eq!(real, serde_json::json!({ "dry_run": false, "tasks": 2, "skipped": 1, "errors": 0 }));
    for id in ["a", "b"] {
        server.run(&["watch", &format!("demo/FailTask/{id}")]).exits(1);
    }
    assert_eq!((run("a"), run("b")), (2.into(), 2.into()));
    server.run(&["retry-failed"]).exits(2);
}

#[test]
fn one_task_that_cannot_be_started_does_not_stop_the_others() {
    let config = "[[model]]\napp = \"a\"\nmodel = \"Gone\"\nrunner = \"exec\"\ncommand = [\"false\"]\n";
    let mut server = Server::configured(config);
    server.run(&["create", "demo/FailTask/a", "--input", r#"{"message":"m"}"#, "--start"]).exits(0);
    server.run(&["watch", "demo/FailTask/a"]).exits(1);
    server.run(&["create", "a/Gone/1", "--start"]).exits(0);
    server.run(&["watch", "a/Gone/1"]).exits(1);
    let running = server.take();
    running.signal(Signal::TERM);
    running.ended();
    std::fs::remove_file(server.dir.path().join("soloist.toml")).unwrap();
    server.up("127.0.0.1:0");
    let done = server.run(&["retry-failed", "--max-age-hours", "1"]).exits(6);
    assert!(done.err.starts_with("error: a/Gone/1: "), "{done:?}");
    assert_eq!(done.out, "started 1 task that failed less than 1 hour ago; 1 could not be started\n");
    server.run(&["watch", "demo/FailTask/a"]).exits(1);
}

#[test]
fn a_rerun_of_an_active_task_is_one_more_run_and_a_replace_ends_the_active_one() {
    let server = Server::new();
    let key = "demo/ContinueTask/c";
    server.run(&["create", key, "--input", r#"{"message":"m"}"#, "--start"]).exits(0);
    until(&server.url, &format!("/tasks/{key}"), |task| task["status"] == "running");
    for _ in 0..2 {
        let asked = server.run(&["start", key, "--policy", "rerun"]).exits(0);
        assert_eq!(asked.out, "demo/ContinueTask/c is running: run 2 begins when run 1 has ended\n");
    }
    let shown = server.run(&["show", key]).exits(0);
    assert!(shown.out.contains("next run    2 begins when run 1 has ended\n"), "{shown:?}");
    server.run(&["signal", key, "continue"]).exits(0);
    until(&server.url, &format!("/tasks/{key}"), |task| task["run"] == 2 && task["status"] == "running");

    let replaced = server.run(&["--json", "start", key, "--policy", "replace"]).exits(0).json();
    assert_eq!((&replaced["started"], &replaced["run"]), (&true.into(), &3.into()));
    until(&server.url, &format!("/tasks/{key}"), |task| task["run"] == 3 && task["status"] == "running");
    server.run(&["cancel", key, "--wait"]).exits(0);
    let again = server.run(&["start", key, "--policy", "rerun"]).exits(0);
    assert_eq!(again.out, "started demo/ContinueTask/c: run 4\n", "where nothing is active it is a start");
    server.run(&["start", key, "--policy", "later"]).exits(2);
    let run = ["run", "--policy", "rerun", "--", "true"];
    assert!(server.run(&run).exits(2).err.contains("possible values: restart, once"));
}

#[test]
fn a_rerun_sent_again_under_its_key_says_of_which_run_it_was_told_and_nothing_false_of_it() {
    let server = Server::new();
    let key = "demo/ContinueTask/c";
    server.run(&["create", key, "--input", r#"{"message":"m"}"#, "--start"]).exits(0);
    until(&server.url, &format!("/tasks/{key}"), |task| task["status"] == "running");
    let rerun = ["start", key, "--policy", "rerun", "--idempotency-key", "k"];
    let first = server.run(&rerun).exits(0);
    assert_eq!(first.out, "demo/ContinueTask/c is running: run 2 begins when run 1 has ended\n");
    let again = server.run(&rerun).exits(0);
    assert!(again.out.ends_with("it was told of run 2; the task is running\n"), "{again:?}");
}

#[test]
fn a_task_for_later_waits_for_its_time_and_then_runs() {
    let server = Server::new();
    let key = "demo/ExampleTask/later";
    let input = r#"{"message":"m","delay_ms":0}"#;
    let at = from_now(Duration::from_secs(3));
    let created = server.run(&["create", key, "--input", input, "--run-at", &at]).exits(0);
    let said = format!("created {key}; run 1 is queued, due {} UTC, in ", at[..19].replace('T', " "));
    assert!(created.out.starts_with(&said), "{created:?}");
    let shown = server.run(&["show", key]).exits(0);
    assert!(shown.out.contains("  due         ") && shown.out.contains("UTC, in "), "{shown:?}");
    server.run(&["watch", key]).exits(0);
    let task = server.run(&["--json", "show", key]).exits(0).json();
    assert_eq!(task["run"], 1);
    let ended: Timestamp = task["completed_at"].as_str().unwrap().parse().unwrap();
    assert!(ended > at.parse().unwrap(), "not before its time: {task}");

    let wrong = server.run(&["create", "demo/ExampleTask/x", "--run-at", "tomorrow"]).exits(2);
    assert!(wrong.err.contains("RFC 3339"), "{wrong:?}");
}

#[test]
fn a_task_has_the_limits_that_it_was_created_with() {
    let server = Server::new();
    let key = "demo/ContinueTask/c";
    let limits = ["--max-retries", "2", "--timeout", "1", "--deadline", "90"];
    let create = ["create", key, "--input", r#"{"message":"m"}"#, "--start"];
    server.run(&[&create[..], &limits].concat()).exits(0);
    let shown = server.run(&["show", key]).exits(0);
    for part in [
        "retries     0 of 2\n",
        "timeout     1.0 s for each attempt\n",
        "deadline    1 min 30 s for each run\n",
    ] {
        assert!(shown.out.contains(part), "{part} in {}", shown.out);
    }
    let watched = server.run(&["watch", key]).exits(4);
    assert!(watched.out.contains("timeout    Timeout after 1 s\n"), "{watched:?}");
    for wrong in [["--timeout", "0"], ["--deadline", "soon"], ["--max-retries", "-1"]] {
        server.run(&[&["create", "demo/ContinueTask/x"][..], &wrong].concat()).exits(2);
    }
}

#[test]
fn a_watch_says_what_failed_and_when_the_next_attempt_comes() {
    let server = Server::new();
    let key = "demo/FailTask/f";
    let create = ["create", key, "--input", r#"{"message":"broken"}"#, "--max-retries", "1", "--start"];
    server.run(&create).exits(0);
    let watched = server.run(&["watch", key]).exits(1);
    let retry = watched.out.lines().find(|line| line.contains("  retry ")).unwrap_or_default();
    assert!(retry.contains("  attempt 2 in "), "{watched:?}");
    assert!(retry.contains(" s (up to 1 retry), after ") && retry.ends_with(": broken"), "{watched:?}");
    let shown = server.run(&["show", key]).exits(0);
    assert!(shown.out.contains("run         1 (attempt 2, ") && shown.out.contains("retries     1 of 1\n"));
}

#[test]
fn a_run_without_a_slot_has_its_place_in_the_queue() {
    let config = "[[model]]\napp = \"a\"\nmodel = \"Sleep\"\nrunner = \"exec\"\nmax_concurrent = 1\n\
                  command = [\"sleep\", \"600\"]\n";
    let server = Server::configured(config);
    for id in ["first", "second", "third"] {
        server.run(&["create", &format!("a/Sleep/{id}"), "--start"]).exits(0);
    }
    until(&server.url, "/tasks/a/Sleep/first", |task| task["status"] == "running");
    for (id, position) in [("second", 1), ("third", 2)] {
        let shown = server.run(&["show", &format!("a/Sleep/{id}")]).exits(0);
        let said = format!("  position    {position} in the queue of its model\n");
        assert!(shown.out.contains(&said), "{shown:?}");
    }
    server.run(&["cancel", "a/Sleep/second"]).exits(0);
    let shown = server.run(&["show", "a/Sleep/third"]).exits(0);
    assert!(shown.out.contains("  position    1 in the queue"), "{shown:?}");
}

#[test]
fn what_a_drain_cannot_wait_for_fails_without_retries_and_is_queued_with_them() {
    let mut server = Server::configured("shutdown_grace_seconds = 1");
    for (id, retries) in [("none", "0"), ("one", "1")] {
        let key = format!("demo/ContinueTask/{id}");
        let create = ["create", &key, "--input", r#"{"message":"m"}"#, "--max-retries", retries, "--start"];
        server.run(&create).exits(0);
        until(&server.url, &format!("/tasks/{key}"), |task| task["status"] == "running");
    }
    let mut watch = Running::new(&mut server.command(&["watch", "demo/ContinueTask/none"]));
    assert!(watch.line().contains("waiting"));
    let address = server.address();
    let running = server.take();
    running.signal(Signal::TERM);
    let (status, log) = running.ended();
    assert_eq!(status.code(), Some(0), "{log}");
    server.up(&address);
    let task = server.run(&["--json", "show", "demo/ContinueTask/none"]).exits(0).json();
    assert_eq!((&task["status"], &task["error_type"]), (&"failed".into(), &"Drained".into()));
    assert_eq!(watch.ended().0.code(), Some(1));
    let key = "demo/ContinueTask/one";
    let (task, _) = until(&server.url, &format!("/tasks/{key}"), |task| task["status"] == "running");
    assert_eq!((&task["run"], &task["retry_count"]), (&1.into(), &0.into()), "a drain costs no retry");
    server.run(&["signal", key, "continue"]).exits(0);
    let watched = server.run(&["watch", key]).exits(0);
    assert!(watched.out.contains(" at once (up to 1 retry), after Drained: "), "{watched:?}");
}

#[test]
fn the_commands_of_the_guide_work_as_they_stand() {
    let server = Server::new();
    let guide = include_str!("../../../../docs/guides/lifecycle.md");
    let blocks = guide.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let lines: Vec<_> = blocks
        .flat_map(str::lines)
        // The server is there, and a model of its own is shown with its table.
        .filter(|line| !line.starts_with("soloist serve") && !line.contains(" ask/"))
        .collect();
    assert!(lines.len() > 15, "{lines:?}");
    let program = server.command(&[]).get_program().to_owned();
    for line in lines {
        let mut shell = std::process::Command::new("sh");
        shell.current_dir(server.dir.path()).env("SOLOIST_URL", &server.url).arg("-c");
        shell.arg(format!("soloist() {{ \"$0\" \"$@\"; }}; {line}")).arg(&program);
        let done = Done::of(shell.output().unwrap());
        println!("$ {line}\n{}{}", done.out, done.err);
        // 1 and 4: a watch ends as its task ended.
        assert!(matches!(done.exit, 0 | 1 | 4), "{line}: {done:?}");
        assert!(done.err.is_empty(), "{line}: {done:?}");
    }
}
