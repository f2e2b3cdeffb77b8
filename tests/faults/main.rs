//! `kill -9` at every step of the core and of its stores, beside a server that lives on or alone: all that was promised
//! holds.
//!
//! A server of a build with fault points joins a store, is given work, and kills itself at one place. Requests whose
//! answers are lost are sent again; viewers resume. At the end an independent checker holds the store against everything
//! that anybody was told. Each place is one test's, and places and passes that a seed has chosen are another's.
#![allow(missing_docs, clippy::unwrap_used)]

mod each;
mod field;
mod play;
mod seeded;
mod upgrade;

use std::path::PathBuf;

/// The program; with the whole workspace it is built with fault points.
fn program() -> PathBuf {
    system_tests::binary()
}
