//! An attempt that is over, asked to stop or dropped hangs up.

use std::time::{Duration, Instant};

use soloist::{CancelOptions, ModelOptions, RunTerms, Status};
use soloist_runners::http::HttpRunner;

use super::{SSE, chunk, chunked_head, events, in_chunks, options, upstream::Upstream, whole, world};
use crate::world::World;

/// Longest time until an endpoint sees that it is not wanted any more.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Says nothing at all.
async fn silent() -> Upstream {
    Upstream::of(|mut call| async move { call.hung_up().await }).await
}

/// Sends an event, and then nothing.
async fn stuck() -> Upstream {
    Upstream::of(|mut call| async move {
        call.send(chunked_head(SSE)).await?;
        call.send(chunk(b"event: up\ndata: 1\n\n")).await?;
        call.hung_up().await
    })
    .await
}

/// Sends without an end.
async fn busy() -> Upstream {
    Upstream::of(|mut call| async move {
        call.send(chunked_head(SSE)).await?;
        call.send(chunk(b"event: up\ndata: 1\n\n")).await?;
        let more = chunk(b"data: more\n\n");
        while call.send(&more).await.is_ok() {
            tokio::task::yield_now().await;
        }
        call.hung_up().await
    })
    .await
}

async fn begun(upstream: &Upstream, answers: bool) -> (World, soloist::Key, soloist::Run) {
    let world = world(options(upstream)).await;
    let (key, run) = world.start("t/Model", "{}").await;
    upstream.arrived(1).await;
    if answers {
        world.watch(&key).await.until("up").await;
    }
    (world, key, run)
}

#[tokio::test]
async fn a_cancel_closes_the_connection_at_once() {
    for (name, upstream, answers) in
        [("silent", silent().await, false), ("stuck", stuck().await, true), ("busy", busy().await, true)]
    {
        let (world, key, run) = begun(&upstream, answers).await;
        let asked = Instant::now();
        world.coordinator.cancel(&key, CancelOptions::default()).await.unwrap();
        let left = upstream.left().await - asked;
        println!("{name}: closed after {left:?}");
        assert!(left < AT_ONCE, "{name}: {left:?}");
        let ran = world.ended(&key, run).await;
        assert_eq!((ran.task.status, upstream.connections()), (Status::Cancelled, 1));
        assert!(!answers || events(&ran)[0] == "up json 1");
    }
}

#[tokio::test]
async fn a_shutdown_closes_the_connection() {
    for (name, upstream, answers) in
        [("silent", silent().await, false), ("stuck", stuck().await, true), ("busy", busy().await, true)]
    {
        let (world, ..) = begun(&upstream, answers).await;
        let asked = Instant::now();
        world.coordinator.shutdown(Duration::ZERO).await;
        let left = upstream.left().await - asked;
        println!("{name}: closed after {left:?}");
        assert!(left < AT_ONCE, "{name}: {left:?}");
    }
}

#[tokio::test]
async fn a_cancel_within_a_refusal_closes_the_connection() {
    let upstream = Upstream::of(|mut call| async move {
        call.send("HTTP/1.1 500 x\r\nContent-Length: 9\r\n\r\nwhy").await?;
        call.hung_up().await
    })
    .await;
    let (world, key, run) = begun(&upstream, false).await;
    let asked = Instant::now();
    world.coordinator.cancel(&key, CancelOptions::default()).await.unwrap();
    assert!(upstream.left().await - asked < AT_ONCE);
    assert_eq!(world.ended(&key, run).await.task.status, Status::Cancelled);
}

#[tokio::test]
async fn a_timeout_of_the_run_closes_the_connection() {
    let upstream = busy().await;
    let terms = RunTerms { timeout_seconds: Some(1), ..RunTerms::default() };
    let runner = HttpRunner::new(options(&upstream)).unwrap();
    let world = World::on_terms(runner, ModelOptions { terms, ..ModelOptions::default() }).await;
    let begun = Instant::now();
    let (key, run) = world.start("t/Model", "{}").await;
    let task = world.coordinator.ended(&key, run).await.unwrap();
    let left = upstream.left().await - begun;
    println!("closed after {left:?}");
    assert_eq!(task.status, Status::Cancelled);
    assert!(left < AT_ONCE * 4, "{left:?}");
}

#[tokio::test]
async fn an_attempt_that_is_over_leaves_no_connection_behind() {
    let upstream = Upstream::of(|mut call| async move {
        let answer = if call.nth == 0 {
            whole(SSE, "data: 1\n\n")
        } else {
            in_chunks(SSE, "event: error\ndata: 1\n\n", 5)
        };
        call.send(answer).await?;
        call.hung_up().await
    })
    .await;
    for status in [Status::Completed, Status::Failed] {
        let before = Instant::now();
        let world = world(options(&upstream)).await;
        assert_eq!(world.run("t/Model", "{}").await.task.status, status);
        let left = upstream.left_after(before).await;
        assert!(left - before < AT_ONCE * 4, "{:?}", left - before);
        drop(world);
    }
}
