//! The rules of the source.

#![allow(missing_docs, clippy::unwrap_used)]

mod direction;
mod faults;
mod sql;
mod unsafety;
mod words;
