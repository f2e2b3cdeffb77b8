//! Policies, times and the drain, as a client meets them.

use std::sync::Arc;

use serde_json::{Value, json};
use soloist::{Coordinator, MemoryStore};
use soloist_server::ServerOptions;
use soloist_wire::sse::Frame;

use crate::{
    client::{JSON, SSE},
    models::Hold,
    server::{DEADLINE, Server, coordinator_on},
};

#[tokio::test]
async fn a_rerun_is_told_which_run_it_will_be_and_a_cancel_of_the_task_takes_it_back() {
    let server = Server::start().await;
    let key = server.started("Hold", "1", "{}").await;
    let path = format!("/tasks/{key}/start");
    for _ in 0..3 {
        let answer = server.call("POST", &path, &[JSON], r#"{"policy":"rerun"}"#).await;
        let told = answer.json();
        assert_eq!(answer.status, 202);
        assert_eq!(
            (&told["started"], &told["run"], &told["next_run"]),
            (&json!(false), &json!(1), &json!(2))
        );
    }
    let task = server.call("GET", &format!("/tasks/{key}"), &[], "").await.json();
    assert_eq!((&task["run"], &task["next_run"]), (&json!(1), &json!(2)));
    server.call("POST", &format!("/tasks/{key}/cancel?wait=60"), &[], "").await;
    let task = server.call("GET", &format!("/tasks/{key}"), &[], "").await.json();
    assert_eq!(
        (&task["status"], &task["run"], &task["next_run"]),
        (&json!("cancelled"), &json!(1), &Value::Null)
    );
}

#[tokio::test]
async fn a_rerun_sent_again_under_its_key_is_told_the_same_run_after_it_has_ended() {
    let server = Server::start().await;
    let key = server.started("Hold", "1", "{}").await;
    let path = format!("/tasks/{key}/start");
    let headers = [JSON, ("idempotency-key", "again")];
    let first = server.call("POST", &path, &headers, r#"{"policy":"rerun"}"#).await;
    assert_eq!((first.status, &first.json()["next_run"]), (202, &json!(2)));
    server.call("POST", &format!("/tasks/{key}/signals/go"), &[JSON], "1").await;
    let again = server.call("POST", &path, &headers, r#"{"policy":"rerun"}"#).await;
    assert_eq!((again.status, again.header("idempotent-replayed")), (200, Some("true")));
    assert_eq!((&again.json()["started"], &again.json()["run"]), (&json!(false), &json!(2)));
}

#[tokio::test]
async fn a_replace_answers_when_the_next_run_has_begun() {
    let server = Server::start().await;
    let key = server.started("Hold", "1", "{}").await;
    let mut viewer = server.watch(&format!("/stream/{key}")).await;
    viewer.event().await.unwrap();
    let answer =
        server.call("POST", &format!("/tasks/{key}/start"), &[JSON], r#"{"policy":"replace"}"#).await;
    let told = answer.json();
    assert_eq!((answer.status, &told["started"], &told["run"]), (202, &json!(true), &json!(2)), "{told}");
    let ending = viewer.event().await.unwrap();
    assert_eq!(ending.event_type, "cancelled");
    assert!(ending.data.contains(r#""reason":"Replaced""#), "{}", ending.data);
    let task = server.call("GET", &format!("/tasks/{key}"), &[], "").await.json();
    assert_eq!((&task["status"], &task["run"]), (&json!("running"), &json!(2)));
}

#[tokio::test]
async fn a_time_to_run_at_starts_the_task_unless_the_caller_says_no() {
    let server = Server::start().await;
    for (id, start, status) in
        [("1", "", "queued"), ("2", r#","start":false"#, "pending"), ("3", r#","start":true"#, "queued")]
    {
        let body = format!(r#"{{"run_at":"2099-01-01T00:00:00Z"{start}}}"#);
        let answer = server.call("PUT", &format!("/tasks/demo/Hold/{id}"), &[JSON], body).await;
        let task = answer.json();
        assert_eq!((answer.status, task["status"].as_str()), (201, Some(status)), "{task}");
        assert_eq!(task["run_at"], "2099-01-01T00:00:00.000000Z");
        let due = if status == "queued" { task["run_at"].clone() } else { Value::Null };
        assert_eq!((&task["due_at"], &task["position"]), (&due, &Value::Null));
    }
    // A past time is no time.
    let body =
        r#"{"run_at":"2001-01-01T00:00:00+02:00","max_retries":3,"timeout_seconds":7,"deadline_seconds":9}"#;
    let task = server.call("PUT", "/tasks/demo/Hold/4", &[JSON], body).await.json();
    assert_eq!((&task["status"], &task["due_at"]), (&json!("running"), &Value::Null));
    let terms = (&task["max_retries"], &task["timeout_seconds"], &task["deadline_seconds"]);
    assert_eq!(terms, (&json!(3), &json!(7), &json!(9)));
}

#[tokio::test]
async fn what_waits_for_a_slot_says_where_it_stands() {
    let server = Server::start().await;
    for id in ["1", "2", "3"] {
        server.started("One", id, "{}").await;
    }
    let position = async |id: &str| {
        server.call("GET", &format!("/tasks/demo/One/{id}"), &[], "").await.json()["position"].clone()
    };
    assert_eq!(
        [position("1").await, position("2").await, position("3").await],
        [Value::Null, json!(1), json!(2)]
    );
}

#[tokio::test]
async fn a_drain_sends_viewers_to_other_servers_and_refuses_what_is_new() {
    let store = Arc::new(MemoryStore::new());
    let server = Server::on(coordinator_on(store.clone()).await, ServerOptions::default()).await;
    let key = server.started("Hold", "1", "{}").await;
    let mut viewer = server.watch(&format!("/stream/{key}")).await;
    viewer.event().await.unwrap();
    let beside = Coordinator::builder(store).register::<Hold>("demo").open().await.unwrap();
    let other = Server::on(beside, ServerOptions::default()).await;
    let shutdown = tokio::spawn({
        let coordinator = server.coordinator.clone();
        async move { coordinator.shutdown(DEADLINE).await }
    });
    // Long before the grace is over.
    let Some(Frame::Retry(2_000..=4_000)) = viewer.frame().await else { panic!("it is sent away") };
    assert!(matches!(viewer.frame().await, Some(Frame::Comment(_))));
    assert_eq!(viewer.frame().await, None);
    let mut late = server.watch(&format!("/stream/{key}")).await;
    assert!(matches!(late.frame().await, Some(Frame::Retry(2_000..=4_000))));
    for (method, path, body) in [
        ("GET", format!("/stream/{key}"), ""),
        ("GET", "/health/ready".to_owned(), ""),
        ("POST", "/tasks/demo/Hold".to_owned(), "{}"),
        ("POST", format!("/tasks/{key}/start"), "{}"),
    ] {
        let answer = server.call(method, &path, &[JSON], body).await;
        assert_eq!((answer.status, answer.code().as_str()), (503, "shutting_down"), "{method} {path}");
        assert_eq!(answer.header("retry-after"), Some("2"), "{method} {path}");
    }
    // It goes on elsewhere where it was cut off.
    let mut moved = other.send("GET", &format!("/stream/{key}"), &[SSE, ("last-event-id", "1")], "").await;
    assert!(matches!(moved.frame().await, Some(Frame::Retry(_))));
    other.call("POST", &format!("/tasks/{key}/signals/go"), &[JSON], "1").await;
    let ending = moved.event().await.unwrap();
    assert_eq!((ending.id.as_deref(), ending.event_type.as_str()), (Some("2"), "complete"));
    shutdown.await.unwrap();
}

#[tokio::test]
async fn a_viewer_that_catches_up_is_sent_to_another_server_before_it_has_read_all() {
    // More than the buffers of a connection hold.
    const EVENTS: usize = 200_000;
    let store = Arc::new(MemoryStore::new());
    let server = Server::on(coordinator_on(store.clone()).await, ServerOptions::default()).await;
    let held = server.started("Hold", "1", "{}").await;
    let long = server.started("Steps", "1", &format!(r#"{{"count":{EVENTS}}}"#)).await;
    server.coordinator.ended(&long.parse().unwrap(), 1).await.unwrap();
    let mut viewer = server.watch(&format!("/stream/{long}")).await;
    viewer.event().await.unwrap();
    let _beside = Coordinator::builder(store).register::<Hold>("demo").open().await.unwrap();
    let shutdown = tokio::spawn({
        let coordinator = server.coordinator.clone();
        async move { coordinator.shutdown(DEADLINE).await }
    });
    server.coordinator.leaving().cancelled().await;
    let (mut read, mut come_back) = (1, None);
    while let Some(frame) = viewer.frame().await {
        match frame {
            Frame::Event(_) => read += 1,
            Frame::Retry(after) => come_back = Some(after),
            Frame::Comment(_) => {}
        }
    }
    assert!(matches!(come_back, Some(2_000..=4_000)), "{come_back:?} after {read} of {EVENTS} events");
    assert!(read < EVENTS, "{read} of {EVENTS} events");
    server.post(&format!("/tasks/{held}/signals/go"), "1").await;
    shutdown.await.unwrap();
}

#[tokio::test]
async fn a_drain_with_no_other_server_keeps_its_viewers_and_serves_new_ones_until_the_work_is_done() {
    let server = Server::start().await;
    let key = server.started("Hold", "1", "{}").await;
    let other = server.started("Hold", "2", "{}").await;
    let mut viewer = server.watch(&format!("/stream/{key}")).await;
    assert_eq!(viewer.event().await.unwrap().event_type, "start");
    let shutdown = tokio::spawn({
        let coordinator = server.coordinator.clone();
        async move { coordinator.shutdown(DEADLINE).await }
    });
    server.coordinator.draining().cancelled().await;
    let health = server.get("/health").await;
    assert_eq!((health.status, &health.json()["status"]), (200, &json!("draining")));
    for (method, path, body) in [
        ("GET", "/health/ready", ""),
        ("PUT", "/tasks/demo/Hold/3", "{}"),
        ("POST", "/tasks/demo/Hold", r#"{"start":true}"#),
        ("POST", "/tasks/demo/Hold/1/start", "{}"),
        ("POST", "/tasks/demo/Hold/1/start", r#"{"policy":"rerun"}"#),
        ("POST", "/tasks/demo/Hold/1/start", r#"{"policy":"replace"}"#),
    ] {
        for headers in [&[JSON][..], &[JSON, ("idempotency-key", "k")]] {
            let answer = server.call(method, path, headers, body).await;
            let told = (answer.status, &*answer.code(), answer.header("retry-after").is_some());
            assert_eq!(told, (503, "shutting_down", true), "{method} {path} {body}");
        }
    }
    // What runs can still be watched, read, told and cancelled: that is how it comes to its end.
    let mut late = server.watch(&format!("/stream/{key}")).await;
    assert_eq!(late.event().await.unwrap().event_type, "start");
    assert_eq!(server.get(&format!("/tasks/{key}")).await.json()["status"], "running");
    assert_eq!(server.post(&format!("/tasks/{key}/signals/go"), "1").await.status, 202);
    assert_eq!(server.post(&format!("/tasks/{other}/cancel"), r#"{"reason":"enough"}"#).await.status, 202);
    for viewer in [viewer, late] {
        assert_eq!(viewer.events().await.pop().unwrap().event_type, "complete");
    }
    shutdown.await.unwrap();
    let record = server.coordinator.task(&other.parse().unwrap()).await.unwrap();
    assert_eq!(record.cancellation_reason.as_deref(), Some("enough"));
}
