//! Nothing but its tests.

#![forbid(unsafe_code)]
