//! The least of an HTTP/1.1 client: one connection that is kept, one buffer that is used again.
//!
//! Decides: where an answer ends. Takes answers with a length and in chunks, which is all that the server sends; never
//! allocates for a request once its buffer has grown to the largest answer.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::Value;

use crate::error::{Error, Result};

/// Far more than an answer takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is refused instead of being kept in memory.
const MOST_BYTES: usize = 256 << 20;

/// A connection that is kept between requests.
#[derive(Debug)]
pub struct Connection {
    address: SocketAddr,
    stream: TcpStream,
    reader: Reader,
}

/// An answer, in the buffer of its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer<'a> {
    /// The status.
    pub status: u16,
    /// The lines of the head.
    pub head: &'a [u8],
    /// The body, without the frame of chunks.
    pub body: &'a [u8],
}

impl Answer<'_> {
    /// Whether the server takes no further request on this connection.
    #[must_use]
    pub fn closes(&self) -> bool {
        self.head.split(|&byte| byte == b'\n').any(|line| {
            let colon = memchr::memchr(b':', line).unwrap_or(line.len());
            let (name, value) = line.split_at(colon);
            name.eq_ignore_ascii_case(b"connection") && value.to_ascii_lowercase().ends_with(b"close\r")
        })
    }
}

impl Connection {
    /// Connects.
    pub fn open(address: SocketAddr) -> Result<Self> {
        let unreachable = |source| Error::unreachable(address, source);
        let stream = TcpStream::connect(address).map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(unreachable)?;
        Ok(Self { address, stream, reader: Reader::default() })
    }

    /// Sends a request as it stands (see [`request`]), and waits for the whole answer.
    pub fn send(&mut self, request: &[u8]) -> Result<Answer<'_>> {
        let broke = Error::io("the connection to the server broke");
        let complete = loop_read(&mut self.stream, &mut self.reader, request);
        complete.map_err(broke)?;
        self.reader.answer().ok_or_else(|| Error::Wrong("an answer without an end".into()))
    }

    /// A call with a JSON body (or none, where that is empty); its status and JSON answer.
    pub fn call(&mut self, method: &str, path: &str, body: &str) -> Result<(u16, Value)> {
        let request = request(method, path, &self.address.to_string(), &[], body);
        let answer = self.send(&request)?;
        Ok((answer.status, serde_json::from_slice(answer.body).unwrap_or(Value::Null)))
    }
}

fn loop_read(stream: &mut TcpStream, reader: &mut Reader, request: &[u8]) -> io::Result<()> {
    reader.next();
    stream.write_all(request)?;
    while !reader.read(stream)? {}
    Ok(())
}

/// The bytes of a request.
#[must_use]
pub fn request(method: &str, path: &str, host: &str, headers: &[(&str, &str)], body: &str) -> Vec<u8> {
    let mut text = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() {
        text.push_str("content-type: application/json\r\n");
    }
    if !body.is_empty() || method != "GET" {
        text.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    text.push_str("\r\n");
    text.push_str(body);
    text.into_bytes()
}

/// Reads one answer after the other into one buffer.
#[derive(Debug, Default)]
pub struct Reader {
    bytes: Vec<u8>,
    /// How much of `bytes` was read from the socket.
    filled: usize,
    head: usize,
    status: u16,
    body: Body,
    /// Where the frame of the next chunk begins, in `bytes`.
    at: usize,
    /// The body without frames ends here; it is moved together in place.
    body_end: usize,
    is_complete: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Body {
    #[default]
    Unknown,
    Length(usize),
    Chunks,
}

impl Reader {
    /// Makes ready for the next answer.
    pub fn next(&mut self) {
        // One request at a time is under way, so nothing of the next answer was read.
        *self = Self { bytes: std::mem::take(&mut self.bytes), ..Self::default() };
    }

    /// Reads once; whether the answer is complete. An end of the connection before that is an error.
    pub fn read(&mut self, source: &mut impl Read) -> io::Result<bool> {
        if self.bytes.len() - self.filled < 4096 {
            if self.bytes.len() > MOST_BYTES {
                return Err(io::Error::new(io::ErrorKind::OutOfMemory, "the answer is too long"));
            }
            self.bytes.resize((self.bytes.len() * 2).max(16 << 10), 0);
        }
        let n = source.read(&mut self.bytes[self.filled..])?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.filled += n;
        self.advance()
    }

    /// The answer, once it is complete.
    #[must_use]
    pub fn answer(&self) -> Option<Answer<'_>> {
        self.is_complete.then(|| Answer {
            status: self.status,
            head: &self.bytes[..self.head],
            body: &self.bytes[self.head..self.body_end],
        })
    }

    fn advance(&mut self) -> io::Result<bool> {
        if self.head == 0 {
            let Some(end) = memchr::memmem::find(&self.bytes[..self.filled], b"\r\n\r\n") else {
                return Ok(false);
            };
            self.head = end + 4;
            (self.status, self.body) = parse_head(&self.bytes[..self.head]).ok_or_else(malformed)?;
            (self.at, self.body_end) = (self.head, self.head);
        }
        match self.body {
            Body::Length(length) => {
                self.body_end = self.head + length;
                self.is_complete = self.filled >= self.body_end;
            }
            Body::Chunks => self.take_chunks()?,
            Body::Unknown => return Err(malformed()),
        }
        Ok(self.is_complete)
    }

    /// Moves whole chunks up to the body before them.
    fn take_chunks(&mut self) -> io::Result<()> {
        while !self.is_complete {
            let rest = &self.bytes[self.at..self.filled];
            let Some(line) = memchr::memmem::find(rest, b"\r\n") else { return Ok(()) };
            let size =
                std::str::from_utf8(&rest[..line]).ok().and_then(|t| usize::from_str_radix(t, 16).ok());
            let size = size.filter(|size| *size <= MOST_BYTES).ok_or_else(malformed)?;
            let begin = self.at + line + 2;
            let end = begin + size + 2;
            if end > self.filled {
                return Ok(());
            }
            self.bytes.copy_within(begin..begin + size, self.body_end);
            self.body_end += size;
            self.at = end;
            self.is_complete = size == 0;
        }
        Ok(())
    }
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "this is no answer of HTTP/1.1 with a length or in chunks")
}

