//! Start or attach: one request that creates, starts and watches, and may be sent again.

use futures_util::future::join_all;
use serde_json::{Value, json};
use soloist_server::{Autostart, ServerOptions};
use soloist_wire::sse::{Frame, Message};

use crate::{
    client::{Answer, Headers, JSON, SSE, Viewer},
    server::{DEADLINE, Server},
};

const THREE: &str = r#"{"count":3}"#;

/// The request of a client that reads streams.
async fn attach(server: &Server, path: &str, headers: Headers<'_>, input: &'static str) -> Viewer {
    server.send("POST", path, &[&[JSON, SSE], headers].concat(), input).await
}

fn ids(events: &[Message]) -> Vec<u64> {
    events.iter().map(|e| e.id.as_ref().unwrap().parse().unwrap()).collect()
}

fn run_of(event: &Message) -> Value {
    serde_json::from_str::<Value>(&event.data).unwrap()["_run"].clone()
}

async fn record(server: &Server, key: &str) -> Value {
    server.get(&format!("/tasks/{key}")).await.json()
}

async fn say(server: &Server, key: &str, word: &str) {
    assert_eq!(server.post(&format!("/tasks/{key}/signals/say"), word).await.status, 202);
}

fn is_replayed(answer: &Answer) -> bool {
    answer.header("idempotent-replayed") == Some("true")
}

