//! A server that dies at every step at which it makes its tables or brings those of an older one up to date: each step is
//! done or not, and the next server goes on from there and finds all that was in them.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use rusqlite::{Connection, OpenFlags};
use soloist::fault::POINTS;
use soloist_test_postgres::Cluster;
use system_tests::{
    checker::{At, check, check_postgres},
    eventually,
    server::Server,
};
use tempfile::TempDir;

use crate::program;

/// What stood in tables of version 1: a task that has completed, one that ran, and one that was to be started.
fn held() -> String {
    // What is old would be pruned.
    let at = soloist::Timestamp::now().as_micros();
    format!("
    INSERT INTO soloist.task (app, model, id, status, run, attempt, epoch, node, last_seq, created_at, updated_at,
                              started_at, completed_at, final_value)
         VALUES ('demo', 'ExampleTask', 'done', 'completed', 1, 1, 1, NULL, 1, {at}, {at}, {at}, {at}, '7'),
                ('demo', 'ExampleTask', 'left', 'running', 1, 1, 1, 'n', 1, {at}, {at}, {at}, NULL, NULL),
                ('demo', 'ExampleTask', 'new', 'pending', 0, 0, 0, NULL, 0, {at}, {at}, NULL, NULL, NULL);
    INSERT INTO soloist.input SELECT number, '{{\"message\":\"m\",\"delay_ms\":1}}' FROM soloist.task;"
    )
}

fn points(of: &str) -> impl Iterator<Item = &'static str> {
    POINTS.iter().copied().filter(move |point| point.starts_with(of))
}

/// What a server finds when all is done, and that it goes on.
async fn find(server: &Server, has_held: bool) {
    if has_held {
        let status = |id: &str| {
            let path = format!("demo/ExampleTask/{id}");
            async move { server.task(&path).await["status"].as_str().unwrap().to_owned() }
        };
        assert_eq!(status("done").await, "completed");
        assert_eq!(status("new").await, "pending");
        eventually("what ran is taken over", || async { status("left").await == "failed" }).await;
        let left = server.task("demo/ExampleTask/left").await;
        assert_eq!(left["error_type"], "NodeLost", "{left}");
        let (_, page) = server.call("GET", "/tasks/demo/ExampleTask/done/events", "").await;
        assert_eq!(page["events"][0]["type"], "complete", "{page}");
    } else {
        server.create("demo/ExampleTask/new", r#"{"message":"m","delay_ms":1}"#).await;
    }
    assert_eq!(server.begin("demo/ExampleTask/new").await, (true, 1));
    let is_done = || async { server.task("demo/ExampleTask/new").await["status"] == "completed" };
    eventually("it runs", is_done).await;
}

fn sqlite_version(file: &Path) -> i64 {
    let conn = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let sound: String = conn.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(sound, "ok");
    let pragma =
        |name: &str| conn.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0)).unwrap();
    let version = pragma("user_version");
    assert_eq!(
        pragma("application_id"),
        if version == 0 { 0 } else { 0x536f_6c6f },
        "marked with its version"
    );
    version
}

