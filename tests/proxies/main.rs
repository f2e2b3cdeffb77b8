//! The proxies of `examples/`, with the very files that stand there, in front of the built program: what a viewer, a
//! stop button and a page rely on holds behind them too.
#![allow(missing_docs, clippy::unwrap_used)]

mod front;
mod view;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use soloist::limits::{BODY_MAX_BYTES, CANCEL_WAIT_MAX, SSE_HEARTBEAT};
use system_tests::{
    eventually,
    server::Server,
    viewer::{Connection, End, Seen},
};

use front::{APP, Front, Kind};
use view::View;

/// Work that sends one event and then waits for a signal, so long that no test sees the end of its patience.
const WAITS: &str = r#"{"message":"hello","timeout_ms":600000}"#;
const KEY: &str = "demo/ContinueTask/behind-a-proxy";

async fn behind(kind: Kind) -> (Server, Front) {
    let server = Server::start().await;
    let front = Front::start(kind, &server.address).await;
    (server, front)
}

/// A viewer of work that has sent its one event, and is silent.
async fn silent(front: &Front) -> View {
    let (status, answer) =
        front.call("PUT", &format!("/tasks/{KEY}"), &format!(r#"{{"input":{WAITS}}}"#)).await;
    assert_eq!(status, 201, "{answer}");
    let mut view = View::open(front.http.get(front.url(&format!("/stream/{KEY}")))).await;
    assert_eq!(view.event().await.0, "waiting");
    view
}

async fn go_on(front: &Front) {
    let (status, answer) = front.call("POST", &format!("/tasks/{KEY}/signals/continue"), "1").await;
    assert_eq!(status, 202, "{answer}");
}

fn json_of(answer: &str) -> Value {
    serde_json::from_str(answer).unwrap_or_else(|_| panic!("no JSON of Soloist: {answer}"))
}

async fn passes_events_on_at_once(kind: Kind) {
    let (_server, front) = behind(kind).await;
    // The first event is here while the work is silent: nothing but the signal below makes it say more.
    let mut view = silent(&front).await;
    // Of a stream that has sent no event the head is here.
    let mut fresh = View::open(front.http.get(front.url(&format!("/stream/{KEY}?replay=none")))).await;
    go_on(&front).await;
    assert_eq!(fresh.event().await.0, "continued");
    assert_eq!(view.event().await.0, "continued");
    assert_eq!(view.event().await.0, "complete");
}

async fn keeps_silent_streams_open(kind: Kind) {
    let (_server, front) = behind(kind).await;
    let mut view = silent(&front).await;
    let since = Instant::now();
    assert!(view.next().await.is_none(), "a heartbeat");
    assert!(view.next().await.is_none(), "another one");
    assert!(since.elapsed() > SSE_HEARTBEAT.mul_f64(1.5), "{:?}", since.elapsed());
    go_on(&front).await;
    assert_eq!(view.event().await.0, "continued");
}

async fn tells_that_a_viewer_has_left(kind: Kind) {
    let (server, front) = behind(kind).await;
    let view = silent(&front).await;
    assert_eq!(server.stats().await["viewers"], 1);
    drop(view);
    let since = Instant::now();
    eventually("nobody watches", async || server.stats().await["viewers"] == 0).await;
    // By the connection, and not by the heartbeat that cannot be written.
    assert!(since.elapsed() < SSE_HEARTBEAT, "{:?}", since.elapsed());
    assert_eq!(server.task(KEY).await["status"], "running", "the work goes on");
}

async fn resumes_after_cuts(kind: Kind) {
    const EVENTS: u64 = 2000;
    let (_server, front) = behind(kind).await;
    let key = "demo/BurstTask/cut";
    let (status, answer) = front
        .call(
            "PUT",
            &format!("/tasks/{key}"),
            &format!(r#"{{"input":{{"events":{EVENTS},"bytes":200,"rate":1000}},"start":true}}"#),
        )
        .await;
    assert_eq!(status, 201, "{answer}");
    let mut seen = Seen::default();
    for _ in 0..5 {
        let mut connection = Connection::open(&front.address, key, &seen).await.unwrap();
        assert_eq!(connection.read(&mut seen, 70_000).await.unwrap(), End::Cut);
    }
    let mut connection = Connection::open(&front.address, key, &seen).await.unwrap();
    assert_eq!(connection.read(&mut seen, usize::MAX).await.unwrap(), End::Closed);
    assert!(seen.ids.iter().copied().eq(1..=EVENTS + 1), "{} events", seen.ids.len());
    assert_eq!((&seen.endings[0].event_type[..], seen.gaps), ("complete", 0));
    let mut after = Connection::open(&front.address, key, &seen).await.unwrap();
    assert_eq!(after.read(&mut seen, usize::MAX).await.unwrap(), End::NoContent);
}

async fn starts_or_attaches(kind: Kind) {
    let (server, front) = behind(kind).await;
    let post = || {
        let request = front.http.post(front.url(&format!("/stream/{KEY}")));
        View::open(request.header("content-type", "application/json").body(WAITS))
    };
    let (mut one, mut other) = tokio::join!(post(), post());
    let (first, second) = tokio::join!(one.event(), other.event());
    assert_eq!(first, second);
    go_on(&front).await;
    let (one, other) = tokio::join!(one.rest(), other.rest());
    assert_eq!(one, other);
    assert_eq!(server.task(KEY).await["run"], 1, "both are of one run");
}

async fn cancels(kind: Kind) {
    let (_server, front) = behind(kind).await;
    let view = silent(&front).await;
    let late = front.call("POST", &format!("/tasks/{KEY}/cancel"), r#"{"run":7}"#).await;
    assert_eq!((late.0, &json_of(&late.1)["code"]), (409, &json!("other_run")));
    let (status, answer) = front.call("POST", &format!("/cancel/{KEY}"), r#"{"reason":"enough"}"#).await;
    assert_eq!((status, &json_of(&answer)["status"]), (200, &json!("cancelled")), "{answer}");
    let end = view.rest().await.pop().unwrap();
    assert_eq!((&end.event_type[..], &json_of(&end.data)["reason"]), ("cancelled", &json!("enough")));
}

async fn has_the_origin_of_the_page(kind: Kind) {
    let (server, front) = behind(kind).await;
    let body = format!(r#"{{"input":{WAITS}}}"#);
    for other in ["http://evil.example", &format!("http://{}", server.address), "null"] {
        let (status, answer) = front.call_from(Some(other), "PUT", &format!("/tasks/{KEY}"), "").await;
        assert_eq!((status, &json_of(&answer)["code"]), (403, &json!("cross_site")), "{other}");
    }
    let own = format!("http://{}", front.address);
    let (status, answer) = front.call_from(Some(&own), "PUT", &format!("/tasks/{KEY}"), &body).await;
    assert_eq!(status, 201, "{answer}");
    // What nobody needs of a page is not passed on.
    for path in ["/", "/stats", "/health", "/openapi.json", "/tasks", "/tasks?app=demo"] {
        assert_eq!(front.call("GET", path, "").await, (200, APP.to_owned()), "{path}");
    }
}

async fn answers_what_follows_a_refusal(kind: Kind) {
    let (_server, front) = behind(kind).await;
    let body = format!(r#"{{"input":{WAITS}}}"#);
    for round in 0..500 {
        let evil = Some("http://evil.example");
        let (status, answer) = front.call_from(evil, "PUT", &format!("/tasks/{KEY}"), &body).await;
        assert_eq!(status, 403, "round {round}: {answer}");
        let (status, answer) = front.call("POST", "/tasks/demo/ContinueTask", &body).await;
        assert_eq!(status, 201, "round {round}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nginx_answers_what_follows_a_refusal() {
    answers_what_follows_a_refusal(Kind::Nginx).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn caddy_answers_what_follows_a_refusal() {
    answers_what_follows_a_refusal(Kind::Caddy).await;
}

async fn passes_bodies_on_whole(kind: Kind) {
    let (server, front) = behind(kind).await;
    let body = |bytes| json!({"input": {"message": "x".repeat(bytes)}}).to_string();
    let (status, answer) = front.call("PUT", &format!("/tasks/{KEY}"), &body(1_000_000)).await;
    assert_eq!(status, 201, "{answer}");
    assert_eq!(server.task(KEY).await["input"]["message"].as_str().unwrap().len(), 1_000_000);

    let key = "demo/ContinueTask/too-large";
    for bytes in [BODY_MAX_BYTES, 2_000_000, 8_000_000] {
        let (status, answer) = front.call("PUT", &format!("/tasks/{key}"), &body(bytes)).await;
        assert_eq!((status, &json_of(&answer)["code"]), (413, &json!("too_large")), "{bytes} bytes");
    }
    assert_eq!(server.call("GET", &format!("/tasks/{key}"), "").await.0, 404, "no part of it was taken");
}

macro_rules! tests_of {
    ($($name:ident: $test:ident,)*) => {
        mod nginx {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)] async fn $name() { $test(Kind::Nginx).await; })*
        }
        mod caddy {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)] async fn $name() { $test(Kind::Caddy).await; })*
        }
    };
}

tests_of! {
    the_head_and_each_event_come_at_once: passes_events_on_at_once,
    a_silent_stream_stays_open_by_its_heartbeats: keeps_silent_streams_open,
    a_viewer_that_leaves_is_noticed: tells_that_a_viewer_has_left,
    a_viewer_that_is_cut_gets_every_event_once: resumes_after_cuts,
    of_two_posts_one_starts_and_both_see_the_same: starts_or_attaches,
    a_cancel_reaches_the_run_and_its_viewers: cancels,
    the_page_of_its_own_address_may_call_and_others_may_not: has_the_origin_of_the_page,
    bodies_pass_whole_and_soloist_says_which_are_too_large: passes_bodies_on_whole,
}

#[test]
fn their_read_timeouts_are_longer_than_a_heartbeat_and_the_wait_of_a_cancel() {
    let longest_silence = SSE_HEARTBEAT.max(CANCEL_WAIT_MAX);
    let nginx = Kind::Nginx.config();
    let timeouts: Vec<u64> = nginx
        .lines()
        .filter_map(|line| line.trim().strip_prefix("proxy_read_timeout ")?.strip_suffix("s;")?.parse().ok())
        .collect();
    assert!(
        !timeouts.is_empty() && timeouts.iter().all(|&s| Duration::from_secs(s) > longest_silence),
        "{timeouts:?}"
    );
    // Caddy has none unless one is set.
    let caddy = Kind::Caddy.config();
    let settings = caddy.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    assert!(settings.into_iter().all(|line| !line.contains("_timeout")), "{caddy}");
}

#[test]
fn the_guide_quotes_them_line_by_line() {
    let guide = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/guides/reverse-proxies.md");
    let guide = std::fs::read_to_string(guide).unwrap();
    for (fence, config) in [("```nginx\n", Kind::Nginx.config()), ("```caddy\n", Kind::Caddy.config())] {
        // In the Caddyfile a port may come from the environment.
        let config = config.replace("{$SOLOIST_AT:8888}", "8888");
        let quoted = guide.split_once(fence).unwrap().1.split_once("```").unwrap().0;
        let mut lines = config.lines().map(str::trim);
        for quoted in quoted.lines().map(str::trim) {
            assert!(lines.any(|line| line == quoted), "{quoted:?} is not there, or not in this place");
        }
    }
}
