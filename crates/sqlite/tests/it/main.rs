//! The SQLite store keeps every promise of the suite, and what is particular to files.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod child;
mod contract;
mod crash;
mod full;
mod nodes;
mod open;
mod relaxed;
mod room;
mod sql;
