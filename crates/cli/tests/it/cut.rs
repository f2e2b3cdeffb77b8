//! Commands whose answers are lost between the server and them.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
};

use super::program::{Done, Server, soloist};

/// Something between a command and a server that passes requests on and answers back, but for the first answer: that one
/// it reads to its end, so that what was asked is done, and throws away.
fn losing_the_first_answer(server: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = server.to_owned();
    std::thread::spawn(move || {
        for (n, client) in listener.incoming().enumerate() {
            let mut client = client.unwrap();
            let mut behind = TcpStream::connect(&server).unwrap();
            behind.write_all(&request(&mut client)).unwrap();
            let mut answer = Vec::new();
            behind.read_to_end(&mut answer).unwrap();
            if n > 0 {
                client.write_all(&answer).unwrap();
            }
        }
    });
    format!("http://{address}")
}

/// One whole request, told to close the connection behind its answer.
fn request(client: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") {
        client.read_exact(&mut byte).unwrap();
        bytes.push(byte[0]);
    }
    let head = String::from_utf8(bytes).unwrap();
    let lower = head.to_ascii_lowercase();
    let length = lower.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    client.read_exact(&mut body).unwrap();
    [head.replacen("\r\n", "\r\nConnection: close\r\n", 1).into_bytes(), body].concat()
}

#[test]
fn s1_a_create_and_a_start_whose_answers_are_lost_are_done_once() {
    let server = Server::new();
    let lossy = |args: &[&str]| {
        let url = losing_the_first_answer(&server.address());
        let args = [&["--url", &url][..], args].concat();
        server.run(&args).exits(0).out
    };
    let input = r#"{"message":"m"}"#;
    let created = lossy(&["create", "demo/ContinueTask", "--input", input]);
    assert!(created.starts_with("demo/ContinueTask/1 was created by this request before"), "{created}");
    let key = "demo/ContinueTask/1";
    assert_eq!(
        lossy(&["start", key]),
        format!("{key} was started by this request before: run 1 is running\n")
    );
    server.run(&["signal", key, "continue"]).exits(0);
    server.run(&["watch", key]).exits(0);
    let again = ["start", key, "--idempotency-key", "mine"];
    assert_eq!(server.run(&again).exits(0).out, format!("started {key}: run 2\n"));
    assert!(server.run(&again).exits(0).out.contains("was started by this request before: run 2"));
    server.run(&["start", key, "--idempotency-key", "mine", "--policy", "once"]).exits(6);
    server.run(&["start", key, "--idempotency-key", ""]).exits(2);
    let list = server.run(&["--json", "list"]).exits(0).json();
    assert_eq!((list["tasks"].as_array().unwrap().len(), &list["tasks"][0]["run"]), (1, &2.into()));
}

/// A server that takes a request and is gone without an answer, for good.
#[test]
fn where_the_answer_never_comes_the_key_is_named_to_ask_again_with() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let gone = std::thread::spawn(move || {
        request(&mut listener.accept().unwrap().0);
    });
    let dir = tempfile::tempdir().unwrap();
    let args = ["--url", &url, "start", "demo/ExampleTask/1"];
    let done = Done::of(soloist(dir.path()).args(args).output().unwrap()).exits(5);
    gone.join().unwrap();
    assert!(done.err.contains("whether it was done is not known"), "{done:?}");
    let key = done.err.split("--idempotency-key '").nth(1).and_then(|rest| rest.split('\'').next());
    assert_eq!(key.map(str::len), Some(32), "{done:?}");
}
