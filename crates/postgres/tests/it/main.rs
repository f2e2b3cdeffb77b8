//! The store on a real PostgreSQL.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod broken;
mod clock;
mod contract;
mod creates;
mod durability;
mod gathered;
mod groups;
mod interleavings;
mod lanes;
mod lifecycle;
mod open;
mod plans;
mod stage;
mod wake;
