//! `soloist cleanup` against a real server.

use super::program::Server;

#[test]
fn old_finished_tasks_are_deleted_with_their_events_and_nothing_else() {
    let server = Server::new();
    let input = r#"{"message":"m","delay_ms":0}"#;
    for id in ["done-1", "done-2"] {
        let key = format!("demo/ExampleTask/{id}");
        server.run(&["create", &key, "--input", input, "--start"]).exits(0);
        server.run(&["watch", &key]).exits(0);
    }
    server.run(&["create", "demo/FailTask/failed", "--input", r#"{"message":"m"}"#, "--start"]).exits(0);
    server.run(&["watch", "demo/FailTask/failed"]).exits(1);
    server.run(&["create", "demo/ExampleTask/pending", "--input", input]).exits(0);
    server.run(&["create", "demo/ContinueTask/runs", "--input", r#"{"message":"m"}"#, "--start"]).exits(0);

    let young = server.run(&["cleanup", "--hours", "1"]).exits(0);
    assert_eq!(young.out, "deleted 0 tasks (0 events) that ended more than 1 hour ago\n");
    let dry = server.run(&["cleanup", "--hours", "0", "--dry-run"]).exits(0);
    let lines: Vec<_> = dry.out.lines().collect();
    assert_eq!(lines.len(), 4, "{dry:?}");
    assert!(lines[0].starts_with("demo/ExampleTask/done-2  completed  5 events"), "{dry:?}");
    assert!(lines[3].starts_with("would delete 3 tasks (1"), "{dry:?}");
    let count = |args: &[&str]| {
        let listed = server.run(&[&["--json", "list"], args].concat()).exits(0).json();
        listed["tasks"].as_array().unwrap().len()
    };
    assert_eq!(count(&[]), 5, "a dry run deletes nothing");

    let one = server.run(&["--json", "cleanup", "--hours", "0", "--model", "FailTask"]).exits(0).json();
    assert_eq!((&one["tasks"], &one["skipped"], &one["dry_run"]), (&1.into(), &0.into(), &false.into()));
    let rest = server.run(&["cleanup", "--hours", "0"]).exits(0);
    assert_eq!(rest.out, "deleted 2 tasks (10 events) that ended more than 0 hours ago\n");
    assert_eq!(count(&[]), 2);
    assert_eq!((count(&["--status", "pending"]), count(&["--status", "running"])), (1, 1));
    server.run(&["show", "demo/ExampleTask/done-1"]).exits(3);
    server.run(&["cleanup"]).exits(2);
}

#[test]
fn only_what_ended_as_named_is_deleted() {
    let server = Server::new();
    let input = r#"{"message":"m","delay_ms":0}"#;
    server.run(&["create", "demo/ExampleTask/done", "--input", input, "--start"]).exits(0);
    server.run(&["watch", "demo/ExampleTask/done"]).exits(0);
    server.run(&["create", "demo/FailTask/failed", "--input", r#"{"message":"m"}"#, "--start"]).exits(0);
    server.run(&["watch", "demo/FailTask/failed"]).exits(1);
    let cleaned = |status| {
        let args = ["--json", "cleanup", "--hours", "0", "--status", status];
        server.run(&args).exits(0).json()["tasks"].clone()
    };
    assert_eq!(cleaned("cancelled"), 0);
    assert_eq!(cleaned("failed"), 1);
    server.run(&["show", "demo/FailTask/failed"]).exits(3);
    server.run(&["show", "demo/ExampleTask/done"]).exits(0);
    assert_eq!(cleaned("completed"), 1);
    let wrong = server.run(&["cleanup", "--hours", "0", "--status", "running"]).exits(2);
    assert!(wrong.err.contains("possible values: completed, failed, cancelled"), "{wrong:?}");
}

#[test]
fn the_events_of_a_task_that_was_created_anew_are_counted_without_those_of_the_deleted_one() {
    let server = Server::new();
    let key = "demo/ExampleTask/a";
    for runs in [1, 2] {
        server.run(&["create", key, "--input", r#"{"message":"m","delay_ms":0}"#]).exits(0);
        for _ in 0..runs {
            server.run(&["start", key]).exits(0);
            server.run(&["watch", key]).exits(0);
        }
        let events = 5 * runs;
        let dry = server.run(&["cleanup", "--hours", "0", "--dry-run"]).exits(0);
        assert!(dry.out.contains(&format!("completed  {events} events")), "{dry:?}");
        let cleaned = server.run(&["--json", "cleanup", "--hours", "0"]).exits(0).json();
        assert_eq!((&cleaned["tasks"], &cleaned["events"]), (&1.into(), &events.into()));
    }
}
