//! Nodes as processes: what the operating system tells of their deaths, and turns between those that live.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use soloist::{Epoch, NodeId, Store, Timestamp, limits, store::Evidence};
use soloist_sqlite::{Durability, SqliteOptions, SqliteStore};
use soloist_store_contract::{
    plain::{join, won},
    stage::{append, committed, events},
};

use crate::child;

/// The lock files of nodes beside a database.
fn lock_files(database: &Path) -> Vec<PathBuf> {
    let names = fs::read_dir(database.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
    names.filter(|path| path.to_string_lossy().contains(".db-node-")).collect()
}

#[tokio::test]
async fn a_killed_process_is_certainly_dead_and_its_lock_file_is_cleared_away() {
    if let Some(path) = child::part() {
        let store = SqliteStore::open(path).unwrap();
        let (node, _heartbeat) = join(&store).await;
        let lease = won(&store, &node).await;
        println!("joined: {node} {}", lease.key());
        loop {
            std::thread::park();
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let store = SqliteStore::open(&path).unwrap();
    let (_, _heartbeat) = join(&store).await;
    let test = "nodes::a_killed_process_is_certainly_dead_and_its_lock_file_is_cleared_away";
    let mut child = child::command(test, &path).spawn().unwrap();
    let joined = child::said(&mut child, "joined:").next().unwrap();
    let (node, key) = joined.split_once(' ').unwrap();
    assert!(store.bury(Evidence::Lease).await.unwrap().is_empty(), "it lives, and so do we");
    assert_eq!(lock_files(&path).len(), 2);
    child.kill().unwrap();
    child.wait().unwrap();
    let begun = Instant::now();
    let buried = loop {
        let buried = store.bury(Evidence::Certain).await.unwrap();
        if !buried.is_empty() {
            break buried;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "its lock is held");
    };
    assert_eq!(buried, [NodeId::from_store(node)]);
    assert_eq!(lock_files(&path).len(), 1, "ours is left");
    let orphans = store.orphans(10).await.unwrap();
    assert_eq!((orphans.len(), orphans[0].key.to_string().as_str()), (1, key));
    assert_eq!(orphans[0].current.epoch, Epoch(1));
}

#[tokio::test]
async fn a_lock_file_that_is_gone_or_another_one_buries_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let store = SqliteStore::open(&path).unwrap();
    let (_, mut heartbeat) = join(&store).await;
    let [file] = &lock_files(&path)[..] else { panic!("one node, one file") };
    fs::remove_file(file).unwrap();
    assert!(store.bury(Evidence::Lease).await.unwrap().is_empty(), "gone");
    fs::write(file, "").unwrap();
    assert!(store.bury(Evidence::Lease).await.unwrap().is_empty(), "another one, which nobody holds");
    assert_eq!(heartbeat.renew().unwrap(), soloist::store::Renewal::Renewed);
}

#[tokio::test]
async fn a_command_that_a_node_has_started_does_not_hide_its_death() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let store = SqliteStore::open(&path).unwrap();
    let (node, heartbeat) = join(&store).await;
    let mut command = std::process::Command::new("sleep").arg("600").spawn().unwrap();
    drop(heartbeat);
    let begun = Instant::now();
    // What other tests of this process start holds a copy of every descriptor, for the moment before it becomes a program.
    let buried = loop {
        let buried = store.bury(Evidence::Certain).await.unwrap();
        if !buried.is_empty() {
            break buried;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "the command holds the lock");
    };
    command.kill().unwrap();
    command.wait().unwrap();
    assert_eq!(buried, [node]);
}

#[tokio::test]
async fn a_node_that_leaves_takes_its_lock_file_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let store = SqliteStore::open(&path).unwrap();
    let (_, mut heartbeat) = join(&store).await;
    heartbeat.leave().unwrap();
    assert!(lock_files(&path).is_empty());
    assert!(store.bury(Evidence::Lease).await.unwrap().is_empty());
    while store.tidy(Timestamp::now()).await.unwrap() {}
}