fn parse_head(head: &[u8]) -> Option<(u16, Body)> {
    let status = std::str::from_utf8(head.strip_prefix(b"HTTP/1.1 ")?.get(..3)?).ok()?.parse().ok()?;
    if status == 204 || status == 304 {
        return Some((status, Body::Length(0)));
    }
    let mut body = Body::Unknown;
    let mut rest = head;
    while let Some(end) = memchr::memchr(b'\n', rest) {
        let line = rest[..end].trim_ascii();
        rest = &rest[end + 1..];
        let Some(colon) = memchr::memchr(b':', line) else { continue };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            body = Body::Length(std::str::from_utf8(value).ok()?.parse().ok().filter(|n| *n <= MOST_BYTES)?);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") && value.eq_ignore_ascii_case(b"chunked") {
            body = Body::Chunks;
        }
    }
    Some((status, body))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Gives at most so many bytes at a time.
    struct Slow<'a>(&'a [u8], usize);

    impl Read for Slow<'_> {
        fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
            let n = self.1.min(to.len()).min(self.0.len());
            to[..n].copy_from_slice(&self.0[..n]);
            self.0 = &self.0[n..];
            Ok(n)
        }
    }

    fn read(reader: &mut Reader, bytes: &[u8], step: usize) -> io::Result<(u16, String)> {
        let mut source = Slow(bytes, step);
        reader.next();
        while !reader.read(&mut source)? {}
        let answer = reader.answer().unwrap();
        Ok((answer.status, String::from_utf8(answer.body.to_vec()).unwrap()))
    }

    #[test]
    fn answers_end_where_they_say_however_they_are_cut() {
        let plain = b"HTTP/1.1 201 Created\r\nContent-Length: 5\r\n\r\nhello";
        let chunks =
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n";
        let none = b"HTTP/1.1 204 No Content\r\ncache-control: no-store\r\n\r\n";
        let mut reader = Reader::default();
        for step in 1..chunks.len() {
            assert_eq!(read(&mut reader, plain, step).unwrap(), (201, "hello".into()), "{step}");
            assert_eq!(read(&mut reader, chunks, step).unwrap(), (200, "abc0123456789".into()), "{step}");
            assert_eq!(read(&mut reader, none, step).unwrap(), (204, String::new()), "{step}");
        }
    }

    #[test]
    fn an_answer_that_is_cut_off_or_none_is_an_error() {
        let mut reader = Reader::default();
        let cut = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhell";
        assert_eq!(read(&mut reader, cut, 7).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        for wrong in
            ["SSH-2.0\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n"]
        {
            let error = read(&mut reader, wrong.as_bytes(), 100).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{wrong}");
        }
    }
}
