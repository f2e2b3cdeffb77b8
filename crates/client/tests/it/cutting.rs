//! A server that is written by hand, so that it can cut its answers at any byte.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use soloist_wire::{
    TaskId,
    sse::{Data, Event, Format, Source, retry},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
};

/// One request, as the server saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) line: String,
    pub(crate) last_event_id: Option<u64>,
    pub(crate) last_event_id_sent: Option<String>,
    pub(crate) idempotency_key: Option<String>,
    pub(crate) body: String,
}

/// What a connection is answered: bytes, then the connection is closed.
pub(crate) type Answer = Box<dyn FnMut(&Request) -> Vec<u8> + Send>;

/// A server on a free port. Its port is free again once it is dropped.
pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) seen: Arc<Mutex<Vec<Request>>>,
    running: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl Server {
    pub(crate) async fn new(mut answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = seen.clone();
        let running = tokio::spawn(async move {
            loop {
                let (mut connection, _) = listener.accept().await.unwrap();
                let Some(request) = read(&mut connection).await else { continue };
                log.lock().unwrap().push(request.clone());
                // A client may be gone already; that is its business.
                let _ = connection.write_all(&answer(&request)).await;
            }
        });
        Self { url, seen, running }
    }

    /// Answers a request with these parts, each once it is told to, then says nothing more and keeps the connection.
    pub(crate) async fn told(parts: Vec<Vec<u8>>, told: Arc<Notify>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = seen.clone();
        let running = tokio::spawn(async move {
            let mut kept = Vec::new();
            loop {
                let (mut connection, _) = listener.accept().await.unwrap();
                let Some(request) = read(&mut connection).await else { continue };
                log.lock().unwrap().push(request);
                for part in &parts {
                    told.notified().await;
                    let _ = connection.write_all(part).await;
                }
                kept.push(connection);
            }
        });
        Self { url, seen, running }
    }

    /// Answers each request with the next of these; the last one again and again.
    pub(crate) async fn in_turn(answers: Vec<Vec<u8>>) -> Self {
        let mut answers = VecDeque::from(answers);
        Self::new(Box::new(
            move |_| if answers.len() > 1 { answers.pop_front().unwrap() } else { answers[0].clone() },
        ))
        .await
    }

    pub(crate) fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }
}

async fn read(connection: &mut TcpStream) -> Option<Request> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(connection.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    let line = head.lines().next().unwrap().to_owned();
    let field = |name: &str| {
        let mut fields = head.lines().filter_map(|line| line.split_once(':'));
        fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned())
    };
    let mut body = vec![0; field("content-length").map_or(0, |length| length.parse().unwrap())];
    connection.read_exact(&mut body).await.ok()?;
    Some(Request {
        line,
        last_event_id: field("last-event-id").map(|id| id.split('-').next().unwrap().parse().unwrap()),
        last_event_id_sent: field("last-event-id"),
        idempotency_key: field("idempotency-key"),
        body: String::from_utf8(body).unwrap(),
    })
}

/// The head of a stream that ends when the connection does.
pub(crate) fn stream_head() -> Vec<u8> {
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n".to_vec()
}

/// The frames of these events; the last of a log of `of` is `complete`.
pub(crate) fn frames(seqs: impl IntoIterator<Item = u64>, of: u64) -> Vec<u8> {
    frames_under(None, seqs, of)
}

fn frames_under(token: Option<u64>, seqs: impl IntoIterator<Item = u64>, of: u64) -> Vec<u8> {
    let source = Source::new("a", "B", &TaskId::Number(1));
    let mut out = Vec::new();
    retry(&mut out, 1);
    for seq in seqs {
        let event_type = if seq == of { "complete" } else { "progress" };
        let text = format!(r#"{{"i":{seq},"text":"{}"}}"#, "x".repeat(usize::try_from(seq % 40).unwrap()));
        let data = Data::Json(&text);
        source.event(
            &mut out,
            Format::Full,
            &Event { seq, token, run: 1, event_type, data, timestamp: &"2026-11-23T12:00:00.000000Z" },
        );
    }
    out
}

pub(crate) fn stream_of(seqs: impl IntoIterator<Item = u64>, of: u64) -> Vec<u8> {
    [stream_head(), frames(seqs, of)].concat()
}

/// The same from a server whose ids are `seq-epoch`.
pub(crate) fn stream_under_epoch(epoch: u64, seqs: impl IntoIterator<Item = u64>, of: u64) -> Vec<u8> {
    [stream_head(), frames_under(Some(epoch), seqs, of)].concat()
}

pub(crate) fn no_content() -> Vec<u8> {
    b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n".to_vec()
}

/// An answer in JSON, with these fields in its head.
pub(crate) fn json(status: u16, fields: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n{fields}connection: close\r\n\r\n{body}"
    )
    .into_bytes()
}

pub(crate) fn problem(status: u16, code: &str) -> Vec<u8> {
    let body = format!(
        r#"{{"type":"about:blank","title":"t","status":{status},"detail":"because","code":"{code}"}}"#
    );
    format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}