#[tokio::test]
async fn what_a_deleted_task_left_is_cleared_away_in_steps() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let store = SqliteStore::open(&path).unwrap();
    let (node, _heartbeat) = join(&store).await;
    let lease = won(&store, &node).await;
    let many = 2 * limits::TIDY_MAX_ROWS as u64 + 5;
    committed(&store.apply(append(&lease, 0, events(&lease, 0, many, Timestamp::now()))).await.unwrap());
    let end = soloist_store_contract::stage::completed("1");
    let end =
        soloist_store_contract::stage::finish(&lease, many, soloist::Status::Running, end, Timestamp::now());
    committed(&store.apply(end).await.unwrap());
    store.delete(lease.key(), None, Timestamp::now()).await.unwrap();
    let look = rusqlite::Connection::open(&path).unwrap();
    let left = || look.query_row("SELECT count(*) FROM event", [], |row| row.get::<_, u64>(0)).unwrap();
    let mut steps = vec![left()];
    while store.tidy(Timestamp::now()).await.unwrap() {
        steps.push(left());
    }
    assert_eq!(left(), 0);
    let most = limits::TIDY_MAX_ROWS as u64;
    assert!(steps.windows(2).all(|pair| pair[0] - pair[1] <= most) && steps.len() > 2, "{steps:?}");
}

/// Beside a process that writes without pause. The figures are printed; the limit only tells turns from none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_writes_without_pause_lets_others_have_their_turn() {
    if let Some(path) = child::part() {
        let store = Arc::new(SqliteStore::open(path).unwrap());
        let (node, _heartbeat) = join(&*store).await;
        let runs = (0..8).map(|_| {
            let (store, node) = (store.clone(), node.clone());
            tokio::spawn(async move {
                let lease = won(&*store, &node).await;
                println!("writing:");
                let mut after = 0;
                loop {
                    let batch = events(&lease, after, 20, Timestamp::now());
                    after = committed(&store.apply(append(&lease, after, batch)).await.unwrap());
                }
            })
        });
        futures_util::future::join_all(runs).await;
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let store = SqliteStore::open(&path).unwrap();
    let (node, _heartbeat) = join(&store).await;
    let test = "nodes::a_process_that_writes_without_pause_lets_others_have_their_turn";
    let mut child = child::command(test, &path).spawn().unwrap();
    let lines = child::said(&mut child, "writing:");
    assert_eq!(lines.take(8).count(), 8);
    let mut waits: Vec<Duration> = Vec::new();
    for _ in 0..200 {
        let begun = Instant::now();
        won(&store, &node).await;
        waits.push(begun.elapsed());
    }
    child.kill().unwrap();
    child.wait().unwrap();
    waits.sort();
    let (median, p99) = (waits[100], waits[198]);
    println!("create and claim beside a busy process: p50 {median:?}, p99 {p99:?}");
    assert!(p99 < Duration::from_secs(1), "p50 {median:?}, p99 {p99:?}");
}

/// A viewer of a node that waits for the disk would else be shown events that a power cut may take.
#[tokio::test]
async fn processes_of_another_durability_are_not_taken_in_while_one_lives() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let open = |durability| {
        SqliteStore::open_with(&path, SqliteOptions { durability, ..SqliteOptions::default() }).unwrap()
    };
    let (full, relaxed) = (open(Durability::Full), open(Durability::Relaxed));
    let (_, alive) = join(&full).await;
    let refusal = refused(&relaxed).await;
    assert!(refusal.contains("another durability than Relaxed use"), "{refusal}");
    assert_eq!(lock_files(&path).len(), 1, "nothing is left of who was refused");
    drop(join(&full).await);
    // Dead without a word: nobody has buried it.
    drop(alive);
    let (_, alive) = join(&relaxed).await;
    let refusal = refused(&full).await;
    assert!(refusal.contains("another durability than Full use"), "{refusal}");
    drop(alive);
}

async fn refused(store: &SqliteStore) -> String {
    let new = soloist::store::NewNode {
        id: NodeId::random(),
        lease: limits::LEASE,
        models: Vec::new(),
        at: Timestamp::from_micros(0),
    };
    store.join(new).await.map(drop).unwrap_err().to_string()
}
