//! A server that says whatever a test wants.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::Arc,
};

/// An answer.
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// More lines of the head.
    pub(crate) head: &'static str,
    pub(crate) body: String,
}

pub(crate) fn json(status: u16, body: &str) -> Reply {
    Reply { status, head: "content-type: application/json\r\n", body: body.to_owned() }
}

/// Listens until the test process ends.
pub(crate) struct Fake {
    pub(crate) url: String,
}

impl Fake {
    pub(crate) fn start(reply: impl Fn(&str, &str) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let reply = Arc::new(reply);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let reply = reply.clone();
                std::thread::spawn(move || serve(stream, &*reply));
            }
        });
        Self { url }
    }
}

/// Answers one request after the other; none once the connection ends.
fn serve(stream: TcpStream, reply: &dyn Fn(&str, &str) -> Reply) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut writer = stream;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let (method, rest) = line.split_once(' ')?;
        let (path, _) = rest.split_once(' ')?;
        let mut length = 0;
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).ok()?;
            if let Some(value) = header.strip_prefix("content-length: ") {
                length = value.trim().parse().ok()?;
            }
            if header.trim().is_empty() {
                break;
            }
        }
        reader.read_exact(&mut vec![0; length]).ok()?;
        let Reply { status, head, body } = reply(method, path);
        let head = format!("HTTP/1.1 {status} Said\r\n{head}content-length: {}\r\n\r\n", body.len());
        writer.write_all((head + &body).as_bytes()).ok()?;
    }
}
