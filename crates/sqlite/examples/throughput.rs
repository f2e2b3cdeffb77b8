//! Measures this disk: events a second in batches, commits a second one by one from many runs at once.
//!
//! `cargo run --release -p soloist-sqlite --example throughput [DIRECTORY]`

use std::{
    env,
    sync::Arc,
    time::{Duration, Instant},
};

use soloist::{
    Data, Json, Key, NewTask, NodeId, Policy, Store, Timestamp,
    event::NewEvent,
    lease::RunLease,
    limits,
    state::Place,
    store::{Applied, Change, Claim, ClaimRequest, EventRange, NewNode, Transition, Writer},
};
use soloist_sqlite::SqliteStore;

const MEASURED: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() {
    let dir = match env::args().nth(1) {
        Some(parent) => tempfile::tempdir_in(parent),
        None => tempfile::tempdir(),
    }
    .expect("a directory that can be written to");
    let store = Arc::new(SqliteStore::open(dir.path().join("throughput.db")).expect("opened"));
    let node = NodeId::random();
    let new = NewNode { id: node.clone(), lease: limits::LEASE, models: Vec::new(), at: Timestamp::now() };
    let _beat = store.join(new).await.expect("joined");

    for (name, runs, batch, bytes) in [
        ("1 run,   batches of 1000, 1 KiB", 1, 1_000, 1 << 10),
        ("8 runs,  batches of 1000, 1 KiB", 8, 1_000, 1 << 10),
        ("8 runs,  batches of 1000, 100 B", 8, 1_000, 100),
        ("64 runs, batches of 1,    1 KiB", 64, 1, 1 << 10),
        ("1 run,   batches of 1,    1 KiB", 1, 1, 1 << 10),
    ] {
        let begun = Instant::now();
        let tasks: Vec<_> =
            (0..runs).map(|_| tokio::spawn(append(store.clone(), node.clone(), batch, bytes))).collect();
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
async fn append(store: Arc<SqliteStore>, node: NodeId, batch: u64, bytes: usize) -> u64 {
    let (lease, end, mut commits) = (claim(&store, &node).await, Instant::now() + MEASURED, 0);
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
    let writer =
        Writer::Holder { node: lease.node().clone(), epoch: lease.epoch(), events: events.collect(), after };
    let transition = Transition {
        key: lease.key().clone(),
        writer,
        from: soloist::Status::Running,
        change: Change::Append,
        epoch_after: lease.epoch(),
        at: Timestamp::now(),
    };
    let answer = store.apply(transition).await.expect("the store works");
    assert_eq!(answer, Applied::Committed { last_seq: after + batch });
}

async fn claim(store: &SqliteStore, node: &NodeId) -> RunLease {
    let key: Key = format!("bench/Model/{}", NodeId::random()).parse().expect("a valid key");
    store.create(NewTask::named(key.clone(), Json::null()), Timestamp::now()).await.expect("created");
    let request = ClaimRequest {
        key: key.clone(),
        node: node.clone(),
        policy: Policy::Restart,
        place: Place::Here,
        idempotency: None,
        at: Timestamp::now(),
    };
    match store.claim(request).await.expect("the store works") {
        Claim::Won(won) => RunLease::from_claim(key, node.clone(), &won),
        lost => panic!("nobody else claims {key}: {lost:?}"),
    }
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
                    claim(&store, &node).await;
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
    let (lease, begun) = (claim(store, node).await, Instant::now());
    for _ in 0..20_000 {
        let request = ClaimRequest {
            key: lease.key().clone(),
            node: node.clone(),
            policy: Policy::Restart,
            place: Place::Here,
            idempotency: None,
            at: Timestamp::now(),
        };
        assert!(matches!(store.claim(request).await, Ok(Claim::Active(_))));
    }
    println!("start that loses, one by one: {:>7.0} a second", 20_000.0 / begun.elapsed().as_secs_f64());
}

/// Reads a log of 100,000 events from its beginning, in the pages that a viewer takes.
async fn pages(store: &SqliteStore, node: &NodeId) {
    let lease = claim(store, node).await;
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
