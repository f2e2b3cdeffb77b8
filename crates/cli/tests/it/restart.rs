//! A watch survives its server.

use rustix::process::Signal;
use serde_json::Value;

use super::program::{Running, Server};

#[test]
fn a_watch_goes_on_over_a_killed_server_without_losing_or_doubling_an_event() {
    let mut server = Server::new();
    let key = "demo/ContinueTask/c";
    server.run(&["create", key, "--input", r#"{"message":"m"}"#, "--start"]).exits(0);
    let mut watch = Running::new(&mut server.command(&["--json", "watch", key, "--follow"]));
    let mut next = || {
        let line = watch.line();
        let event: Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"));
        (
            event["seq"].as_u64().unwrap(),
            event["run"].as_u64().unwrap(),
            event["type"].as_str().unwrap().to_owned(),
            event,
        )
    };
    let (seq, run, kind, _) = next();
    assert_eq!((seq, run, kind.as_str()), (1, 1, "waiting"));

    let address = server.address();
    let killed = server.take();
    killed.signal(Signal::KILL);
    killed.ended();
    server.up(&address);
    let (seq, run, kind, event) = next();
    assert_eq!((seq, run, kind.as_str()), (2, 1, "error"), "the run that died with its server was ended");
    assert_eq!(event["data"]["error_type"], "NodeLost");

    server.run(&["start", key]).exits(0);
    server.run(&["signal", key, "continue"]).exits(0);
    let rest: Vec<_> = (3..=5).map(|_| next()).map(|(seq, run, kind, _)| (seq, run, kind)).collect();
    let wanted = [(3, 2, "waiting"), (4, 2, "continued"), (5, 2, "complete")];
    assert_eq!(rest, wanted.map(|(seq, run, kind)| (seq, run, kind.to_owned())));
    watch.signal(Signal::TERM);
    let (_, said) = watch.ended();
    assert!(said.contains("again in"), "it told of the cut: {said}");
}

#[test]
fn s5_a_watch_that_is_cut_right_after_a_gap_shows_the_run_that_the_gap_announced() {
    let key = "t/Sleep/s";
    let file = "[[model]]\napp = \"t\"\nmodel = \"Sleep\"\nrunner = \"exec\"\n\
                command = [\"sh\", \"-c\", \"test -e again && exec sleep 600; touch again\"]\n";
    let mut server = Server::configured(file);
    server.run(&["create", key, "--start"]).exits(0);
    server.run(&["watch", key]).exits(0);
    server.run(&["start", key]).exits(0);
    // A position that the log has not reached; the run is silent.
    let mut watch = Running::new(&mut server.command(&["--json", "watch", key, "--from", "3"]));
    let line = |watch: &mut Running| serde_json::from_str::<serde_json::Value>(&watch.line()).unwrap();
    let gap = line(&mut watch);
    assert_eq!((&gap["type"], &gap["first_seq"]), (&"gap".into(), &2.into()));
    let address = server.address();
    let killed = server.take();
    killed.signal(Signal::KILL);
    killed.ended();
    server.up(&address);
    let ending = line(&mut watch);
    assert_eq!((&ending["type"], &ending["seq"], &ending["run"]), (&"error".into(), &2.into(), &2.into()));
    assert_eq!(watch.ended().0.code(), Some(1));
}

#[test]
fn a_watch_over_a_restart_ends_as_the_task_ended() {
    let mut server = Server::new();
    let key = "demo/ContinueTask/c";
    server.run(&["create", key, "--input", r#"{"message":"m"}"#, "--start"]).exits(0);
    let mut watch = Running::new(&mut server.command(&["watch", key]));
    assert!(watch.line().contains("waiting"));
    let address = server.address();
    let killed = server.take();
    killed.signal(Signal::KILL);
    killed.ended();
    server.up(&address);
    assert!(watch.line().contains("NodeLost"));
    assert_eq!(watch.ended().0.code(), Some(1));
}
