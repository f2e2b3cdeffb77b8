//! Measures a Soloist server from outside, as `soloist bench` does.
//!
//! Decides: what is measured, how, and what must be true of the answers while it is. The load goes over raw sockets to a
//! server process; nothing here knows the core, a store, or an HTTP library, so that a figure is that of the server and
//! not of the client. An answer that breaks a promise ends the measurement: a wrong server has no figures.

#![forbid(unsafe_code)]

pub mod burst;
mod control;
pub mod error;
pub mod events;
pub mod fanout;
pub mod floor;
pub mod http;
pub mod latency;
pub mod load;
pub mod machine;
pub mod replay;
pub mod report;
pub mod server;
pub mod start;
pub mod takeover;
pub mod viewers;

pub use error::{Error, Result};
