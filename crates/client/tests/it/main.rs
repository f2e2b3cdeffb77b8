//! A client against servers that misbehave on purpose.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod cutting;
mod keyed;
mod poll;
mod stream;
