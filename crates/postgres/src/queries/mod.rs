//! The queries: which statement answers a verb, and how its rows are worded.
//!
//! Decides: nothing about tasks. The compare stands in the `WHERE` of the statement that sets; where none matched, the row
//! is read with a snapshot of its own, and [`soloist::store::guard`] says why.

pub(crate) mod apply;
mod claim;
mod read;
mod tidy;
mod write;

pub(crate) use claim::{claim, claim_queued};
pub(crate) use read::{active, events, held, inbox, list, orphans, queued, rows, serves, signals, task};
pub(crate) use tidy::tidy;
pub(crate) use write::{create, delete, signal};

/// A number as PostgreSQL keeps it.
pub(crate) fn int(n: impl TryInto<i64>) -> i64 {
    n.try_into().unwrap_or(i64::MAX)
}

/// A small one.
pub(crate) fn small(n: u32) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}
