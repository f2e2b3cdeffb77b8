//! The real program: every command against a real server, in a directory of its own.

#![allow(missing_docs, clippy::unwrap_used)]

mod backup;
mod bench;
mod cleanup;
mod commands;
mod configuration;
mod cut;
mod http;
mod lifecycle;
mod program;
mod relaxed;
mod resent;
mod restart;
mod run;
mod serve;
mod several;
mod survivors;
#[path = "../../../runners/tests/it/zoo.rs"]
mod zoo;
