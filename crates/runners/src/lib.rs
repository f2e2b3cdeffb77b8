//! What Soloist runs besides your own Rust types.
//!
//! [`exec`] runs a command for each attempt and turns its output into events, and [`guard`] sees to it that nothing of
//! a command is left behind; [`http`] calls an endpoint that streams and relays its events; [`demo`] holds a few native
//! models that show (and measure) what Soloist does. None of them knows routes, stores or the rules of a run: they are
//! given a [`soloist::Context`] and return a value or a failure.
//!
//! Unsafe code is forbidden in every module but one within [`guard`], which argues for each use of it.

#[forbid(unsafe_code)]
pub mod demo;
#[forbid(unsafe_code)]
pub mod exec;
pub mod guard;
#[forbid(unsafe_code)]
pub mod http;
#[forbid(unsafe_code)]
mod options;
#[forbid(unsafe_code)]
mod template;

pub use self::options::OptionError;
