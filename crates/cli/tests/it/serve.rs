//! How a server comes up and goes down.

use std::{fs, os::unix::fs::PermissionsExt, time::Instant};

use rustix::process::Signal;

use super::program::{DEADLINE, Done, Running, Server, soloist};

#[test]
fn a_taken_port_is_told_and_the_store_is_not_touched() {
    let server = Server::new();
    let dir = tempfile::tempdir().unwrap();
    let second =
        Done::of(soloist(dir.path()).args(["serve", "--listen", &server.address()]).output().unwrap())
            .exits(6);
    assert!(second.err.contains(&server.address()) && second.err.contains("--listen"), "{second:?}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_store_that_cannot_be_opened_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["serve", "--listen", "127.0.0.1:0", "--store", "sqlite://not/there/soloist.db"];
    let done = Done::of(soloist(dir.path()).args(args).output().unwrap()).exits(5);
    assert!(done.err.contains("not/there/soloist.db"), "{done:?}");
}

#[test]
fn a_stop_lets_work_finish_and_its_viewers_see_the_end() {
    let mut server = Server::new();
    let key = "demo/ExampleTask/e";
    server.run(&["create", key, "--input", r#"{"message":"m","delay_ms":1500}"#, "--start"]).exits(0);
    let mut watch = Running::new(&mut server.command(&["watch", key]));
    assert!(watch.line().contains("start"));
    let running = server.take();
    running.signal(Signal::TERM);
    let (status, log) = running.ended();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("stopping") && log.contains("stopped"), "{log}");
    assert_eq!(watch.ended().0.code(), Some(0));
    server.up("127.0.0.1:0");
    assert_eq!(server.run(&["show", "--json", key]).json()["status"], "completed");
}

#[test]
fn a_second_signal_ends_the_server_at_once() {
    let mut server = Server::new();
    server.run(&["create", "demo/ContinueTask/c", "--input", r#"{"message":"m"}"#, "--start"]).exits(0);
    let running = server.take();
    running.signal(Signal::INT);
    // It is stopping once it takes no more starts.
    let begun = Instant::now();
    while !server.run(&["start", "demo/ContinueTask/c"]).err.contains("shutting down") {
        assert!(begun.elapsed() < DEADLINE, "it does not stop");
    }
    running.signal(Signal::INT);
    assert_eq!(running.ended().0.code(), Some(1));
    server.up("127.0.0.1:0");
    assert_eq!(server.run(&["show", "--json", "demo/ContinueTask/c"]).json()["error_type"], "Drained");
}

#[test]
fn a_second_signal_ends_the_commands_that_run_with_the_server() {
    let config = "[[model]]\napp = \"a\"\nmodel = \"Sleep\"\nrunner = \"exec\"\nshell = true\n\
                  command = [\"echo $$ > pid; exec sleep 600\"]\n";
    let mut server = Server::configured(config);
    server.run(&["create", "a/Sleep/1", "--start"]).exits(0);
    let begun = Instant::now();
    let process = loop {
        assert!(begun.elapsed() < DEADLINE, "the command does not begin");
        match fs::read_to_string(server.dir.path().join("pid")) {
            Ok(pid) if pid.ends_with('\n') => break format!("/proc/{}/cmdline", pid.trim()),
            _ => std::thread::yield_now(),
        }
    };
    let sleeps = || fs::read_to_string(&process).is_ok_and(|line| !line.is_empty());
    // While the shell becomes another program it has no command line.
    while !sleeps() {
        assert!(begun.elapsed() < DEADLINE, "the command does not run");
    }
    let running = server.take();
    running.signal(Signal::TERM);
    while !server.run(&["start", "a/Sleep/1"]).err.contains("shutting down") {
        assert!(begun.elapsed() < DEADLINE, "it does not stop");
    }
    running.signal(Signal::TERM);
    assert_eq!(running.ended().0.code(), Some(1));
    while sleeps() {
        assert!(begun.elapsed() < DEADLINE, "the command outlives its server");
    }
}

#[test]
fn a_unix_socket_is_its_users_alone_outlives_no_stop_and_is_taken_over_from_the_dead() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s.sock");
    let address = format!("unix:{}", socket.display());
    let mut server = Server::listening(&address);
    assert_eq!(server.url, address);
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    server.run(&["create", "demo/ExampleTask/a", "--input", r#"{"message":"m","delay_ms":1}"#]).exits(0);
    server.run(&["watch", "demo/ExampleTask/a"]).exits(0);

    let other = tempfile::tempdir().unwrap();
    let second =
        Done::of(soloist(other.path()).args(["serve", "--listen", &address]).output().unwrap()).exits(6);
    assert!(second.err.contains("belongs to another server"), "{second:?}");
    server.run(&["list"]).exits(0);

    let killed = server.take();
    killed.signal(Signal::KILL);
    killed.ended();
    assert!(socket.exists(), "a killed server cleans nothing up");
    server.up(&address);
    server.run(&["show", "demo/ExampleTask/a"]).exits(0);
    let stopped = server.take();
    stopped.signal(Signal::TERM);
    assert_eq!(stopped.ended().0.code(), Some(0));
    assert!(!socket.exists());
}

#[test]
fn machines_read_where_it_listens_as_json() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["--json", "serve", "--listen", "127.0.0.1:0", "--store", "memory:"];
    let mut server = Running::new(soloist(dir.path()).args(args));
    let said: serde_json::Value = serde_json::from_str(&server.line()).unwrap();
    assert!(said["listening"].as_str().unwrap().starts_with("http://127.0.0.1:"), "{said}");
    assert_eq!((&said["store"], &said["models"]), (&"memory:".into(), &serde_json::json!([])));
}

#[test]
fn a_command_of_the_configuration_is_run_once_for_two_starts_and_streamed() {
    let dir = tempfile::tempdir().unwrap();
    let file = "listen = \"127.0.0.1:0\"\n[[model]]\napp = \"t\"\nmodel = \"Echo\"\nrunner = \"exec\"\n\
                command = [\"sh\", \"-c\", \"read line; echo got $line $MODE $0; echo ran >> ran\", \"{input.word}\"]\n\
                env = { MODE = \"${WHICH}\" }\n";
    fs::write(dir.path().join("soloist.toml"), file).unwrap();
    let mut server = Running::new(soloist(dir.path()).arg("serve").env("WHICH", "fast"));
    let line = server.line();
    let url = line.split(' ').nth(2).unwrap().to_owned();
    let run =
        |args: &[&str]| Done::of(soloist(dir.path()).args(args).env("SOLOIST_URL", &url).output().unwrap());
    run(&["create", "t/Echo/1", "--input", r#"{"word":"hi"}"#]).exits(0);
    run(&["start", "t/Echo/1", "--policy", "once"]).exits(0);
    run(&["start", "t/Echo/1", "--policy", "once"]).exits(0);
    let watched = run(&["watch", "t/Echo/1"]).exits(0);
    assert!(watched.out.contains("got {\"word\":\"hi\"} fast hi"), "{watched:?}");
    assert_eq!(fs::read_to_string(dir.path().join("ran")).unwrap(), "ran\n");
}
