//! What Soloist runs besides your own Rust types.
//!
//! [`exec`] runs a command for each attempt and turns its output into events, and [`guard`] sees to it that nothing of
//! a command is left behind; [`demo`] holds a few native models that show (and measure) what Soloist does. Neither
//! knows HTTP routes, stores or the rules of a run: they are given a [`soloist::Context`] and return a value or
//! a failure.

pub mod demo;
pub mod exec;
pub mod guard;
