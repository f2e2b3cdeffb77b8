//! Who may call.

use soloist_server::ServerOptions;

use crate::{
    client::{JSON, SSE},
    server::Server,
};

const APP: &str = "https://app.example.com";

async fn server() -> Server {
    Server::with(ServerOptions {
        cors_origins: vec![APP.into()],
        allowed_hosts: vec!["box.lan".into()],
        ..Default::default()
    })
    .await
}

#[tokio::test]
async fn a_page_of_another_site_changes_nothing_and_starts_nothing_by_watching() {
    let server = server().await;
    server.call("PUT", "/tasks/demo/Steps/1", &[], "").await;
    for header in [
        ("origin", "https://evil.example"),
        ("origin", "null"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
    ] {
        for (method, path) in [
            ("POST", "/tasks/demo/Steps"),
            ("PUT", "/tasks/demo/Steps/2"),
            ("DELETE", "/tasks/demo/Steps/1"),
            ("POST", "/tasks/demo/Steps/1/start"),
            ("POST", "/tasks/demo/Steps/1/cancel"),
            ("POST", "/tasks/demo/Steps/1/signals/go"),
            ("POST", "/cancel/demo/Steps/1"),
            ("POST", "/stream/demo/Steps/1"),
            ("GET", "/stream/demo/Steps/1"),
        ] {
            let answer = server.call(method, path, &[header, SSE], "").await;
            assert_eq!((answer.status, &*answer.code()), (403, "cross_site"), "{method} {path} {header:?}");
            assert_eq!(answer.header("access-control-allow-origin"), None);
        }
    }
    let record = server.get("/tasks/demo/Steps/1").await.json();
    assert_eq!(record["status"], "pending");
    assert_eq!(server.get("/tasks").await.json()["tasks"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn its_own_pages_and_programs_may_do_everything() {
    let server = server().await;
    let own = format!("http://{}", server.address);
    for header in [
        ("origin", &*own),
        ("sec-fetch-site", "same-origin"),
        ("sec-fetch-site", "none"),
        ("user-agent", "curl"),
    ] {
        let answer = server.call("POST", "/tasks/demo/Steps", &[JSON, header], "{}").await;
        assert_eq!(answer.status, 201, "{header:?}");
    }
}

#[tokio::test]
async fn a_configured_site_may_call_and_read_the_answer() {
    let server = server().await;
    let preflight = server
        .call(
            "OPTIONS",
            "/tasks/demo/Steps",
            &[("origin", APP), ("access-control-request-method", "POST")],
            "",
        )
        .await;
    assert_eq!(preflight.status, 204);
    assert_eq!(preflight.header("access-control-allow-origin"), Some(APP));
    assert!(preflight.header("access-control-allow-methods").unwrap().contains("POST"));
    assert!(preflight.header("access-control-allow-headers").unwrap().contains("content-type"));
    let created = server.call("POST", "/tasks/demo/Steps", &[JSON, ("origin", APP)], "{}").await;
    assert_eq!((created.status, created.header("access-control-allow-origin")), (201, Some(APP)));
    assert_eq!(created.header("vary"), Some("origin"));
    let viewer = server
        .send("GET", "/stream/demo/Steps/1", &[SSE, ("origin", APP), ("sec-fetch-site", "cross-site")], "")
        .await;
    assert_eq!((viewer.status, &viewer.headers["access-control-allow-origin"]), (200, &APP.parse().unwrap()));
    assert_eq!(viewer.events().await.len(), 1);

    let foreign = [("origin", "https://evil.example"), ("access-control-request-method", "POST")];
    let refused = server.call("OPTIONS", "/tasks/demo/Steps", &foreign, "").await;
    assert_eq!((refused.status, refused.header("access-control-allow-origin")), (405, None));
}

#[tokio::test]
async fn a_prefetch_starts_nothing() {
    let server = server().await;
    server.call("PUT", "/tasks/demo/Steps/1", &[], "").await;
    for purpose in [("sec-purpose", "prefetch;prerender"), ("purpose", "prefetch")] {
        let answer = server.call("GET", "/stream/demo/Steps/1", &[purpose], "").await;
        assert_eq!((answer.status, &*answer.code()), (503, "prefetch"));
    }
    assert_eq!(server.get("/tasks/demo/Steps/1").await.json()["status"], "pending");
    server.until_viewers(0).await;
}

#[tokio::test]
async fn on_loopback_only_names_of_this_machine_are_answered() {
    let server = server().await;
    for (host, status) in [
        ("localhost", 200),
        ("localhost:1", 200),
        ("127.0.0.1", 200),
        ("[::1]:8888", 200),
        ("box.lan:8888", 200),
        ("evil.example", 421),
        ("localhost.evil.example:8888", 421),
    ] {
        for path in ["/health", "/stats"] {
            assert_eq!(server.call("GET", path, &[("host", host)], "").await.status, status, "{host}");
        }
    }
    let missing = server.call("GET", "/nothing/here", &[("host", "evil.example")], "").await;
    assert_eq!(missing.code(), "foreign_host");
}
