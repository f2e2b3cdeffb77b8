//! What a node looks at again and again: what it holds, rows, its inbox, and whether there is anything new at all.

use std::{slice::from_ref, sync::Arc, time::Duration};

use soloist::{
    Key, NewTask, NodeId, Status, Store,
    store::{Current, Evidence},
};
use tokio::sync::watch;

use crate::{
    Harness,
    stage::{LEASE, Stage, committed, completed, json, key},
};

async fn held<H: Harness>(stage: &Stage<H>, node: &NodeId, status: Status) -> Vec<Key> {
    let held = stage.store.held(node, status).await.expect("the store works");
    let mut keys = Vec::new();
    for held in held {
        assert_eq!(held.current, Current::from(&stage.task(&held.key).await));
        keys.push(held.key);
    }
    keys.sort();
    keys
}

/// In a status, by itself, dead or alive; nothing that it has let go.
pub async fn what_a_node_holds_is_told_by_status<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let other = stage.join().await;
    stage.pending("pending").await;
    stage.queued("queued").await;
    let running = [stage.running("1").await, stage.running("2").await];
    let (cancelling, lost) = (stage.running("3").await, stage.running("4").await);
    let finished = stage.running("5").await;
    stage.cancel(&cancelling, "stop").await;
    stage.apply(stage.requeued(&lost)).await;
    stage.finish(&finished, 0, completed("1")).await;
    for _ in 0..2 {
        let expected: Vec<_> = running.iter().map(|lease| lease.key().clone()).collect();
        assert_eq!(held(&stage, &stage.node, Status::Running).await, expected);
        assert_eq!(held(&stage, &stage.node, Status::Cancelling).await, [cancelling.key().clone()]);
        for status in [Status::Pending, Status::Queued, Status::Completed] {
            assert!(held(&stage, &stage.node, status).await.is_empty());
        }
        assert!(held(&stage, &other, Status::Running).await.is_empty());
        if stage.nodes.renew(&stage.node) == soloist::store::Renewal::Renewed {
            stage.bury(&stage.node).await;
        }
    }
}

/// With nothing where there is no such task, and twice where it was asked for twice.
pub async fn rows_come_in_the_order_in_which_they_were_asked_for<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let (pending, queued) = (stage.pending("2").await, stage.queued("1").await);
    let running = stage.running("3").await;
    stage.append(&running, 0, 3).await;
    let gone = stage.pending("4").await;
    stage.delete(&gone).await;
    let keys = [&key("none"), running.key(), &pending, &gone, &queued, running.key()];
    let rows = stage.store.rows(keys.into_iter().cloned().collect()).await.expect("the store works");
    assert_eq!(rows.len(), keys.len());
    for (key, row) in keys.into_iter().zip(rows) {
        let task = stage.store.task(key).await.expect("the store works");
        assert_eq!(row, task.as_ref().map(Current::from), "{key}");
    }
    assert!(stage.store.rows(Vec::new()).await.expect("the store works").is_empty());
    let many: Vec<_> = (0..2_000).map(|n| if n % 2 == 0 { pending.clone() } else { key("none") }).collect();
    let rows = stage.store.rows(many).await.expect("the store works");
    assert!(rows.len() == 2_000 && rows.iter().enumerate().all(|(n, row)| row.is_some() == (n % 2 == 0)));
}

/// With each cancel and each signal of a run that it holds, from any handle; another node's stays as it is.
pub async fn a_cancel_and_a_signal_reach_the_inbox_of_the_holder<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let (other, handle) = (stage.join().await, stage.another().await);
    let (lease, pending) = (stage.running("1").await, stage.pending("2").await);
    let inbox = async |node: &NodeId| handle.inbox(node).await.expect("the store works");
    let signal = async |key: &Key| {
        handle.signal(key, "go", json("1"), stage.now()).await.expect("the store works");
    };
    let (mut last, others) = (inbox(&stage.node).await, inbox(&other).await);
    let mut risen = async |what: &str| {
        let now = inbox(&stage.node).await;
        assert!(now > last, "{what}: {now} after {last}");
        last = now;
    };
    signal(lease.key()).await;
    risen("a signal").await;
    signal(lease.key()).await;
    risen("another signal").await;
    stage.cancel(&lease, "stop").await;
    risen("a cancel").await;
    signal(lease.key()).await;
    risen("a signal while it is cancelled").await;
    signal(&pending).await;
    assert_eq!(inbox(&other).await, others);
}

