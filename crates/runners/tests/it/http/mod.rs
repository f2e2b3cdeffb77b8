//! Http work against an endpoint whose every byte is chosen: what is sent, what comes of the answer, and that the
//! connection is closed with the attempt.

mod cancel;
mod framing;
mod media;
mod redirects;
mod relay;
mod sent;
mod silence;
mod size;
mod statuses;
mod templates;
mod tls;
mod upstream;

use std::time::Duration;

use soloist::{Data, ModelOptions, RunTerms};
use soloist_runners::http::{HttpOptions, HttpRunner};

use self::upstream::Upstream;
use crate::world::{Ran, World};

/// The options of a call that carries secrets, none of which may be seen in a failure.
fn options(upstream: &Upstream) -> HttpOptions {
    HttpOptions {
        url: upstream.url("/generate?key=secret-query"),
        headers: [("Authorization".to_owned(), "Bearer secret-header".to_owned())].into(),
        ..HttpOptions::default()
    }
}

async fn world(options: HttpOptions) -> World {
    World::of(HttpRunner::new(options).unwrap()).await
}

/// Calls once, with the input `{}`.
async fn call(options: HttpOptions) -> Ran {
    world(options).await.run("t/Model", "{}").await
}

/// Calls with so many retries, without a wait worth mentioning.
async fn call_trying(options: HttpOptions, max_retries: u32) -> Ran {
    let terms = RunTerms { max_retries, ..RunTerms::default() };
    let model = ModelOptions { terms, retry_delay: Duration::from_millis(5), ..ModelOptions::default() };
    World::on_terms(HttpRunner::new(options).unwrap(), model).await.run("t/Model", "{}").await
}

/// Calls an endpoint that answers with these bytes and closes the connection.
async fn answered(bytes: impl Into<Vec<u8>>) -> Ran {
    call(options(&Upstream::saying(bytes).await)).await
}

/// The head of an answer, without a length.
fn head(media_type: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Type: {media_type}\r\n\r\n")
}

/// The head of an answer in chunks.
fn chunked_head(media_type: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Type: {media_type}\r\nTransfer-Encoding: chunked\r\n\r\n")
}

fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

/// A whole answer whose length is told.
fn whole(media_type: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let head =
        format!("HTTP/1.1 200 OK\r\nContent-Type: {media_type}\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// A whole answer in chunks of so many bytes.
fn in_chunks(media_type: &str, body: impl AsRef<[u8]>, bytes: usize) -> Vec<u8> {
    let mut answer = chunked_head(media_type).into_bytes();
    answer.extend(body.as_ref().chunks(bytes).flat_map(chunk));
    answer.extend(b"0\r\n\r\n");
    answer
}

const SSE: &str = "text/event-stream";

/// The events of the work: type, kind and text of each. The last one, the ending, is not among them.
fn events(ran: &Ran) -> Vec<String> {
    let (_, events) = ran.events.split_last().expect("a run has an ending");
    let of = |data: &Data| if matches!(data, Data::Json(_)) { "json" } else { "text" };
    events.iter().map(|e| format!("{} {} {}", e.event_type.as_str(), of(&e.data), e.data.as_str())).collect()
}

/// Type and message of the failure, which shows neither the address nor a header.
fn failure(ran: &Ran) -> (&str, &str) {
    let (error_type, message) = ran.failure();
    for hidden in ["secret", "://", "generate"] {
        assert!(!message.contains(hidden), "{message}");
    }
    assert!(!message.is_empty());
    (error_type, message)
}
