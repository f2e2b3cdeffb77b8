//! Bad input: each a problem with a stable code, and nothing is created.

use std::collections::BTreeSet;

use soloist::limits;

use crate::{
    client::{Headers, JSON, SSE},
    server::Server,
};

const NONE: Headers<'static> = &[];
const AS_JSON: Headers<'static> = &[JSON];

#[tokio::test]
async fn bad_input_is_a_problem_with_a_stable_code_and_nothing_is_created() {
    let server = Server::start().await;
    let long_name = format!("/tasks/{}/Steps", "a".repeat(limits::NAME_MAX_BYTES + 1));
    let long_id = format!("/tasks/demo/Steps/{}", "1".repeat(limits::ID_MAX_BYTES + 1));
    let deep = format!(
        r#"{{"input":{}{}}}"#,
        "[".repeat(limits::JSON_MAX_DEPTH + 1),
        "]".repeat(limits::JSON_MAX_DEPTH + 1)
    );
    let long_input = format!(r#"{{"input":{{"count":1,"x":"{}"}}}}"#, "x".repeat(limits::INPUT_MAX_BYTES));
    let long_body = format!(r#"{{"input":"{}"}}"#, "x".repeat(limits::BODY_MAX_BYTES));
    let cases: &[(&str, &str, Headers<'_>, &str, u16, &str)] = &[
        // Keys.
        ("POST", "/tasks/1demo/Steps", AS_JSON, "{}", 400, "invalid_key"),
        ("POST", &long_name, AS_JSON, "{}", 400, "invalid_key"),
        ("PUT", &long_id, AS_JSON, "{}", 400, "invalid_key"),
        ("PUT", "/tasks/demo/Steps/..", AS_JSON, "{}", 400, "invalid_key"),
        ("PUT", "/tasks/demo/../Steps", AS_JSON, "{}", 400, "invalid_key"),
        ("PUT", "/tasks/demo/Steps/%2e%2e", AS_JSON, "{}", 400, "invalid_key"),
        ("PUT", "/tasks/demo/Steps/a%2Fb", AS_JSON, "{}", 400, "invalid_key"),
        ("PUT", "/tasks/demo/Steps/..%2F..%2Fetc", AS_JSON, "{}", 400, "invalid_key"),
        ("PUT", "/tasks/demo/Steps/a%00b", AS_JSON, "{}", 400, "invalid_key"),
        ("PUT", "/tasks/demo/Steps/a%0d%0ab", AS_JSON, "{}", 400, "invalid_key"),
        ("PUT", "/tasks/demo/Steps/%ff", AS_JSON, "{}", 400, "invalid_key"),
        ("PUT", "/tasks/demo/Steps/-x", AS_JSON, "{}", 400, "invalid_key"),
        ("GET", "/stream/demo/Steps/a%2Fb", NONE, "", 400, "invalid_key"),
        ("POST", "/cancel/demo/Steps/..", NONE, "", 400, "invalid_key"),
        // Bodies.
        ("POST", "/tasks/demo/Steps", AS_JSON, "{", 400, "invalid_json"),
        ("POST", "/tasks/demo/Steps", AS_JSON, "input=1", 400, "invalid_json"),
        ("POST", "/tasks/demo/Steps", AS_JSON, "{} x", 400, "invalid_json"),
        ("POST", "/tasks/demo/Steps", AS_JSON, &deep, 400, "invalid_json"),
        ("POST", "/tasks/demo/Steps", AS_JSON, "[]", 400, "invalid_body"),
        ("POST", "/tasks/demo/Steps", AS_JSON, "null", 400, "invalid_body"),
        ("POST", "/tasks/demo/Steps", AS_JSON, r#"{"inputs":{}}"#, 400, "invalid_body"),
        ("POST", "/tasks/demo/Steps", AS_JSON, r#"{"start":"yes"}"#, 400, "invalid_body"),
        ("POST", "/tasks/demo/Steps", AS_JSON, r#"{"input":1,"input":2}"#, 400, "invalid_body"),
        ("POST", "/tasks/demo/Steps", NONE, "{}", 415, "unsupported_media_type"),
        ("POST", "/tasks/demo/Steps", &[("content-type", "text/plain")], "{}", 415, "unsupported_media_type"),
        (
            "POST",
            "/tasks/demo/Steps",
            &[("content-type", "application/json5")],
            "{}",
            415,
            "unsupported_media_type",
        ),
        ("POST", "/tasks/demo/Steps", AS_JSON, &long_input, 413, "too_large"),
        ("POST", "/tasks/demo/Steps", AS_JSON, &long_body, 413, "too_large"),
        // What does not exist.
        ("POST", "/tasks/demo/Nope", AS_JSON, "{}", 404, "unknown_model"),
        ("PUT", "/tasks/nope/Steps/1", AS_JSON, "{}", 404, "unknown_model"),
        ("GET", "/tasks/demo/Steps/1", NONE, "", 404, "unknown_task"),
        ("DELETE", "/tasks/demo/Steps/1", NONE, "", 404, "unknown_task"),
        ("GET", "/tasks/demo/Steps/1/events", NONE, "", 404, "unknown_task"),
        ("POST", "/tasks/demo/Steps/1/start", NONE, "", 404, "unknown_task"),
        ("POST", "/tasks/demo/Steps/1/cancel", NONE, "", 404, "unknown_task"),
        ("POST", "/tasks/demo/Steps/1/cancel?wait=1", NONE, "", 404, "unknown_task"),
        ("POST", "/tasks/demo/Steps/1/signals/go", NONE, "", 404, "unknown_task"),
        ("POST", "/cancel/demo/Steps/1", NONE, "", 404, "unknown_task"),
        ("GET", "/stream/demo/Steps/1", NONE, "", 404, "unknown_task"),
        ("GET", "/stream/demo/Steps/1", &[SSE], "", 404, "unknown_task"),
        ("GET", "/", NONE, "", 404, "unknown_route"),
        ("GET", "/metrics", NONE, "", 404, "unknown_route"),
        ("GET", "/tasks/demo/Steps/1/2/3", NONE, "", 404, "unknown_route"),
        ("GET", "/tasks/demo//1", NONE, "", 400, "invalid_key"),
        // Methods.
        ("DELETE", "/tasks", NONE, "", 405, "method_not_allowed"),
        ("PATCH", "/tasks/demo/Steps/1", NONE, "", 405, "method_not_allowed"),
        ("GET", "/tasks/demo/Steps/1/start", NONE, "", 405, "method_not_allowed"),
        ("PUT", "/stream/demo/Steps/1", NONE, "", 405, "method_not_allowed"),
        ("OPTIONS", "/tasks", NONE, "", 405, "method_not_allowed"),
        // Input.
        ("POST", "/tasks/demo/Steps", AS_JSON, r#"{"input":{"count":"many"}}"#, 422, "invalid_input"),
        ("POST", "/tasks/demo/Says", AS_JSON, "", 422, "invalid_input"),
        ("PUT", "/tasks/demo/Steps/1", AS_JSON, r#"{"input":null,"start":true}"#, 422, "invalid_input"),
        // Retries and times.
        ("POST", "/tasks/demo/Steps", AS_JSON, r#"{"max_retries":1001}"#, 400, "invalid_body"),
        ("POST", "/tasks/demo/Steps", AS_JSON, r#"{"timeout_seconds":0}"#, 400, "invalid_body"),
        ("POST", "/tasks/demo/Steps", AS_JSON, r#"{"deadline_seconds":31622401}"#, 400, "invalid_body"),
        ("PUT", "/tasks/demo/Steps/1", AS_JSON, r#"{"run_at":"tomorrow"}"#, 400, "invalid_body"),
        ("POST", "/tasks/demo/Steps/1/start", AS_JSON, r#"{"policy":"again"}"#, 400, "invalid_body"),
        // Start or attach.
        ("POST", "/stream/demo/Nope/1", AS_JSON, "{}", 404, "unknown_model"),
        ("POST", "/stream/demo/Steps/1", AS_JSON, "{", 400, "invalid_json"),
        ("POST", "/stream/demo/Steps/1", NONE, "{}", 415, "unsupported_media_type"),
        ("POST", "/stream/demo/Steps/1", AS_JSON, r#"{"count":"many"}"#, 422, "invalid_input"),
        ("POST", "/stream/demo/Steps/1", AS_JSON, &long_input, 413, "too_large"),
        ("POST", "/stream/demo/Steps/1?policy=rerun", AS_JSON, "{}", 400, "invalid_query"),
        ("POST", "/stream/demo/Steps/1?policy=again", AS_JSON, "{}", 400, "invalid_query"),
        // Sent again without a key, as a client does whose stream breaks off, these would start it once more.
        ("POST", "/stream/demo/Steps/1?policy=restart", AS_JSON, "{}", 400, "invalid_query"),
        ("POST", "/stream/demo/Steps/1?policy=replace", AS_JSON, "{}", 400, "invalid_query"),
        ("POST", "/stream/demo/Steps/1?start=true", AS_JSON, "{}", 400, "invalid_query"),
        ("POST", "/stream/demo/Steps?max_retries=1001", AS_JSON, "{}", 400, "invalid_query"),
        ("POST", "/stream/demo/Steps?timeout_seconds=0", AS_JSON, "{}", 400, "invalid_query"),
        ("POST", "/stream/demo/Steps?run_at=tomorrow", AS_JSON, "{}", 400, "invalid_query"),
        ("POST", "/stream/demo/Steps?last_event_id=3", AS_JSON, "{}", 400, "invalid_cursor"),
        ("POST", "/stream/demo/Steps", &[SSE, JSON, ("last-event-id", "x")], "{}", 400, "invalid_cursor"),
        (
            "POST",
            "/stream/demo/Steps/1",
            &[JSON, ("origin", "https://evil.example")],
            "{}",
            403,
            "cross_site",
        ),
        // Positions and parameters.
        ("GET", "/stream/demo/Steps/1", &[("last-event-id", "abc")], "", 400, "invalid_cursor"),
        ("GET", "/stream/demo/Steps/1", &[("last-event-id", "-1")], "", 400, "invalid_cursor"),
        ("GET", "/stream/demo/Steps/1", &[("last-event-id", "1-token")], "", 400, "invalid_cursor"),
        ("GET", "/stream/demo/Steps/1?last_event_id=abc", NONE, "", 400, "invalid_cursor"),
        ("GET", "/stream/demo/Steps/1?last_event_id=99999999999999999999", NONE, "", 400, "invalid_cursor"),
        ("GET", "/stream/demo/Steps/1?format=xml", NONE, "", 400, "invalid_query"),
        ("GET", "/stream/demo/Steps/1?replay=some", NONE, "", 400, "invalid_query"),
        ("GET", "/stream/demo/Steps/1?follow=1", NONE, "", 400, "invalid_query"),
        ("GET", "/stream/demo/Steps/1?folow=true", NONE, "", 400, "invalid_query"),
        ("GET", "/tasks?status=done", NONE, "", 400, "invalid_query"),
        ("GET", "/tasks?limit=0", NONE, "", 400, "invalid_query"),
        ("GET", "/tasks?limit=1001", NONE, "", 400, "invalid_query"),
        ("GET", "/tasks?page=2", NONE, "", 400, "invalid_query"),
        ("GET", "/tasks?cursor=x", NONE, "", 400, "invalid_cursor"),
        ("GET", "/tasks/demo/Steps/1/events?after=x", NONE, "", 400, "invalid_cursor"),
        ("GET", "/tasks/demo/Steps/1/events?wait=61", NONE, "", 400, "invalid_query"),
        ("GET", "/tasks/demo/Steps/1/events?wait=1", NONE, "", 404, "unknown_task"),
        ("GET", "/tasks/demo/Steps/1/events?limit=1001", NONE, "", 400, "invalid_query"),
        ("POST", "/tasks/demo/Steps/1/cancel?wait=61", NONE, "", 400, "invalid_query"),
        ("POST", "/tasks/demo/Steps/1/start", AS_JSON, r#"{"policy":"twice"}"#, 400, "invalid_body"),
        ("POST", "/tasks/demo/Steps/1/cancel", AS_JSON, r#"{"run":"one"}"#, 400, "invalid_body"),
        ("POST", "/tasks/demo/Steps/1/signals/go", AS_JSON, "{", 400, "invalid_json"),
        ("POST", "/tasks/demo/Steps/1/signals/a%0ab", NONE, "", 400, "invalid_signal"),
        // Other sites.
        ("POST", "/tasks/demo/Steps", &[JSON, ("origin", "https://evil.example")], "{}", 403, "cross_site"),
        ("POST", "/tasks/demo/Steps", &[JSON, ("sec-fetch-site", "cross-site")], "{}", 403, "cross_site"),
        ("GET", "/health", &[("host", "evil.example")], "", 421, "foreign_host"),
        ("POST", "/tasks/demo/Steps", &[JSON, ("host", "evil.example:80")], "{}", 421, "foreign_host"),
    ];
    for (method, path, headers, body, status, code) in cases {
        let answer = server.call(method, path, headers, (*body).to_owned()).await;
        let shown: String = path.chars().take(80).collect();
        assert_eq!(
            (answer.status, &*answer.code()),
            (*status, *code),
            "{method} {shown} {headers:?}: {answer:?}"
        );
        assert_eq!(answer.header("allow").is_some(), *status == 405, "{method} {shown}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{method} {shown}");
    }
    assert_eq!(server.get("/tasks").await.body, r#"{"tasks":[],"next_cursor":null}"#);
    server.until_viewers(0).await;
}

#[tokio::test]
async fn an_unknown_field_is_named() {
    let server = Server::start().await;
    let answer = server.post("/tasks/demo/Steps", r#"{"timeout_second":1}"#).await;
    assert!(answer.body.contains("timeout_second"), "{answer:?}");
    let answer = server.get("/tasks?stauts=failed").await;
    assert!(answer.body.contains("stauts"), "{answer:?}");
}

#[tokio::test]
async fn an_empty_body_means_an_empty_object_and_nulls_ask_for_nothing() {
    let server = Server::start().await;
    assert_eq!(server.call("POST", "/tasks/demo/Steps", NONE, "").await.status, 201);
    assert_eq!(
        server.call("POST", "/tasks/demo/Steps", &[("content-type", "text/plain")], "").await.status,
        201
    );
    let nulls = r#"{"max_retries":1000,"timeout_seconds":null,"run_at":null,"start":null}"#;
    assert_eq!(server.post("/tasks/demo/Steps", nulls).await.status, 201);
    let content_type = ("content-type", "Application/JSON; charset=utf-8");
    assert_eq!(server.call("POST", "/tasks/demo/Steps", &[content_type], "{}").await.status, 201);
}

#[tokio::test]
async fn the_description_names_the_parameters_that_the_server_takes_and_no_other() {
    let server = Server::start().await;
    let openapi: serde_json::Value = serde_json::from_str(soloist_server::OPENAPI).unwrap();
    let mut looked_at = 0;
    for (path, methods) in openapi["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let parameters = operation["parameters"].as_array().map_or(&[][..], Vec::as_slice);
            let named: BTreeSet<&str> = parameters
                .iter()
                .map(|p| p["$ref"].as_str().map_or(p, |r| openapi.pointer(&r[1..]).unwrap()))
                .filter(|p| p["in"] == "query")
                .map(|p| p["name"].as_str().unwrap())
                .collect();
            if named.is_empty() || method == "head" {
                continue;
            }
            let key = [("{app}", "demo"), ("{model}", "Steps"), ("{id}", "x")];
            let path = key.iter().fold(path.clone(), |path, (part, name)| path.replace(part, name));
            let refused = server.call(&method.to_uppercase(), &format!("{path}?nonsense=1"), NONE, "").await;
            let detail = refused.json()["detail"].as_str().unwrap().to_owned();
            // It says which it knows, each in backticks.
            let known: BTreeSet<&str> =
                detail.split('`').skip(1).step_by(2).filter(|name| *name != "nonsense").collect();
            assert_eq!(named, known, "{method} {path}: {detail}");
            looked_at += 1;
        }
    }
    assert!(looked_at >= 6, "{looked_at}");
}
