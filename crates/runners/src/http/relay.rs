//! Relay: the bytes of an answer become events.
//!
//! Decides: what an event of the endpoint is, by the media type of its answer, and which one ends the stream, says that
//! the endpoint has failed, or is the final value. Data that are JSON are kept as the text that came and other data as
//! text, so that a viewer who asks for them raw gets back what the endpoint sent. Never holds more than one event that
//! is not complete and what is complete in one small piece, and hands that on before it looks at the next: whoever is
//! faster than the store has to wait.

use soloist::{Context, Data, Error, Failure, Json, limits};
use soloist_wire::sse::{Decoder, Frame, Message, TooLarge};

use super::options::HttpOptions;

/// Bytes that are looked at together: they may be many events, and one of text, in which each may become three.
const PIECE_BYTES: usize = 16 << 10;

/// Whether the stream goes on after an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    On,
    /// The event was the one that ends it well.
    Over,
}

/// Whether the end of a body tells itself from a connection that broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// By a length or a last chunk.
    Told,
    /// By nothing but the end of the connection.
    ByClose,
}

/// Hands events on, and knows what they come to.
pub(super) struct Relay<'a> {
    context: &'a Context,
    options: &'a HttpOptions,
    body: Body,
    last: Option<Data>,
}

/// An answer that is being read, by its media type.
enum Body {
    /// `text/event-stream`.
    Events { decoder: Decoder, frames: Vec<Frame> },
    /// Lines of JSON.
    Lines(Vec<u8>),
    /// One JSON text.
    Document(Vec<u8>),
    /// Any other text, with the beginning of a character that is not complete.
    Text(Vec<u8>),
}

impl<'a> Relay<'a> {
    /// The relay for an answer of that media type (none where the answer names none), or why there is none.
    pub(super) fn new(
        context: &'a Context,
        options: &'a HttpOptions,
        media_type: &str,
    ) -> Result<Self, Failure> {
        let essence = media_type.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
        let body = match essence.as_str() {
            "text/event-stream" => {
                // Its name and its type stand beside the data of a frame.
                let most = limits::EVENT_DATA_MAX_BYTES + 2 * limits::EVENT_TYPE_MAX_BYTES;
                Body::Events { decoder: Decoder::bounded(most), frames: Vec::new() }
            }
            "application/x-ndjson"
            | "application/ndjson"
            | "application/jsonl"
            | "application/x-jsonlines" => Body::Lines(Vec::new()),
            json if json == "application/json" || json.ends_with("+json") => Body::Document(Vec::new()),
            text if text.is_empty() || text.starts_with("text/") || text.ends_with("xml") => {
                Body::Text(Vec::new())
            }
            "application/javascript" | "application/x-www-form-urlencoded" => Body::Text(Vec::new()),
            other => {
                return Err(Failure::new(
                    "HttpContent",
                    format!("the endpoint answered with {other:?}, which is no text; it should stream text/event-stream"),
                )
                .is_final());
            }
        };
        Ok(Self { context, options, body, last: None })
    }

    /// Takes the next bytes, which may be as many as the sockets hold.
    pub(super) async fn take(&mut self, chunk: &[u8]) -> Result<Flow, Failure> {
        for piece in chunk.chunks(PIECE_BYTES) {
            if self.take_piece(piece).await? == Flow::Over {
                return Ok(Flow::Over);
            }
        }
        Ok(Flow::On)
    }

    async fn take_piece(&mut self, chunk: &[u8]) -> Result<Flow, Failure> {
        match &mut self.body {
            Body::Events { decoder, frames } => {
                let fits = decoder.feed(chunk, frames);
                for frame in std::mem::take(frames) {
                    // A comment keeps a connection alive, and when to come back is for who has lost one.
                    let Frame::Event(message) = frame else { continue };
                    if self.message(message).await? == Flow::Over {
                        return Ok(Flow::Over);
                    }
                }
                fits.map_err(|TooLarge { .. }| too_large())?;
            }
            Body::Lines(line) => {
                let mut begun = std::mem::take(line);
                let mut rest = chunk;
                while let Some(end) = memchr::memchr(b'\n', rest) {
                    append(&mut begun, &rest[..end])?;
                    rest = &rest[end + 1..];
                    if self.line(&begun).await? == Flow::Over {
                        return Ok(Flow::Over);
                    }
                    begun.clear();
                }
                append(&mut begun, rest)?;
                self.body = Body::Lines(begun);
            }
            Body::Document(document) => append(document, chunk)?,
            Body::Text(begun) => {
                begun.extend_from_slice(chunk);
                let text = complete_text(begun);
                return self.text(&text).await;
            }
        }
        Ok(Flow::On)
    }

