//! The demo models do what their descriptions say.

use serde_json::{Value, json};
use soloist::{CancelOptions, Json, Key, NewTask, Status};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::world::{Ran, World, command, world};

async fn any() -> World {
    world(command(&["true"])).await
}

fn types(ran: &Ran) -> Vec<&str> {
    ran.events.iter().map(|event| event.event_type.as_str()).collect()
}

#[tokio::test]
async fn example_starts_steps_three_times_and_completes() {
    let ran = any().await.run("demo/ExampleTask", r#"{"message":"Hello","delay_ms":30}"#).await;
    assert_eq!(types(&ran), ["start", "progress", "progress", "progress", "complete"]);
    assert_eq!(ran.of_type("start"), [json!({"message": "Hello", "total_steps": 3})]);
    let steps: Vec<_> =
        ran.of_type("progress").iter().map(|p| (p["step"].clone(), p["total_steps"].clone())).collect();
    assert_eq!(steps, [(json!(1), json!(3)), (json!(2), json!(3)), (json!(3), json!(3))]);
    assert!(ran.of_type("complete")[0]["message"].as_str().unwrap().contains("Hello"));
}

#[tokio::test]
async fn example_takes_as_long_as_it_is_told_and_stops_at_once() {
    let world = any().await;
    let (key, run) = world.start("demo/ExampleTask", r#"{"message":"Hello","delay_ms":86400000}"#).await;
    world.watch(&key).await.until("start").await;
    world.coordinator.cancel(&key, CancelOptions::default()).await.unwrap();
    let ran = world.ended(&key, run).await;
    assert_eq!((ran.task.status, types(&ran)), (Status::Cancelled, vec!["start", "cancelled"]));
    let last = ran.events.last().unwrap().timestamp.as_micros();
    let asked = ran.task.started_at.unwrap().as_micros();
    assert!(last - asked < 9_000_000, "it let go by itself, before it was dropped");
}

#[tokio::test]
async fn continue_waits_for_its_signal_and_hands_its_data_on() {
    let world = any().await;
    let (key, run) = world.start("demo/ContinueTask", r#"{"message":"Hello"}"#).await;
    world.watch(&key).await.until("waiting").await;
    world.coordinator.signal(&key, "other", Json::null()).await.unwrap();
    world.coordinator.signal(&key, "continue", Json::parse(r#"{"by": "me"}"#).unwrap()).await.unwrap();
    let ran = world.ended(&key, run).await;
    assert_eq!(types(&ran), ["waiting", "continued", "complete"]);
    assert_eq!(ran.final_value(), r#"{"by": "me"}"#);
}

#[tokio::test]
async fn continue_fails_when_no_signal_comes() {
    let ran = any().await.run("demo/ContinueTask", r#"{"message":"Hello","timeout_ms":1}"#).await;
    assert_eq!(ran.failure().0, "Timeout");
}

#[tokio::test]
async fn generators_send_each_item_and_end_with_the_last() {
    let world = any().await;
    let ran = world.run("demo/AsyncGeneratorTask", r#"{"delay_ms":1}"#).await;
    assert_eq!((ran.of_type("progress").len(), ran.final_value()), (5, r#"{"step":5,"total":5}"#));
    let ran = world.run("demo/SyncGeneratorTask", r#"{"items":[1.50,{"a": 2},"c"]}"#).await;
    assert_eq!((ran.events[0].data.as_str(), ran.events[1].data.as_str()), ("1.50", r#"{"a": 2}"#));
    assert_eq!((types(&ran).len(), ran.final_value()), (4, r#""c""#));
}

#[tokio::test]
async fn fail_says_why_with_a_traceback() {
    let ran = any().await.run("demo/FailTask", r#"{"message":"it broke"}"#).await;
    assert_eq!(types(&ran), ["start", "error"]);
    assert_eq!(ran.failure(), ("TaskError", "it broke"));
    assert!(ran.task.failure.unwrap().traceback.unwrap().contains("it broke"));
}

#[tokio::test]
async fn burst_numbers_its_events_and_pads_them() {
    for rate in [0, 100_000] {
        let input = format!(r#"{{"events":3000,"bytes":100,"rate":{rate}}}"#);
        check_burst(&any().await.run("demo/BurstTask", &input).await);
    }
}

fn check_burst(ran: &Ran) {
    let burst: Vec<Value> = ran.of_type("burst");
    let numbers: Vec<u64> = burst.iter().map(|data| data["i"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=3000).collect::<Vec<_>>());
    assert!(burst.windows(2).all(|pair| pair[0]["t_ns"].as_i64() <= pair[1]["t_ns"].as_i64()));
    assert!(ran.events[..3000].iter().all(|event| event.data.as_str().len() == 100));
    assert_eq!(ran.final_value(), r#"{"events":3000}"#);
}

/// Answers one request with a text, and gives the address.
async fn answering(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 4096]).await;
        let _ = stream.write_all(answer.as_bytes()).await;
    });
    address.to_string()
}

async fn fetch(url: String) -> Ran {
    any().await.run("demo/HttpFetchTask", &json!({ "url": url }).to_string()).await
}

#[tokio::test]
async fn fetch_tells_status_and_bytes_and_fails_on_any_other_end() {
    let address = answering("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").await;
    let ran = fetch(format!("http://{address}/")).await;
    assert_eq!(ran.of_type("status")[0]["status"], 200);
    assert_eq!(ran.of_type("progress"), [json!({"bytes": 5, "total_bytes": 5})]);
    assert_eq!(ran.final_value(), r#"{"bytes":5,"status":200}"#);

    let address = answering("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await;
    let ran = fetch(format!("http://{address}/")).await;
    assert_eq!(ran.failure(), ("HttpStatus", "the server answered 404 Not Found"));

    let address = answering("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel").await;
    assert_eq!(fetch(format!("http://{address}/")).await.failure().0, "HttpError");

    let address = answering("this is no TLS").await;
    let ran = fetch(format!("https://{address}/")).await;
    assert_eq!(ran.failure().0, "HttpError");
    assert!(ran.failure().1.contains(": "), "the causes are in the message: {}", ran.failure().1);
}

#[tokio::test]
async fn inputs_are_read_strictly_before_anything_is_created() {
    let world = any().await;
    for (model, input) in [
        ("ExampleTask", r#"{}"#),
        ("ExampleTask", r#"{"message":"a","more":1}"#),
        ("ExampleTask", r#"{"message":"a","delay_ms":86400001}"#),
        ("ExampleTask", r#"{"message":"a","delay_ms":-1}"#),
        ("ContinueTask", r#"{"message":"a","timeout_ms":"1"}"#),
        ("AsyncGeneratorTask", r#"{"count":10000001}"#),
        ("SyncGeneratorTask", r#"{"items":1}"#),
        ("HttpFetchTask", r#"{"url":"file:///etc/passwd"}"#),
        ("HttpFetchTask", r#"{"url":"nowhere"}"#),
        ("FailTask", r#"{"message":null}"#),
        ("BurstTask", r#"{"events":1,"bytes":1048577,"rate":0}"#),
    ] {
        let key: Key = format!("demo/{model}/x").parse().unwrap();
        let new = NewTask::named(key, Json::parse(input).unwrap());
        let error = world.coordinator.create(new).await.unwrap_err();
        assert_eq!(error.code(), "invalid_input", "{model} {input}");
    }
}
