//! `soloist run`: a command that is started once, here, and seen everywhere.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use rustix::process::{Signal, test_kill_process};
use serde_json::json;

use super::{
    http::{call, until},
    program::{Done, Running, Server, soloist},
};

/// `soloist --json run --id ID -- sh -c SCRIPT` beside a server, on its store.
fn run(server: &Server, id: &str, script: &str) -> Command {
    let mut command = soloist(server.dir.path());
    command.args(["--json", "run", "--id", id, "--", "sh", "-c", script]);
    command
}

fn value(line: &str) -> serde_json::Value {
    serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))
}

#[test]
fn the_command_gets_what_the_caller_has_and_its_end_is_the_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    let script = "cat; echo \"$SOLOIST_TASK_ID $MINE {input.x} $#\"; pwd; echo oops >&2";
    let mut command = soloist(dir.path());
    let args = ["run", "--id", "a", "--", "sh", "-c", script, "name", "{", "one arg"];
    command.args(args).env("MINE", "yes").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"from stdin\n").unwrap();
    let done = Done::of(child.wait_with_output().unwrap()).exits(0);
    let here = dir.path().canonicalize().unwrap().display().to_string();
    for line in ["from stdin", "a yes {input.x} 2", &here, "oops"] {
        assert!(done.out.lines().any(|shown| shown.ends_with(line)), "{line}: {done:?}");
    }
    assert!(done.err.contains("cli/run/a: run 1 begins"), "{done:?}");
    let soloist = |args: &[&str]| Done::of(soloist(dir.path()).args(args).output().unwrap());
    soloist(&["run", "--id", "b", "--", "sh", "-c", "exit 7"]).exits(1);
    soloist(&["run", "--id", "b", "--policy", "once", "--", "true"]).exits(1);
    soloist(&["run", "--id", "b", "--policy", "once", "--attached-exit-code", "42", "--", "true"]).exits(42);
    soloist(&["run", "--id", "b", "--attached-exit-code", "42", "--", "true"]).exits(0);
    assert!(soloist(&["run", "--", "nosuch"]).exits(1).out.contains("it was not found in the PATH"));
    soloist(&["run", "--id", "not valid", "--", "true"]).exits(2);
    soloist(&["run", "--store", "memory:", "--", "true"]).exits(2);
    soloist(&["run"]).exits(2);
}

#[test]
fn a_server_on_the_store_shows_and_cancels_the_run_and_never_starts_it() {
    let server = Server::new();
    let mut running = Running::new(&mut run(&server, "x", "echo one; exec sleep 600"));
    let begun = value(&running.line());
    assert_eq!((&begun["started"], &begun["run"]), (&json!(true), &json!(1)));
    assert_eq!(value(&running.line())["data"]["line"], "one");
    let mut watch = Running::new(server.command(&["watch", "cli/run/x"]).env("SOLOIST_URL", &server.url));
    assert!(watch.line().ends_with("one"));

    // A second caller attaches, from the beginning.
    let mut second = Running::new(&mut run(&server, "x", "echo two"));
    let attached = value(&second.line());
    assert_eq!((&attached["started"], &attached["run"]), (&json!(false), &json!(1)));
    assert!(attached["node"].as_str().unwrap().starts_with("node-"), "{attached}");
    assert_eq!(value(&second.line())["data"]["line"], "one");

    let started = call(&server.url, "POST", "/tasks/cli/run/x/start", None, "");
    assert_eq!((started.status, &started.body["code"]), (409, &json!("not_served")));
    server.run(&["cancel", "cli/run/x", "--reason", "enough", "--wait"]).exits(0);
    assert!(watch.line().ends_with("enough"));
    for ended in [running, second] {
        assert_eq!(ended.ended().0.code(), Some(4));
    }
    let again = call(&server.url, "POST", "/tasks/cli/run/x/start", None, "");
    assert_eq!((again.status, &again.body["code"]), (409, &json!("not_served")), "not after its end, either");
    let created = call(&server.url, "PUT", "/tasks/cli/run/y", None, "{}");
    assert_eq!((created.status, &created.body["code"]), (409, &json!("not_served")));
}