    /// The body is over. What is left of it counts as far as its media type says so.
    pub(super) async fn finish(&mut self, end: End) -> Result<Flow, Failure> {
        match std::mem::replace(&mut self.body, Body::Text(Vec::new())) {
            // An event without its blank line is none: so says the HTML standard. Where a broken connection looks the same,
            // it is taken for one.
            Body::Events { decoder, .. } if decoder.is_within_event() && end == End::ByClose => Err(cut_off(
                "the connection ended within an event, and nothing tells this from a connection that broke",
            )),
            Body::Events { .. } => Ok(Flow::On),
            Body::Lines(rest) | Body::Document(rest) if end == End::ByClose && is_beginning(&rest) => {
                Err(cut_off("the connection ended within JSON"))
            }
            Body::Lines(line) => self.line(&line).await,
            Body::Document(document) if document.is_empty() => Ok(Flow::On),
            Body::Document(document) => {
                let text = String::from_utf8_lossy(&document);
                self.plain("message", Data::of_text(&text)).await
            }
            Body::Text(begun) => self.text(&String::from_utf8_lossy(&begun)).await,
        }
    }

    /// What the events come to: the final value.
    pub(super) fn value(self) -> Result<Json, Failure> {
        match self.last {
            Some(Data::Json(json)) => Ok(json),
            Some(Data::Text(text)) => Ok(Json::of(&*text)?),
            None => Ok(Json::null()),
        }
    }

    async fn message(&mut self, message: Message) -> Result<Flow, Failure> {
        let mut data = Data::of_text(&message.data);
        if let (Some(name), Some(id), Data::Json(json)) = (&self.options.event_id_field, &message.id, &data)
            && let Some(object) = json.as_str().trim_end().strip_suffix('}').filter(|_| json.is_object())
        {
            let comma = if object.trim() == "{" { "" } else { "," };
            let (name, id) = (Json::of(name)?, Json::of(id)?);
            data = Data::of_text(&format!("{object}{comma}{}:{}}}", name.as_str(), id.as_str()));
        }
        let is_terminal = self.options.terminal_data.as_ref() == Some(&message.data);
        self.event(&message.event_type, data, is_terminal).await
    }

    /// An event whose data are as they came.
    async fn plain(&mut self, event_type: &str, data: Data) -> Result<Flow, Failure> {
        let is_terminal = self.options.terminal_data.as_deref() == Some(data.as_str());
        self.event(event_type, data, is_terminal).await
    }

    async fn line(&mut self, line: &[u8]) -> Result<Flow, Failure> {
        let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line));
        if line.trim().is_empty() {
            return Ok(Flow::On);
        }
        self.plain("message", Data::of_text(&line)).await
    }

    async fn text(&mut self, text: &str) -> Result<Flow, Failure> {
        if text.is_empty() {
            return Ok(Flow::On);
        }
        self.plain("output", Data::Text(text.into())).await
    }

    /// One event of the endpoint, and whether its data are the mark at the end.
    async fn event(&mut self, event_type: &str, data: Data, is_terminal: bool) -> Result<Flow, Failure> {
        self.context.send(event_type, data.clone()).await.map_err(|error| match error {
            Error::LimitReached { .. } => too_large(),
            Error::Invalid { .. } => Failure::new(
                "HttpContent",
                format!("the endpoint sent an event whose type {event_type:?} is not allowed: {error}"),
            )
            .is_final(),
            error => error.into(),
        })?;
        let is = |name: &Option<String>| name.as_deref() == Some(event_type);
        if is(&self.options.error_event) {
            return Err(said_by_endpoint(&data));
        }
        if is_terminal {
            return Ok(Flow::Over);
        }
        if self.options.final_event.is_none() || is(&self.options.final_event) {
            self.last = Some(data);
        }
        Ok(if is(&self.options.terminal_event) { Flow::Over } else { Flow::On })
    }
}

