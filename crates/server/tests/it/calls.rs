//! What each call answers.

use serde_json::json;

use crate::{
    client::JSON,
    server::{DEADLINE, Server},
};

#[tokio::test]
async fn a_task_is_created_read_listed_and_deleted() {
    let server = Server::start().await;
    let created = server.post("/tasks/demo/Steps", r#"{"input":{"count": 2}}"#).await;
    assert_eq!((created.status, created.header("location")), (201, Some("/tasks/demo/Steps/1")));
    assert!(created.body.contains(r#""input":{"count": 2}"#), "the text that came: {created:?}");
    let record = created.json();
    assert_eq!(
        (&record["id"], &record["status"], &record["run"]),
        (&json!("1"), &json!("pending"), &json!(0))
    );

    let read = server.get("/tasks/demo/Steps/1").await;
    assert_eq!((read.status, read.json()), (200, record));
    assert_eq!(read.header("cache-control"), Some("no-store"));

    for id in ["b", "c"] {
        assert_eq!(server.call("PUT", &format!("/tasks/demo/Steps/{id}"), &[], "").await.status, 201);
    }
    let page = server.get("/tasks?limit=2&app=demo&model=Steps&status=pending").await.json();
    let ids = |page: &serde_json::Value| -> Vec<String> {
        page["tasks"].as_array().unwrap().iter().map(|t| t["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(&page), ["c", "b"]);
    let rest =
        server.get(&format!("/tasks?limit=2&cursor={}", page["next_cursor"].as_str().unwrap())).await.json();
    assert_eq!((ids(&rest), &rest["next_cursor"]), (vec!["1".to_owned()], &json!(null)));
    assert_eq!(ids(&server.get("/tasks?model=Hold").await.json()), Vec::<String>::new());

    let delete =
        async |query: &str| server.call("DELETE", &format!("/tasks/demo/Steps/1{query}"), &[], "").await;
    assert_eq!(delete("?run=7").await.code(), "other_run");
    assert_eq!(delete("?run=x").await.code(), "invalid_query");
    assert_eq!(delete("").await.status, 204);
    assert_eq!(server.get("/tasks/demo/Steps/1").await.code(), "unknown_task");
}

#[tokio::test]
async fn a_put_may_be_repeated_but_not_with_another_input() {
    let server = Server::start().await;
    let put = async |body: &str| server.call("PUT", "/tasks/demo/Steps/x", &[JSON], body.to_owned()).await;
    let first = put(r#"{"input":{"count":1}}"#).await;
    assert_eq!((first.status, first.header("location")), (201, Some("/tasks/demo/Steps/x")));
    let again = put(r#"{"input": { "count" : 1 } }"#).await;
    assert_eq!((again.status, again.json()), (200, first.json()));
    let other = put(r#"{"input":{"count":2}}"#).await;
    assert_eq!((other.status, &*other.code()), (409, "input_differs"));
}

#[tokio::test]
async fn create_starts_at_once_where_it_is_asked_to_and_a_repeated_put_runs_nothing_again() {
    let server = Server::start().await;
    let put = async || server.call("PUT", "/tasks/demo/Steps/x", &[JSON], r#"{"start":true}"#).await;
    let record = put().await.json();
    assert_eq!(record["run"], 1);
    assert!(record["started_at"].is_string(), "{record}");
    server.watch("/stream/demo/Steps/x").await.events().await;
    let again = put().await;
    assert_eq!(
        (again.status, &again.json()["run"], &again.json()["status"]),
        (200, &json!(1), &json!("completed"))
    );
}

#[tokio::test]
async fn a_start_and_a_create_that_starts_hand_their_trace_to_the_run_and_an_invalid_one_fails_no_call() {
    let server = Server::start().await;
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let traced = [JSON, ("traceparent", parent), ("tracestate", "a=1"), ("tracestate", "b=2")];
    let kept = async |key: &str| {
        let trace = server.coordinator.task(&key.parse().unwrap()).await.unwrap().trace;
        trace.map(|trace| (trace.traceparent().to_owned(), trace.tracestate().map(str::to_owned)))
    };
    let given = Some((parent.to_owned(), Some("a=1,b=2".to_owned())));
    server.call("PUT", "/tasks/demo/Hold/x", &[], "").await;
    assert_eq!(server.call("POST", "/tasks/demo/Hold/x/start", &traced, "{}").await.status, 202);
    assert_eq!(kept("demo/Hold/x").await, given);
    assert_eq!(server.call("PUT", "/tasks/demo/Hold/y", &traced, r#"{"start":true}"#).await.status, 201);
    assert_eq!(kept("demo/Hold/y").await, given);
    assert_eq!(server.call("POST", "/tasks/demo/Hold", &traced, r#"{"start":true}"#).await.status, 201);
    assert_eq!(kept("demo/Hold/1").await, given);
    let invalid = [JSON, ("traceparent", "what?"), ("tracestate", "a=1")];
    assert_eq!(server.call("PUT", "/tasks/demo/Hold/z", &invalid, r#"{"start":true}"#).await.status, 201);
    assert_eq!(kept("demo/Hold/z").await, None);
}

#[tokio::test]
async fn a_start_is_answered_by_what_is_true() {
    let server = Server::start().await;
    server.call("PUT", "/tasks/demo/Hold/x", &[], "").await;
    let won = server.post("/tasks/demo/Hold/x/start", "").await;
    assert_eq!((won.status, won.json()), (202, json!({"started": true, "run": 1, "status": "running"})));
    let lost = server.post("/tasks/demo/Hold/x/start", "{}").await;
    let answer = lost.json();
    assert_eq!(
        (lost.status, &answer["started"], &answer["run"], &answer["status"]),
        (200, &json!(false), &json!(1), &json!("running"))
    );
    assert_eq!(answer["node"].as_str(), Some(server.coordinator.node().as_str()));
    assert_eq!(answer["since"], server.get("/tasks/demo/Hold/x").await.json()["started_at"]);
    let busy = server.call("DELETE", "/tasks/demo/Hold/x", &[], "").await;
    assert_eq!((busy.status, &*busy.code()), (409, "task_active"));

    server.post("/cancel/demo/Hold/x", "").await;
    let once = server.post("/tasks/demo/Hold/x/start", r#"{"policy":"once"}"#).await;
    assert_eq!((once.status, once.json()), (200, json!({"started": false, "run": 1, "status": "cancelled"})));
    let again = server.post("/tasks/demo/Hold/x/start", r#"{"policy":"restart"}"#).await;
    assert_eq!((again.status, again.json()), (202, json!({"started": true, "run": 2, "status": "running"})));
}

#[tokio::test]
async fn a_cancel_says_how_far_it_came() {
    let server = Server::start().await;
    server.call("PUT", "/tasks/demo/Hold/p", &[], "").await;
    let pending = server.post("/tasks/demo/Hold/p/cancel", "").await;
    assert_eq!((pending.status, pending.json()), (202, json!({"cancelled": true, "status": "cancelled"})));
    let over = server.post("/tasks/demo/Hold/p/cancel", "").await;
    assert_eq!((over.status, &*over.code()), (409, "not_running"));

    let key = server.started("Hold", "r", "{}").await;
    let other = server.post(&format!("/tasks/{key}/cancel"), r#"{"run":7}"#).await;
    assert_eq!((other.status, &*other.code()), (409, "other_run"));
    let waited = server.post(&format!("/tasks/{key}/cancel?wait=30"), r#"{"reason":"enough","run":1}"#).await;
    assert_eq!(
        (waited.status, waited.json()),
        (200, json!({"cancelled": true, "status": "cancelled", "run": 1}))
    );
    assert_eq!(server.get(&format!("/tasks/{key}")).await.json()["cancellation_reason"], "enough");

    // Work that finished counts, even if a cancel was on its way.
    let key = server.started("Finish", "f", "{}").await;
    let waited = server.post(&format!("/tasks/{key}/cancel?wait=30"), "").await;
    assert_eq!(
        (waited.status, waited.json()),
        (200, json!({"cancelled": false, "status": "completed", "run": 1}))
    );
    let over = server.post(&format!("/tasks/{key}/cancel?wait=30"), "").await;
    assert_eq!((over.status, &*over.code()), (409, "not_running"));
}

#[tokio::test]
async fn a_cancel_that_does_not_wait_is_answered_at_once_and_may_be_repeated() {
    let server = Server::start().await;
    let key = server.started("Hold", "r", "{}").await;
    let mut viewer = server.watch(&format!("/stream/{key}")).await;
    viewer.event().await.unwrap();
    let asked = server.post(&format!("/tasks/{key}/cancel"), "").await;
    assert_eq!(
        (asked.status, asked.json()),
        (202, json!({"cancelled": false, "status": "cancelling", "run": 1}))
    );
    let repeated = server.post(&format!("/tasks/{key}/cancel"), "").await;
    assert!(repeated.status == 202 || repeated.code() == "not_running", "{repeated:?}");
    assert_eq!(viewer.events().await.last().unwrap().event_type, "cancelled");
}

#[tokio::test]
async fn cancel_and_wait_says_only_whether_it_is_cancelled() {
    let server = Server::start().await;
    server.call("PUT", "/tasks/demo/Hold/7", &[], r#""#).await;
    let pending = server.post("/cancel/demo/Hold/7", r#"{"reason":"never mind"}"#).await;
    assert_eq!(
        (pending.status, pending.json()),
        (200, json!({"status": "cancelled", "task_id": 7, "reason": "never mind"}))
    );
    let again = server.post("/cancel/demo/Hold/7", "").await;
    assert_eq!((again.status, again.json()), (404, json!({"status": "not_running", "task_id": 7})));
    let key = server.started("Hold", "x8", "{}").await;
    let running = server.post(&format!("/cancel/{key}"), r#"{"reason":"stop"}"#).await;
    assert_eq!(
        (running.status, running.json()),
        (200, json!({"status": "cancelled", "task_id": "x8", "reason": "stop"}))
    );
    let key = server.started("Finish", "9", "{}").await;
    let finished = server.post(&format!("/cancel/{key}"), "").await;
    assert_eq!((finished.status, finished.json()), (404, json!({"status": "not_running", "task_id": 9})));
}

#[tokio::test]
async fn a_signal_waits_for_the_work_and_is_refused_once_it_is_over() {
    let server = Server::start().await;
    server.call("PUT", "/tasks/demo/Hold/x", &[], "").await;
    let sent = server.post("/tasks/demo/Hold/x/signals/go", r#"{"n": 1}"#).await;
    assert_eq!((sent.status, sent.json()), (202, json!({"run": 1, "number": 1})));
    server.post("/tasks/demo/Hold/x/start", "").await;
    let events = server.watch("/stream/demo/Hold/x").await.events().await;
    assert!(events.last().unwrap().data.contains(r#""final_value":{"n": 1}"#), "{events:?}");
    let late = server.post("/tasks/demo/Hold/x/signals/go", "").await;
    assert_eq!((late.status, &*late.code()), (409, "not_running"));
}

#[tokio::test]
async fn the_log_is_read_page_by_page_as_it_was_sent() {
    let server = Server::start().await;
    let input = r#"{"json":[["a",{"n": 1.50}]],"text":[["b","two\nlines"]]}"#;
    let key = server.started("Says", "x", input).await;
    server.watch(&format!("/stream/{key}")).await.events().await;
    let page = server.get(&format!("/tasks/{key}/events?limit=2")).await;
    assert!(page.body.contains(r#""type":"a","data":{"n": 1.50},"timestamp""#), "{page:?}");
    assert!(page.body.contains(r#""type":"b","data":"two\nlines","text":true,"timestamp""#), "{page:?}");
    assert_eq!(page.json()["last_seq"], 3);
    let rest = server.get(&format!("/tasks/{key}/events?after=2")).await.json();
    assert_eq!(rest["events"][0]["type"], "complete");
    assert_eq!(rest["events"].as_array().unwrap().len(), 1);
    let beyond = server.get(&format!("/tasks/{key}/events?after=3")).await.json();
    assert_eq!((&beyond["events"], &beyond["last_seq"]), (&json!([]), &json!(3)));
}

#[tokio::test]
async fn a_start_beyond_the_slots_waits_in_the_queue_until_one_is_free() {
    let server = Server::start().await;
    let first = server.started("One", "a", "{}").await;
    let queued = server.call("PUT", "/tasks/demo/One/b", &[JSON], r#"{"start":true}"#).await;
    assert_eq!(
        (queued.status, &queued.json()["status"], &queued.json()["run"]),
        (201, &json!("queued"), &json!(1))
    );
    let again = server.post("/tasks/demo/One/b/start", "").await;
    assert_eq!((again.status, again.json()), (200, json!({"started": false, "run": 1, "status": "queued"})));
    server.call("PUT", "/tasks/demo/One/c", &[JSON], "{}").await;
    let third = server.post("/tasks/demo/One/c/start", "").await;
    assert_eq!((third.status, third.json()), (202, json!({"started": true, "run": 1, "status": "queued"})));

    server.post(&format!("/cancel/{first}"), "").await;
    let running = async { while server.get("/tasks/demo/One/b").await.json()["status"] != "running" {} };
    tokio::time::timeout(DEADLINE, running).await.expect("the first in the queue gets the slot");
    assert_eq!(server.get("/tasks/demo/One/c").await.json()["status"], "queued");
    let cancelled = server.post("/cancel/demo/One/c", "").await;
    assert_eq!((cancelled.status, &cancelled.json()["status"]), (200, &json!("cancelled")));
}

#[tokio::test]
async fn a_request_sent_again_under_its_idempotency_key_gets_its_first_answer() {
    let server = Server::start().await;
    let key = ("idempotency-key", "5f2c");
    let replayed = |answer: &crate::client::Answer| answer.header("idempotent-replayed").map(str::to_owned);
    let create = async |body: &'static str| server.call("POST", "/tasks/demo/Hold", &[JSON, key], body).await;
    let first = create(r#"{"input":{"a":1},"start":true}"#).await;
    assert_eq!((first.status, replayed(&first)), (201, None));
    let location = first.header("location").unwrap().to_owned();
    let again = create(r#"{ "start": true, "input": {"a": 1} }"#).await;
    assert_eq!((again.status, replayed(&again).as_deref()), (200, Some("true")));
    assert_eq!((again.header("location"), &again.json()["run"]), (Some(&*location), &json!(1)));
    let other = create(r#"{"input":{"a":2},"start":true}"#).await;
    assert_eq!((other.status, &*other.code()), (422, "idempotency_key_reused"));

    // The same key of another call is another key; a loser's first answer counts as well.
    let start = async |body: &'static str| {
        server.call("POST", &format!("{location}/start"), &[JSON, key], body).await
    };
    let lost = start("{}").await;
    assert_eq!((lost.status, replayed(&lost), &lost.json()["started"]), (200, None, &json!(false)));
    server.post(&format!("{location}/signals/go"), "").await;
    let ended = async { while server.get(&location).await.json()["status"] != "completed" {} };
    tokio::time::timeout(DEADLINE, ended).await.expect("it ends");
    let again = start("").await;
    assert_eq!((again.status, replayed(&again).as_deref()), (200, Some("true")));
    assert_eq!(again.json(), json!({"started": false, "run": 1, "status": "completed"}));
    let other = start(r#"{"policy":"once"}"#).await;
    assert_eq!((other.status, &*other.code()), (422, "idempotency_key_reused"));
    let fresh = [JSON, ("idempotency-key", "77")];
    let won = server.call("POST", &format!("{location}/start"), &fresh, "{}").await;
    assert_eq!((won.status, &won.json()["run"]), (202, &json!(2)));
    let again = server.call("POST", &format!("{location}/start"), &fresh, "{}").await;
    assert_eq!(
        (again.status, again.json()["started"].clone(), again.json()["run"].clone()),
        (200, json!(true), json!(2))
    );

    server.post(&format!("/cancel{}", location.strip_prefix("/tasks").unwrap()), "").await;
    assert_eq!(server.call("DELETE", &location, &[], "").await.status, 204);
    let gone = create(r#"{"input":{"a":1},"start":true}"#).await;
    assert_eq!((gone.status, &*gone.code()), (404, "unknown_task"));
    for bad in ["", "ü"] {
        let refused = server.call("POST", "/tasks/demo/Hold", &[JSON, ("idempotency-key", bad)], "{}").await;
        assert_eq!((refused.status, &*refused.code()), (400, "invalid_idempotency_key"), "{bad:?}");
    }
}

#[tokio::test]
async fn health_stats_and_the_description_are_answered() {
    let server = Server::start().await;
    let node = server.coordinator.node().to_string();
    let health = server.get("/health").await;
    assert_eq!(
        (health.status, health.json()),
        (200, json!({"status": "ok", "version": "0.1.0", "node": node}))
    );
    let idle = json!({"node": node, "running": 0, "starting": 0, "kept": 0, "viewers": 0, "stuck": 0});
    assert_eq!(server.get("/stats").await.json(), idle);
    let openapi = server.get("/openapi.json").await;
    assert_eq!(
        (openapi.header("content-type"), &*openapi.body),
        (Some("application/json"), soloist_server::OPENAPI)
    );
    let head = server.call("HEAD", "/health", &[], "").await;
    assert_eq!((head.status, &*head.body), (200, ""));

    let key = server.started("Hold", "x", "{}").await;
    assert_eq!(server.get("/stats").await.json()["running"], 1);
    let drained = tokio::spawn({
        let coordinator = server.coordinator.clone();
        async move { coordinator.shutdown(DEADLINE).await }
    });
    server.coordinator.draining().cancelled().await;
    let health = server.get("/health").await;
    assert_eq!((health.status, &health.json()["status"]), (200, &json!("draining")));
    let refused = server.post("/tasks/demo/Hold/x/start", "").await;
    assert!(refused.status == 200 || refused.code() == "shutting_down", "{refused:?}");
    let refused = server.post("/tasks/demo/Hold", "").await;
    assert_eq!((refused.status, &*refused.code()), (503, "shutting_down"));
    assert!(refused.header("retry-after").is_some());
    server.post(&format!("/tasks/{key}/signals/go"), "").await;
    tokio::time::timeout(DEADLINE, drained).await.expect("drained in time").unwrap();
}
