//! Room that is given back, and what that costs the work that runs meanwhile.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use soloist::{
    Data, Ending, Json, Key, ModelKey, NewTask, NodeId, Policy, Status, Store, Timestamp,
    event::NewEvent,
    lease::RunLease,
    state::Place,
    store::{Claim, ClaimRequest, Prune},
};
use soloist_sqlite::SqliteStore;
use soloist_store_contract::{
    plain::{join, won},
    stage::{append, committed, finish},
};

const TASKS: usize = 1_000;
const EVENTS: u64 = 10;

/// A finished task with some events, each of a KiB.
async fn finished(store: &dyn Store, node: &NodeId, n: usize) {
    let key: Key = format!("old/Model/{n}").parse().unwrap();
    let at = Timestamp::from_micros(1);
    store.create(NewTask::named(key.clone(), Json::null()), at).await.unwrap();
    let request = ClaimRequest {
        key: key.clone(),
        node: node.clone(),
        policy: Policy::Restart,
        place: Place::Here,
        after: None,
        max_total: None,
        idempotency: None,
        trace: None,
        at,
    };
    let Claim::Won(claimed) = store.claim(request).await.unwrap() else { panic!("it is pending") };
    let lease = RunLease::from_claim(key, node.clone(), &claimed);
    let event = |seq| {
        let data = Data::Text("x".repeat(1_024).into());
        NewEvent::from_work("note", data, at).unwrap().at(seq, 1, lease.epoch())
    };
    committed(&store.apply(append(&lease, 0, (1..=EVENTS).map(event).collect())).await.unwrap());
    let ending = Ending::Completed { final_value: Json::null() };
    committed(&store.apply(finish(&lease, EVENTS, Status::Running, ending, at)).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_pruned_gives_its_room_back_and_holds_up_no_work() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let store = Arc::new(SqliteStore::open(&path).unwrap());
    let (node, heartbeat) = join(&*store).await;
    let all: Vec<_> = (0..TASKS)
        .map(|n| {
            let (store, node) = (store.clone(), node.clone());
            tokio::spawn(async move { finished(&*store, &node, n).await })
        })
        .collect();
    for one in all {
        one.await.unwrap();
    }
    // Work that goes on meanwhile.
    let (lease, is_over) = (won(&*store, &node).await, Arc::new(AtomicBool::new(false)));
    let working = tokio::spawn({
        let (store, is_over) = (store.clone(), is_over.clone());
        async move {
            let (mut seq, mut longest) = (0, Duration::ZERO);
            while !is_over.load(Ordering::SeqCst) {
                let event = NewEvent::from_work("step", Data::Text("x".into()), Timestamp::from_micros(2));
                let event = event.unwrap().at(seq + 1, lease.run(), lease.epoch());
                let begun = Instant::now();
                committed(&store.apply(append(&lease, seq, vec![event])).await.unwrap());
                longest = longest.max(begun.elapsed());
                seq += 1;
            }
            (seq, longest)
        }
    });
    let used = |store: &Arc<SqliteStore>| {
        let (store, path) = (store.clone(), path.clone());
        async move {
            // The file itself grows and shrinks when what was committed is folded into it.
            let conn = rusqlite::Connection::open(&path).unwrap();
            conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
            drop(store);
            std::fs::metadata(path).unwrap().len()
        }
    };
    let before = used(&store).await;
    let begun = Instant::now();
    let model = ModelKey::new("old", "Model").unwrap();
    let old = Prune { model, status: Status::Completed, before: Timestamp::from_micros(2), limit: 100 };
    let mut gone = 0;
    loop {
        let pruned = store.prune(old.clone(), Timestamp::from_micros(3)).await.unwrap().len();
        gone += pruned;
        if pruned == 0 {
            break;
        }
    }
    while store.tidy(Timestamp::from_micros(3)).await.unwrap() {}
    let took = begun.elapsed();
    is_over.store(true, Ordering::SeqCst);
    let (events, longest) = working.await.unwrap();
    let after = used(&store).await;
    println!(
        "{gone} tasks with {EVENTS} KiB of events each: {before} bytes become {after} in {took:?}; meanwhile {events} commits of \
         one run, the longest {longest:?}"
    );
    assert_eq!(gone, TASKS);
    // Some pages are kept for what is written next.
    assert!(after < before / 2, "{before} bytes have become {after}");
    // Each step is short, and others write between two.
    assert!(events > 10 && longest < took / 2, "{events} commits, the longest {longest:?} of {took:?}");
    drop(heartbeat);
}
