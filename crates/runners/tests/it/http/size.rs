//! However much an endpoint sends, and however fast: what is held of it is bounded.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use soloist::{Event, MemoryStore, Status, limits};
use soloist_runners::http::HttpRunner;
use soloist_store_contract::line::Line;
use tokio::sync::watch;

use super::{
    SSE, call, chunk, chunked_head, events, failure, head, in_chunks, options, upstream::Upstream, whole,
};
use crate::world::{DEADLINE, Gated, World};

/// What the sockets of both sides may hold, and the reader between them.
const ON_THE_WAY: usize = 12 << 20;

const MAX: usize = limits::EVENT_DATA_MAX_BYTES;

#[tokio::test]
async fn an_event_may_be_as_large_as_events_may_be_and_not_one_byte_larger() {
    let line = |bytes: usize| "x".repeat(bytes);
    let lines = |bytes: usize| {
        ["data: ", &line(bytes / 2), "\r\ndata:", &line(bytes - bytes / 2 - 1), "\r\n\r\n"].concat()
    };
    let event_type = "t".repeat(limits::EVENT_TYPE_MAX_BYTES);
    for (media, of) in [
        (SSE, &(|n| format!("event: {event_type}\r\ndata: {}\r\n\r\n", line(n))) as &dyn Fn(usize) -> String),
        (SSE, &|n| format!("data: {}\n event: after\n\n", line(n))),
        (SSE, &lines),
        ("application/x-ndjson", &|n| line(n) + "\n"),
        ("application/x-ndjson", &|n| line(n) + "\r\n"),
        ("application/x-ndjson", &line),
        ("application/json", &|n| format!("[{}]", " ".repeat(n - 2))),
    ] {
        let ran = super::answered(whole(media, of(MAX))).await;
        assert_eq!(ran.events[0].data.as_str().len(), MAX, "{media}: {:?}", ran.task.failure);
        let ran = super::answered(whole(media, of(MAX + 1))).await;
        let (error_type, message) = failure(&ran);
        assert_eq!((error_type, ran.events.len()), ("HttpTooLarge", 1), "{media}");
        assert!(message.contains("1048576"), "{message}");
    }
}

#[tokio::test]
async fn an_event_of_20_mb_is_not_read_to_its_end() {
    for (media, begin) in [
        (SSE, "data: 1\n\ndata: "),
        (SSE, "data: 1\n\n: "),
        (SSE, "data: 1\n\nid: "),
        ("application/x-ndjson", "1\n"),
        ("application/json", "\""),
    ] {
        let upstream = Upstream::of(move |mut call| async move {
            call.send(chunked_head(media)).await?;
            call.send(chunk(begin.as_bytes())).await?;
            let part = chunk(&[b'x'; 10_000]);
            for _ in 0..2000 {
                if call.send(&part).await.is_err() {
                    break;
                }
            }
            call.hung_up().await
        })
        .await;
        let ran = call(options(&upstream)).await;
        assert_eq!(failure(&ran).0, "HttpTooLarge", "{media} {begin}");
        upstream.left().await;
        println!("{media} {begin:?}: {} bytes were taken", upstream.sent());
        assert!(upstream.sent() < MAX + ON_THE_WAY);
    }
}

#[tokio::test]
async fn a_head_that_never_ends_is_not_read_for_ever() {
    for header in ["X-Header: x\r\n".to_owned(), format!("X-Header: {}", "x".repeat(10_000))] {
        let upstream = Upstream::of(move |mut call| {
            let header = header.clone();
            async move {
                call.send("HTTP/1.1 200 OK\r\n").await?;
                while call.send(&header).await.is_ok() {}
                call.hung_up().await
            }
        })
        .await;
        let ran = call(options(&upstream)).await;
        let (error_type, message) = failure(&ran);
        upstream.left().await;
        println!("{error_type}: {message}; {} bytes were taken", upstream.sent());
        assert_eq!(error_type, "HttpCutOff");
        assert!(upstream.sent() < ON_THE_WAY);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunks_of_one_byte_are_relayed_by_the_hundred_thousand() {
    const EVENTS: usize = 30_000;
    let upstream = Upstream::of(|mut call| async move {
        call.send(chunked_head(SSE)).await?;
        let thousand: Vec<u8> = (0..1000)
            .flat_map(|i| format!("data:{i:03}\n\n").into_bytes())
            .flat_map(|byte| chunk(&[byte]))
            .collect();
        for _ in 0..EVENTS / 1000 {
            call.send(&thousand).await?;
        }
        call.send("0\r\n\r\n").await
    })
    .await;
    let (begun, before) = (Instant::now(), resident());
    let world = super::world(options(&upstream)).await;
    let (key, run) = world.start("t/Model", "{}").await;
    let task = world.coordinator.ended(&key, run).await.unwrap();
    let (took, grown) = (begun.elapsed(), resident().saturating_sub(before));
    let chunks = EVENTS * 10;
    println!(
        "{chunks} chunks in {took:?}: {:.0} a second; grew by {} KB",
        chunks as f64 / took.as_secs_f64(),
        grown >> 10
    );
    assert_eq!((task.status, task.last_seq), (Status::Completed, EVENTS as u64 + 1));
    assert!(grown < 64 << 20, "grew by {grown} bytes");
    let ran = world.ended(&key, run).await;
    assert!(
        ran.events
            .iter()
            .take(EVENTS)
            .enumerate()
            .all(|(i, e): (usize, &Event)| e.data.as_str() == format!("{:03}", i % 1000))
    );
}

/// Memory of this process, with what all other tests of it hold.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

#[tokio::test]
async fn a_store_that_takes_nothing_stops_the_endpoint_and_nothing_is_lost() {
    const EVENTS: usize = 40_000;
    let upstream = Upstream::of(|mut call| async move {
        call.send(head(SSE)).await?;
        for i in 0..EVENTS {
            call.send(format!("data: {i:01000}\n\n")).await?;
        }
        Ok(())
    })
    .await;
    let (gate, open) = watch::channel(false);
    let store = Arc::new(Line(Gated { store: MemoryStore::new(), open }));
    let mut options = options(&upstream);
    // While events wait for the store, no silence counts.
    options.idle_timeout = Duration::from_millis(500);
    let world = World::on(store, HttpRunner::new(options).unwrap()).await;
    let (key, run) = world.start("t/Model", "{}").await;

    let stands_still = async {
        let (mut before, mut still) = (0, 0);
        while still < 40 {
            tokio::time::sleep(Duration::from_millis(25)).await;
            let now = upstream.sent();
            still = if now > 1000 && now == before { still + 1 } else { 0 };
            before = now;
        }
        before
    };
    let bytes = tokio::time::timeout(DEADLINE, stands_still).await.expect("the endpoint is held");
    println!("{bytes} bytes were taken of an endpoint that nobody keeps up with");
    assert!(bytes < 2 * limits::PIPELINE_MAX_BYTES + ON_THE_WAY, "{bytes}");

    gate.send(true).unwrap();
    let ran = world.ended(&key, run).await;
    assert_eq!(ran.task.status, Status::Completed, "{:?}", ran.task.failure);
    assert_eq!(ran.events.len(), EVENTS + 1);
    assert!(
        ran.events.iter().take(EVENTS).zip(0..).all(|(event, i)| event.data.as_str() == format!("{i:01000}"))
    );
}

#[tokio::test]
async fn many_small_events_in_one_chunk_are_all_there() {
    let ran = super::answered(in_chunks(SSE, "data:1\n\n".repeat(50_000), 100_000)).await;
    assert_eq!((ran.events.len(), events(&ran)[49_999].as_str()), (50_001, "message json 1"));
}
