//! The router in somebody else's app.

use axum::{Router, routing::get};
use serde_json::json;
use soloist_server::{ServerOptions, router};
use tokio::net::{TcpListener, TcpStream};

use crate::{
    client::{Answer, JSON, SSE, send},
    server::coordinator,
};

#[tokio::test]
async fn the_router_nests_into_any_app_under_any_path() {
    let app = Router::new()
        .route("/", get(|| async { "my app" }))
        .nest("/work", router(coordinator().await, ServerOptions::default()))
        .fallback(|| async { (axum::http::StatusCode::IM_A_TEAPOT, "my own 404") });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let served = tokio::spawn(async move { axum::serve(listener, app).await });
    let call = async |method: &str, path: &str, body: &'static str| -> Answer {
        let stream = TcpStream::connect(address).await.unwrap();
        send(stream, "any.example", method, path, &[JSON, SSE], body.into()).await.whole().await
    };

    assert_eq!(call("GET", "/", "").await.body, "my app");
    assert_eq!(call("GET", "/nothing", "").await.body, "my own 404");
    let created = call("POST", "/work/tasks/demo/Steps", r#"{"input":{"count":1}}"#).await;
    assert_eq!((created.status, created.header("location")), (201, Some("/work/tasks/demo/Steps/1")));
    assert_eq!(call("GET", created.header("location").unwrap(), "").await.json()["status"], "pending");
    let stream = call("GET", "/work/stream/demo/Steps/1", "").await;
    assert!(stream.body.contains("event: complete\n"), "{stream:?}");
    let again = call("POST", "/work/tasks/demo/Steps/1/start", "").await;
    assert_eq!(again.json(), json!({"started": true, "run": 2, "status": "running"}));
    let attached = call("POST", "/work/stream/demo/Steps", r#"{"count":1}"#).await;
    assert_eq!((attached.status, attached.header("location")), (200, Some("/work/stream/demo/Steps/2")));
    let named = call("POST", "/work/stream/demo/Steps/x", r#"{"count":1}"#).await;
    assert_eq!((named.status, named.header("location")), (200, Some("/work/stream/demo/Steps/x")));
    for answer in [attached, named] {
        let again = call("GET", answer.header("location").unwrap(), "").await;
        assert!(again.body.contains("event: complete\n") && again.body == answer.body, "{again:?}");
    }
    assert_eq!(call("GET", "/work/nothing", "").await.code(), "unknown_route");
    assert_eq!(call("DELETE", "/work/tasks", "").await.code(), "method_not_allowed");
    served.abort();
}
