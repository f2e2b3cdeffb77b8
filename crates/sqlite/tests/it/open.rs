//! Which files are opened, by whom, and what they look like from outside.

use std::{
    fs,
    os::unix::fs::{MetadataExt, symlink},
    path::Path,
};

use rusqlite::Connection;
use soloist::{Json, NewTask, Store, Timestamp};
use soloist_sqlite::{OpenError, SqliteStore};

use crate::child;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

async fn write(store: &SqliteStore) {
    let task = NewTask::named("a/B/1".parse().unwrap(), Json::parse("{}").unwrap());
    store.create(task, Timestamp::now()).await.unwrap();
}

#[tokio::test]
async fn every_file_is_for_its_owner_only() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(dir.path().join("a.db")).unwrap();
    write(&store).await;
    for name in ["a.db", "a.db-wal", "a.db-shm", "a.db-lock", "a.db-next", "a.db-turn"] {
        assert_eq!(mode(&dir.path().join(name)), 0o600, "{name}");
    }
}

#[tokio::test]
async fn a_file_has_a_write_ahead_log_and_strict_tables() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let store = SqliteStore::open(&path).unwrap();
    write(&store).await;
    let beside = Connection::open(&path).unwrap();
    let mode: String = beside.query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
    assert_eq!(mode, "wal");
    let strict: i64 = beside
        .query_row(
            "SELECT count(*) FROM pragma_table_list WHERE schema = 'main' AND type = 'table' AND strict",
            [],
            |r| r.get(0),
        )
        .unwrap();
    assert_eq!(strict, 10);
}

#[test]
fn a_closed_file_is_one_file_and_opens_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    drop(SqliteStore::open(&path).unwrap());
    let mut names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["a.db", "a.db-lock", "a.db-next", "a.db-turn"]);
    SqliteStore::open(&path).unwrap();
}

#[test]
fn a_file_that_an_older_soloist_keeps_to_itself_is_refused_by_every_link_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let (path, link) = (dir.path().join("a.db"), dir.path().join("b.db"));
    let lock = fs::File::create(dir.path().join("a.db-lock")).unwrap();
    fs::write(&path, "").unwrap();
    lock.lock().unwrap();
    symlink(&path, &link).unwrap();
    assert!(matches!(SqliteStore::open(&link), Err(OpenError::InUse { .. })));
    lock.unlock().unwrap();
    SqliteStore::open(&link).unwrap();
}

#[tokio::test]
async fn a_file_of_version_1_is_upgraded_with_all_that_is_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let old = Connection::open(&path).unwrap();
    old.pragma_update(None, "application_id", 0x536f_6c6f).unwrap();
    old.execute_batch(include_str!("../../src/migrations/0001_tables.sql")).unwrap();
    old.execute_batch(
        "PRAGMA user_version = 1;
         INSERT INTO node (id, joined_at) VALUES ('node-1', 0);
         INSERT INTO task (app, model, id, status, run, attempt, epoch, node, last_seq, created_at, updated_at)
                VALUES ('a', 'B', '1', 'running', 1, 1, 1, 'node-1', 1, 5, 5);
         INSERT INTO input (task, json) VALUES (1, '{\"x\": 1}');
         INSERT INTO event VALUES (1, 1, 1, 1, 5, 'note', 1, '7');",
    )
    .unwrap();
    drop(old);
    let store = SqliteStore::open(&path).unwrap();
    let key = "a/B/1".parse().unwrap();
    let task = store.task(&key).await.unwrap().unwrap();
    assert_eq!((task.input.as_str(), task.last_seq), (r#"{"x": 1}"#, 1));
    assert_eq!((task.taken_back, task.following_run()), (0, 2));
    let orphans = store.orphans(10).await.unwrap();
    assert_eq!(orphans.len(), 1, "nobody of version 1 lives on");
    let all = soloist::store::EventRange { after: 0, until: 9, max_events: 9, max_bytes: 9 };
    assert_eq!(store.events(&key, all).await.unwrap()[0].data.as_str(), "7");
}

/// Of a version that did not know which numbers were promised: what was promised by then is kept, and tombstones go on.
#[tokio::test]
async fn a_file_of_version_5_keeps_what_it_has_promised() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let old = Connection::open(&path).unwrap();
    old.pragma_update(None, "application_id", 0x536f_6c6f).unwrap();
    for migration in [
        include_str!("../../src/migrations/0001_tables.sql"),
        include_str!("../../src/migrations/0002_nodes.sql"),
        include_str!("../../src/migrations/0003_durability.sql"),
        include_str!("../../src/migrations/0004_lifecycle.sql"),
        include_str!("../../src/migrations/0005_trace.sql"),
    ] {
        old.execute_batch(migration).unwrap();
    }
    old.execute_batch(
        "PRAGMA user_version = 5;
         INSERT INTO task (app, model, id, status, run, epoch, last_seq, next_run, created_at, updated_at)
                VALUES ('a', 'B', '1', 'completed', 3, 3, 3, 2, 5, 5);
         INSERT INTO input (task, json) VALUES (1, '{}');
         INSERT INTO tombstone (app, model, id, run, epoch, last_seq, deleted_at) VALUES ('a', 'B', '2', 6, 6, 6, 5);",
    )
    .unwrap();
    drop(old);
    let store = SqliteStore::open(&path).unwrap();
    let [promised, anew] = ["a/B/1", "a/B/2"].map(|key| key.parse::<soloist::Key>().unwrap());
    let at = soloist::Timestamp::from_micros(9);
    let task = store.task(&promised).await.unwrap().unwrap();
    assert_eq!((task.next_run, task.following_run()), (soloist::NextRun::Replace, 4));
    for (key, run, following) in [(anew, 6, 7), (promised.clone(), 3, 5)] {
        store.delete(&promised, None, at).await.unwrap();
        store.create(soloist::NewTask::named(key.clone(), soloist::Json::null()), at).await.unwrap();
        let task = store.task(&key).await.unwrap().unwrap();
        assert_eq!((task.run, task.following_run()), (run, following), "{key}");
    }
}

