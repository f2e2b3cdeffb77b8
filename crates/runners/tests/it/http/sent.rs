//! What an endpoint is sent.

use soloist::{Create, Json, Key, NewTask, Policy, Start, StartOptions, TraceContext};
use soloist_runners::http::{HttpOptions, Method, Proxy};

use super::{SSE, call_trying, failure, options, upstream::Upstream, whole, world};

async fn upstream() -> Upstream {
    Upstream::saying(whole(SSE, "data: 1\n\n")).await
}

#[tokio::test]
async fn the_input_is_the_body_byte_for_byte_and_the_headers_say_whose_attempt_it_is() {
    for method in [Method::Post, Method::Put, Method::Patch] {
        let upstream = upstream().await;
        let input = "{ \"n\": 1.50, \"u\": \"\u{e9}\\u00e9\",\n \"a\":[] }";
        let ran = world(HttpOptions { method, ..options(&upstream) }).await.run("t/Model", input).await;
        let request = upstream.requests().remove(0);
        assert_eq!(request.line, format!("{} /generate?key=secret-query HTTP/1.1", method.as_str()));
        assert_eq!(request.body, input.as_bytes());
        let mut names = request.names();
        let key = names.remove("idempotency-key").unwrap();
        assert!(key.len() == 32 && key.bytes().all(|byte| byte.is_ascii_hexdigit()), "{key}");
        let expected = [
            ("accept", "text/event-stream, application/x-ndjson;q=0.9, */*;q=0.8"),
            ("authorization", "Bearer secret-header"),
            ("content-length", &input.len().to_string()),
            ("content-type", "application/json"),
            ("host", &format!("127.0.0.1:{}", upstream.port)),
            ("soloist-attempt", "1"),
            ("soloist-epoch", &ran.task.epoch.to_string()),
            ("soloist-run", "1"),
            ("soloist-task", "t/Model/1"),
            ("user-agent", concat!("soloist/", env!("CARGO_PKG_VERSION"))),
        ];
        assert_eq!(names, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    }
}

#[tokio::test]
async fn get_sends_no_body() {
    let upstream = upstream().await;
    world(HttpOptions { method: Method::Get, ..options(&upstream) }).await.run("t/Model", "{\"a\":1}").await;
    let request = upstream.requests().remove(0);
    assert_eq!(request.line, "GET /generate?key=secret-query HTTP/1.1");
    for name in ["content-type", "content-length", "transfer-encoding"] {
        assert_eq!(request.header(name), None);
    }
}

#[tokio::test]
async fn the_headers_of_the_model_are_filled_in_and_count_more_than_ours() {
    let upstream = upstream().await;
    let headers = [
        ("X-Who", "{input.who} of {{x}} {input.n}"),
        ("accept", "application/json"),
        ("Content-Type", "text/plain"),
        ("USER-AGENT", "me"),
        ("Idempotency-Key", "{input.who}"),
        ("Empty", ""),
    ];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let world = world(HttpOptions { headers, ..options(&upstream) }).await;
    world.run("t/Model", r#"{"who":"a \"b\"","n":-1.50}"#).await;
    let request = upstream.requests().remove(0);
    for (name, value) in [
        ("x-who", "a \"b\" of {x} -1.50"),
        ("accept", "application/json"),
        ("content-type", "text/plain"),
        ("user-agent", "me"),
        ("idempotency-key", "a \"b\""),
        ("empty", ""),
    ] {
        assert_eq!(request.header(name), Some(value));
    }
}

#[tokio::test]
async fn each_attempt_and_each_run_has_a_key_of_its_own() {
    let upstream = Upstream::saying("HTTP/1.1 500 x\r\nContent-Length: 0\r\n\r\n").await;
    call_trying(options(&upstream), 2).await;
    let quiet = self::upstream().await;
    let world = world(options(&quiet)).await;
    let ran = world.run("t/Model", "{}").await;
    let rerun = StartOptions { policy: Policy::Rerun, ..StartOptions::default() };
    world.coordinator.start(&ran.task.key, rerun).await.unwrap();
    world.ended(&ran.task.key, 2).await;

    let of = |name: &str| -> Vec<String> {
        let requests = [upstream.requests(), quiet.requests()].concat();
        requests.iter().map(|request| request.header(name).unwrap().to_owned()).collect()
    };
    assert_eq!(of("soloist-attempt"), ["1", "2", "3", "1", "1"]);
    assert_eq!(of("soloist-run"), ["1", "1", "1", "1", "2"]);
    let mut keys = of("idempotency-key");
    assert!(keys.iter().all(|key| key.len() == 32));
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 5);
}

#[tokio::test]
async fn the_trace_of_who_started_the_run_is_handed_on() {
    let upstream = upstream().await;
    let world = world(options(&upstream)).await;
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    for (id, state) in [("a", Some("x=1,y=2")), ("b", None)] {
        let key: Key = format!("t/Model/{id}").parse().unwrap();
        let new = NewTask::named(key.clone(), Json::parse("{}").unwrap());
        assert!(matches!(world.coordinator.create(new).await.unwrap(), Create::Created(_)));
        let start = StartOptions { trace: TraceContext::new(parent, state), ..StartOptions::default() };
        let Start::Started { run } = world.coordinator.start(&key, start).await.unwrap() else { panic!() };
        world.ended(&key, run).await;
        let request = upstream.requests().pop().unwrap();
        assert_eq!((request.header("traceparent"), request.header("tracestate")), (Some(parent), state));
    }
}

#[tokio::test]
async fn a_task_of_any_name_can_be_called_for() {
    let upstream = upstream().await;
    let world = world(options(&upstream)).await;
    for id in ["a", "A-b_c.d~e", "x:y", "a@b", "\u{e9}", "a b", "%0d%0a"] {
        let Ok(key) = format!("t/Model/{id}").parse::<Key>() else {
            println!("{id:?} is no id");
            continue;
        };
        world.coordinator.create(NewTask::named(key.clone(), Json::parse("{}").unwrap())).await.unwrap();
        world.coordinator.start(&key, StartOptions::default()).await.unwrap();
        let ran = world.ended(&key, 1).await;
        assert_eq!(ran.final_value(), "1");
        assert_eq!(
            upstream.requests().pop().unwrap().header("soloist-task"),
            Some(&*format!("t/Model/{id}"))
        );
    }
}

#[tokio::test]
async fn a_proxy_that_is_named_is_called_in_place_of_the_endpoint() {
    let proxy = upstream().await;
    let url = "http://endpoint.invalid:81/generate".to_owned();
    let named = Proxy::Address(format!("http://127.0.0.1:{}", proxy.port));
    let ran =
        world(HttpOptions { url, proxy: named, ..HttpOptions::default() }).await.run("t/Model", "{}").await;
    assert_eq!(ran.final_value(), "1");
    let request = proxy.requests().remove(0);
    assert_eq!(request.line, "POST http://endpoint.invalid:81/generate HTTP/1.1");
    assert_eq!(request.header("host"), Some("endpoint.invalid:81"));
}

#[tokio::test]
async fn a_proxy_of_the_environment_is_asked_only_where_that_is_wanted() {
    // The environment belongs to the whole process: the same test is run in one of its own.
    if std::env::var_os("SOLOIST_TEST_PROXY").is_none() {
        let name = "http::sent::a_proxy_of_the_environment_is_asked_only_where_that_is_wanted";
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child
            .args(["--exact", name])
            .env("SOLOIST_TEST_PROXY", "1")
            .env_remove("NO_PROXY")
            .env_remove("no_proxy");
        for name in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
            // Nobody listens there.
            child.env(name, "http://127.0.0.1:1");
        }
        let output = child.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        return;
    }
    let upstream = upstream().await;
    let ran = world(options(&upstream)).await.run("t/Model", "{}").await;
    assert_eq!(ran.final_value(), "1");
    let asked = HttpOptions { proxy: Proxy::Environment, ..options(&upstream) };
    assert_eq!(failure(&world(asked).await.run("t/Model", "{}").await).0, "HttpConnect");
    assert_eq!(upstream.connections(), 1);
}
