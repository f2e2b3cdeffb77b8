//! One HTTP request on one connection, byte by byte: what no client library would send twice by itself.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::program::DEADLINE;

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: Value,
}

impl Answer {
    /// Whether it is the answer of an earlier request.
    pub(crate) fn is_replayed(&self) -> bool {
        self.head.lines().any(|line| line.eq_ignore_ascii_case("idempotent-replayed: true"))
    }
}

/// Sends a request, and leaves its answer unread.
pub(crate) fn send(url: &str, method: &str, path: &str, key: Option<&str>, body: &str) -> TcpStream {
    let address = url.trim_start_matches("http://");
    let key = key.map(|key| format!("Idempotency-Key: {key}\r\n")).unwrap_or_default();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{key}\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut connection = TcpStream::connect(address).unwrap();
    connection.set_read_timeout(Some(DEADLINE)).unwrap();
    connection.write_all((head + body).as_bytes()).unwrap();
    connection
}

/// Sends a request, and reads its answer.
pub(crate) fn call(url: &str, method: &str, path: &str, key: Option<&str>, body: &str) -> Answer {
    let mut text = String::new();
    send(url, method, path, key, body).read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    Answer {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        head: head.to_owned(),
        body: serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {text}")),
    }
}

/// Asks until an answer is as it should be, and tells how long that took.
#[track_caller]
pub(crate) fn until(url: &str, path: &str, wanted: impl Fn(&Value) -> bool) -> (Value, Duration) {
    let begun = Instant::now();
    loop {
        let body = call(url, "GET", path, None, "").body;
        if wanted(&body) {
            return (body, begun.elapsed());
        }
        assert!(begun.elapsed() < DEADLINE, "still {body}");
        // A record tells nobody of its changes.
        std::thread::sleep(Duration::from_millis(5));
    }
}
