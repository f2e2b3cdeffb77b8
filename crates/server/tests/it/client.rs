//! A client that sends exactly what a test says, and reads streams frame by frame.

use std::collections::VecDeque;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Request, body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use soloist_wire::sse::{Decoder, Frame, Message};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use crate::server::{DEADLINE, Server};

pub(crate) type Headers<'a> = &'a [(&'a str, &'a str)];

pub(crate) const JSON: (&str, &str) = ("content-type", "application/json");
pub(crate) const SSE: (&str, &str) = ("accept", "text/event-stream");

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// The code of a problem, which is well-formed.
    pub(crate) fn code(&self) -> String {
        let problem = self.json();
        assert_eq!(self.headers["content-type"], "application/problem+json", "{self:?}");
        assert_eq!(problem["status"], self.status, "{self:?}");
        for text in ["type", "title", "detail"] {
            assert!(problem[text].as_str().is_some_and(|t| !t.is_empty()), "{text}: {self:?}");
        }
        problem["code"].as_str().unwrap().to_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// Sends a request over a connection of its own and returns with the head of the answer.
pub(crate) async fn send<S>(
    stream: S,
    host: &str,
    method: &str,
    path: &str,
    headers: Headers<'_>,
    body: Bytes,
) -> Viewer
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(async move {
        let _ = connection.await;
    });
    let mut request = Request::builder().method(method).uri(path);
    if !headers.iter().any(|(name, _)| *name == "host") {
        request = request.header("host", host);
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(body)).unwrap();
    let answer = tokio::time::timeout(DEADLINE, sender.send_request(request))
        .await
        .expect("an answer in time")
        .unwrap();
    let (head, body) = answer.into_parts();
    let abort = AbortOnDrop(connection.abort_handle());
    Viewer {
        status: head.status.as_u16(),
        headers: head.headers,
        body,
        decoder: Decoder::new(),
        frames: VecDeque::new(),
        _connection: abort,
    }
}

struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// An answer whose body is read bit by bit. Dropping it closes the connection.
pub(crate) struct Viewer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    body: Incoming,
    decoder: Decoder,
    frames: VecDeque<Frame>,
    _connection: AbortOnDrop,
}

impl Viewer {
    pub(crate) async fn whole(self) -> Answer {
        let read =
            tokio::time::timeout(DEADLINE, self.body.collect()).await.expect("a body in time").unwrap();
        let body = String::from_utf8(read.to_bytes().into()).unwrap();
        Answer { status: self.status, headers: self.headers, body }
    }

    /// The next frame; none at the end of the stream.
    pub(crate) async fn frame(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.frames.pop_front() {
                return Some(frame);
            }
            let chunk =
                tokio::time::timeout(DEADLINE, self.body.frame()).await.expect("a frame in time")?.unwrap();
            let mut frames = Vec::new();
            self.decoder.feed(&chunk.into_data().unwrap(), &mut frames).unwrap();
            self.frames.extend(frames);
        }
    }

    /// The next event, past heartbeats and the like.
    pub(crate) async fn event(&mut self) -> Option<Message> {
        loop {
            match self.frame().await? {
                Frame::Event(event) => return Some(event),
                Frame::Comment(_) | Frame::Retry(_) => {}
            }
        }
    }

    /// All events to the end of the stream.
    pub(crate) async fn events(mut self) -> Vec<Message> {
        let mut events = Vec::new();
        while let Some(event) = self.event().await {
            events.push(event);
        }
        events
    }
}

impl Server {
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: Headers<'_>,
        body: impl Into<Bytes>,
    ) -> Viewer {
        let stream = TcpStream::connect(self.address).await.unwrap();
        send(stream, &self.address.to_string(), method, path, headers, body.into()).await
    }

    pub(crate) async fn call(
        &self,
        method: &str,
        path: &str,
        headers: Headers<'_>,
        body: impl Into<Bytes>,
    ) -> Answer {
        self.send(method, path, headers, body).await.whole().await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, &[], "").await
    }

    pub(crate) async fn post(&self, path: &str, body: &str) -> Answer {
        self.call("POST", path, &[JSON], body.to_owned()).await
    }

    /// Watches a task as an `EventSource` does.
    pub(crate) async fn watch(&self, path: &str) -> Viewer {
        self.send("GET", path, &[SSE], "").await
    }

    /// Creates a task under an id and starts it.
    pub(crate) async fn started(&self, model: &str, id: &str, input: &str) -> String {
        let key = format!("demo/{model}/{id}");
        let body = format!(r#"{{"input":{input},"start":true}}"#);
        let answer = self.call("PUT", &format!("/tasks/{key}"), &[JSON], body).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        key
    }
}