/// Takes what is complete of a text and leaves the beginning of a character. What can never be one is replaced.
fn complete_text(begun: &mut Vec<u8>) -> String {
    let incomplete = begun.utf8_chunks().last().map_or(0, |last| {
        let invalid = last.invalid();
        let may_go_on = std::str::from_utf8(invalid).is_err_and(|error| error.error_len().is_none());
        if may_go_on { invalid.len() } else { 0 }
    });
    let rest = begun.split_off(begun.len() - incomplete);
    String::from_utf8_lossy(&std::mem::replace(begun, rest)).into_owned()
}

/// Whether a text is JSON that is not complete.
fn is_beginning(text: &[u8]) -> bool {
    !text.trim_ascii().is_empty()
        && serde_json::from_slice::<serde::de::IgnoredAny>(text).is_err_and(|error| error.is_eof())
}

fn append(begun: &mut Vec<u8>, more: &[u8]) -> Result<(), Failure> {
    // The CR at the end of a line is none of its data.
    if begun.len() + more.len() > limits::EVENT_DATA_MAX_BYTES + 1 {
        return Err(too_large());
    }
    begun.extend_from_slice(more);
    Ok(())
}

fn too_large() -> Failure {
    let max = limits::EVENT_DATA_MAX_BYTES;
    Failure::new(
        "HttpTooLarge",
        format!("the endpoint sent an event of more than {max} bytes; let it send what is large in parts"),
    )
}

/// The stream is over before its end.
pub(super) fn cut_off(how: &str) -> Failure {
    Failure::new("HttpCutOff", format!("the answer was cut off before its end: {how}"))
}

/// The endpoint's own words, where its error says any in one of the usual places.
fn said_by_endpoint(data: &Data) -> Failure {
    let value = match data {
        Data::Json(json) => json.read::<serde_json::Value>().unwrap_or_default(),
        Data::Text(text) => serde_json::Value::String(text.to_string()),
    };
    let places = ["/message", "/error/message", "/error", "/detail", ""];
    let said = places.iter().find_map(|place| value.pointer(place)?.as_str()).filter(|said| !said.is_empty());
    let said = said.unwrap_or("the endpoint sent an event that says that it has failed");
    Failure::new("HttpEndpoint", limits::cut(said, limits::HTTP_SAID_MAX_BYTES))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn text_comes_through_whole_however_it_is_cut(
            bytes in prop_oneof![
                "\\PC{0,40}".prop_map(String::into_bytes),
                proptest::collection::vec(any::<u8>(), 0..60),
            ],
            cuts in proptest::collection::vec(1_usize..7, 1..20),
        ) {
            let (mut begun, mut text, mut rest) = (Vec::new(), String::new(), &*bytes);
            for cut in cuts.iter().cycle() {
                let (chunk, after) = rest.split_at((*cut).min(rest.len()));
                begun.extend_from_slice(chunk);
                text.push_str(&complete_text(&mut begun));
                prop_assert!(begun.len() < 4);
                rest = after;
                if rest.is_empty() {
                    break;
                }
            }
            text.push_str(&String::from_utf8_lossy(&begun));
            prop_assert_eq!(text, String::from_utf8_lossy(&bytes));
        }
    }

    #[test]
    fn an_error_is_told_in_the_words_of_the_endpoint() {
        for (data, said) in [
            (r#"{"message":"a"}"#, "a"),
            (r#"{"type":"error","error":{"type":"overloaded_error","message":"b"}}"#, "b"),
            (r#"{"error":"c"}"#, "c"),
            (r#"{"detail":"d"}"#, "d"),
            (r#""e""#, "e"),
            ("f!", "f!"),
            ("", "the endpoint sent an event that says that it has failed"),
            ("{}", "the endpoint sent an event that says that it has failed"),
        ] {
            assert_eq!(said_by_endpoint(&Data::of_text(data)).message, said);
        }
    }
}
