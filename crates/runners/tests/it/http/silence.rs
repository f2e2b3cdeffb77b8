//! Endpoints that nobody hears of, or not any more.

use std::time::{Duration, Instant};

use soloist::{ModelOptions, Policy, StartOptions, Status};
use soloist_runners::http::{HttpOptions, HttpRunner};
use tokio::net::TcpListener;

use super::{SSE, call, chunk, chunked_head, events, failure, options, upstream::Upstream};
use crate::world::World;

const SHORT: Duration = Duration::from_millis(300);

fn impatient(upstream: &Upstream) -> HttpOptions {
    HttpOptions { first_byte_timeout: SHORT, idle_timeout: SHORT, ..options(upstream) }
}

#[tokio::test]
async fn a_port_where_nobody_listens_is_a_failure_that_says_so() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let url = format!("http://127.0.0.1:{port}/generate?secret");
    let ran = call(HttpOptions { url, ..HttpOptions::default() }).await;
    let (error_type, message) = failure(&ran);
    assert_eq!(error_type, "HttpConnect");
    assert!(message.contains("refused") && !message.contains(&port.to_string()), "{message}");
}

#[tokio::test]
async fn a_host_that_has_no_address_is_a_failure_that_says_so() {
    let ran =
        call(HttpOptions { url: "http://secret.invalid/generate".into(), ..HttpOptions::default() }).await;
    let (error_type, message) = failure(&ran);
    assert_eq!(error_type, "HttpConnect");
    assert!(message.contains("dns"), "{message}");
}

#[tokio::test]
async fn an_endpoint_that_does_not_answer_in_time_is_given_up_and_hung_up_on() {
    for beginning in ["", "HTTP/1.1 200 OK\r\nContent-"] {
        let upstream = Upstream::of(move |mut call| async move {
            call.send(beginning).await?;
            call.hung_up().await
        })
        .await;
        let begun = Instant::now();
        let ran = call(impatient(&upstream)).await;
        let (error_type, message) = failure(&ran);
        assert_eq!(error_type, "HttpTimeout");
        assert!(message.contains("0.3 s"), "{message}");
        assert!(begun.elapsed() >= SHORT);
        upstream.left().await;
    }
}

#[tokio::test]
async fn an_endpoint_that_falls_silent_is_given_up_and_its_place_is_free() {
    let upstream = Upstream::of(|mut call| async move {
        call.send(chunked_head(SSE)).await?;
        call.send(chunk(b"data: 1\n\ndata: ha")).await?;
        call.hung_up().await
    })
    .await;
    let model = ModelOptions { max_concurrent: 1, ..ModelOptions::default() };
    let world = World::on_terms(HttpRunner::new(impatient(&upstream)).unwrap(), model).await;
    let ran = world.run("t/Model", "{}").await;
    let (error_type, message) = failure(&ran);
    assert_eq!((error_type, events(&ran)), ("HttpTimeout", vec!["message json 1".to_owned()]));
    assert!(message.contains("stopped answering"), "{message}");
    upstream.left().await;
    // The one place of the model.
    let rerun = StartOptions { policy: Policy::Rerun, ..StartOptions::default() };
    world.coordinator.start(&ran.task.key, rerun).await.unwrap();
    let again = world.ended(&ran.task.key, ran.task.run + 1).await;
    assert_eq!((again.task.run, failure(&again).0), (2, "HttpTimeout"));
}

#[tokio::test]
async fn comments_keep_a_stream_alive() {
    let upstream = Upstream::of(|mut call| async move {
        call.send(chunked_head(SSE)).await?;
        for _ in 0..10 {
            tokio::time::sleep(SHORT / 3).await;
            call.send(chunk(b":\n")).await?;
        }
        call.send(chunk(b"data: 1\n\n")).await?;
        call.send("0\r\n\r\n").await
    })
    .await;
    let begun = Instant::now();
    let ran = call(impatient(&upstream)).await;
    assert_eq!((ran.task.status, ran.final_value()), (Status::Completed, "1"));
    assert!(begun.elapsed() >= SHORT * 3);
}

#[tokio::test]
async fn an_endpoint_that_takes_no_body_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let options = HttpOptions {
        url: format!("http://127.0.0.1:{port}/"),
        first_byte_timeout: SHORT,
        ..HttpOptions::default()
    };
    // More than the buffers of both sockets hold, if it is only a little larger than what goes through at once.
    let input = format!(r#"{{"pad":"{}"}}"#, "y".repeat(1_000_000));
    let ran = super::world(options).await.run("t/Model", &input).await;
    assert_eq!(failure(&ran).0, "HttpTimeout");
}
