//! The library by its promises, on the memory store.

#![allow(missing_docs, clippy::unwrap_used)]

mod at_once;
mod attempts;
mod faulty;
mod lifecycle;
mod models;
mod nodes;
mod promised;
mod properties;
mod severed;
mod starts;
mod state_table;
mod viewers;
