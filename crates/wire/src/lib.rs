//! What the server and its clients say to each other.
//!
//! Decides: the JSON bodies of every call, the stable codes of problems, and the frames of an event stream, encoded
//! and decoded. Knows neither the library nor HTTP, so that a client is built from this crate alone; the server's
//! `convert.rs` is the one bridge between these types and those of the library. JSON that belongs to users (inputs,
//! final values, data) travels as the text that came, never through numbers that round.

#![forbid(unsafe_code)]

pub mod call;
pub mod event;
pub mod problem;
pub mod sse;
pub mod task;

pub use call::{
    CancelAnswer, CancelBody, CancelledAnswer, FinishedAnswer, Health, Policy, SignalAnswer, StartAnswer,
    StartBody, StatsBody, TaskId,
};
pub use event::{EventRecord, EventsPage};
pub use problem::{Code, Problem};
pub use task::{CreateBody, TaskRecord, TasksPage};

/// JSON as the text that came.
pub type RawJson = Box<serde_json::value::RawValue>;
