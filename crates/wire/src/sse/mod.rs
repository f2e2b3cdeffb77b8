//! Server-Sent Events: frames, written ([`Source`]) and read ([`Decoder`]).
//!
//! Decides: how an event looks on a stream, in each [`Format`]. Never decides which events a viewer gets.

mod decode;
mod encode;
mod object;

pub use decode::{Decoder, FRAME_MAX_BYTES, Frame, Message, TooLarge};
pub use encode::{Data, Event, Format, Source, comment, retry};

/// The media type of a stream.
pub const MEDIA_TYPE: &str = "text/event-stream";

#[cfg(test)]
mod properties;
#[cfg(test)]
mod standard;
#[cfg(test)]
mod tests;
