//! The queries that clear away what is of no use.
//!
//! Decides: how much one step removes, so that it holds up nobody; and how old is old. Every node tidies up, and passes by
//! what another one has locked.

use std::time::Duration;

use soloist::{Key, Timestamp, fault, limits, store::Prune};

use super::{int, read::told};
use crate::{
    db::{Db, Fate},
    error::SqlResult,
    rows,
    sql::args,
};

/// Deletes some tasks that ended long ago, each with its number. Not sent again where the answer is lost: it would delete
/// others, and nobody would name the first.
pub(crate) async fn prune(db: &Db, request: &Prune, at: Timestamp) -> SqlResult<Vec<(Key, i64)>> {
    let (app, model, status) = (request.model.app(), request.model.model(), request.status.as_str());
    fault::point("postgres:prune-before");
    let gone = db
        .write(
            Fate::Once,
            &db.sql.prune,
            args! {
                app: TEXT = app, model: TEXT = model, status: TEXT = status, before: INT8 = request.before.as_micros(),
                limit: INT8 = int(request.limit), at: INT8 = at.as_micros(),
            },
        )
        .await?;
    if !gone.is_empty() {
        fault::point("postgres:prune-after");
    }
    gone.iter().map(|row| Ok((rows::key(row)?, rows::get(row, "number")?))).collect()
}

/// Clears away one step's worth. True where there is more.
pub(crate) async fn tidy(db: &Db, at: Timestamp) -> SqlResult<bool> {
    let (limit, batches) = (int(limits::TIDY_MAX_ROWS), int(limits::POSTGRES_TIDY_MAX_BATCHES));
    let before = |kept: Duration| at.as_micros().saturating_sub(int(kept.as_micros()));
    db.write(Fate::Repeat, &db.sql.clear, args! { limit: INT8 = batches }).await?;
    fault::point("postgres:tidy-emptied");
    db.write(Fate::Repeat, &db.sql.cleared, args! { limit: INT8 = limit }).await?;
    fault::point("postgres:tidy-cleared");
    let (tombstones, keys) = (before(limits::TOMBSTONE_KEPT), before(limits::IDEMPOTENCY_KEPT));
    let expired = db
        .write(Fate::Repeat, &db.sql.expire, args! { before: INT8 = tombstones, limit: INT8 = limit })
        .await?;
    fault::point("postgres:tidy-expired");
    let outlived =
        db.write(Fate::Repeat, &db.sql.outlive, args! { before: INT8 = keys, limit: INT8 = limit }).await?;
    db.write(Fate::Repeat, &db.sql.forget, args! { limit: INT8 = limit }).await?;
    fault::point("postgres:tidy-forgotten");
    let left = told(&db.read(&db.sql.left, args! {}).await?, "anything")?;
    Ok(left || expired.len() == limits::TIDY_MAX_ROWS || outlived.len() == limits::TIDY_MAX_ROWS)
}