#[test]
fn a_caller_that_is_killed_takes_its_command_along_and_the_others_are_told() {
    let server = Server::new();
    let mut running = Running::new(&mut run(&server, "x", "echo $$; exec sleep 600"));
    assert_eq!(value(&running.line())["started"], true);
    let line = value(&running.line());
    let command = line["data"]["line"].as_str().unwrap().parse().unwrap();
    let command = rustix::process::Pid::from_raw(command).unwrap();
    let mut second = Running::new(&mut run(&server, "x", "true"));
    assert_eq!(value(&second.line())["started"], false);
    running.signal(Signal::KILL);
    running.ended();
    let (task, took) = until(&server.url, "/tasks/cli/run/x", |task| task["status"] == "failed");
    println!("the death was on record after {took:?}");
    assert_eq!((&task["error_type"], &task["epoch"]), (&json!("NodeLost"), &json!(2)));
    assert_eq!(second.ended().0.code(), Some(1));
    let begun = std::time::Instant::now();
    while test_kill_process(command).is_ok() {
        assert!(begun.elapsed() < super::program::DEADLINE, "the command has outlived its caller");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert_eq!(Done::of(run(&server, "x", "true").output().unwrap()).exits(0).out.lines().count(), 2);
}

#[test]
fn an_interrupt_cancels_the_run_here_and_only_lets_go_of_one_elsewhere() {
    let server = Server::new();
    let mut running = Running::new(&mut run(
        &server,
        "x",
        "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done",
    ));
    assert_eq!(value(&running.line())["started"], true);
    assert_eq!(value(&running.line())["data"]["line"], "up");
    let mut second = Running::new(&mut run(&server, "x", "true"));
    assert_eq!(value(&second.line())["started"], false);
    second.signal(Signal::INT);
    assert_eq!(second.ended().0.code(), Some(130), "nothing of the run was cancelled");
    assert_eq!(call(&server.url, "GET", "/tasks/cli/run/x", None, "").body["status"], "running");
    running.signal(Signal::INT);
    // The shell may also say that its `sleep` was terminated, before or after that.
    while value(&running.line())["data"]["line"] != "bye" {}
    let ending =
        std::iter::repeat_with(|| value(&running.line())).find(|event| event["type"] != "log").unwrap();
    assert_eq!((&ending["type"], &ending["data"]["reason"]), (&json!("cancelled"), &json!("interrupted")));
    assert_eq!(running.ended().0.code(), Some(4));
}

#[test]
fn a_reader_that_goes_away_or_output_that_cannot_be_written_does_not_stop_the_command() {
    for json in [&["--json"][..], &[]] {
        for full in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let mut command = soloist(dir.path());
            command.args(json).args(["run", "--", "sh", "-c", "seq 1 20000; echo through > through"]);
            if full {
                command.stdout(std::fs::File::options().write(true).open("/dev/full").unwrap());
            } else {
                // Closed at its other end before anything is written.
                let (read, write) = std::io::pipe().unwrap();
                drop(read);
                command.stdout(write);
            }
            let done = Done::of(command.stderr(Stdio::piped()).output().unwrap()).exits(0);
            assert_eq!(std::fs::read_to_string(dir.path().join("through")).unwrap(), "through\n", "{json:?}");
            assert_eq!(done.err.contains("cannot write to standard output"), full, "{done:?}");
        }
    }
}

