//! Scenarios of parts that have no way in from outside; compiled into the library for these tests alone.

pub mod pipeline;
pub mod window;
