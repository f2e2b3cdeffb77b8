//! Output: what the lines of a command mean.
//!
//! Decides: which event a line becomes, what of the events is the command's final value, and what of stderr is kept
//! as the traceback of a failure. Nothing here buffers events: a line waits until the one before it was taken, so that
//! a slow store slows the command down through its pipe.
//!
//! | a line of stdout | becomes |
//! | --- | --- |
//! | a JSON object with a string `event` | that event with its `data` as they stand there (none: null) |
//! | another JSON object | a `progress` event with that object |
//! | any other line, and JSON that is cut or nested too deep | an `output` event `{"line": ...}` |
//! | an event that is not allowed (`gap`, a type with CR, LF or NUL, data that are too large) | an `output` event with the line and an `error` that says what is wrong with it |

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use soloist::{Context, Data, Error, Failure, Json, limits};

use super::lines::Line;

const OUTPUT: &str = "output";
const LOG: &str = "log";
const PROGRESS: &str = "progress";
const RESULT: &str = "result";

/// What a command has said so far that its final value may come from.
#[derive(Debug, Default)]
pub(super) struct Final {
    result: Option<Json>,
    last: Option<Json>,
}

impl Final {
    fn saw(&mut self, event_type: &str, data: Json) {
        match event_type {
            OUTPUT | LOG => {}
            RESULT => self.result = Some(data),
            _ => self.last = Some(data),
        }
    }

    /// Whether the command has named its result.
    pub(super) fn is_named(&self) -> bool {
        self.result.is_some()
    }

    /// The data of the last `result` event, else of the last event that was no `output` or `log`, else null.
    pub(super) fn value(self) -> Json {
        self.result.or(self.last).unwrap_or_else(Json::null)
    }
}

