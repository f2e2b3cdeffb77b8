//! A tab: it asks for its answer with `POST /stream/...`, reads bytes, may be cut anywhere, and comes back with the same
//! call and the last id that it has seen.

use std::io;

use soloist_wire::sse::{Decoder, Frame, Message};
use system_tests::{checker::Watched, viewer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::example::DEADLINE;

/// What a tab asks for, and what it has seen over all of its connections.
#[derive(Debug, Clone)]
pub(crate) struct Tab {
    path: String,
    input: String,
    headers: String,
    pub(crate) seen: Vec<Message>,
    /// How often it has asked.
    pub(crate) asked: usize,
}

/// How a tab's reading ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The event that ends the run has come.
    Told,
    /// There is nothing more: 204.
    NoContent,
    /// Somebody else closed the connection, or refused one.
    Broken,
    /// It was to read no further.
    Enough,
}

/// How far a tab reads.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Until {
    End,
    /// It has seen so many events in all.
    Events(usize),
    /// It has read so many more bytes.
    Bytes(usize),
}

impl Tab {
    pub(crate) fn new(key: &str, input: &str) -> Self {
        let path = format!("/stream/{key}?format=raw");
        Self { path, input: input.to_owned(), headers: String::new(), seen: Vec::new(), asked: 0 }
    }

    /// The same in the format with the system's fields.
    pub(crate) fn full(key: &str, input: &str) -> Self {
        Self { path: format!("/stream/{key}"), ..Self::new(key, input) }
    }

    /// With one more header.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push_str(&format!("{name}: {value}\r\n"));
        self
    }

    /// Each event as it was shown: id, type, data.
    pub(crate) fn shown(&self) -> Vec<(u64, &str, &str)> {
        self.seen.iter().map(|event| (id(event), &*event.event_type, &*event.data)).collect()
    }

    /// The type of the last event.
    pub(crate) fn last(&self) -> &str {
        self.seen.last().map_or("", |event| &event.event_type)
    }

    /// For the checker.
    pub(crate) fn watched(&self) -> Watched {
        let shown = self.shown();
        Watched {
            after: None,
            ids: shown.iter().map(|(id, ..)| *id).collect(),
            shown: shown.iter().map(|(id, kind, data)| (*id, ((*kind).into(), (*data).into()))).collect(),
        }
    }

    /// One connection, read as far as that; it is closed then.
    pub(crate) async fn read(&mut self, address: &str, until: Until) -> Ended {
        match self.open(address).await {
            Ok(mut connection) => self.go_on(&mut connection, until).await,
            Err(_) => Ended::Broken,
        }
    }

    /// Reads to the end of the run, coming back at each of these addresses in turn.
    pub(crate) async fn read_on(&mut self, addresses: &[&str]) {
        let reading = async {
            for address in addresses.iter().cycle() {
                if matches!(self.read(address, Until::End).await, Ended::Told | Ended::NoContent) {
                    break;
                }
                // As an EventSource does, though it waits longer.
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(DEADLINE, reading).await.expect("the run ends");
    }

    /// Asks, after the last event that was seen.
    pub(crate) async fn open(&mut self, address: &str) -> io::Result<Connection> {
        self.asked += 1;
        let mut socket = TcpStream::connect(address).await?;
        let resume =
            self.seen.last().map_or(String::new(), |event| format!("Last-Event-ID: {}\r\n", id(event)));
        let Self { path, input, headers, .. } = self;
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             {headers}{resume}Connection: close\r\n\r\n{input}",
            input.len()
        );
        socket.write_all(request.as_bytes()).await?;
        Ok(Connection { socket, read: 0, raw: Vec::new(), status: None, left: 0, decoder: Decoder::new() })
    }

    /// Reads an open connection as far as that.
    pub(crate) async fn go_on(&mut self, connection: &mut Connection, until: Until) -> Ended {
        let begun_at = connection.read;
        let reading = async {
            loop {
                let most = match until {
                    Until::Bytes(bytes) => bytes + begun_at - connection.read,
                    Until::Events(events) if self.seen.len() >= events => 0,
                    Until::End | Until::Events(_) => 64 << 10,
                };
                if most == 0 {
                    return Ended::Enough;
                }
                let goes_on = connection.read_some(most, &mut self.seen).await.unwrap_or(false);
                if connection.status == Some(204) {
                    return Ended::NoContent;
                }
                if !goes_on {
                    return Ended::Broken;
                }
                if matches!(self.last(), "complete" | "error" | "cancelled") {
                    return Ended::Told;
                }
            }
        };
        tokio::time::timeout(DEADLINE, reading).await.expect("events come")
    }
}

/// The id of an event.
pub(crate) fn id(event: &Message) -> u64 {
    let id = event.id.as_deref().unwrap_or_else(|| panic!("an event without an id: {event:?}"));
    id.parse().expect("an id is a number")
}

/// One connection of a tab. Dropping it cuts it.
pub(crate) struct Connection {
    socket: TcpStream,
    /// All bytes so far, of the head as well.
    read: usize,
    /// What has not been understood yet.
    raw: Vec<u8>,
    status: Option<u16>,
    /// Bytes of the present chunk that are still to come, with the CRLF behind it.
    left: usize,
    decoder: Decoder,
}

impl Connection {
    /// Reads what has come, at most so many bytes, and keeps its events; false at the end.
    async fn read_some(&mut self, most: usize, seen: &mut Vec<Message>) -> io::Result<bool> {
        let mut bytes = vec![0; most];
        let read = self.socket.read(&mut bytes).await?;
        self.read += read;
        self.raw.extend_from_slice(&bytes[..read]);
        if self.status.is_none() {
            let Some(end) = self.raw.windows(4).position(|window| window == b"\r\n\r\n") else {
                return Ok(read > 0);
            };
            let head = String::from_utf8_lossy(&self.raw[..end]).into_owned();
            let status = head.split(' ').nth(1).unwrap().parse().unwrap();
            assert!(matches!(status, 200 | 204), "{head}");
            self.status = Some(status);
            self.raw.drain(..end + 4);
        }
        let mut frames = Vec::new();
        while let Some(part) = viewer::chunk(&mut self.raw, &mut self.left) {
            self.decoder.feed(&part, &mut frames).unwrap();
        }
        seen.extend(frames.into_iter().filter_map(|frame| match frame {
            Frame::Event(event) => Some(event),
            Frame::Retry(_) | Frame::Comment(_) => None,
        }));
        Ok(read > 0)
    }
}
