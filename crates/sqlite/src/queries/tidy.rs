//! The queries that clear away what is of no use.
//!
//! Decides: how much one step removes, so that it holds up nobody; and how old is old.

use std::time::Duration;

use rusqlite::{Connection, named_params};
use soloist::{NodeId, Timestamp, limits};

use super::int;
use crate::error::SqlResult;

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
    Ok(left || tombstones == limits::TIDY_MAX_ROWS || keys == limits::TIDY_MAX_ROWS)
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
