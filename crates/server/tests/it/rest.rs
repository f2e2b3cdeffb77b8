//! Requests that are refused before their body was read, over a connection that is used again.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::server::{DEADLINE, Server};

const NEXT: &str = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Requests that are refused by their heads alone, each with the status.
const REFUSED: [(&str, &str); 5] = [
    ("PUT /tasks/demo/Steps/1", "403"),
    ("POST /nowhere", "404"),
    ("PATCH /tasks", "405"),
    ("PUT /tasks/demo/Steps/a%2Fb", "400"),
    ("GET /tasks/demo/Steps/1", "404"),
];

fn head(request: &str, bytes: usize, more: &str) -> String {
    let origin =
        if request.ends_with("Steps/1") && request.starts_with("PUT") { "http://evil.example" } else { "" };
    let origin = if origin.is_empty() { String::new() } else { format!("Origin: {origin}\r\n") };
    format!(
        "{request} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{origin}{more}Content-Length: {bytes}\r\n\r\n"
    )
}

/// The next answer on a connection, with its body.
async fn answer(socket: &mut TcpStream) -> String {
    let read = async {
        let mut answer = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&answer).to_ascii_lowercase();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                    return text;
                }
            }
            assert!(socket.read_buf(&mut answer).await.unwrap() > 0, "closed after {text:?}");
        }
    };
    tokio::time::timeout(DEADLINE, read).await.expect("an answer in time")
}

#[tokio::test]
async fn a_connection_is_good_for_the_next_call_after_one_that_was_refused_unread() {
    let server = Server::start().await;
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    for (request, status) in REFUSED {
        for bytes in [1, 300_000] {
            socket.write_all(head(request, bytes, "").as_bytes()).await.unwrap();
            socket.flush().await.unwrap();
            tokio::task::yield_now().await;
            socket.write_all(&vec![b' '; bytes]).await.unwrap();
            let refused = answer(&mut socket).await;
            assert!(refused.starts_with(&format!("http/1.1 {status}")), "{request}: {refused}");
            assert!(!refused.contains("connection: close"), "{request}: {refused}");
            socket.write_all(NEXT.as_bytes()).await.unwrap();
            assert!(answer(&mut socket).await.starts_with("http/1.1 200"), "{request}");
        }
    }
}

#[tokio::test]
async fn where_the_body_does_not_come_the_answer_says_that_the_connection_is_closed() {
    let server = Server::start().await;
    for (request, status) in REFUSED {
        for more in ["", "Expect: 100-continue\r\n"] {
            let mut socket = TcpStream::connect(server.address).await.unwrap();
            socket.write_all(head(request, 10, more).as_bytes()).await.unwrap();
            let refused = answer(&mut socket).await;
            assert!(refused.starts_with(&format!("http/1.1 {status}")), "{request}: {refused}");
            assert!(refused.contains("connection: close"), "{request}: {refused}");
            let mut rest = Vec::new();
            tokio::time::timeout(DEADLINE, socket.read_to_end(&mut rest))
                .await
                .expect("it is closed")
                .unwrap();
        }
    }
}
