//! What several tasks do at once, under schedulers that choose who goes on at each step.
//!
//! The library is compiled here from its own sources, with other locks, channels, tasks and time (see `Cargo.toml`). A
//! scenario is one promise; it runs under thousands of schedules, and one that breaks it is printed and can be repeated.

#![allow(missing_docs, clippy::unwrap_used)]

#[allow(dead_code)]
#[path = "../../../../crates/store-contract/src/line.rs"]
mod line;

mod schedules;
mod world;

mod endings;
mod linger;
mod nodes;
mod parts;
mod shutdown;
mod starts;
mod viewers;
