//! Frames, read.
//!
//! Decides: what the bytes of a stream say, by the rules of the HTML standard for `text/event-stream`, whatever the
//! chunks that they come in. Never holds more than its bound, and reports nothing of a frame that was cut off.

use std::fmt;

use memchr::memchr2;

/// Most bytes that a reader keeps of one unfinished frame, unless told otherwise: 1 MiB of data, each byte of it
/// written as a six-byte escape, and room for the fields around it.
pub const FRAME_MAX_BYTES: usize = 8 << 20;

/// What a stream said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// An event.
    Event(Message),
    /// The time in milliseconds after which to come back once the stream was cut.
    Retry(u64),
    /// A comment; it says that the stream is alive.
    Comment(String),
}

/// An event, as it was read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Message {
    /// The `id` of this very frame, where it has one.
    pub id: Option<String>,
    /// Its type; `message` where the frame names none.
    pub event_type: String,
    /// Its data, the lines joined with LF.
    pub data: String,
}

/// A frame is larger than the reader's bound. The reader is of no use after that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLarge {
    /// The bound.
    pub max_bytes: usize,
}

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a frame of the stream is larger than {} bytes", self.max_bytes)
    }
}

impl std::error::Error for TooLarge {}

/// Reads a stream chunk by chunk.
///
/// ```
/// use soloist_wire::sse::{Decoder, Frame};
/// let mut decoder = Decoder::new();
/// let mut frames = Vec::new();
/// decoder.feed(b"id: 1\nevent: st", &mut frames)?;
/// decoder.feed(b"art\ndata: {}\n\nid: 2\ndata: cut o", &mut frames)?;
/// let [Frame::Event(event)] = &frames[..] else { panic!() };
/// assert_eq!((&*event.event_type, &*event.data), ("start", "{}"));
/// assert_eq!(decoder.last_event_id(), Some("1"));
/// # Ok::<(), soloist_wire::sse::TooLarge>(())
/// ```
#[derive(Debug)]
pub struct Decoder {
    max_bytes: usize,
    line: Vec<u8>,
    start: Start,
    /// The last line ended with CR, so that a LF which follows belongs to it.
    after_cr: bool,
    id: Option<String>,
    event_type: String,
    data: String,
    last_event_id: Option<String>,
}

/// How much of a byte order mark has been seen.
#[derive(Debug, Clone, Copy)]
enum Start {
    Matched(usize),
    Over,
}

const BOM: &[u8] = b"\xEF\xBB\xBF";

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// A reader at the beginning of a stream, bounded by [`FRAME_MAX_BYTES`].
    #[must_use]
    pub fn new() -> Self {
        Self::bounded(FRAME_MAX_BYTES)
    }

    /// A reader that keeps at most so many bytes of an unfinished frame.
    #[must_use]
    pub fn bounded(max_bytes: usize) -> Self {
        Self {
            max_bytes,
            line: Vec::new(),
            start: Start::Matched(0),
            after_cr: false,
            id: None,
            event_type: String::new(),
            data: String::new(),
            last_event_id: None,
        }
    }

    /// The id of the newest complete frame that had one: where to resume.
    #[must_use]
    pub fn last_event_id(&self) -> Option<&str> {
        self.last_event_id.as_deref()
    }

    /// Whether an event has begun that is not complete. At the end of a stream it counts for nothing; where only the end of
    /// the connection says that the stream is over, it tells that it was cut off.
    #[must_use]
    pub fn is_within_event(&self) -> bool {
        !(self.line.is_empty() && self.event_type.is_empty() && self.data.is_empty() && self.id.is_none())
    }

    /// Takes the next bytes and appends what they complete to `frames`.
    ///
    /// # Errors
    /// [`TooLarge`]; what was complete before stands in `frames`.
    pub fn feed(&mut self, chunk: &[u8], frames: &mut Vec<Frame>) -> Result<(), TooLarge> {
        let mut rest = self.skip_bom(chunk);
        while !rest.is_empty() {
            if std::mem::take(&mut self.after_cr) && rest[0] == b'\n' {
                rest = &rest[1..];
                continue;
            }
            let end = memchr2(b'\r', b'\n', rest);
            let part = &rest[..end.unwrap_or(rest.len())];
            if self.kept() + part.len() > self.max_bytes {
                return Err(TooLarge { max_bytes: self.max_bytes });
            }
            self.line.extend_from_slice(part);
            let Some(end) = end else { return Ok(()) };
            self.after_cr = rest[end] == b'\r';
            rest = &rest[end + 1..];
            let line = std::mem::take(&mut self.line);
            self.line(&String::from_utf8_lossy(&line), frames);
            self.line = line;
            self.line.clear();
        }
        Ok(())
    }

    /// How many bytes of the unfinished frame are kept.
    fn kept(&self) -> usize {
        let id = self.id.as_ref().map_or(0, String::len);
        self.line.len() + id + self.event_type.len() + self.data.len()
    }

    /// Passes over one byte order mark at the very beginning, however it is cut.
    fn skip_bom<'a>(&mut self, chunk: &'a [u8]) -> &'a [u8] {
        let Start::Matched(matched) = self.start else { return chunk };
        let wanted = &BOM[matched..];
        let common = chunk.iter().zip(wanted).take_while(|(a, b)| a == b).count();
        if common == wanted.len() {
            self.start = Start::Over;
            &chunk[common..]
        } else if common == chunk.len() {
            self.start = Start::Matched(matched + common);
            &[]
        } else {
            self.start = Start::Over;
            self.line.extend_from_slice(&BOM[..matched]);
            chunk
        }
    }

    fn line(&mut self, line: &str, frames: &mut Vec<Frame>) {
        if line.is_empty() {
            return self.dispatch(frames);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" => frames.push(Frame::Comment(value.to_owned())),
            "event" => value.clone_into(&mut self.event_type),
            "data" => {
                self.data.push_str(value);
                self.data.push('\n');
            }
            "id" if !value.contains('\0') => self.id = Some(value.to_owned()),
            "retry" if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) => {
                frames.extend(value.parse().ok().map(Frame::Retry));
            }
            _ => {}
        }
    }

    /// The blank line: only now does the frame count, and its id with it.
    fn dispatch(&mut self, frames: &mut Vec<Frame>) {
        let id = self.id.take();
        if id.is_some() {
            self.last_event_id.clone_from(&id);
        }
        let mut event_type = std::mem::take(&mut self.event_type);
        let mut data = std::mem::take(&mut self.data);
        if data.pop().is_none() {
            return;
        }
        if event_type.is_empty() {
            event_type.push_str("message");
        }
        frames.push(Frame::Event(Message { id, event_type, data }));
    }
}
