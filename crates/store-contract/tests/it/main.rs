//! The memory store keeps every promise, and the suite itself can fail.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod broken;
mod memory;
mod suite;
