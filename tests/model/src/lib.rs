//! The protocol as a model: a store, two or three processes, and every order in which their steps can come.
//!
//! # What is modelled
//!
//! - **The record** (`record.rs`): one task's row and log, the rows of the nodes, one idempotency key. Every verb asks the
//!   product: [`soloist::store::guard`] (`lost_claim`, `takes_from_queue`, `repeated`, `renews`, `buries`, `is_orphaned`,
//!   `well_formed`, `admits`, `refused`) and [`soloist::state::next`], with the product's own rows, requests and transitions.
//!   The contract suite holds each SQL statement to the same functions.
//! - **Processes** (`process.rs`, `steps.rs`): when the last good heartbeat was sent, and what [`soloist::lease::Stage`] makes
//!   of that; the start, the claim from the queue, the write and the heartbeat under way, each sent, carried out and
//!   answered in steps of their own; the run that it holds, by its own knowledge; the orphan that it has seen; the
//!   comparison of the record with what runs here. As `crates/soloist/src/coordinator` does it.
//! - **What goes wrong**: a process does nothing for any time (no step has to come before the clock moves on), crashes, starts
//!   again under a fresh name, shuts down; a connection breaks before a request has come through, after its commit, or so
//!   that it lands when nobody waits for it; the request is then sent again or given up; a heartbeat is lost; the store's
//!   clock jumps.
//! - **Time** has no end: leases are kept as what is left of them, in ticks (2, or 4 where heartbeats are late).
//!
//! # What is checked
//!
//! The promises (`promises.rs`) hold in every state that can be reached, and what the model is about is seen somewhere. And from
//! every such state a run comes to its end when nothing adverse happens any more (`ways.rs`, which says what that means).
//! Each rule of `rules.rs` is broken once, and the property that it stands for finds it out.
//!
//! # Bounds
//!
//! Two processes: each play of `tests/model.rs` completely, within the faults, starts and epochs that it names (1 or 2 starts,
//! 2 runs, at most 8 events, 1 broken connection or crash at a time of its own choice, any number of absences where epochs
//! are bounded, or one where they are not). Three processes: breadth first, up to a number of states. States that differ in
//! the names of alike processes only, or in requests that are refused for ever, are one.
//!
//! # What is not
//!
//! More than one task and model (so no `max_concurrent`, no order of the queue), waits before a retry, `after` and the runs
//! that are owed, signals, deletes, viewers, several writes of one batch, a clock of the store that is set back, and what
//! happens inside a statement: that each is atomic is for the interleavings of the stores to show. A process that sees
//! its lease run out does the rest at its own pace; the model says only when the store may take it for dead. A heartbeat
//! that lands for a session that is over already is taken for lost.

#![forbid(unsafe_code)]
#![allow(missing_docs)]

pub mod process;
pub mod promises;
pub mod record;
pub mod rules;
pub mod steps;
pub mod ways;
