//! What a user of the server relies on, held to the built program.
#![allow(missing_docs, clippy::unwrap_used)]

mod backup;
mod clock;
mod crash;
mod full;
mod lifecycle;
mod memory;
mod viewers;