/// Sends a line of stdout as the event that it is.
pub(super) async fn send_stdout(line: Line, context: &Context, so_far: &mut Final) -> Result<(), Failure> {
    let Some((event_type, data)) = read_event(&line) else {
        return send_text(OUTPUT, &line, None, context).await;
    };
    match context.send(&event_type, Data::Json(data.clone())).await {
        Ok(()) => so_far.saw(&event_type, data),
        Err(error @ (Error::Invalid { .. } | Error::LimitReached { .. })) => {
            send_text(OUTPUT, &line, Some(error.to_string()), context).await?;
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// Sends a line of stderr.
pub(super) async fn send_stderr(line: Line, context: &Context) -> Result<(), Failure> {
    send_text(LOG, &line, None, context).await
}

async fn send_text(
    event_type: &str,
    line: &Line,
    error: Option<String>,
    context: &Context,
) -> Result<(), Failure> {
    Ok(context.send_event(event_type, &Text::of(line, error)).await?)
}

/// The data of an `output` or `log` event.
#[derive(Debug, Serialize)]
struct Text {
    line: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    truncated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Text {
    fn of(line: &Line, error: Option<String>) -> Self {
        let kept = &line.bytes[..line.bytes.len().min(limits::EXEC_LINE_MAX_BYTES)];
        let truncated = line.truncated || kept.len() < line.bytes.len();
        let mut text = String::from_utf8_lossy(kept).into_owned();
        if truncated && text.ends_with(char::REPLACEMENT_CHARACTER) {
            // The cut went through a character.
            text.pop();
        }
        Self { line: text, truncated, error }
    }
}

/// The event that a line is by itself, if it is one.
fn read_event(line: &Line) -> Option<(String, Json)> {
    #[derive(Deserialize)]
    struct Written<'a> {
        #[serde(borrow)]
        event: Option<&'a RawValue>,
        #[serde(borrow)]
        data: Option<&'a RawValue>,
    }

    // A cheap look first: most lines of most commands are no JSON.
    let begins = line.bytes.iter().find(|byte| !byte.is_ascii_whitespace());
    if line.truncated || begins != Some(&b'{') {
        return None;
    }
    let whole = Json::parse(str::from_utf8(&line.bytes).ok()?).ok()?;
    // An object in which `event` or `data` stand twice names no event.
    if let Ok(Written { event: Some(event), data }) = serde_json::from_str(whole.as_str())
        && let Ok(event_type) = serde_json::from_str::<String>(event.get())
    {
        return Some((event_type, data.map_or_else(Json::null, |data| Json::from_store(data.get()))));
    }
    Some((PROGRESS.to_owned(), whole))
}

/// The end of what was written to stderr, in bounded memory.
#[derive(Debug, Default)]
pub(super) struct Tail {
    bytes: Vec<u8>,
    cut: bool,
}

impl Tail {
    pub(super) fn push(&mut self, chunk: &[u8]) {
        self.bytes.extend_from_slice(chunk);
        // Moved only when there is twice as much as is kept, so that a byte is moved once and not with every chunk.
        if self.bytes.len() > 2 * limits::EXEC_STDERR_TAIL_BYTES {
            self.shorten();
        }
    }

    fn shorten(&mut self) {
        let over = self.bytes.len().saturating_sub(limits::EXEC_STDERR_TAIL_BYTES);
        self.cut |= over > 0;
        self.bytes.drain(..over);
    }

    /// The tail as text, from the beginning of a line where its beginning was cut; none where nothing was written.
    pub(super) fn text(mut self) -> Option<String> {
        self.shorten();
        let whole_lines = match memchr::memchr(b'\n', &self.bytes) {
            Some(end) if self.cut && end + 1 < self.bytes.len() => &self.bytes[end + 1..],
            _ => &self.bytes[..],
        };
        let text = String::from_utf8_lossy(whole_lines);
        let text = text.trim_end();
        (!text.is_empty()).then(|| text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Line {
        Line { bytes: text.as_bytes().to_vec(), truncated: false }
    }

    #[test]
    fn a_json_line_is_the_event_that_it_names_with_the_exact_text_of_its_data() {
        for (text, event_type, data) in [
            (
                r#"{"event":"a","data":{"n": 1.50, "m":12345678901234567890}}"#,
                "a",
                r#"{"n": 1.50, "m":12345678901234567890}"#,
            ),
            (r#" {"data":[1 , 2],"event":"\u0061","more":1} "#, "a", "[1 , 2]"),
            (r#"{"event":"a"}"#, "a", "null"),
            (r#"{"event":"a","data":null}"#, "a", "null"),
            (r#"{"event":1,"data":2}"#, "progress", r#"{"event":1,"data":2}"#),
            (r#"{"step": 1}"#, "progress", r#"{"step": 1}"#),
            (r#"{"event":"a","event":"b"}"#, "progress", r#"{"event":"a","event":"b"}"#),
            ("{}", "progress", "{}"),
        ] {
            let (t, d) = read_event(&line(text)).unwrap();
            assert_eq!((t.as_str(), d.as_str()), (event_type, data), "{text}");
        }
        for text in ["", "x", "[1]", "\"a\"", "1", "{", "{x}", "{} {}", "{\"a\":\"\u{1}\"}"] {
            assert!(read_event(&line(text)).is_none(), "{text}");
        }
        assert!(read_event(&Line { bytes: b"{}".to_vec(), truncated: true }).is_none());
        assert!(read_event(&Line { bytes: b"{\"a\":\"\xff\"}".to_vec(), truncated: false }).is_none());
    }

    #[test]
    fn text_is_repaired_and_a_cut_is_marked() {
        let json = |line: &Line| serde_json::to_string(&Text::of(line, None)).unwrap();
        assert_eq!(json(&line("a \"b\"")), r#"{"line":"a \"b\""}"#);
        assert_eq!(json(&Line { bytes: b"a\xffb".to_vec(), truncated: false }), "{\"line\":\"a\u{fffd}b\"}");
        let long = "\u{20ac}".repeat(limits::EXEC_LINE_MAX_BYTES);
        let text = Text::of(&line(&long), None);
        assert!(text.truncated && text.line.chars().all(|c| c == '\u{20ac}'));
        assert_eq!(text.line.len(), limits::EXEC_LINE_MAX_BYTES / 3 * 3);
    }

    #[test]
    fn the_final_value_is_the_last_result_else_the_last_event_that_was_no_output() {
        let value = |events: &[(&str, &str)]| {
            let mut so_far = Final::default();
            for (event_type, data) in events {
                so_far.saw(event_type, Json::parse(data).unwrap());
            }
            so_far.value().as_str().to_owned()
        };
        assert_eq!(value(&[]), "null");
        assert_eq!(value(&[("output", "1"), ("log", "2")]), "null");
        assert_eq!(value(&[("progress", "1"), ("output", "2")]), "1");
        assert_eq!(value(&[("result", "1"), ("progress", "2")]), "1");
        assert_eq!(value(&[("result", "1"), ("result", "2"), ("complete", "3")]), "2");
        assert_eq!(value(&[("progress", "1"), ("complete", "2")]), "2");
    }

    #[test]
    fn s8_the_tail_of_stderr_is_bounded_and_begins_with_a_line() {
        let mut tail = Tail::default();
        for i in 0..100_000 {
            tail.push(format!("line {i}\n").as_bytes());
            assert!(tail.bytes.len() <= 2 * limits::EXEC_STDERR_TAIL_BYTES + 16);
        }
        let text = tail.text().unwrap();
        assert!(text.starts_with("line ") && text.ends_with("\nline 99999"));
        assert!(
            text.len() <= limits::EXEC_STDERR_TAIL_BYTES && text.len() > limits::EXEC_STDERR_TAIL_BYTES / 2
        );
        assert_eq!(Tail::default().text(), None);
    }
}