#[tokio::test]
async fn ten_posts_of_one_input_get_one_run_and_the_same_bytes() {
    let server = Server::start().await;
    let posts = (0..10).map(|_| server.post("/stream/demo/Steps/x", THREE));
    let answers = join_all(posts).await;
    assert!(answers.iter().all(|a| a.status == 200 && a.body == answers[0].body), "{answers:?}");
    assert!(answers[0].body.contains("event: complete\n"), "{answers:?}");
    assert_eq!(answers[0].header("location"), Some("/stream/demo/Steps/x"));
    assert_eq!(record(&server, "demo/Steps/x").await["run"], 1);
    // The same value is the same input; another one is refused, and changes nothing.
    assert_eq!(server.post("/stream/demo/Steps/x", r#"{ "count" : 3 }"#).await.body, answers[0].body);
    let other = server.post("/stream/demo/Steps/x", r#"{"count":4}"#).await;
    assert_eq!((other.status, &*other.code()), (409, "input_differs"));
    assert_eq!(record(&server, "demo/Steps/x").await["run"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn posts_of_many_threads_get_one_run_each_round() {
    let server = std::sync::Arc::new(Server::start().await);
    for round in 0..20 {
        let path = format!("/stream/demo/Steps/{round}");
        let posts = (0..10).map(|_| {
            let (server, path) = (server.clone(), path.clone());
            tokio::spawn(async move { server.post(&path, THREE).await })
        });
        let answers: Vec<_> = join_all(posts).await.into_iter().map(Result::unwrap).collect();
        assert!(answers.iter().all(|a| a.status == 200 && a.body == answers[0].body), "{answers:?}");
        assert_eq!(record(&server, &format!("demo/Steps/{round}")).await["run"], 1);
    }
}

#[tokio::test]
async fn a_finished_task_is_replayed_and_not_started_again_whatever_the_client_accepts() {
    let server = Server::start().await;
    let first = server.post("/stream/demo/Fails/x", "").await;
    assert!(first.body.contains("event: error\n"), "{first:?}");
    for accept in ["*/*", "application/json", "text/event-stream"] {
        let again = server.call("POST", "/stream/demo/Fails/x", &[("accept", accept)], "").await;
        assert_eq!(again.header("content-type"), Some("text/event-stream"), "{accept}");
        assert_eq!((again.status, &again.body), (200, &first.body), "{accept}");
    }
    assert_eq!(record(&server, "demo/Fails/x").await["run"], 1);
}

#[tokio::test]
async fn it_starts_what_was_created_before_also_where_viewers_start_nothing() {
    let server = Server::with(ServerOptions { autostart: Autostart::Off, ..Default::default() }).await;
    server.call("PUT", "/tasks/demo/Steps/x", &[JSON], r#"{"input":{"count":3}}"#).await;
    let events = attach(&server, "/stream/demo/Steps/x", &[], THREE).await.events().await;
    assert_eq!(ids(&events), [1, 2, 3, 4]);
}

#[tokio::test]
async fn restart_runs_a_finished_task_again_and_leaves_an_active_one_alone() {
    let server = Server::start().await;
    let path = "/stream/demo/Steps/x?policy=restart";
    let key = |key| [("idempotency-key", key)];
    assert_eq!(ids(&attach(&server, path, &key("a"), THREE).await.events().await), [1, 2, 3, 4]);
    let again = attach(&server, path, &key("b"), THREE).await.events().await;
    assert_eq!((ids(&again), run_of(&again[0])), (vec![5, 6, 7, 8], json!(2)));

    let mut first = attach(&server, "/stream/demo/Hold/x?policy=restart", &key("c"), "{}").await;
    let mut second = attach(&server, "/stream/demo/Hold/x?policy=restart", &key("d"), "{}").await;
    assert_eq!(first.event().await, second.event().await);
    assert_eq!(record(&server, "demo/Hold/x").await["run"], 1);
}

#[tokio::test]
async fn replace_ends_the_active_run_and_streams_the_next_one() {
    let server = Server::start().await;
    let path = "/stream/demo/Hold/x?policy=replace";
    let mut old = attach(&server, "/stream/demo/Hold/x", &[], "{}").await;
    old.event().await.unwrap();
    let mut new = attach(&server, path, &[("idempotency-key", "a")], "{}").await;
    assert_eq!(old.events().await.last().unwrap().event_type, "cancelled");
    let start = new.event().await.unwrap();
    assert_eq!((&*start.event_type, run_of(&start)), ("start", json!(2)));
    // Its client was cut off and comes back: the run that it watches is not replaced.
    let mut back = attach(&server, path, &[("idempotency-key", "a"), ("last-event-id", "3")], "{}").await;
    assert_eq!(back.frame().await, Some(Frame::Retry(2_000)));
    assert_eq!(record(&server, "demo/Hold/x").await["run"], 2);
    server.post("/tasks/demo/Hold/x/signals/go", "").await;
    assert_eq!(ids(&back.events().await), [4]);
}

#[tokio::test]
async fn a_replace_that_is_sent_again_under_its_key_replaces_nothing() {
    let server = Server::start().await;
    attach(&server, "/stream/demo/Hold/x", &[], "{}").await.event().await.unwrap();
    let key = [("idempotency-key", "k")];
    let path = "/stream/demo/Hold/x?policy=replace";
    // Ten at once, and one more when the next run goes on.
    let together = join_all((0..10).map(|_| attach(&server, path, &key, "{}"))).await;
    let last = attach(&server, path, &key, "{}").await;
    for mut viewer in together.into_iter().chain([last]) {
        assert_eq!(run_of(&viewer.event().await.unwrap()), 2);
    }
    assert_eq!(record(&server, "demo/Hold/x").await["run"], 2);
}

#[tokio::test]
async fn the_terms_in_the_query_reach_the_record() {
    let server = Server::start().await;
    let terms = "max_retries=3&timeout_seconds=7&deadline_seconds=9&run_at=2099-01-01T00:00:00Z";
    let later = attach(&server, &format!("/stream/demo/Steps/x?{terms}"), &[], "{}").await;
    assert_eq!(later.status, 200, "the head comes long before the run");
    let task = record(&server, "demo/Steps/x").await;
    assert_eq!(
        (&task["max_retries"], &task["timeout_seconds"], &task["deadline_seconds"]),
        (&json!(3), &json!(7), &json!(9))
    );
    assert_eq!((&task["status"], &task["run_at"]), (&json!("queued"), &json!("2099-01-01T00:00:00.000000Z")));
    // A time zone is written with an encoded plus.
    let past = "/stream/demo/Steps/y?run_at=2001-01-01T00:00:00%2B02:00";
    assert_eq!(attach(&server, past, &[], "{}").await.events().await.len(), 1);
    assert_eq!(record(&server, "demo/Steps/y").await["run_at"], "2000-12-31T22:00:00.000000Z");
}

#[tokio::test]
async fn without_an_id_each_post_makes_a_task_of_its_own_and_says_where() {
    let server = Server::start().await;
    for id in 1..=2 {
        let answer = server.post("/stream/demo/Steps", THREE).await;
        let location = format!("/stream/demo/Steps/{id}");
        assert_eq!((answer.status, answer.header("location")), (200, Some(&*location)));
        assert!(answer.body.contains(&format!(r#""_task_id":{id},"#)), "{answer:?}");
        // The path goes on as the same stream, by GET and by POST.
        assert_eq!(server.watch(&location).await.whole().await.body, answer.body);
        assert_eq!(server.post(&location, THREE).await.body, answer.body);
    }
}

#[tokio::test]
async fn a_repeat_under_its_key_attaches_to_the_task_of_the_first() {
    let server = Server::start().await;
    let key = ("idempotency-key", "5f2c");
    let post = async |path: &'static str, input: &'static str| {
        server.call("POST", path, &[JSON, SSE, key], input).await
    };
    let answers = join_all((0..10).map(|_| post("/stream/demo/Steps", THREE))).await;
    assert!(answers.iter().all(|a| a.status == 200 && a.body == answers[0].body), "{answers:?}");
    assert!(answers.iter().all(|a| a.header("location") == Some("/stream/demo/Steps/1")), "{answers:?}");
    assert_eq!(answers.iter().filter(|a| !is_replayed(a)).count(), 1, "one of them made it");
    // How it is watched is no part of the request.
    let raw = post("/stream/demo/Steps?format=raw", THREE).await;
    assert!(is_replayed(&raw) && raw.body.contains("data: {\"i\":1}\n"), "{raw:?}");
    // What it started is all its own, also for a repeat that asks for what comes.
    let none = post("/stream/demo/Steps?replay=none", THREE).await;
    assert_eq!((none.status, &none.body), (200, &answers[0].body));
    assert_eq!(record(&server, "demo/Steps/1").await["run"], 1);

    for (path, input) in [
        ("/stream/demo/Steps", r#"{"count":4}"#),
        ("/stream/demo/Steps?policy=restart", THREE),
        ("/stream/demo/Steps?max_retries=2", THREE),
    ] {
        let other = post(path, input).await;
        assert_eq!((other.status, &*other.code()), (422, "idempotency_key_reused"), "{path}");
    }
    assert_eq!(server.call("DELETE", "/tasks/demo/Steps/1", &[], "").await.status, 204);
    let gone = post("/stream/demo/Steps", THREE).await;
    assert_eq!((gone.status, &*gone.code()), (404, "unknown_task"));
}

#[tokio::test]
async fn a_restart_under_a_key_runs_once_however_often_it_is_sent() {
    let server = Server::start().await;
    server.post("/stream/demo/Steps/x", THREE).await;
    let key = ("idempotency-key", "k");
    for replayed in [false, true, true] {
        let answer = server.call("POST", "/stream/demo/Steps/x?policy=restart", &[JSON, key], THREE).await;
        assert!(answer.body.contains("id: 5\n") && !answer.body.contains("id: 9\n"), "{answer:?}");
        assert_eq!(is_replayed(&answer), replayed, "{answer:?}");
    }
    assert_eq!(record(&server, "demo/Steps/x").await["run"], 2);
}

#[tokio::test]
async fn the_key_of_a_create_is_no_key_of_a_start_or_attach() {
    let server = Server::start().await;
    let key = |key| [JSON, ("idempotency-key", key)];
    let call = async |method: &'static str, path: &'static str, name: &'static str, body: &'static str| {
        server.call(method, path, &key(name), body).await
    };
    let create = r#"{"input":{"count":3},"start":true}"#;
    assert_eq!(call("POST", "/tasks/demo/Steps", "a", create).await.status, 201);
    assert_eq!(call("POST", "/stream/demo/Steps", "a", THREE).await.code(), "idempotency_key_reused");
    assert_eq!(call("POST", "/stream/demo/Steps", "b", THREE).await.status, 200);
    assert_eq!(call("POST", "/tasks/demo/Steps", "b", create).await.code(), "idempotency_key_reused");
    assert_eq!(call("PUT", "/tasks/demo/Steps/x", "c", create).await.status, 201);
    assert_eq!(call("POST", "/stream/demo/Steps/x", "c", THREE).await.code(), "idempotency_key_reused");
    assert_eq!(call("POST", "/stream/demo/Steps/y", "d", THREE).await.status, 200);
    assert_eq!(call("PUT", "/tasks/demo/Steps/y", "d", create).await.code(), "idempotency_key_reused");
    // A start is another call; its key is another key.
    let start = call("POST", "/tasks/demo/Steps/y/start", "d", r#"{"policy":"once"}"#).await;
    assert_eq!((start.status, is_replayed(&start)), (200, false));
    for bad in ["", "ü"] {
        let refused = call("POST", "/stream/demo/Steps", bad, THREE).await;
        assert_eq!((refused.status, &*refused.code()), (400, "invalid_idempotency_key"), "{bad:?}");
    }
}

#[tokio::test]
async fn a_client_that_comes_back_gets_each_event_once_and_204_after_the_last() {
    let server = Server::start().await;
    let (path, key) = ("/stream/demo/Talks/x", "demo/Talks/x");
    let mut viewer = attach(&server, path, &[], "{}").await;
    say(&server, key, "1").await;
    say(&server, key, "2").await;
    assert_eq!(
        (viewer.event().await.unwrap().id.as_deref(), ids(&[viewer.event().await.unwrap()])),
        (Some("1"), vec![2])
    );
    drop(viewer);
    server.until_viewers(0).await;
    say(&server, key, "3").await;
    let mut viewer = attach(&server, path, &[("last-event-id", "2")], "{}").await;
    assert_eq!(viewer.headers["location"], path);
    assert_eq!(ids(&[viewer.event().await.unwrap()]), [3]);
    say(&server, key, "4").await;
    assert_eq!(ids(&[viewer.event().await.unwrap()]), [4]);
    // One that knows only its query, as it was told to write it there.
    let by_query = attach(&server, &format!("{path}?last_event_id=3"), &[], "{}").await;
    say(&server, key, "null").await;
    assert_eq!(ids(&viewer.events().await), [5]);
    assert_eq!(ids(&by_query.events().await), [4, 5]);
    for policy in ["once", "restart", "replace"] {
        let path = format!("{path}?policy={policy}");
        let key = ("idempotency-key", policy);
        let over = attach(&server, &path, &[key, ("last-event-id", "5")], "{}").await.whole().await;
        assert_eq!((over.status, &*over.body), (204, ""), "{policy}");
        assert_eq!(over.header("location"), Some("/stream/demo/Talks/x"));
        let rest = attach(&server, &path, &[key, ("last-event-id", "3")], "{}").await.events().await;
        assert_eq!(ids(&rest), [4, 5], "{policy}");
    }
    assert_eq!(record(&server, key).await["run"], 1);
}

#[tokio::test]
async fn a_cursor_needs_an_id_or_a_key() {
    let server = Server::start().await;
    let back = ("last-event-id", "2");
    let refused = server.call("POST", "/stream/demo/Steps", &[JSON, back], THREE).await;
    assert_eq!((refused.status, &*refused.code()), (400, "invalid_cursor"));
    assert_eq!(server.get("/tasks").await.json()["tasks"], json!([]));
    let key = ("idempotency-key", "k");
    attach(&server, "/stream/demo/Steps", &[key], THREE).await.events().await;
    let rest = attach(&server, "/stream/demo/Steps", &[key, back], THREE).await;
    assert_eq!(rest.headers["idempotent-replayed"], "true");
    assert_eq!(ids(&rest.events().await), [3, 4]);
    let over = attach(&server, "/stream/demo/Steps", &[key, ("last-event-id", "4")], THREE).await;
    assert_eq!((over.status, &over.headers["location"]), (204, &"/stream/demo/Steps/1".parse().unwrap()));
}

#[tokio::test]
async fn a_client_that_comes_back_to_a_deleted_task_does_not_run_it_again() {
    let server = Server::start().await;
    assert_eq!(server.post("/stream/demo/Steps/x", THREE).await.status, 200);
    let other = attach(&server, "/stream/demo/Steps/x", &[("last-event-id", "2")], r#"{"count":4}"#)
        .await
        .whole()
        .await;
    assert_eq!((other.status, &*other.code()), (409, "input_differs"));
    assert_eq!(server.call("DELETE", "/tasks/demo/Steps/x", &[], "").await.status, 204);
    let back = attach(&server, "/stream/demo/Steps/x", &[("last-event-id", "2")], THREE).await.whole().await;
    assert_eq!((back.status, &*back.code()), (404, "unknown_task"));
    assert_eq!(server.get("/tasks").await.json()["tasks"], json!([]));
}

#[tokio::test]
async fn the_head_comes_while_the_work_is_silent_and_while_it_waits_for_a_slot() {
    let server = Server::start().await;
    let mut viewer = attach(&server, "/stream/demo/Talks/x", &[], "{}").await;
    assert_eq!(viewer.status, 200);
    for (name, value) in [
        ("content-type", "text/event-stream"),
        ("cache-control", "no-store, no-transform"),
        ("x-accel-buffering", "no"),
        ("location", "/stream/demo/Talks/x"),
    ] {
        assert_eq!(viewer.headers[name], value);
    }
    assert_eq!(viewer.frame().await, Some(Frame::Retry(2_000)));
    say(&server, "demo/Talks/x", r#""hello""#).await;
    assert_eq!(viewer.event().await.unwrap().event_type, "said");

    attach(&server, "/stream/demo/One/a", &[], "{}").await;
    let mut queued = attach(&server, "/stream/demo/One/b", &[], "{}").await;
    assert_eq!((queued.status, queued.frame().await), (200, Some(Frame::Retry(2_000))));
    assert_eq!(record(&server, "demo/One/b").await["status"], "queued");
}

#[tokio::test]
async fn a_client_that_leaves_stops_nothing_and_is_forgotten() {
    let server = Server::start().await;
    let mut viewers = Vec::new();
    for _ in 0..10 {
        let mut viewer = attach(&server, "/stream/demo/Hold/x", &[], "{}").await;
        viewer.event().await.unwrap();
        viewers.push(viewer);
    }
    server.until_viewers(10).await;
    drop(viewers);
    server.until_viewers(0).await;
    assert_eq!(record(&server, "demo/Hold/x").await["status"], "running");
}

#[tokio::test]
async fn a_refusal_that_passes_asks_to_come_back_only_who_names_the_task() {
    let server = Server::start().await;
    let held = server.started("Hold", "held", "{}").await;
    let draining = tokio::spawn({
        let coordinator = server.coordinator.clone();
        async move { coordinator.shutdown(DEADLINE).await }
    });
    server.coordinator.draining().cancelled().await;
    let mut named = attach(&server, "/stream/demo/Steps/x", &[], "{}").await;
    assert_eq!((named.status, &named.headers["content-type"]), (200, &"text/event-stream".parse().unwrap()));
    assert!(matches!(named.frame().await, Some(Frame::Retry(2_000..=4_000))));
    assert!(matches!(named.frame().await, Some(Frame::Comment(_))));
    assert_eq!(named.frame().await, None);
    for (path, headers) in [
        ("/stream/demo/Steps/x", &[JSON][..]),
        ("/stream/demo/Steps", &[JSON]),
        ("/stream/demo/Steps", &[JSON, SSE]),
    ] {
        let refused = server.call("POST", path, headers, "{}").await;
        assert_eq!((refused.status, &*refused.code()), (503, "shutting_down"), "{path}");
        assert!(refused.header("retry-after").is_some(), "{path}");
    }
    assert_eq!(server.get("/tasks?model=Steps").await.json()["tasks"], json!([]));
    server.post(&format!("/cancel/{held}"), "").await;
    tokio::time::timeout(DEADLINE, draining).await.expect("drained in time").unwrap();
}

#[tokio::test]
async fn a_refusal_for_good_is_a_problem_to_an_event_source_too() {
    let server = Server::start().await;
    for (path, status, code) in [
        ("/stream/demo/Nope/x", 404, "unknown_model"),
        ("/stream/demo/Says/x", 422, "invalid_input"),
        ("/stream/cli/run/x", 409, "not_served"),
        ("/stream/demo/Steps/x?format=xml", 400, "invalid_query"),
        ("/stream/demo/Steps/x?max_retries=-1", 400, "invalid_query"),
        ("/stream/demo/Steps/x?run_at=", 400, "invalid_query"),
    ] {
        let refused = server.call("POST", path, &[JSON, SSE], "{}").await;
        assert_eq!((refused.status, &*refused.code()), (status, code), "{path}");
    }
    assert_eq!(server.get("/tasks").await.json()["tasks"], json!([]));
}

#[tokio::test]
async fn the_formats_and_places_of_a_stream_hold_for_a_post() {
    let server = Server::start().await;
    let input = r#"{"json":[["step",{"a": [1,2]}],["message","one"]],"text":[]}"#;
    let path = |query: &str| format!("/stream/demo/Says/x{query}");
    let raw = server.post(&path("?format=raw"), input).await.body;
    assert!(raw.contains("id: 1\nevent: step\ndata: {\"a\": [1,2]}\n\nid: 2\ndata: \"one\"\n\n"), "{raw}");
    let message = server.post(&path("?format=message"), input).await.body;
    assert!(!message.contains("event:") && message.contains(r#""_type":"step""#), "{message}");
    for query in ["", "?format=raw", "?format=message", "?replay=latest"] {
        let by_get = server.watch(&path(query)).await.whole().await.body;
        assert_eq!(server.post(&path(query), input).await.body, by_get, "{query}");
    }
    assert_eq!(server.post(&path("?replay=none"), input).await.status, 204, "nothing will come");
    // Who starts it gets all of its run, wherever it wants to begin.
    for replay in ["none", "latest"] {
        let path = format!("/stream/demo/Steps/{replay}?replay={replay}");
        assert_eq!(ids(&attach(&server, &path, &[], THREE).await.events().await), [1, 2, 3, 4]);
    }
    let mut follower = attach(&server, "/stream/demo/Steps/x?follow=true", &[], "{}").await;
    assert_eq!(run_of(&follower.event().await.unwrap()), 1);
    server.post("/tasks/demo/Steps/x/start", "").await;
    assert_eq!(run_of(&follower.event().await.unwrap()), 2);
}

#[tokio::test]
async fn the_trace_of_the_request_reaches_the_work() {
    let server = Server::start().await;
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let traced = [("traceparent", parent), ("tracestate", "a=1"), ("tracestate", "b=2")];
    for path in ["/stream/demo/Traced/x", "/stream/demo/Traced"] {
        let events = attach(&server, path, &traced, "{}").await.events().await;
        let end: Value = serde_json::from_str(&events.last().unwrap().data).unwrap();
        assert_eq!(end["final_value"], json!([parent, "a=1,b=2"]), "{path}");
    }
}

#[tokio::test]
async fn a_page_of_a_listed_site_may_send_it_and_read_where_the_task_is() {
    const APP: &str = "https://app.example.com";
    let server = Server::with(ServerOptions { cors_origins: vec![APP.into()], ..Default::default() }).await;
    let origin = ("origin", APP);
    let asks = [
        origin,
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "content-type,idempotency-key,last-event-id,traceparent"),
    ];
    let preflight = server.call("OPTIONS", "/stream/demo/Steps", &asks, "").await;
    assert_eq!((preflight.status, preflight.header("access-control-allow-origin")), (204, Some(APP)));
    let allowed = preflight.header("access-control-allow-headers").unwrap();
    let allowed: Vec<_> = allowed.split(", ").collect();
    for name in ["content-type", "idempotency-key", "last-event-id", "traceparent", "tracestate"] {
        assert!(allowed.contains(&name), "{name}: {allowed:?}");
    }
    let answer = attach(&server, "/stream/demo/Steps", &[origin, ("idempotency-key", "k")], "{}").await;
    assert_eq!(answer.headers["access-control-allow-origin"], APP);
    let exposed = answer.headers["access-control-expose-headers"].to_str().unwrap();
    for name in ["location", "retry-after", "idempotent-replayed"] {
        assert!(exposed.split(", ").any(|exposed| exposed == name), "{name}: {exposed}");
    }
    assert_eq!(answer.events().await.len(), 1);
    for path in ["/stream/demo/Steps", "/stream/demo/Steps/x"] {
        for foreign in [("origin", "https://evil.example"), ("sec-fetch-site", "cross-site")] {
            let refused = server.call("POST", path, &[JSON, SSE, foreign], "{}").await;
            assert_eq!((refused.status, &*refused.code()), (403, "cross_site"), "{path}");
        }
        let prefetch = server.call("POST", path, &[JSON, SSE, ("sec-purpose", "prefetch")], "{}").await;
        assert_eq!((prefetch.status, &*prefetch.code()), (503, "prefetch"), "{path}");
    }
    assert_eq!(server.get("/tasks").await.json()["tasks"].as_array().unwrap().len(), 1);
}
