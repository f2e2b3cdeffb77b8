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
    plan_with(conn, name, "")
}

/// The same, with a filter where the query has room for one.
fn plan_with(conn: &Connection, name: &str, filter: &str) -> String {
    let (_, sql) = files().into_iter().find(|(file, _)| file == name).unwrap();
    let mut explain =
        conn.prepare(&format!("EXPLAIN QUERY PLAN {}", sql.replace("-- filter", filter))).unwrap();
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
    for filter in ["", "AND status = :status"] {
        let owned = plan_with(&conn, "list", &format!("AND owner = :owner {filter}"));
        assert!(
            owned.contains("SEARCH task USING INDEX task_of_owner (owner=? AND number<?)")
                && !owned.contains("B-TREE"),
            "{owned}"
        );
    }
    let queued = plan(&conn, "claim_queued");
    for part in [
        "SEARCH first USING INDEX task_ready (app=? AND model=? AND place>?)",
        "SEARCH held USING INDEX task_held_of_model (app=? AND model=?)",
    ] {
        assert!(queued.contains(part), "{part}: {queued}");
    }
    for (name, part) in [
        ("ripen", "SEARCH task USING COVERING INDEX task_due (due_at>? AND due_at<?)"),
        ("owed", "task USING INDEX task_owed"),
        ("prune", "SEARCH task USING INDEX task_ended (app=? AND model=? AND status=? AND <expr><?)"),
        ("position", "SEARCH before USING INDEX task_ready (app=? AND model=? AND place<?)"),
        ("waiting", "task_ready"),
        ("waiting", "task_due"),
        ("waiting", "task_owed"),
    ] {
        let plan = plan(&conn, name);
        assert!(
            plan.contains(part) && !plan.contains("SCAN task\n") && !plan.contains("B-TREE"),
            "{name}: {plan}"
        );
    }
    let outlived = plan(&conn, "outlived");
    assert!(
        outlived.contains(
            "SEARCH idempotency USING INDEX idempotency_by_age ((used_at,subject,call,target,key)>"
        ) && outlived.contains("AND used_at<?)")
            && !outlived.contains("B-TREE"),
        "{outlived}"
    );
    let held = plan(&conn, "held");
    assert!(held.contains("task USING INDEX task_held (node=? AND status=?)"), "{held}");
    let orphans = plan(&conn, "orphans");
    assert!(orphans.contains("task USING INDEX task_held"), "{orphans}");
}

/// How many steps SQLite takes for the claim of what was queued first, of 100 and of 10,000 that wait: for a node, for
/// others, for their time, and for a slot of their model.
#[test]
fn the_claim_of_the_next_queued_run_costs_the_same_however_many_wait() {
    let steps = |ready: i64, others: i64, delayed: i64| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        drop(SqliteStore::open(&path).unwrap());
        let conn = Connection::open(&path).unwrap();
        conn.execute_batch("INSERT INTO node (id, joined_at) VALUES ('n', 0)").unwrap();
        let queue = "INSERT INTO task (app, model, id, status, run, attempt, place, due_at, created_at, updated_at)
                     SELECT 'a', ?1, ?2 || value, 'queued', 1, 1, ?3 + value, ?4, 0, 0 FROM generate_series(1, ?5)";
        let series = queue.replace(
            "generate_series(1, ?5)",
            "(WITH RECURSIVE n (value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < ?5) SELECT value FROM n
              WHERE ?5 > 0)",
        );
        // Those of others and those that wait for their time stand in front.
        conn.execute(&series, ("Other", "o", 0, None::<i64>, others)).unwrap();
        conn.execute(&series, ("Model", "d", 100_000, Some(i64::MAX), delayed)).unwrap();
        conn.execute(&series, ("Model", "r", 200_000, None::<i64>, ready)).unwrap();
        conn.execute_batch("INSERT INTO input SELECT number, '{}' FROM task").unwrap();
        let claim = files().into_iter().find(|(name, _)| name == "claim_queued").unwrap().1;
        let mut claim = conn.prepare(&claim).unwrap();
        let mut ids = Vec::new();
        let mut taken = Vec::new();
        for _ in 0..2 {
            claim.reset_status(rusqlite::StatementStatus::VmStep);
            let params =
                rusqlite::named_params! { ":models": r#"[["a","Model",5]]"#, ":node": "n", ":at": 1 };
            ids.push(claim.query_row(params, |row| row.get::<_, String>("id")).unwrap());
            taken.push(claim.get_status(rusqlite::StatementStatus::VmStep));
        }
        assert_eq!(ids, ["r1", "r2"]);
        taken.iter().sum::<i32>()
    };
    let few = steps(100, 100, 100);
    for (name, many) in [
        ("ready", steps(10_000, 100, 100)),
        ("of another model", steps(100, 10_000, 100)),
        ("waiting for their time", steps(100, 100, 10_000)),
    ] {
        println!("{few} steps of 100, {many} of 10,000 that are {name}");
        assert!(
            f64::from(many) <= 1.5 * f64::from(few),
            "{few} steps of 100, {many} of 10,000 that are {name}"
        );
    }
}
