//! What a SQLite file has on record, read by SQL of its own.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::{Row, Task};

/// Every task with its log, as of one moment.
pub(super) fn read(file: &Path) -> Vec<(Task, Vec<Row>)> {
    let conn = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    // One moment for all queries.
    conn.execute_batch("BEGIN").unwrap();
    let sound: String = conn.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(sound, "ok", "the file is damaged");
    let strays: u64 = conn
        .query_row(
            "SELECT count(*) FROM event WHERE task NOT IN (SELECT number FROM task UNION SELECT task FROM deleted)",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(strays, 0, "S3: events of no task");
    let mut tasks = conn
        .prepare("SELECT number, app || '/' || model || '/' || id, status, run, epoch, last_seq, final_value, error_type,
                  attempt, retry_count, node FROM task")
        .unwrap();
    let tasks = tasks.query_map([], |row| {
        let number: i64 = row.get(0)?;
        let task = Task {
            name: row.get(1)?,
            status: row.get(2)?,
            run: row.get(3)?,
            epoch: row.get(4)?,
            last_seq: row.get(5)?,
            final_value: row.get(6)?,
            error_type: row.get(7)?,
            attempt: row.get(8)?,
            retry_count: row.get(9)?,
            node: row.get(10)?,
        };
        Ok((task, log(&conn, number)))
    });
    tasks.unwrap().map(Result::unwrap).collect()
}

fn log(conn: &Connection, number: i64) -> Vec<Row> {
    let sql = "SELECT seq, run, epoch, type, data FROM event WHERE task = ? ORDER BY seq";
    let mut query = conn.prepare_cached(sql).unwrap();
    let rows = query.query_map([number], |row| {
        Ok(Row {
            seq: row.get(0)?,
            run: row.get(1)?,
            epoch: row.get(2)?,
            kind: row.get(3)?,
            data: row.get(4)?,
        })
    });
    rows.unwrap().map(Result::unwrap).collect()
}
