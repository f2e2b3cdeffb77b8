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
    for name in ["a.db", "a.db-wal", "a.db-shm", "a.db-lock"] {
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
    assert_eq!(strict, 6);
}

#[test]
fn a_closed_file_is_one_file_and_opens_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    drop(SqliteStore::open(&path).unwrap());
    let mut names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["a.db", "a.db-lock"]);
    SqliteStore::open(&path).unwrap();
}

#[test]
fn a_second_process_is_told_that_the_file_is_in_use_and_may_have_it_afterwards() {
    if let Some(path) = child::part() {
        let word = match SqliteStore::open(&path) {
            Ok(_) => "opened".to_owned(),
            Err(error) => error.to_string(),
        };
        println!("told: {word}");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let second = || {
        let test = "open::a_second_process_is_told_that_the_file_is_in_use_and_may_have_it_afterwards";
        let mut child = child::command(test, &path).spawn().unwrap();
        let told: Vec<String> = child::said(&mut child, "told:").collect();
        assert!(child.wait().unwrap().success());
        told
    };
    let store = SqliteStore::open(&path).unwrap();
    let expected = format!(
        "{} is in use by another soloist process, and one process at a time may open it; stop that one, or name another file",
        path.display()
    );
    assert_eq!(second(), [expected]);
    drop(store);
    assert_eq!(second(), ["opened"]);
}

#[test]
fn a_file_in_use_is_known_by_every_link_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let (path, link) = (dir.path().join("a.db"), dir.path().join("b.db"));
    let _store = SqliteStore::open(&path).unwrap();
    symlink(&path, &link).unwrap();
    assert!(matches!(SqliteStore::open(&link), Err(OpenError::InUse { .. })));
}

#[test]
fn a_file_of_a_newer_version_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    drop(SqliteStore::open(&path).unwrap());
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 2).unwrap();
    let before = fs::read(&path).unwrap();
    let refusal = SqliteStore::open(&path).unwrap_err();
    assert!(matches!(refusal, OpenError::NewerVersion { found: 2, known: 1, .. }), "{refusal}");
    assert!(
        refusal.to_string().contains("has version 2, and this soloist knows versions up to 1"),
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
