//! Viewers of servers that lie: each of them is held to a log without a hole and to its end.

use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener},
};

use soloist_bench::{
    Error, Result,
    viewers::{Seen, Target, Until, Viewers},
};

const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
const CLOSED: &str = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n";

/// A server that sends the n-th viewer what `said` gives for it, and hangs up.
fn server(said: impl Fn(usize) -> String + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for (n, stream) in listener.incoming().flatten().enumerate() {
            // A connection that is closed with something unread is reset, and what was sent on it is lost.
            let mut lines = BufReader::new(&stream).lines();
            while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            (&stream).write_all(said(n).as_bytes()).unwrap();
        }
    });
    address
}

fn frame(seq: u64, word: &str) -> String {
    format!("id: {seq}\nevent: {word}\ndata: {{\"i\":{seq},\"t_ns\":1700000000000000000}}\n\n")
}

fn frames(seqs: &[u64]) -> String {
    seqs.iter().map(|seq| frame(*seq, "burst")).collect()
}

/// The body in chunks of so many bytes.
fn chunked(body: &str, bytes: usize) -> String {
    let mut text = CHUNKED.to_owned();
    for chunk in body.as_bytes().chunks(bytes) {
        text += &format!("{:x}\r\n{}\r\n", chunk.len(), std::str::from_utf8(chunk).unwrap());
    }
    text + "0\r\n\r\n"
}

fn seen(viewers: usize, until: Until, said: impl Fn(usize) -> String + Send + 'static) -> Result<Seen> {
    let target = Target { address: server(said), path: "/stream/a/b/1".to_owned(), after: 4 };
    let viewers = Viewers::connect(&target, viewers)?;
    viewers.answered()?;
    viewers.read(until, Some(|| 1_700_000_000_002_000_000))?.finish()
}

#[track_caller]
fn is_found_out(said: impl Fn(usize) -> String + Send + 'static, what: &str) {
    match seen(8, Until::End, said) {
        Err(Error::Wrong(message)) => assert!(message.contains(what), "{message}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_whole_log_is_seen_by_each_viewer_in_chunks_and_without() {
    let body = "retry: 2000\n\n".to_owned() + &frames(&[5, 6, 7]) + &frame(8, "complete");
    let said =
        move |n: usize| if n.is_multiple_of(2) { chunked(&body, n + 1) } else { CLOSED.to_owned() + &body };
    for until in [Until::End, Until::Terminal] {
        let seen = seen(40, until, said.clone()).unwrap();
        assert_eq!(seen.events, 40 * 4);
        assert!(seen.reads >= 40 && seen.bytes > 40 * 300);
        let latency = seen.latency.unwrap();
        assert_eq!(latency.count(), 40 * 4, "each of these events says when it was sent");
        assert!((latency.percentile_ms(50.0) - 2.0).abs() < 0.01);
    }
}

#[test]
fn one_viewer_among_many_that_misses_an_event_is_found_out() {
    let said = |of_one: &str| {
        let right = CLOSED.to_owned() + &frames(&[5, 6]) + &frame(7, "complete");
        let wrong = CLOSED.to_owned() + of_one;
        move |n: usize| if n == 5 { wrong.clone() } else { right.clone() }
    };
    let end = frame(7, "complete");
    is_found_out(said(&(frames(&[5]) + &end)), "viewer 6 of 8: events are missing: 7 came where 6 was due");
    is_found_out(said(&(frames(&[6]) + &end)), "6 came where 5 was due");
    is_found_out(said(&(frames(&[5, 6, 6]) + &end)), "viewer 6 of 8: event 6 came again");
    is_found_out(said(&frames(&[5, 6])), "viewer 6 of 8: the stream was cut after event 6");
    is_found_out(said(&(frames(&[5, 6]) + end.trim_end_matches('\n'))), "the stream was cut");
    // The id of an event comes before its type.
    is_found_out(said(&(frames(&[5, 6]) + &frame(7, "error"))), "\"error\" came after event 7");
    is_found_out(said(&(frames(&[5, 6]) + &end + &frame(8, "burst"))), "event 8 came after the end");
    is_found_out(said("event: gap\ndata: {}\n\n"), "\"gap\" came after event 4");
}

#[test]
fn a_stream_that_is_none_is_found_out() {
    is_found_out(|_| "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n".to_owned(), "503");
    let cut = chunked(&(frames(&[5, 6]) + &frame(7, "complete")), 30);
    let cut = cut[..cut.len() - 5].to_owned();
    is_found_out(move |_| cut.clone(), "the stream was cut after event 7");
}
