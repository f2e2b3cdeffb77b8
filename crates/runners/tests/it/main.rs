//! What a runner promises, seen through a coordinator: how work ends, what its events are, and that nothing of it is
//! left behind.

#![allow(clippy::unwrap_used)]

mod demo;
mod ends;
mod given;
mod guard;
mod http;
mod output;
mod retries;
mod signals;
mod slow;
mod stop;
mod world;
mod zoo;
