//! Measurements against servers that lie: a wrong answer has no figures.
#![allow(missing_docs, clippy::unwrap_used)]

mod fake;
mod viewers;

use std::time::Duration;

use soloist_bench::{Error, Result, events, report::Report, server::Server, start};

use fake::{Fake, Reply, json};

const SHORT: start::Options = start::Options { connections: 4, time: Duration::from_millis(50) };

const CREATED: &str = r#"{"id":"1","run":1,"status":"running","last_seq":4}"#;
const REST: &str = r#"{"running":0,"starting":0}"#;
const REFUSED: &str = r#"{"started":false,"run":1,"status":"running","node":"n"}"#;

/// The parts of a server that keeps its promises, as far as a measurement asks for them.
fn honest(method: &str, path: &str) -> Reply {
    match (method, path) {
        ("GET", "/health") => json(200, r#"{"status":"ok"}"#),
        ("GET", "/stats") => json(200, REST),
        ("POST", "/tasks/demo/ContinueTask") => json(201, CREATED),
        ("POST", "/tasks/demo/ContinueTask/1/start") => json(200, REFUSED),
        _ => json(404, "{}"),
    }
}

/// What comes of a measurement of a server that answers as `reply` says.
fn measured(
    reply: impl Fn(&str, &str) -> Reply + Send + Sync + 'static,
    run: impl FnOnce(&[Server], &mut Report) -> Result<()>,
) -> Result<Report> {
    let fake = Fake::start(reply);
    let servers = [Server::attach(&fake.url, None).unwrap()];
    let mut report = Report::new("test");
    run(&servers, &mut report)?;
    Ok(report)
}

#[track_caller]
fn is_found_out(result: Result<Report>, what: &str) {
    match result {
        Err(Error::Wrong(message)) => assert!(message.contains(what), "{message}"),
        other => panic!("{other:?}"),
    }
}

fn hot(servers: &[Server], report: &mut Report) -> Result<()> {
    start::hot(servers, SHORT, &|_| {}, report)
}

#[test]
fn a_server_that_keeps_its_promises_is_measured() {
    let report = measured(honest, hot).unwrap();
    assert!(
        report.get("hot_refusals").unwrap() > 0.0 && report.get("hot_health").unwrap() > 0.0,
        "{report:?}"
    );
    assert!(report.checks[0].count > 0);
    assert_eq!(report.get("hot_cpu"), None, "of a process that is not named nothing is known");
}

#[test]
fn a_second_start_of_a_running_task_that_wins_is_found_out() {
    let twice = r#"{"started":true,"run":2,"status":"running"}"#;
    let lie = move |method: &str, path: &str| match path {
        path if path.ends_with("/start") => json(202, twice),
        path => honest(method, path),
    };
    is_found_out(measured(lie, hot), "started\":true");
}

#[test]
fn one_wrong_answer_among_many_is_found_out() {
    for wrong in [
        r#"{"started":true,"run":1,"status":"running"}"#,
        r#"{"started":false,"run":2,"status":"running"}"#,
        r#"{"started":false,"run":1,"status":"completed"}"#,
    ] {
        let asked = std::sync::atomic::AtomicU64::new(0);
        let lie = move |method: &str, path: &str| match path {
            path if path.ends_with("/start") => {
                let n = asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                json(200, if n == 50 { wrong } else { REFUSED })
            }
            path => honest(method, path),
        };
        is_found_out(measured(lie, hot), "whose run 1 is active");
    }
}

#[test]
fn a_start_that_is_answered_and_not_on_record_is_found_out() {
    let lists = |page: &'static str| {
        move |method: &str, path: &str| match path {
            "/tasks/demo/BurstTask" => json(201, CREATED),
            path if path.starts_with("/tasks?") => json(200, page),
            path => honest(method, path),
        }
    };
    let distinct = |servers: &[Server], report: &mut Report| start::distinct(servers, SHORT, &|_| {}, report);
    is_found_out(measured(lists(r#"{"tasks":[],"next_cursor":null}"#), distinct), "0 are listed");
    let lost = r#"{"tasks":[{"status":"running","run":1}],"next_cursor":"x"}"#;
    is_found_out(measured(lists(lost), distinct), "is on record as");
}

#[test]
fn a_create_that_does_not_start_and_a_stream_without_an_end_are_found_out() {
    let pending = r#"{"id":"1","run":0,"status":"pending"}"#;
    let lie = move |method: &str, path: &str| match path {
        "/tasks/demo/BurstTask" => json(201, pending),
        path => honest(method, path),
    };
    is_found_out(measured(lie, |s, r| start::distinct(s, SHORT, &|_| {}, r)), "a create that starts");
    let cut = |method: &str, path: &str| match path {
        "/stream/demo/BurstTask" => Reply { status: 200, head: "", body: "retry: 2000\n\n".into() },
        path => honest(method, path),
    };
    is_found_out(measured(cut, |s, r| start::results(s, SHORT, &|_| {}, r)), "watched");
}

#[test]
fn a_log_with_a_hole_is_found_out() {
    let logs = |events: &'static str, last_seq: u64| {
        move |method: &str, path: &str| match path {
            "/tasks/demo/BurstTask" => json(201, CREATED),
            path if path.ends_with("/start") => json(202, r#"{"started":true,"run":1,"status":"running"}"#),
            path if path.contains("/events?") => json(200, events),
            "/tasks/demo/BurstTask/1" => {
                json(200, &format!(r#"{{"status":"completed","run":1,"last_seq":{last_seq}}}"#))
            }
            path => honest(method, path),
        }
    };
    let run = |servers: &[Server], report: &mut Report| {
        let options = events::Options { runs: 1, events: 2, bytes: 10 };
        events::events(&servers[0], None, options, &|_| {}, report)
    };
    let dense = r#"{"events":[{"seq":1,"run":1},{"seq":2,"run":1},{"seq":3,"run":1}]}"#;
    measured(logs(dense, 3), run).unwrap();
    is_found_out(measured(logs(dense, 2), run), "is on record as");
    let hole = r#"{"events":[{"seq":1,"run":1},{"seq":3,"run":1},{"seq":4,"run":1}]}"#;
    is_found_out(measured(logs(hole, 3), run), "event 2 of");
    is_found_out(measured(logs(r#"{"events":[]}"#, 3), run), "ends after 0 of 3");
}

#[test]
fn a_repeat_that_is_not_the_first_answer_is_found_out() {
    let begun = r#"{"started":true,"run":1,"status":"completed"}"#;
    let lie = move |head: &'static str| {
        move |method: &str, path: &str| match path {
            "/tasks/demo/BurstTask" => json(201, CREATED),
            path if path.ends_with("/start") => Reply { status: 200, head, body: begun.into() },
            path => honest(method, path),
        }
    };
    let repeats = |servers: &[Server], report: &mut Report| start::repeats(servers, SHORT, &|_| {}, report);
    measured(lie("idempotent-replayed: true\r\n"), repeats).unwrap();
    is_found_out(measured(lie(""), repeats), "a repeat");
}

#[test]
fn nobody_there_is_told_apart_from_a_wrong_answer() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", taken.local_addr().unwrap());
    drop(taken);
    assert!(matches!(Server::attach(&url, None), Err(Error::Unreachable { .. })));
    assert!(matches!(Server::attach("https://127.0.0.1:1", None), Err(Error::Invalid(_))));
    assert!(matches!(Server::attach("unix:soloist.sock", None), Err(Error::Invalid(_))));
}
