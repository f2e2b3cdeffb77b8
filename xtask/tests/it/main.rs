//! The rules of the source.

#![allow(missing_docs, clippy::unwrap_used)]

mod direction;
mod sql;
mod words;