#[test]
fn signals_count_while_nobody_reads_the_output() {
    for json in [&["--json"][..], &[]] {
        let dir = tempfile::tempdir().unwrap();
        // A pipe that is full already, and stays so.
        let (read, write) = std::io::pipe().unwrap();
        rustix::fs::fcntl_setfl(&write, rustix::fs::OFlags::NONBLOCK).unwrap();
        while rustix::io::write(&write, &[b'x'; 4096]).is_ok() {}
        rustix::fs::fcntl_setfl(&write, rustix::fs::OFlags::empty()).unwrap();
        let mut command = soloist(dir.path());
        command.args(json).args(["run", "--id", "x", "--", "sh", "-c", "echo up; echo > up; exec sleep 600"]);
        let stderr = if json.is_empty() { write.try_clone().unwrap().into() } else { Stdio::null() };
        let mut child = command.stdout(write).stderr(stderr).spawn().unwrap();
        let begun = std::time::Instant::now();
        while !dir.path().join("up").exists() {
            assert!(begun.elapsed() < super::program::DEADLINE);
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        // The first cancels the run; as its end cannot be shown, the second ends the process.
        let store = || rusqlite::Connection::open(dir.path().join("soloist.db")).unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, Signal::TERM).unwrap();
        let status =
            || store().query_row("SELECT status FROM task", [], |row| row.get::<_, String>(0)).unwrap();
        while status() != "cancelled" {
            assert!(begun.elapsed() < super::program::DEADLINE, "{}", status());
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        rustix::process::kill_process(pid, Signal::TERM).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(143));
        drop(read);
    }
}

#[test]
fn one_signal_ends_the_command_also_where_the_store_cannot_take_the_cancel() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = soloist(dir.path());
    let mut running =
        Running::new(command.args(["--json", "run", "--", "sh", "-c", "echo up; exec sleep 600"]));
    assert_eq!(value(&running.line())["started"], true);
    assert_eq!(value(&running.line())["data"]["line"], "up");
    let store = rusqlite::Connection::open(dir.path().join("soloist.db")).unwrap();
    store.execute_batch("BEGIN IMMEDIATE").unwrap();
    running.signal(Signal::TERM);
    assert_eq!(running.ended().0.code(), Some(143));
}

#[test]
fn a_second_signal_is_the_exit_code_whatever_becomes_of_the_run() {
    for _ in 0..3 {
        let server = Server::new();
        let script = "trap '' TERM; echo up; while :; do sleep 0.05; done";
        let mut running = Running::new(&mut run(&server, "x", script));
        assert_eq!(value(&running.line())["started"], true);
        assert_eq!(value(&running.line())["data"]["line"], "up");
        running.signal(Signal::INT);
        until(&server.url, "/tasks/cli/run/x", |task| task["status"] == "cancelling");
        running.signal(Signal::TERM);
        assert_eq!(running.ended().0.code(), Some(143));
    }
}

#[test]
fn an_attached_call_does_not_take_a_task_that_was_made_anew_for_the_one_that_it_watched() {
    let server = Server::new();
    let mut running = Running::new(&mut run(&server, "x", "echo up; exec sleep 600"));
    assert_eq!(value(&running.line())["started"], true);
    let mut second = Running::new(&mut run(&server, "x", "true"));
    assert_eq!(value(&second.line())["started"], false);
    assert_eq!(value(&second.line())["data"]["line"], "up");
    second.signal(Signal::STOP);
    server.run(&["cancel", "cli/run/x", "--wait"]).exits(0);
    running.ended();
    server.run(&["cleanup", "--hours", "0"]).exits(0);
    let mut anew = Running::new(&mut run(&server, "x", "echo up; exec sleep 600"));
    assert_eq!(value(&anew.line())["run"], 2);
    second.signal(Signal::CONT);
    let (status, err) = second.ended();
    assert_eq!(status.code(), Some(3), "{err}");
    assert!(err.contains("how run 1 of cli/run/x ended is not on record any more"), "{err}");
}