/// Within five seconds, in this process and in another, for a task whose row was asked for there.
pub async fn a_commit_of_anybody_is_told_to_everybody<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let other = stage.another().await;
    let mut readers = [("another handle", other.clone()), ("its own handle", stage.store.clone())]
        .map(|(who, store)| Reader { who, changes: store.changes(), store });
    let key = key("1");
    stage.store.create(NewTask::named(key.clone(), json("{}")), stage.now()).await.expect("created");
    looked(&mut readers, &key).await;
    let lease = stage.won(&key).await;
    told(&mut readers, "a claim").await;
    committed(&stage.append(&lease, 0, 1).await);
    told(&mut readers, "an event").await;
    stage.store.signal(&key, "go", json("1"), stage.now()).await.expect("the store works");
    told(&mut readers, "a signal").await;
    committed(&stage.cancel(&lease, "stop").await);
    told(&mut readers, "a cancel").await;
    committed(&stage.apply(stage.lost_while_cancelling(&lease)).await);
    told(&mut readers, "an ending").await;
    stage.delete(&key).await;
    told(&mut readers, "a delete").await;
    let queued = stage.queued("2").await;
    told(&mut readers, "a start for the queue").await;
    looked(&mut readers, &queued).await;
    stage.next_queued().await.expect("it waits");
    told(&mut readers, "a claim of a queued run").await;
    let joined = stage.join().await;
    told(&mut readers, "a join").await;
    stage.bury(&joined).await;
    told(&mut readers, "a death").await;
}

struct Reader {
    who: &'static str,
    store: Arc<dyn Store>,
    changes: watch::Receiver<u64>,
}

/// Asks for a row, as those do who have viewers of it. A first look may be a reason for another one, and is none here.
async fn looked(readers: &mut [Reader], key: &Key) {
    for reader in readers {
        reader.store.rows(vec![key.clone()]).await.expect("the store works");
        reader.changes.mark_unchanged();
    }
}

async fn told(readers: &mut [Reader], what: &str) {
    for Reader { who, changes, .. } in readers {
        let told = tokio::time::timeout(Duration::from_secs(5), changes.changed()).await;
        told.unwrap_or_else(|_| panic!("{who} was not told of {what}")).expect("the store is open");
    }
}

/// A viewer in one process and work in another: woken by nothing but changes, it sees each event.
pub async fn s5_a_reader_that_only_waits_for_changes_misses_nothing<H: Harness>() {
    const EVENTS: u64 = 300;
    let stage = Stage::<H>::new().await;
    let lease = stage.running("1").await;
    let other = stage.another().await;
    let reading = tokio::spawn(read(other, lease.key().clone(), EVENTS));
    for seq in 0..EVENTS {
        stage.append(&lease, seq, 1).await;
    }
    let seen = reading.await.expect("no panic");
    assert!(seen.into_iter().eq(1..=EVENTS));
    stage.boot.advance(LEASE);
    assert_eq!(stage.store.bury(Evidence::Lease).await.expect("the store works"), from_ref(&stage.node));
}

async fn read(store: Arc<dyn Store>, key: Key, until: u64) -> Vec<u64> {
    let (mut changes, mut seen) = (store.changes(), Vec::new());
    while seen.last() != Some(&until) {
        // What was there before the look is seen by it; what comes later is a change. Whoever waits for a task's changes
        // asks for its row.
        changes.borrow_and_update();
        store.rows(vec![key.clone()]).await.expect("the store works");
        let range =
            soloist::store::EventRange { after: seen.last().copied().unwrap_or(0), ..crate::stage::ALL };
        let page = store.events(&key, range).await.expect("the store works");
        if page.is_empty() {
            changes.changed().await.expect("the store is open");
        }
        seen.extend(page.iter().map(|event| event.seq));
    }
    seen
}
