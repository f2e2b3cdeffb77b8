//! The queries that clear away what is of no use.
//!
//! Decides: how much one step removes, so that it holds up nobody; and how old is old.

use std::time::Duration;

use rusqlite::{Connection, named_params};
use soloist::{Key, NodeId, Timestamp, fault, limits, store::Prune};

use super::{
    int,
    write::{Left, entomb},
};
use crate::{error::SqlResult, rows};

/// The moment from which on something is kept.
pub(super) fn before(at: Timestamp, kept: Duration) -> i64 {
    at.as_micros().saturating_sub(int(kept.as_micros()))
}

/// Clears away one step's worth. True where there is more.
pub(crate) fn tidy(conn: &Connection, at: Timestamp) -> SqlResult<bool> {
    let limit = int(limits::TIDY_MAX_ROWS);
    clear(conn)?;
    fault::point("sqlite:tidy-cleared");
    let tombstones = conn
        .prepare_cached(include_str!("../sql/expire.sql"))?
        .execute(named_params! { ":before": before(at, limits::TOMBSTONE_KEPT), ":limit": limit })?;
    fault::point("sqlite:tidy-expired");
    let left: bool = conn.prepare_cached(include_str!("../sql/left.sql"))?.query_row([], |row| row.get(0))?;
    let free = give_back(conn)?;
    Ok(left || free || tombstones == limits::TIDY_MAX_ROWS)
}

/// Clears away the events of deleted tasks: of many that have few each, or some of one that has many.
fn clear(conn: &Connection) -> SqlResult<()> {
    let mut clear = conn.prepare_cached(include_str!("../sql/clear.sql"))?;
    let mut cleared = conn.prepare_cached(include_str!("../sql/cleared.sql"))?;
    let mut room = limits::TIDY_MAX_ROWS;
    for _ in 0..limits::PRUNE_MAX_TASKS {
        room -= clear.execute(named_params! { ":limit": int(room) })?;
        // None is left, or the one that comes first has more events.
        if cleared.execute([])? == 0 {
            break;
        }
    }
    Ok(())
}

/// Gives some free pages back to the file system. True where there are more. Does nothing to a file that was made before
/// there was this: one `VACUUM` makes it such a file.
fn give_back(conn: &Connection) -> SqlResult<bool> {
    let is_incremental =
        conn.pragma_query_value(None, "auto_vacuum", |row| Ok(row.get::<_, i64>(0)? == 2))?;
    let free: i64 = conn.pragma_query_value(None, "freelist_count", |row| row.get(0))?;
    let pages = int(limits::SQLITE_VACUUM_PAGES);
    // Some are kept for what is written next.
    if !is_incremental || free <= pages {
        return Ok(false);
    }
    conn.execute_batch(&format!("PRAGMA incremental_vacuum({pages})"))?;
    Ok(free > 2 * pages)
}

/// Removes some tasks that ended long ago, each with a tombstone.
pub(crate) fn prune(conn: &Connection, request: &Prune, at: Timestamp) -> SqlResult<Vec<Key>> {
    let mut prune = conn.prepare_cached(include_str!("../sql/prune.sql"))?;
    let mut gone = prune.query(named_params! {
        ":app": request.model.app(), ":model": request.model.model(), ":status": request.status.as_str(),
        ":before": request.before.as_micros(), ":limit": int(request.limit),
    })?;
    let mut keys = Vec::new();
    while let Some(row) = gone.next()? {
        keys.push((rows::key(row)?, Left::read(row)?));
    }
    drop(gone);
    if !keys.is_empty() {
        fault::point("sqlite:prune-rows");
    }
    for (key, left) in &keys {
        entomb(conn, key, left, at)?;
    }
    Ok(keys.into_iter().map(|(key, _)| key).collect())
}

/// Dead nodes that hold nothing.
pub(crate) fn dead(conn: &Connection) -> SqlResult<Vec<NodeId>> {
    let mut query = conn.prepare_cached(include_str!("../sql/dead.sql"))?;
    let mut found = query.query(named_params! { ":limit": int(limits::TIDY_MAX_ROWS) })?;
    let mut dead = Vec::new();
    while let Some(row) = found.next()? {
        dead.push(NodeId::from_store(row.get_ref("id")?.as_str()?));
    }
    Ok(dead)
}

/// Removes nodes whose lock files are gone.
pub(crate) fn forget(conn: &Connection, nodes: &[NodeId]) -> SqlResult<()> {
    let mut forget = conn.prepare_cached(include_str!("../sql/forget.sql"))?;
    for node in nodes {
        forget.execute(named_params! { ":node": node.as_str() })?;
        fault::point("sqlite:tidy-forgotten");
    }
    conn.prepare_cached(include_str!("../sql/retire.sql"))?.execute([])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::open;

    #[test]
    fn one_step_clears_many_tasks_of_few_events_and_no_more_rows_than_its_limit() {
        let dir = tempfile::tempdir().unwrap();
        let conn = open::file(&dir.path().join("a.db")).unwrap();
        let deleted = |task: i64, events: usize| {
            conn.execute("INSERT INTO deleted (task) VALUES (?1)", [task]).unwrap();
            for seq in 1..=events {
                conn.execute(
                    "INSERT INTO event (task, seq, run, epoch, timestamp, type, json, data)
                     VALUES (?1, ?2, 1, 1, 0, 'a', 1, '1')",
                    (task, seq),
                )
                .unwrap();
            }
        };
        let left = || {
            let count = |table: &str| {
                let sql = format!("SELECT count(*) FROM {table}");
                conn.query_row(&sql, [], |row| row.get::<_, usize>(0)).unwrap()
            };
            (count("deleted"), count("event"))
        };
        (1..=50).for_each(|task| deleted(task, usize::from(task % 2 == 0)));
        deleted(51, limits::TIDY_MAX_ROWS);
        assert!(tidy(&conn, Timestamp::from_micros(0)).unwrap());
        assert_eq!(left(), (1, 25));
        assert!(!tidy(&conn, Timestamp::from_micros(0)).unwrap());
        assert_eq!(left(), (0, 0));
    }
}
