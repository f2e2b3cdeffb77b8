//! The queries that clear away what is of no use.
//!
//! Decides: how much one step removes, so that it holds up nobody; and how old is old.

use std::time::Duration;

use rusqlite::{Connection, named_params};
use soloist::{Key, NodeId, Timestamp, limits, store::Prune};

use super::{
    int,
    write::{Left, entomb},
};
use crate::{error::SqlResult, rows};

/// Clears away one step's worth. True where there is more.
pub(crate) fn tidy(conn: &Connection, at: Timestamp) -> SqlResult<bool> {
    let limit = int(limits::TIDY_MAX_ROWS);
    let before = |kept: Duration| at.as_micros().saturating_sub(int(kept.as_micros()));
    conn.prepare_cached(include_str!("../sql/clear.sql"))?.execute(named_params! { ":limit": limit })?;
    conn.prepare_cached(include_str!("../sql/cleared.sql"))?.execute([])?;
    let tombstones = conn
        .prepare_cached(include_str!("../sql/expire.sql"))?
        .execute(named_params! { ":before": before(limits::TOMBSTONE_KEPT), ":limit": limit })?;
    let keys = conn
        .prepare_cached(include_str!("../sql/outlive.sql"))?
        .execute(named_params! { ":before": before(limits::IDEMPOTENCY_KEPT), ":limit": limit })?;
    let left: bool = conn.prepare_cached(include_str!("../sql/left.sql"))?.query_row([], |row| row.get(0))?;
    let free = give_back(conn)?;
    Ok(left || free || tombstones == limits::TIDY_MAX_ROWS || keys == limits::TIDY_MAX_ROWS)
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
        let left = Left {
            number: row.get("number")?,
            run: row.get("run")?,
            epoch: row.get("epoch")?,
            last_seq: row.get("last_seq")?,
        };
        keys.push((rows::key(row)?, left));
    }
    drop(gone);
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
    }
    conn.prepare_cached(include_str!("../sql/retire.sql"))?.execute([])?;
    Ok(())
}
