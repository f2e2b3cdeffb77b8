//! Measures this disk: events a second in batches, commits a second one by one from many runs at once.
//!
//! `cargo run --release -p soloist-sqlite --example throughput [DIRECTORY]`

use std::{
    env,
    sync::Arc,
    time::{Duration, Instant},
};

use soloist::{
    Data, Json, NodeId, Policy, Store, Timestamp,
    event::NewEvent,
    lease::RunLease,
    state::Place,
    store::{Applied, Claim, ClaimRequest, EventRange},
};
use soloist_sqlite::SqliteStore;
use soloist_store_contract::{
    plain::{join, won},
    stage::append,
};

const MEASURED: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() {
    let dir = match env::args().nth(1) {
        Some(parent) => tempfile::tempdir_in(parent),
        None => tempfile::tempdir(),
    }
    .expect("a directory that can be written to");
    let store = Arc::new(SqliteStore::open(dir.path().join("throughput.db")).expect("opened"));
    let (node, _beat) = join(&*store).await;

    for (name, runs, batch, bytes) in [
        ("1 run,   batches of 1000, 1 KiB", 1, 1_000, 1 << 10),
        ("8 runs,  batches of 1000, 1 KiB", 8, 1_000, 1 << 10),
        ("8 runs,  batches of 1000, 100 B", 8, 1_000, 100),
        ("64 runs, batches of 1,    1 KiB", 64, 1, 1 << 10),
        ("1 run,   batches of 1,    1 KiB", 1, 1, 1 << 10),
    ] {
        let begun = Instant::now();
        let tasks: Vec<_> =
            (0..runs).map(|_| tokio::spawn(appends(store.clone(), node.clone(), batch, bytes))).collect();
        let mut commits = 0;
        for task in tasks {
            commits += task.await.expect("no panic");
        }
        let seconds = begun.elapsed().as_secs_f64();
        let (commits, events) = (commits as f64 / seconds, (commits * batch) as f64 / seconds);
        println!("append  {name}: {events:>9.0} events/s, {commits:>7.0} batches/s");
    }
    starts(&store, &node).await;
    pages(&store, &node).await;
}

/// Appends until the time is over; how many batches were committed.
async fn appends(store: Arc<SqliteStore>, node: NodeId, batch: u64, bytes: usize) -> u64 {
    let (lease, end, mut commits) = (won(&*store, &node).await, Instant::now() + MEASURED, 0);
    while Instant::now() < end {
        write(&store, &lease, commits * batch, batch, bytes).await;
        commits += 1;
    }
    commits
}

async fn write(store: &SqliteStore, lease: &RunLease, after: u64, batch: u64, bytes: usize) {
    let data = Data::Json(Json::of(&"x".repeat(bytes - 2)).expect("text is JSON"));
    let event = NewEvent::from_work("progress", data, Timestamp::now()).expect("valid");
    let events = (after + 1..=after + batch).map(|seq| event.clone().at(seq, lease.run(), lease.epoch()));
    let transition = append(lease, after, events.collect());
    let answer = store.apply(transition).await.expect("the store works");
    assert_eq!(answer, Applied::Committed { last_seq: after + batch });
}

/// Creates and claims, from 64 callers at once, and then claims that lose.
async fn starts(store: &Arc<SqliteStore>, node: &NodeId) {
    let end = Instant::now() + MEASURED;
    let callers: Vec<_> = (0..64)
        .map(|_| {
            let (store, node) = (store.clone(), node.clone());
            tokio::spawn(async move {
                let mut starts = 0_u64;
                while Instant::now() < end {
                    won(&*store, &node).await;
                    starts += 1;
                }
                starts
            })
        })
        .collect();
    let mut starts = 0;
    for caller in callers {
        starts += caller.await.expect("no panic");
    }
    println!("create and start, 64 at once: {:>7.0} a second", starts as f64 / MEASURED.as_secs_f64());
    let (lease, begun) = (won(&**store, node).await, Instant::now());
    for _ in 0..20_000 {
        let request = ClaimRequest {
            key: lease.key().clone(),
            node: node.clone(),
            policy: Policy::Restart,
            place: Place::Here,
            after: None,
            max_total: None,
            idempotency: None,
            trace: None,
            at: Timestamp::now(),
        };
        assert!(matches!(store.claim(request).await, Ok(Claim::Active(_))));
    }
    println!("start that loses, one by one: {:>7.0} a second", 20_000.0 / begun.elapsed().as_secs_f64());
}

/// Reads a log of 100,000 events from its beginning, in the pages that a viewer takes.
async fn pages(store: &SqliteStore, node: &NodeId) {
    let lease = won(store, node).await;
    for after in (0..100_000).step_by(1_000) {
        write(store, &lease, after, 1_000, 1 << 10).await;
    }
    let (begun, mut after) = (Instant::now(), 0);
    while after < 100_000 {
        let range = EventRange {
            after,
            until: u64::MAX,
            max_events: soloist::limits::PAGE_MAX_EVENTS,
            max_bytes: soloist::limits::PAGE_MAX_BYTES,
        };
        after = store.events(lease.key(), range).await.expect("the store works").last().expect("a page").seq;
    }
    println!("read in pages, 1 KiB        : {:>7.0} events/s", 100_000.0 / begun.elapsed().as_secs_f64());
}
