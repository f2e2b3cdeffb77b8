//! The documents, held to what is really there: every command of the README is run word for word and its output
//! compared, and every file, link and test that a document names must exist.
//!
//! Needs port 8888 (the README uses it), `bash`, `curl` and `cargo`.

#![allow(missing_docs, clippy::unwrap_used)]

mod compare;
mod documents;
mod readme;
mod terminal;
