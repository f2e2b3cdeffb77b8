//! The store on a real PostgreSQL.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod contract;
mod stage;
