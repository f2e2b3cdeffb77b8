//! The queries as text: each says what it is for, and none passes over a broken log.

use std::fs;

use rusqlite::Connection;
use soloist_sqlite::SqliteStore;

fn files() -> Vec<(String, String)> {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/src/sql");
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    files
        .map(|file| {
            let name = file.file_name().into_string().unwrap();
            (name.strip_suffix(".sql").unwrap().to_owned(), fs::read_to_string(file.path()).unwrap())
        })
        .collect()
}

#[test]
fn every_query_opens_with_its_five_lines() {
    for (name, sql) in files() {
        let lines: Vec<&str> = sql.lines().collect();
        let heads = [
            format!("-- {name}: "),
            "-- called by  ".into(),
            "-- guard      ".into(),
            "-- returns    ".into(),
            "-- atomic     ".into(),
        ];
        for (line, head) in lines.iter().zip(&heads) {
            assert!(line.starts_with(head), "{name}.sql: {line:?} does not begin with {head:?}");
        }
        assert!(!lines[5].starts_with("--"), "{name}.sql has one statement under five lines");
    }
}

#[test]
fn a_place_in_the_log_that_is_taken_is_never_passed_over() {
    for (name, sql) in files() {
        let code: String = sql.lines().filter(|line| !line.starts_with("--")).collect();
        if code.contains("INTO event") || code.contains("UPDATE event") {
            assert!(
                !code.contains("CONFLICT") && !code.contains("OR IGNORE") && !code.contains("OR REPLACE"),
                "{name}"
            );
        }
    }
}

/// The plan that SQLite makes for a query, one step a line.
fn plan(conn: &Connection, name: &str) -> String {
    let (_, sql) = files().into_iter().find(|(file, _)| file == name).unwrap();
    let mut explain = conn.prepare(&format!("EXPLAIN QUERY PLAN {}", sql.replace("-- filter", ""))).unwrap();
    // No parameter is bound: a plan depends on none.
    let steps = explain.raw_query().mapped(|row| row.get::<_, String>("detail"));
    steps.map(Result::unwrap).collect::<Vec<_>>().join("\n")
}

#[test]
fn what_runs_often_reads_one_range_of_an_index() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    drop(SqliteStore::open(&path).unwrap());
    let conn = Connection::open(&path).unwrap();
    let key = "USING INDEX sqlite_autoindex_task_1 (app=? AND model=? AND id=?)";
    for name in ["claim", "active", "append", "cancel", "requeue", "finish", "delete", "task"] {
        let plan = plan(&conn, name);
        assert!(plan.contains(key) && !plan.contains("SCAN"), "{name}: {plan}");
    }
    let events = plan(&conn, "events");
    assert!(events.contains("SEARCH event USING PRIMARY KEY (task=? AND seq>? AND seq<?)"), "{events}");
    assert!(!events.contains("SCAN") && !events.contains("B-TREE"), "{events}");
    let signals = plan(&conn, "signals");
    assert!(signals.contains("SEARCH signal USING PRIMARY KEY (task=? AND run=? AND number>?)"), "{signals}");
    let list = plan(&conn, "list");
    assert!(
        list.contains("SEARCH task USING INTEGER PRIMARY KEY (rowid<?)") && !list.contains("B-TREE"),
        "{list}"
    );
    let queued = plan(&conn, "claim_queued");
    assert!(queued.contains("task USING INDEX task_queued") && !queued.contains("B-TREE"), "{queued}");
    let held = plan(&conn, "held");
    assert!(held.contains("task USING INDEX task_held (node=? AND status=?)"), "{held}");
    let orphans = plan(&conn, "orphans");
    assert!(orphans.contains("task USING INDEX task_held"), "{orphans}");
}