#[test]
fn a_file_of_a_newer_version_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    drop(SqliteStore::open(&path).unwrap());
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 8).unwrap();
    let before = fs::read(&path).unwrap();
    let refusal = SqliteStore::open(&path).unwrap_err();
    assert!(matches!(refusal, OpenError::NewerVersion { found: 8, known: 7, .. }), "{refusal}");
    assert!(
        refusal.to_string().contains("has version 8, and this soloist knows versions up to 7"),
        "{refusal}"
    );
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn a_file_that_is_no_soloist_database_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("notes.txt");
    fs::write(&text, "dear diary, ".repeat(1_000)).unwrap();
    let foreign = dir.path().join("foreign.db");
    Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE task (number INTEGER)").unwrap();
    let marked = dir.path().join("marked.db");
    Connection::open(&marked).unwrap().pragma_update(None, "application_id", 7).unwrap();
    for path in [text, foreign, marked] {
        let before = fs::read(&path).unwrap();
        let refusal = SqliteStore::open(&path).unwrap_err();
        assert!(matches!(refusal, OpenError::NotSoloist { .. }), "{refusal}");
        assert_eq!(fs::read(&path).unwrap(), before, "{}", path.display());
    }
}

#[test]
fn an_empty_file_becomes_a_database() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    fs::write(&path, "").unwrap();
    SqliteStore::open(&path).unwrap();
}

#[test]
fn a_path_that_cannot_be_is_refused_with_its_reason() {
    let dir = tempfile::tempdir().unwrap();
    for path in [dir.path().join("none/a.db"), dir.path().to_owned()] {
        let refusal = SqliteStore::open(&path).unwrap_err();
        assert!(refusal.to_string().contains(&*path.to_string_lossy()), "{refusal}");
    }
}

#[test]
fn a_store_that_is_dropped_leaves_no_thread() {
    if let Some(path) = child::part() {
        let threads = || fs::read_dir("/proc/self/task").unwrap().count();
        let before = threads();
        let store = SqliteStore::open(&path).unwrap();
        println!("more while open: {}", threads() > before);
        drop(store);
        println!("more afterwards: {}", threads() > before);
        return;
    }
    // In a process of its own, where no other test begins or ends a thread.
    let dir = tempfile::tempdir().unwrap();
    let test = "open::a_store_that_is_dropped_leaves_no_thread";
    let mut child = child::command(test, &dir.path().join("a.db")).spawn().unwrap();
    let more: Vec<String> = child::said(&mut child, "more ").collect();
    assert!(child.wait().unwrap().success());
    assert_eq!(more, ["while open: true", "afterwards: false"]);
}
