//! What was answered is there after the process was killed at any moment.

use std::{
    collections::BTreeMap,
    io::Write,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use soloist::{Key, Store, Timestamp, store::EventRange};
use soloist_sqlite::SqliteStore;
use soloist_store_contract::{
    plain::{join, won},
    stage::{append, committed, events},
};

use crate::child;

const RUNS: usize = 8;
const KILLS: u64 = 12;

/// Appends to several runs at once for ever, and says after each answer what it was.
async fn play(store: Arc<dyn Store>) {
    let (node, _beat) = join(&*store).await;
    let runs = (0..RUNS).map(|_| {
        let (store, node) = (store.clone(), node.clone());
        tokio::spawn(async move {
            let lease = won(&*store, &node).await;
            let mut after = lease.start_seq();
            loop {
                let batch = events(&lease, after, 1 + after % 7, Timestamp::now());
                after = committed(&store.apply(append(&lease, after, batch)).await.unwrap());
                let mut out = std::io::stdout().lock();
                writeln!(out, "answered: {} {after}", lease.key()).unwrap();
                out.flush().unwrap();
            }
        })
    });
    join_all(runs).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_everything_answered_before_a_kill_is_there_and_the_log_is_dense() {
    if let Some(path) = child::part() {
        return play(Arc::new(SqliteStore::open(path).unwrap())).await;
    }
    let seed = rand::random::<u64>();
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let mut answered = BTreeMap::<Key, u64>::new();
    for _ in 0..KILLS {
        let test = "crash::s3_everything_answered_before_a_kill_is_there_and_the_log_is_dense";
        let mut child = child::command(test, &path).spawn().unwrap();
        let lines = child::said(&mut child, "answered:");
        let (answers, micros) = (rng.random_range(1..400), rng.random_range(0..3_000));
        let (mut seen, mut deadline) = (0, None);
        for line in lines {
            let (key, seq) = line.split_once(' ').unwrap();
            answered.insert(key.parse().unwrap(), seq.parse().unwrap());
            seen += 1;
            // Killed a random moment after a random answer; what it says until it is dead counts, too.
            if seen == answers {
                deadline = Some(Instant::now() + Duration::from_micros(micros));
            }
            if deadline.is_some_and(|at| Instant::now() >= at) {
                child.kill().unwrap();
            }
        }
        assert!(seen >= answers, "the child ended by itself after {seen} answers");
        child.wait().unwrap();
    }
    let store = SqliteStore::open(&path).unwrap();
    for (key, seq) in &answered {
        let task = store.task(key).await.unwrap().unwrap();
        assert!(task.last_seq >= *seq, "{key}: {seq} was answered, {} is there", task.last_seq);
        let all = EventRange { after: 0, until: u64::MAX, max_events: usize::MAX, max_bytes: usize::MAX };
        let log = store.events(key, all).await.unwrap();
        assert_eq!(log.len() as u64, task.last_seq, "{key}: log and row are one");
        assert!(log.iter().zip(1..).all(|(event, seq)| event.seq == seq), "{key}: the log is dense");
    }
    // A child that is killed early has not answered for all of its runs.
    assert!(answered.len() as u64 >= KILLS, "each child has answered");
}
