//! The queries that clear away what is of no use.
//!
//! Decides: how much one step removes, so that it holds up nobody; and how old is old. Every node tidies up, and passes by
//! what another one has locked.

use std::time::Duration;

use soloist::{Timestamp, limits};

use super::{int, read::told};
use crate::{
    db::{Db, Fate},
    error::SqlResult,
    sql::args,
};

/// Clears away one step's worth. True where there is more.
pub(crate) async fn tidy(db: &Db, at: Timestamp) -> SqlResult<bool> {
    let (limit, batches) = (int(limits::TIDY_MAX_ROWS), int(limits::POSTGRES_TIDY_MAX_BATCHES));
    let before = |kept: Duration| at.as_micros().saturating_sub(int(kept.as_micros()));
    db.write(Fate::Repeat, &db.sql.clear, args! { limit: INT8 = batches }).await?;
    db.write(Fate::Repeat, &db.sql.cleared, args! { limit: INT8 = limit }).await?;
    let (tombstones, keys) = (before(limits::TOMBSTONE_KEPT), before(limits::IDEMPOTENCY_KEPT));
    let expired = db
        .write(Fate::Repeat, &db.sql.expire, args! { before: INT8 = tombstones, limit: INT8 = limit })
        .await?;
    let outlived =
        db.write(Fate::Repeat, &db.sql.outlive, args! { before: INT8 = keys, limit: INT8 = limit }).await?;
    db.write(Fate::Repeat, &db.sql.forget, args! { limit: INT8 = limit }).await?;
    let left = told(&db.read(&db.sql.left, args! {}).await?, "anything")?;
    Ok(left || expired.len() == limits::TIDY_MAX_ROWS || outlived.len() == limits::TIDY_MAX_ROWS)
}
