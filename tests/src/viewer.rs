//! A viewer that reads raw bytes from a socket, so that a test can cut it or stall it anywhere.

use std::collections::HashMap;

use soloist_wire::sse::{Decoder, Frame, Message};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

/// What a viewer has seen, over all of its connections.
#[derive(Debug, Default)]
pub struct Seen {
    /// `id` of every event, in the order of arrival.
    pub ids: Vec<u64>,
    /// The terminal events.
    pub endings: Vec<Message>,
    pub gaps: usize,
    /// Each event by its id: its type, and its data as they came. Kept by [`Connection::open_raw`] only.
    pub shown: HashMap<u64, (String, String)>,
}

/// How a connection ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// The server closed the stream.
    Closed,
    /// The answer was 204: there is nothing more.
    NoContent,
    /// So many bytes had been read.
    Cut,
}

/// One connection of a viewer.
pub struct Connection {
    socket: TcpStream,
    head: Vec<u8>,
    decoder: Decoder,
    /// Bytes of the chunked body that are still encoded.
    raw: Vec<u8>,
    /// Bytes of the present chunk that are still to come, with the CRLF behind it.
    left: usize,
    status: Option<u16>,
    is_raw: bool,
}

impl Connection {
    /// Asks for the stream of a task, after the last event that was seen.
    pub async fn open(address: &str, key: &str, seen: &Seen) -> std::io::Result<Self> {
        Self::open_with(address, key, seen, None).await
    }

    /// The same for data as they are on record, which are kept.
    pub async fn open_raw(address: &str, key: &str, seen: &Seen) -> std::io::Result<Self> {
        let raw = Self::open_with(address, &format!("{key}?format=raw"), seen, None).await?;
        Ok(Self { is_raw: true, ..raw })
    }

    /// The same, with a small receive buffer where one is named.
    pub async fn open_with(
        address: &str,
        key: &str,
        seen: &Seen,
        buffer: Option<u32>,
    ) -> std::io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        if let Some(bytes) = buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        let mut socket = socket.connect(address.parse().unwrap()).await?;
        let resume = seen.ids.last().map_or(String::new(), |id| format!("Last-Event-ID: {id}\r\n"));
        let request = format!(
            "GET /stream/{key} HTTP/1.1\r\nHost: {address}\r\nAccept: text/event-stream\r\n{resume}Connection: close\r\n\r\n"
        );
        socket.write_all(request.as_bytes()).await?;
        Ok(Self {
            socket,
            head: Vec::new(),
            decoder: Decoder::new(),
            raw: Vec::new(),
            left: 0,
            status: None,
            is_raw: false,
        })
    }

    /// Reads until the stream ends, or about so many bytes have been read.
    pub async fn read(&mut self, seen: &mut Seen, mut budget: usize) -> std::io::Result<End> {
        while budget > 0 {
            match self.read_once(seen, budget).await? {
                Ok(n) => budget -= n,
                Err(end) => return Ok(end),
            }
        }
        Ok(End::Cut)
    }

    /// Reads what has come, at most so many bytes; waits where nothing has. How many they were, or how the stream ended.
    pub async fn read_once(&mut self, seen: &mut Seen, most: usize) -> std::io::Result<Result<usize, End>> {
        let mut buffer = vec![0; most.min(64 << 10)];
        let n = self.socket.read(&mut buffer).await?;
        if n == 0 {
            return Ok(Err(if self.status == Some(204) { End::NoContent } else { End::Closed }));
        }
        self.take(&buffer[..n], seen);
        Ok(Ok(n))
    }

    fn take(&mut self, bytes: &[u8], seen: &mut Seen) {
        if self.status.is_some() {
            self.raw.extend_from_slice(bytes);
        } else {
            self.head.extend_from_slice(bytes);
            let Some(end) = self.head.windows(4).position(|w| w == b"\r\n\r\n") else { return };
            let head = String::from_utf8_lossy(&self.head[..end]).into_owned();
            let status = head.split(' ').nth(1).unwrap().parse().unwrap();
            assert!(matches!(status, 200 | 204), "{head}");
            self.status = Some(status);
            self.raw = self.head.split_off(end + 4);
        }
        let mut frames = Vec::new();
        while let Some(chunk) = chunk(&mut self.raw, &mut self.left) {
            self.decoder.feed(&chunk, &mut frames).unwrap();
        }
        for frame in frames {
            let Frame::Event(message) = frame else { continue };
            if self.is_raw
                && let Some(id) = message.id.as_deref()
            {
                let shown = (message.event_type.clone(), message.data.clone());
                let before = seen.shown.insert(id.parse().unwrap(), shown.clone());
                assert!(
                    before.is_none_or(|before| before == shown),
                    "S3: event {id} came twice, and differed"
                );
            }
            match message.event_type.as_str() {
                "gap" => seen.gaps += 1,
                "complete" | "error" | "cancelled" => {
                    seen.ids.push(message.id.as_deref().unwrap().parse().unwrap());
                    seen.endings.push(message);
                }
                _ => seen.ids.push(message.id.as_deref().unwrap().parse().unwrap()),
            }
        }
    }
}

/// The next part of a chunked body, as soon as any of it is here. `raw` is what is still encoded, `left` what is still to
/// come of the present chunk with the CRLF behind it.
pub fn chunk(raw: &mut Vec<u8>, left: &mut usize) -> Option<Vec<u8>> {
    if *left == 0 {
        let line = raw.windows(2).position(|w| w == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&raw[..line]).unwrap(), 16).unwrap();
        raw.drain(..line + 2);
        *left = size + 2;
    }
    let here = raw.len().min(*left);
    let data = here.min(left.saturating_sub(2));
    let part = raw[..data].to_vec();
    raw.drain(..here);
    *left -= here;
    (here > 0).then_some(part)
}
