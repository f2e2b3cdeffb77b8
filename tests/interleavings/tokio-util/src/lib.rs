//! What the product uses of tokio-util, as the scheduler of the interleavings runs it: its own tokens and trackers, with
//! a place at each step where another task may go on.

#![forbid(unsafe_code)]

pub mod sync;
pub mod task;