fn empty_dir() -> Arc<TempDir> {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    std::fs::write(dir.path().join("soloist.toml"), "").unwrap();
    dir
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sqlite_file_is_brought_up_to_date_however_often_that_is_cut_short() {
    let program = program();
    let newest =
        std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/sqlite/src/migrations")).unwrap();
    let newest = i64::try_from(newest.count()).unwrap();
    for first in [0, 1] {
        let dir = empty_dir();
        let file = dir.path().join("soloist.db");
        if first == 1 {
            let old = Connection::open(&file).unwrap();
            old.pragma_update(None, "application_id", 0x536f_6c6f).unwrap();
            old.execute_batch(include_str!("../../crates/sqlite/src/migrations/0001_tables.sql")).unwrap();
            old.pragma_update(None, "user_version", 1).unwrap();
            old.execute_batch("INSERT INTO node (id, joined_at) VALUES ('n', 0)").unwrap();
            old.execute_batch(&held().replace("soloist.", "")).unwrap();
            old.execute_batch(
                "INSERT INTO event SELECT number, 1, 1, 1, 5, CASE id WHEN 'done' THEN 'complete' ELSE 'note' END, 1, '{}'
                                     FROM task WHERE last_seq = 1",
            )
            .unwrap();
        }
        for version in first..newest {
            for point in points("sqlite:migrate-") {
                println!("from version {first}: {point} of version {}", version + 1);
                let doomed = Server::doomed_in(dir.clone(), &program, &format!("{point}:1")).await;
                assert!(doomed.is_none(), "{point} was not passed at version {version}");
                let is_done = point == "sqlite:migrate-after";
                assert_eq!(sqlite_version(&file), version + i64::from(is_done), "{point}");
            }
        }
        let server = Server::doomed_in(dir.clone(), &program, "sqlite:migrate-before:1").await;
        let server = server.expect("nothing is left to do");
        find(&server, first == 1).await;
        assert_eq!(sqlite_version(&file), newest);
        check(&file, At::Rest, &BTreeMap::new());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_in_postgres_are_brought_up_to_date_however_often_that_is_cut_short() {
    let program = program();
    let newest =
        std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/postgres/src/migrations")).unwrap();
    let newest = newest.count();
    for first in [0, 1] {
        let database = Cluster::shared().database("upgrade");
        if first == 1 {
            database.sql(&format!(
                "CREATE SCHEMA soloist; {};
                 CREATE TABLE soloist.migration (version integer PRIMARY KEY, compatible_from integer NOT NULL,
                                                 applied_at timestamptz NOT NULL DEFAULT now());
                 INSERT INTO soloist.migration VALUES (1, 1);
                 INSERT INTO soloist.node (id, joined_at, lease_us, lease_until_us) VALUES ('n', 0, 1, 1);
                 {}
                 INSERT INTO soloist.event_batch
                        SELECT number, 1, 1, 1, 1, 2,
                               '[[5,\"' || CASE id WHEN 'done' THEN 'complete' ELSE 'note' END || '\",{{}}]]'
                          FROM soloist.task WHERE last_seq = 1",
                include_str!("../../crates/postgres/src/migrations/0001_tables.sql"),
                held(),
            ));
        }
        let version = || {
            let there = "SELECT count(*) FROM pg_class WHERE relname = 'migration'";
            match database.sql(there).as_str() {
                "0" => "0".to_owned(),
                _ => database.sql("SELECT max(version) FROM soloist.migration"),
            }
        };
        let dir = empty_dir();
        let config = format!("store = \"{}\"\nlease_seconds = 1\n", database.url());
        std::fs::write(dir.path().join("soloist.toml"), config).unwrap();
        for point in points("postgres:migrate-") {
            let passes = match point {
                "postgres:migrate-schema" | "postgres:migrate-versions" if first == 1 => 0,
                "postgres:migrate-tables" | "postgres:migrate-numbered" => newest - first,
                _ => 1,
            };
            for pass in 1..=passes {
                println!("from version {first}: {point}:{pass}");
                let doomed = Server::doomed_in(dir.clone(), &program, &format!("{point}:{pass}")).await;
                assert!(doomed.is_none(), "{point}:{pass} was not passed");
                let is_done = point == "postgres:migrate-after";
                assert_eq!(
                    version(),
                    if is_done { newest } else { first }.to_string(),
                    "all or nothing: {point}"
                );
            }
        }
        let server = Server::doomed_in(dir.clone(), &program, "postgres:migrate-begun:1").await;
        let mut server = server.expect("nothing is left to do");
        find(&server, first == 1).await;
        server.signal(rustix::process::Signal::KILL);
        assert!(server.ends_within(Duration::from_secs(10)).await);
        check_postgres(&database.url(), At::Rest, &BTreeMap::new()).await;
    }
}