#[test]
fn an_attached_call_says_that_the_store_is_corrupt_and_does_not_ask_for_ever() {
    let server = Server::new();
    let mut running = Running::new(&mut run(&server, "x", "echo up; exec sleep 600"));
    assert_eq!(value(&running.line())["started"], true);
    assert_eq!(value(&running.line())["data"]["line"], "up");
    let store = rusqlite::Connection::open(server.dir.path().join("soloist.db")).unwrap();
    let broken = "UPDATE event SET data = CAST(x'ff' AS TEXT)";
    assert_eq!(store.execute(broken, []).unwrap(), 1);
    let done = Done::of(run(&server, "x", "true").output().unwrap()).exits(5);
    assert!(done.err.contains("store_corrupt"), "{done:?}");
    // The call whose command runs goes on.
    running.signal(Signal::INT);
    assert_eq!(value(&running.line())["type"], "cancelled");
    assert_eq!(running.ended().0.code(), Some(4));
}

#[test]
fn a_terminal_that_closes_cancels_the_run_and_its_stop_key_does_not_suspend_it() {
    let dir = tempfile::tempdir().unwrap();
    let script = "echo up; read go < go; echo on; exec sleep 600";
    assert!(Command::new("mkfifo").arg(dir.path().join("go")).status().unwrap().success());
    let mut command = soloist(dir.path());
    let mut running = Running::new(command.args(["--json", "run", "--", "sh", "-c", script]));
    assert_eq!(value(&running.line())["started"], true);
    assert_eq!(value(&running.line())["data"]["line"], "up");
    running.signal(Signal::TSTP);
    std::fs::write(dir.path().join("go"), "go\n").unwrap();
    assert_eq!(value(&running.line())["data"]["line"], "on", "it was not suspended");
    running.signal(Signal::HUP);
    assert_eq!(value(&running.line())["type"], "cancelled");
    assert_eq!(running.ended().0.code(), Some(4));
}

#[test]
fn under_nohup_the_end_of_the_terminal_is_ignored() {
    let dir = tempfile::tempdir().unwrap();
    let program = soloist(dir.path());
    let mut shell = Command::new("sh");
    shell.current_dir(dir.path()).args(["-c", "trap '' HUP; exec \"$0\" \"$@\""]).arg(program.get_program());
    shell.args(["--json", "run", "--", "sh", "-c", "echo up; read go < go; echo on"]);
    assert!(Command::new("mkfifo").arg(dir.path().join("go")).status().unwrap().success());
    let mut running = Running::new(&mut shell);
    assert_eq!(value(&running.line())["started"], true);
    assert_eq!(value(&running.line())["data"]["line"], "up");
    running.signal(Signal::HUP);
    std::fs::write(dir.path().join("go"), "go\n").unwrap();
    assert_eq!(value(&running.line())["data"]["line"], "on");
    assert_eq!(running.ended().0.code(), Some(0));
}

#[test]
fn a_command_that_runs_its_own_id_is_refused_and_does_not_wait_for_itself() {
    let dir = tempfile::tempdir().unwrap();
    let program = soloist(dir.path()).get_program().to_owned();
    let mut command = soloist(dir.path());
    command.args(["run", "--id", "x", "--"]).arg(&program).args(["run", "--id", "x", "--", "echo", "hi"]);
    let done = Done::of(command.output().unwrap()).exits(1);
    assert!(done.out.contains("would wait for itself") && done.out.contains("exit code 6"), "{done:?}");
    let mut command = soloist(dir.path());
    command.args(["run", "--id", "x", "--"]).arg(&program).args(["run", "--id", "y", "--", "echo", "hi"]);
    Done::of(command.output().unwrap()).exits(0);
}

#[test]
fn a_model_of_the_configuration_cannot_take_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let model = "[[model]]\napp = \"cli\"\nmodel = \"run\"\nrunner = \"exec\"\ncommand = [\"true\"]\n";
    std::fs::write(dir.path().join("soloist.toml"), model).unwrap();
    let refused = Done::of(soloist(dir.path()).args(["config", "check"]).output().unwrap()).exits(2);
    assert!(refused.err.contains("soloist run"), "{refused:?}");
}
