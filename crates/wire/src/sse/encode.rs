//! Frames, written.
//!
//! Decides: the bytes of a frame. An event is encoded without parsing its data: the system's fields are appended to
//! the text of an object before its closing brace. Only where the text may hold one of their names already, it is
//! taken apart, so that the system's fields win and no name stands twice.

use std::{fmt, io::Write as _};

use super::object;
use crate::TaskId;

/// How events are written for a viewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Format {
    /// Data with the system's fields, the type beside them as `event:`.
    #[default]
    Full,
    /// Data as they were sent; no `event:` for the type `message`, which is what a reader takes where none is named.
    Raw,
    /// Data with the system's fields and the type as one of them (`_type`); never an `event:`.
    Message,
}

impl Format {
    /// The word in `?format=`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Raw => "raw",
            Self::Message => "message",
        }
    }

    /// The format of that word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Full, Self::Raw, Self::Message].into_iter().find(|format| format.as_str() == word)
    }
}

/// What an event carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Data<'a> {
    /// The text of valid JSON.
    Json(&'a str),
    /// Any other text.
    Text(&'a str),
}

/// An event to be written.
#[derive(Clone, Copy)]
pub struct Event<'a> {
    /// Its position; the `id` of the frame.
    pub seq: u64,
    /// What tells it from another event that had the same position before a power cut took that one; its `id` is then
    /// `seq-token`.
    pub token: Option<u64>,
    /// The run it belongs to.
    pub run: u64,
    /// Its type, without CR, LF or NUL.
    pub event_type: &'a str,
    /// What it carries.
    pub data: Data<'a>,
    /// When it was sent, as RFC 3339.
    pub timestamp: &'a dyn fmt::Display,
}

/// The task whose events are written: what all its frames have in common, made once.
///
/// ```
/// use soloist_wire::{TaskId, sse::{Data, Event, Format, Source}};
/// let source = Source::new("demo", "ExampleTask", &TaskId::Number(1));
/// let mut out = Vec::new();
/// source.event(&mut out, Format::Full, &Event {
///     seq: 7,
///     token: None,
///     run: 2,
///     event_type: "progress",
///     data: Data::Json(r#"{"step":1}"#),
///     timestamp: &"2026-11-23T12:00:00.123456Z",
/// });
/// assert_eq!(String::from_utf8(out).unwrap(), concat!(
///     "id: 7\nevent: progress\n",
///     r#"data: {"step":1,"_task_id":1,"_app":"demo","_model":"ExampleTask","_run":2,"#,
///     r#""_timestamp":"2026-11-23T12:00:00.123456Z"}"#, "\n\n",
/// ));
/// ```
#[derive(Debug, Clone)]
pub struct Source {
    /// `"_task_id":1,"_app":"demo","_model":"ExampleTask"`
    fields: String,
}

impl Source {
    /// The task `id` of `app/model`.
    #[must_use]
    pub fn new(app: &str, model: &str, id: &TaskId) -> Self {
        let id = match id {
            TaskId::Number(number) => number.to_string(),
            TaskId::Text(text) => object::string(text),
        };
        let (app, model) = (object::string(app), object::string(model));
        Self { fields: format!(r#""_task_id":{id},"_app":{app},"_model":{model}"#) }
    }

    /// Appends the frame of an event.
    pub fn event(&self, out: &mut Vec<u8>, format: Format, event: &Event<'_>) {
        match event.token {
            Some(token) => put(out, format_args!("id: {}-{token}\n", event.seq)),
            None => put(out, format_args!("id: {}\n", event.seq)),
        }
        type_line(out, format, event.event_type);
        if format == Format::Raw {
            let (Data::Json(text) | Data::Text(text)) = event.data;
            lines(out, text);
        } else {
            out.extend_from_slice(b"data: ");
            object::open(out, event.data, format == Format::Message);
            put(
                out,
                format_args!(r#"{},"_run":{},"_timestamp":"{}""#, self.fields, event.run, event.timestamp),
            );
            close(out, format, event.event_type);
        }
        out.push(b'\n');
    }

    /// Appends the frame that announces that events are missing before `first_seq`. It has no `id`, so that a viewer
    /// which is cut off right after it asks again from where it really was.
    pub fn gap(&self, out: &mut Vec<u8>, format: Format, reason: &str, first_seq: u64) {
        type_line(out, format, "gap");
        put(out, format_args!(r#"data: {{"reason":{},"first_seq":{first_seq}"#, object::string(reason)));
        if format == Format::Raw {
            out.extend_from_slice(b"}\n");
        } else {
            put(out, format_args!(",{}", self.fields));
            close(out, format, "gap");
        }
        out.push(b'\n');
    }
}

/// Appends the time after which a reader comes back once the stream was cut.
pub fn retry(out: &mut Vec<u8>, milliseconds: u64) {
    put(out, format_args!("retry: {milliseconds}\n\n"));
}

/// Appends a comment, which readers pass over. It stands on one line, whatever it holds.
pub fn comment(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(b": ");
    out.extend(text.bytes().map(|b| if matches!(b, b'\r' | b'\n') { b' ' } else { b }));
    out.extend_from_slice(b"\n\n");
}

fn type_line(out: &mut Vec<u8>, format: Format, event_type: &str) {
    let named = match format {
        Format::Full => true,
        Format::Raw => event_type != "message",
        Format::Message => false,
    };
    if named {
        // A reader strips one space after the colon, so a type that begins with a space keeps its own.
        put(out, format_args!("event: {event_type}\n"));
    }
}

fn close(out: &mut Vec<u8>, format: Format, event_type: &str) {
    if format == Format::Message {
        put(out, format_args!(r#","_type":{}"#, object::string(event_type)));
    }
    out.extend_from_slice(b"}\n");
}

/// One `data:` line for each line of a text, cut at LF, CR and CRLF; a reader joins them with LF.
fn lines(out: &mut Vec<u8>, text: &str) {
    let mut rest = text.as_bytes();
    loop {
        out.extend_from_slice(b"data: ");
        let end = rest.iter().position(|b| matches!(b, b'\r' | b'\n'));
        out.extend_from_slice(&rest[..end.unwrap_or(rest.len())]);
        out.push(b'\n');
        let Some(end) = end else { return };
        let cut = if rest[end..].starts_with(b"\r\n") { 2 } else { 1 };
        rest = &rest[end + cut..];
    }
}

fn put(out: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing into memory does not fail");
}
