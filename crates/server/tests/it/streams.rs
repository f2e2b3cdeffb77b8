//! Viewers.

use std::time::Duration;

use serde_json::{Value, json};
use soloist_server::{Autostart, ServerOptions};
use soloist_wire::sse::{Frame, Message};

use crate::{
    client::{JSON, SSE, Viewer},
    server::{DEADLINE, Server},
};

fn ids(events: &[Message]) -> Vec<u64> {
    events.iter().map(|e| e.id.as_ref().unwrap().parse().unwrap()).collect()
}

fn data(event: &Message) -> Value {
    serde_json::from_str(&event.data).unwrap()
}

async fn resume(server: &Server, path: &str, id: &str) -> Viewer {
    server.send("GET", path, &[SSE, ("last-event-id", id)], "").await
}

#[tokio::test]
async fn the_head_comes_before_any_event_with_headers_that_no_proxy_holds_up() {
    let server = Server::start().await;
    let key = server.started("Finish", "1", "{}").await;
    let mut viewer = server.watch(&format!("/stream/{key}")).await;
    assert_eq!(viewer.status, 200);
    for (name, value) in [
        ("content-type", "text/event-stream"),
        ("cache-control", "no-store, no-transform"),
        ("x-accel-buffering", "no"),
        ("x-content-type-options", "nosniff"),
    ] {
        assert_eq!(viewer.headers[name], value);
    }
    assert_eq!(viewer.frame().await, Some(Frame::Retry(2_000)));
}

