//! Every command against a real server, for people and for machines.

use std::{io::Write as _, process::Stdio};

use super::program::{Done, Server, soloist};

#[test]
fn a_task_is_created_started_once_watched_and_shown() {
    let server = Server::new();
    let created = server
        .run(&["create", "demo/ExampleTask", "--input", r#"{"message":"Hello","delay_ms":1500}"#])
        .exits(0);
    assert!(created.out.starts_with("created demo/ExampleTask/1; it is pending"), "{created:?}");
    let key = "demo/ExampleTask/1";
    assert_eq!(server.run(&["start", key]).exits(0).out, "started demo/ExampleTask/1: run 1\n");
    let again = server.run(&["start", key]).exits(0);
    assert!(again.out.starts_with("demo/ExampleTask/1 is running already: run 1 on node-"), "{again:?}");
    let again = server.run(&["--json", "start", key]).exits(0).json();
    assert_eq!(
        (&again["started"], &again["run"], &again["status"]),
        (&false.into(), &1.into(), &"running".into())
    );

    let watched = server.run(&["watch", key]).exits(0);
    let lines: Vec<_> = watched.out.lines().collect();
    assert_eq!(lines.len(), 5, "{watched:?}");
    assert!(lines[0].contains("start") && lines[0].ends_with("Hello"), "{watched:?}");
    assert!(lines[4].contains("complete"), "{watched:?}");
    let late = server.run(&["--json", "watch", key, "--from", "3"]).exits(0);
    let seqs: Vec<_> = late
        .out
        .lines()
        .map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap()["seq"].clone())
        .collect();
    assert_eq!(seqs, [4, 5]);
    assert_eq!(server.run(&["watch", key, "--from", "5"]).exits(0).out, "", "there is nothing left to see");

    let once = server.run(&["start", key, "--policy", "once"]).exits(0);
    assert!(once.out.contains("is completed already: run 1"), "{once:?}");
    let shown = server.run(&["show", key]).exits(0);
    for part in [
        "demo/ExampleTask/1  completed",
        "run         1 (attempt 1",
        "input       {\"message\":\"Hello\"",
        "final value ",
    ] {
        assert!(shown.out.contains(part), "{part} in {}", shown.out);
    }
    assert_eq!(server.run(&["show", key, "--json"]).exits(0).json()["status"], "completed");
}

#[test]
fn the_exit_code_of_a_watch_is_how_the_task_ended() {
    let server = Server::new();
    server.run(&["create", "demo/FailTask/f", "--input", r#"{"message":"broken"}"#, "--start"]).exits(0);
    let failed = server.run(&["watch", "demo/FailTask/f"]).exits(1);
    assert!(failed.out.lines().last().unwrap().ends_with("broken"), "{failed:?}");
    assert!(server.run(&["show", "demo/FailTask/f"]).exits(0).out.contains("traceback"));

    server.run(&["create", "demo/ContinueTask/c", "--input", r#"{"message":"m"}"#, "--start"]).exits(0);
    let cancelled = server.run(&["cancel", "demo/ContinueTask/c", "--reason", "no more", "--wait"]).exits(0);
    assert_eq!(cancelled.out, "demo/ContinueTask/c is cancelled: run 1\n");
    assert!(server.run(&["watch", "demo/ContinueTask/c"]).exits(4).out.contains("no more"));
    let last = server.run(&["show", "--json", "demo/ContinueTask/c"]).json()["last_seq"].to_string();
    server.run(&["watch", "demo/ContinueTask/c", "--from", &last]).exits(4);
    server.run(&["cancel", "demo/ContinueTask/c"]).exits(6);
}

#[test]
fn a_watch_from_the_end_of_an_older_run_tells_of_that_run_and_names_the_newer_one() {
    let server = Server::new();
    let key = "demo/ContinueTask/c";
    let last = || server.run(&["--json", "show", key]).exits(0).json()["last_seq"].to_string();
    server.run(&["create", key, "--input", r#"{"message":"m"}"#, "--start"]).exits(0);
    server.run(&["cancel", key, "--wait"]).exits(0);
    let first = last();
    let done = server.run(&["watch", key, "--from", &first]).exits(4);
    assert_eq!((done.out, done.err), (String::new(), String::new()));
    server.run(&["start", key]).exits(0);
    let said = |status: &str| {
        format!("event {first} of {key} ended run 1; run 2 is {status}, and `soloist watch {key}` shows it\n")
    };
    assert_eq!(server.run(&["watch", key, "--from", &first]).exits(4).err, said("running"));
    server.run(&["signal", key, "continue"]).exits(0);
    server.run(&["watch", key]).exits(0);
    assert_eq!(server.run(&["watch", key, "--from", &first]).exits(4).err, said("completed"));
    assert_eq!(server.run(&["watch", key, "--from", &last()]).exits(0).err, "");

    // Created anew: its log goes on, and how the old one ended is gone with it.
    let old = last();
    server.run(&["cleanup", "--hours", "0"]).exits(0);
    server.run(&["create", key, "--input", r#"{"message":"m"}"#, "--start"]).exits(0);
    let refused = server.run(&["watch", key, "--from", &old]).exits(6);
    assert!(refused.err.contains("not on record any more; run 3 is running"), "{refused:?}");
}

#[test]
fn a_cancel_that_names_another_run_leaves_the_active_one_alone() {
    let server = Server::new();
    let key = "demo/ContinueTask/c";
    server.run(&["create", key, "--input", r#"{"message":"m"}"#, "--start"]).exits(0);
    server.run(&["cancel", key, "--run", "7"]).exits(6);
    let signalled = server.run(&["signal", key, "continue", r#"{"go":1}"#]).exits(0);
    assert_eq!(signalled.out, "signal 1 of run 1 of demo/ContinueTask/c is on record\n");
    server.run(&["watch", key]).exits(0);
    assert_eq!(server.run(&["show", "--json", key]).json()["final_value"]["go"], 1);
    server.run(&["signal", key, "continue"]).exits(6);
}

#[test]
fn input_comes_as_text_from_a_file_or_from_standard_input() {
    let server = Server::new();
    std::fs::write(server.dir.path().join("in.json"), r#"{"message":"file"}"#).unwrap();
    let created =
        server.run(&["--json", "create", "demo/ExampleTask/a", "--input", "@in.json"]).exits(0).json();
    assert_eq!((&created["input"]["message"], &created["status"]), (&"file".into(), &"pending".into()));
    let mut piped = server.command(&["--json", "create", "demo/ExampleTask/b", "--input", "-"]);
    let mut piped =
        piped.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    piped.stdin.take().unwrap().write_all(br#"{"message":"pipe"}"#).unwrap();
    let piped = Done::of(piped.wait_with_output().unwrap()).exits(0);
    assert_eq!(piped.json()["input"]["message"], "pipe");

    let again = server.run(&["create", "demo/ExampleTask/a", "--input", r#"{ "message": "file" }"#]).exits(0);
    assert!(again.out.contains("is there already, with the same input"), "{again:?}");
    server.run(&["create", "demo/ExampleTask/a", "--input", r#"{"message":"other"}"#]).exits(6);
    for (input, said) in [("{", "the input is not JSON"), ("@none", "cannot read the input from none")] {
        let wrong = server.run(&["create", "demo/ExampleTask/x", "--input", input]).exits(2);
        assert!(wrong.err.contains(said), "{wrong:?}");
    }
    server.run(&["show", "demo/ExampleTask/x"]).exits(3);
}

#[test]
fn what_cannot_be_done_has_its_own_exit_code_and_says_why() {
    let server = Server::new();
    for (args, exit, said) in [
        (&["show", "demo/ExampleTask/none"][..], 3, "there is no task demo/ExampleTask/none"),
        (&["start", "demo/ExampleTask/none"], 3, "demo/ExampleTask/none"),
        (&["watch", "demo/ExampleTask/none"], 3, "demo/ExampleTask/none"),
        (&["create", "demo/Nothing"], 3, "demo/Nothing"),
        (&["create", "demo/ExampleTask", "--input", "{\"x\":1}"], 6, "unknown field"),
        (&["show", "demo/ExampleTask"], 2, "a key is app/model/id"),
        (&["show", "demo/ExampleTask/.."], 2, "the id"),
        (&["list", "--status", "lost"], 2, "possible values"),
        (&["list", "--cursor", "x"], 6, "cursor"),
    ] {
        let done = server.run(args).exits(exit);
        assert!(done.err.contains(said) && done.out.is_empty(), "{args:?}: {done:?}");
    }
    let error = server.run(&["--json", "show", "demo/ExampleTask/none"]).exits(3);
    let error: serde_json::Value = serde_json::from_str(&error.err).unwrap();
    assert_eq!((&error["code"], &error["exit"]), (&"unknown_task".into(), &3.into()));
    let dir = tempfile::tempdir().unwrap();
    let nobody =
        Done::of(soloist(dir.path()).args(["--url", "unix:not-there", "list"]).output().unwrap()).exits(5);
    assert!(nobody.err.contains("is `soloist serve` running?"), "{nobody:?}");
    assert!(
        Done::of(soloist(dir.path()).arg("--help").output().unwrap()).exits(0).out.contains("7  not allowed")
    );
}

#[test]
fn a_list_is_in_columns_and_goes_on_page_by_page() {
    let server = Server::new();
    assert!(server.run(&["list"]).exits(0).err.contains("no tasks"));
    for id in ["a", "bcdef", "g"] {
        server.run(&["create", &format!("demo/ExampleTask/{id}"), "--input", "{\"message\":\"m\"}"]).exits(0);
    }
    let list = server.run(&["list"]).exits(0);
    let column = |line: &str| line.find("pending").or_else(|| line.find("STATUS"));
    assert_eq!(list.out.lines().count(), 4, "{list:?}");
    assert!(
        list.out.lines().all(|line| column(line) == Some("demo/ExampleTask/bcdef".len() + 2)),
        "{}",
        list.out
    );
    let page = server.run(&["--json", "list", "--limit", "2"]).exits(0).json();
    assert_eq!(page["tasks"][0]["id"], "g");
    let cursor = page["next_cursor"].as_str().unwrap();
    let rest = server.run(&["--json", "list", "--limit", "2", "--cursor", cursor]).exits(0).json();
    assert_eq!((&rest["tasks"][0]["id"], &rest["next_cursor"]), (&"a".into(), &serde_json::Value::Null));
    assert!(server.run(&["list", "--limit", "2"]).err.contains("more: --cursor"));
    assert!(server.run(&["list", "--status", "running"]).err.contains("no tasks"));
}

#[test]
fn the_description_of_the_api_is_json() {
    let dir = tempfile::tempdir().unwrap();
    let openapi = Done::of(soloist(dir.path()).arg("openapi").output().unwrap()).exits(0).json();
    assert_eq!(openapi["openapi"], "3.1.0");
}
