//! The queries, one function a verb: what `src/sql` says, with its parameters and its answer.
//!
//! Decides: nothing; a function that writes runs inside a transaction of the writer, one that reads is one statement.

mod apply;
mod outlive;
mod read;
mod tidy;
mod write;

pub(crate) use apply::apply;
pub(crate) use outlive::{Page, Walk, outlive, outlived};
pub(crate) use read::{
    active, beside, events, held, inbox, list, orphans, owed, serves, signals, task, waiting,
};
pub(crate) use tidy::{dead, forget, prune, tidy};
pub(crate) use write::{claim, claim_queued, create, delete, ripen, signal};

/// A number of ours as SQLite keeps it. What is larger than it can keep lies beyond every row.
pub(crate) fn int(n: impl TryInto<i64>) -> i64 {
    n.try_into().unwrap_or(i64::MAX)
}
