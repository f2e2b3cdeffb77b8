//! The calls, a file a subject.

pub(crate) mod attach;
pub(crate) mod cancel;
pub(crate) mod events;
pub(crate) mod health;
pub(crate) mod openapi;
pub(crate) mod signals;
pub(crate) mod start;
pub(crate) mod stream;
pub(crate) mod tasks;
