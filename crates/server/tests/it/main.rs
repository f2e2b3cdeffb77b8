//! The HTTP server, over real connections.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod attach;
mod bad_input;
mod calls;
mod client;
mod guards;
mod lifecycle;
mod models;
mod nested;
mod poll;
mod races;
mod rest;
mod server;
mod stop;
mod store_away;
mod streams;
mod viewers;