#[tokio::test]
async fn events_come_in_full_raw_and_message_format() {
    let server = Server::start().await;
    let input =
        r#"{"json":[["step",{"a": [1,2],"_run":"mine"}],["message","one"]],"text":[["out","x\r\ny\n"]]}"#;
    let key = server.started("Says", "1", input).await;
    let full = server.watch(&format!("/stream/{key}")).await.events().await;
    assert_eq!(ids(&full), [1, 2, 3, 4]);
    let types: Vec<_> = full.iter().map(|e| &*e.event_type).collect();
    assert_eq!(types, ["step", "message", "out", "complete"]);
    let first = data(&full[0]);
    assert_eq!(
        (&first["a"], &first["_task_id"], &first["_app"], &first["_model"], &first["_run"]),
        (&json!([1, 2]), &json!(1), &json!("demo"), &json!("Says"), &json!(1))
    );
    assert!(first["_timestamp"].is_string());
    assert_eq!(data(&full[1])["value"], "one");
    assert_eq!(data(&full[2])["value"], "x\r\ny\n");

    let raw = server.watch(&format!("/stream/{key}?format=raw")).await.events().await;
    assert_eq!(
        (&*raw[0].data, &*raw[1].data, &*raw[2].data),
        (r#"{"a": [1,2],"_run":"mine"}"#, r#""one""#, "x\ny\n")
    );
    let bytes = server.call("GET", &format!("/stream/{key}?format=raw"), &[SSE], "").await.body;
    assert!(bytes.contains("id: 2\ndata: \"one\"\n\n"), "no type where it is message: {bytes}");
    assert!(bytes.contains("id: 3\nevent: out\ndata: x\ndata: y\ndata: \n\n"), "{bytes}");

    let messages = server.watch(&format!("/stream/{key}?format=message")).await.events().await;
    assert!(messages.iter().all(|e| e.event_type == "message"));
    let types: Vec<_> = messages.iter().map(|e| data(e)["_type"].clone()).collect();
    assert_eq!(types, ["step", "message", "out", "complete"]);
}

#[tokio::test]
async fn a_viewer_begins_where_it_asks_to() {
    let server = Server::start().await;
    let key = server.started("Steps", "1", r#"{"count":3}"#).await;
    let path = format!("/stream/{key}");
    let all = server.watch(&path).await.events().await;
    assert_eq!(ids(&all), [1, 2, 3, 4]);
    assert_eq!(ids(&server.watch(&format!("{path}?replay=latest")).await.events().await), [4]);
    assert_eq!(server.watch(&format!("{path}?replay=none")).await.status, 204, "nothing will come");
    assert_eq!(ids(&resume(&server, &path, "2").await.events().await), [3, 4]);
    assert_eq!(ids(&server.watch(&format!("{path}?last_event_id=1")).await.events().await), [2, 3, 4]);
    // A client that comes back still has its first query; its header is newer.
    assert_eq!(ids(&resume(&server, &format!("{path}?last_event_id=1"), "3").await.events().await), [4]);

    // A second run: its viewers begin with its first event, a cursor reads on across runs.
    server.post(&format!("/tasks/{key}/start"), "").await;
    assert_eq!(ids(&server.watch(&path).await.events().await), [5, 6, 7, 8]);
    assert_eq!(ids(&resume(&server, &path, "2").await.events().await), [3, 4], "to the end of the run");
    assert_eq!(resume(&server, &path, "4").await.status, 204, "whatever ran since");
}

#[tokio::test]
async fn a_viewer_that_has_seen_the_end_is_told_to_stop_unless_it_follows() {
    let server = Server::start().await;
    let key = server.started("Steps", "1", r#"{"count":1}"#).await;
    let path = format!("/stream/{key}");
    server.watch(&path).await.events().await;
    let over = resume(&server, &path, "2").await.whole().await;
    assert_eq!((over.status, &*over.body), (204, ""));
    let mut follower = resume(&server, &format!("{path}?follow=true"), "2").await;
    assert_eq!((follower.status, follower.frame().await), (200, Some(Frame::Retry(2_000))));
    server.post(&format!("/tasks/{key}/start"), "").await;
    for id in ["3", "4"] {
        assert_eq!(follower.event().await.unwrap().id.as_deref(), Some(id));
    }
}

#[tokio::test]
async fn a_cursor_that_the_log_does_not_know_is_announced_by_a_gap_without_an_id() {
    let server = Server::start().await;
    let key = server.started("Steps", "1", r#"{"count":1}"#).await;
    server.watch(&format!("/stream/{key}")).await.events().await;
    let events = resume(&server, &format!("/stream/{key}"), "99").await.events().await;
    assert_eq!((&*events[0].event_type, &events[0].id), ("gap", &None));
    let gap = data(&events[0]);
    assert_eq!((&gap["reason"], &gap["first_seq"]), (&json!("unknown_cursor"), &json!(1)));
    assert_eq!(ids(&events[1..]), [1, 2]);
}

#[tokio::test]
async fn the_first_viewer_starts_a_pending_task_and_none_starts_a_finished_one() {
    let server = Server::start().await;
    server.call("PUT", "/tasks/demo/Fails/1", &[], "").await;
    let events = server.watch("/stream/demo/Fails/1").await.events().await;
    assert_eq!(events.len(), 1);
    let end = data(&events[0]);
    assert_eq!(
        (&*events[0].event_type, &end["message"], &end["error_type"]),
        ("error", &json!("it broke"), &json!("Boom"))
    );
    // Looked at again, it is replayed and not run.
    let again = server.watch("/stream/demo/Fails/1").await.events().await;
    assert_eq!(again, events);
    assert_eq!(server.get("/tasks/demo/Fails/1").await.json()["run"], 1);
}

#[tokio::test]
async fn with_autostart_off_a_viewer_waits_for_the_start() {
    let server = Server::with(ServerOptions { autostart: Autostart::Off, ..Default::default() }).await;
    server.call("PUT", "/tasks/demo/Steps/1", &[], "").await;
    let mut viewer = server.watch("/stream/demo/Steps/1").await;
    assert_eq!(viewer.frame().await, Some(Frame::Retry(2_000)));
    assert_eq!(server.get("/tasks/demo/Steps/1").await.json()["status"], "pending");
    server.post("/tasks/demo/Steps/1/start", "").await;
    assert_eq!(viewer.event().await.unwrap().event_type, "complete");
}

#[tokio::test]
async fn without_a_taste_for_streams_a_finished_task_answers_how_it_ended() {
    let server = Server::start().await;
    for (model, input, wanted) in [
        ("Steps", r#"{"count":2}"#, json!({"status": "completed", "final_value": 2})),
        ("Says", r#"{"json":[],"text":[]}"#, json!({"status": "completed", "final_value": null})),
        ("Fails", "{}", json!({"status": "failed", "error_type": "Boom", "error_message": "it broke"})),
        ("Hold", "{}", json!({"status": "cancelled", "cancellation_reason": "enough"})),
    ] {
        let key = server.started(model, "1", input).await;
        if model == "Hold" {
            server.post(&format!("/cancel/{key}"), r#"{"reason":"enough"}"#).await;
        } else {
            server.watch(&format!("/stream/{key}")).await.events().await;
        }
        for accept in ["*/*", "application/json", "text/event-stream;q=0, */*"] {
            let answer = server.call("GET", &format!("/stream/{key}"), &[("accept", accept)], "").await;
            assert_eq!(
                (answer.status, answer.header("content-type")),
                (200, Some("application/json")),
                "{accept}"
            );
            let mut read = answer.json();
            let fields = read.as_object_mut().unwrap();
            let at = ["completed_at", "failed_at", "cancelled_at"].map(|name| fields.remove(name));
            assert_eq!(at.iter().flatten().filter(|t| t.is_string()).count(), 1, "{model}");
            assert_eq!(read, wanted);
        }
        for accept in ["text/event-stream", "application/json, TEXT/event-stream;q=0.5"] {
            let answer = server.send("GET", &format!("/stream/{key}"), &[("accept", accept)], "").await;
            assert_eq!(answer.headers["content-type"], "text/event-stream", "{accept}");
        }
    }
}

#[tokio::test]
async fn an_active_task_streams_to_whoever_accepts_anything() {
    let server = Server::start().await;
    let key = server.started("Hold", "1", "{}").await;
    let mut viewer = server.send("GET", &format!("/stream/{key}"), &[("accept", "*/*")], "").await;
    assert_eq!(viewer.headers["content-type"], "text/event-stream");
    assert_eq!(viewer.event().await.unwrap().event_type, "start");
}

#[tokio::test]
async fn head_answers_like_get_and_starts_nothing() {
    let server = Server::start().await;
    server.call("PUT", "/tasks/demo/Steps/1", &[], "").await;
    let head = server.call("HEAD", "/stream/demo/Steps/1", &[], "").await;
    assert_eq!((head.status, head.header("content-type"), &*head.body), (200, Some("text/event-stream"), ""));
    assert_eq!(server.get("/tasks/demo/Steps/1").await.json()["status"], "pending");
    assert_eq!(server.call("HEAD", "/stream/demo/Steps/2", &[], "").await.status, 404);
    server.until_viewers(0).await;
}

#[tokio::test]
async fn silence_is_broken_by_heartbeats() {
    let server =
        Server::with(ServerOptions { heartbeat: Duration::from_millis(20), ..Default::default() }).await;
    let key = server.started("Hold", "1", "{}").await;
    let mut viewer = server.watch(&format!("/stream/{key}")).await;
    viewer.event().await.unwrap();
    for _ in 0..3 {
        assert_eq!(viewer.frame().await, Some(Frame::Comment("heartbeat".into())));
    }
}

#[tokio::test]
async fn a_viewer_that_left_is_forgotten_and_the_run_goes_on() {
    let server = Server::start().await;
    let key = server.started("Hold", "1", "{}").await;
    let mut viewers = Vec::new();
    for _ in 0..20 {
        let mut viewer = server.watch(&format!("/stream/{key}")).await;
        viewer.event().await.unwrap();
        viewers.push(viewer);
    }
    server.until_viewers(20).await;
    drop(viewers);
    server.until_viewers(0).await;
    assert_eq!(server.get(&format!("/tasks/{key}")).await.json()["status"], "running");
}

#[tokio::test]
async fn a_refusal_that_passes_asks_an_event_source_to_come_back_and_others_with_503() {
    let server = Server::start().await;
    let held = server.started("One", "a", "{}").await;
    server.call("PUT", "/tasks/demo/One/b", &[], "").await;
    let draining = tokio::spawn({
        let coordinator = server.coordinator.clone();
        async move { coordinator.shutdown(DEADLINE).await }
    });
    server.coordinator.draining().cancelled().await;
    let refused = server.get("/stream/demo/One/b").await;
    assert_eq!((refused.status, &*refused.code()), (503, "shutting_down"));
    assert!(refused.header("retry-after").is_some());
    let mut viewer = server.watch("/stream/demo/One/b").await;
    assert_eq!((viewer.status, viewer.headers["content-type"].to_str().unwrap()), (200, "text/event-stream"));
    let Some(Frame::Retry(retry)) = viewer.frame().await else { panic!("no retry") };
    assert!((2_000..=4_000).contains(&retry), "{retry}");
    assert!(matches!(viewer.frame().await, Some(Frame::Comment(_))));
    assert_eq!(viewer.frame().await, None);
    assert_eq!(server.get("/tasks/demo/One/b").await.json()["status"], "pending");
    server.post(&format!("/cancel/{held}"), "").await;
    tokio::time::timeout(DEADLINE, draining).await.expect("drained in time").unwrap();
}

#[tokio::test]
async fn the_stream_of_a_deleted_task_ends() {
    let server = Server::with(ServerOptions { autostart: Autostart::Off, ..Default::default() }).await;
    server.call("PUT", "/tasks/demo/Steps/1", &[], "").await;
    let mut viewer = server.watch("/stream/demo/Steps/1").await;
    assert_eq!(viewer.frame().await, Some(Frame::Retry(2_000)));
    assert_eq!(server.call("DELETE", "/tasks/demo/Steps/1", &[], "").await.status, 204);
    assert_eq!(viewer.frame().await, None);
}

#[tokio::test]
async fn a_viewer_that_does_not_read_slows_nothing_and_gets_everything_once_it_reads() {
    const EVENTS: u64 = 50_000;
    let server = Server::start().await;
    server.call("PUT", "/tasks/demo/Steps/1", &[JSON], format!(r#"{{"input":{{"count":{EVENTS}}}}}"#)).await;
    let stalled = server.watch("/stream/demo/Steps/1").await;
    let key = "demo/Steps/1".parse().unwrap();
    let ended = server.coordinator.ended(&key, 1);
    let record = tokio::time::timeout(DEADLINE, ended).await.expect("the run is not held up").unwrap();
    assert!(record.status.is_finished());
    let events = stalled.events().await;
    assert_eq!(ids(&events), (1..=EVENTS + 1).collect::<Vec<_>>());
}
