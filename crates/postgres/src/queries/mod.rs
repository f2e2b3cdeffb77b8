//! The queries: which statement answers a verb, and how its rows are worded.
//!
//! Decides: nothing about tasks. The compare stands in the `WHERE` of the statement that sets; where none matched, the row
//! is read with a snapshot of its own, and [`soloist::store::guard`] says why.

pub(crate) mod apply;
mod claim;
mod read;
mod slots;
mod tidy;
mod write;

pub(crate) use claim::{Claiming, claim, claim_queued};
pub(crate) use read::{
    Looking, Reading, active, beside, events, held, inbox, list, orphans, owed, rows, serves, signals, task,
    task_in_queue, waiting,
};
pub(crate) use slots::{Slots, make};
pub(crate) use tidy::{prune, tidy};
pub(crate) use write::{Creating, create, create_claimed, delete, ripen, signal};

/// A number as PostgreSQL keeps it.
pub(crate) fn int(n: impl TryInto<i64>) -> i64 {
    n.try_into().unwrap_or(i64::MAX)
}

/// A small one.
pub(crate) fn small(n: u32) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}
