//! Events: what a run says, and what the system says of it.
//!
//! Decides: which types and data are allowed, what the system's own events hold, and how a batch of events is kept in
//! memory so that each is encoded once however many viewers it has. Never decides a `seq`: the holder of the run does
//! (or, for an event that ends a run without its holder, the store).

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::{
    Error, Failure, Json, Result, Timestamp, limits,
    state::Status,
    task::{Epoch, Run, Seq},
};

/// The type of an event: 1 to [`limits::EVENT_TYPE_MAX_BYTES`] bytes without CR, LF or NUL. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventType(Arc<str>);

impl EventType {
    /// Checks a type.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the code `invalid_event_type`.
    pub fn new(text: &str) -> Result<Self> {
        if text.is_empty() || text.len() > limits::EVENT_TYPE_MAX_BYTES || text.contains(['\r', '\n', '\0']) {
            return Err(Error::invalid(
                "invalid_event_type",
                format!("an event type has 1 to {} bytes and no CR, LF or NUL", limits::EVENT_TYPE_MAX_BYTES),
            ));
        }
        Ok(Self(text.into()))
    }

    /// A type that a store gives back; it was checked before it went in.
    #[must_use]
    pub fn from_store(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this type ends a run: `complete`, `error` or `cancelled`. In a log only the system writes them, as the
    /// last event of a run; what work sends under such a type is held back and becomes part of that event.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        matches!(&*self.0, COMPLETE | ERROR | CANCELLED)
    }
}

impl fmt::Debug for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The terminal event of a completed run.
pub const COMPLETE: &str = "complete";
/// The terminal event of a failed run.
pub const ERROR: &str = "error";
/// The terminal event of a cancelled run.
pub const CANCELLED: &str = "cancelled";
/// Says that a run goes on with another attempt.
pub const RETRY: &str = "retry";
/// Says that the time of an attempt or of its run is over.
pub const TIMEOUT: &str = "timeout";
/// Announces that events cannot be resumed exactly; never in a log, and not for work to send.
pub const GAP: &str = "gap";

/// What an event carries. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub enum Data {
    /// JSON, as the text that came.
    Json(Json),
    /// Any other text.
    Text(Arc<str>),
}

impl Data {
    /// JSON where the text is JSON, as it is written, with the white space around it; else text.
    ///
    /// ```
    /// use soloist::Data;
    /// assert!(matches!(Data::of_text(" [1.50] "), Data::Json(json) if json.as_str() == " [1.50] "));
    /// assert!(matches!(Data::of_text("[DONE]"), Data::Text(_)));
    /// ```
    #[must_use]
    pub fn of_text(text: &str) -> Self {
        Json::verbatim(text).map_or_else(|_| Self::Text(text.into()), Self::Json)
    }

    /// The text, JSON or not.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Json(json) => json.as_str(),
            Self::Text(text) => text,
        }
    }
}

impl fmt::Debug for Data {
    /// Only the length: payloads never reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(json) => json.fmt(f),
            Self::Text(text) => write!(f, "Text({} bytes)", text.len()),
        }
    }
}

/// An event that has no place in the log yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// Its type.
    pub event_type: EventType,
    /// What it carries.
    pub data: Data,
    /// When it was sent.
    pub timestamp: Timestamp,
}

impl NewEvent {
    /// Checks and takes an event. A top-level field `_system` is taken off its data: it marks the system's own events.
    ///
    /// # Errors
    /// [`Error::LimitReached`] where the data are larger than [`limits::EVENT_DATA_MAX_BYTES`]; [`Error::Invalid`]
    /// with `invalid_event_type` where the type is not allowed to work (`gap`, or malformed).
    pub fn from_work(event_type: &str, data: Data, timestamp: Timestamp) -> Result<Self> {
        if event_type == GAP {
            return Err(Error::invalid("invalid_event_type", "the type \"gap\" is kept for the system"));
        }
        let bytes = data.as_str().len();
        if bytes > limits::EVENT_DATA_MAX_BYTES {
            return Err(Error::too_large("the event's data", bytes, limits::EVENT_DATA_MAX_BYTES));
        }
        Ok(Self { event_type: EventType::new(event_type)?, data: without_mark(data), timestamp })
    }

    /// Gives the event its place in the log.
    #[must_use]
    pub fn at(self, seq: Seq, run: Run, epoch: Epoch) -> Event {
        Event { seq, run, epoch, event_type: self.event_type, data: self.data, timestamp: self.timestamp }
    }
}

/// The fields of an object, each as its text; none where it is none (or its keys cannot be read).
fn fields_of(json: &Json) -> Option<BTreeMap<String, Json>> {
    let fields: BTreeMap<String, &RawValue> = serde_json::from_str(json.as_str()).ok()?;
    Some(fields.into_iter().map(|(name, value)| (name, Json::from_store(value.get()))).collect())
}

/// The mark of the system's own events, taken off where work has put it on its data.
fn without_mark(data: Data) -> Data {
    let Data::Json(json) = &data else { return data };
    // Looked into only where the name can be in there, in plain or written with escapes.
    if !(json.is_object() && (json.as_str().contains("_system") || json.as_str().contains("\\u"))) {
        return data;
    }
    let Some(mut fields) = fields_of(json) else { return data };
    if fields.remove("_system").is_some() { Data::Json(object(fields.iter())) } else { data }
}

/// An object of these fields, their values as they are written.
fn object<'a>(fields: impl Iterator<Item = (&'a String, &'a Json)>) -> Json {
    let fields: Vec<String> =
        fields.map(|(name, value)| format!("{}:{}", json_text(name).as_str(), value.as_str())).collect();
    Json::from_store(format!("{{{}}}", fields.join(",")))
}

/// An event in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its position in the task's log: dense, never reused, continues across runs.
    pub seq: Seq,
    /// The run it belongs to.
    pub run: Run,
    /// The epoch under which it was written.
    pub epoch: Epoch,
    /// Its type.
    pub event_type: EventType,
    /// What it carries.
    pub data: Data,
    /// When it was sent.
    pub timestamp: Timestamp,
}

/// The event that says that a run goes on with another attempt: which, when, and why the last one ended.
#[must_use]
pub fn retry(
    attempt: u32,
    max_retries: u32,
    delay: Duration,
    failure: &crate::Failure,
    timestamp: Timestamp,
) -> NewEvent {
    // In whole milliseconds, without a fraction where there is none.
    let delay = Json::of(&(delay.as_millis() as f64 / 1_000.0)).expect("a number is JSON");
    let delay = delay.as_str().trim_end_matches(".0");
    let text = format!(
        r#"{{"attempt":{attempt},"max_retries":{max_retries},"delay_seconds":{delay},"error_type":{},"error":{},"_system":true}}"#,
        json_text(&failure.error_type).as_str(),
        json_text(&failure.message).as_str()
    );
    NewEvent { event_type: EventType(RETRY.into()), data: Data::Json(Json::from_store(text)), timestamp }
}

/// The event that says that the time of an attempt or of its run is over.
#[must_use]
pub fn timeout(reason: &str, timestamp: Timestamp) -> NewEvent {
    let text = format!(r#"{{"message":{},"_system":true}}"#, json_text(reason).as_str());
    NewEvent { event_type: EventType(TIMEOUT.into()), data: Data::Json(Json::from_store(text)), timestamp }
}

/// The one terminal event of a run: the system's fields, over those of the event of a terminal type that the work
/// itself sent last (`held_back`), if it did.
#[must_use]
pub fn terminal(ending: &Ending, held_back: Option<&Data>, timestamp: Timestamp) -> NewEvent {
    let mut fields = BTreeMap::<String, Json>::new();
    match held_back {
        Some(Data::Json(json)) => match fields_of(json) {
            Some(object) => fields = object,
            None => drop(fields.insert("value".into(), json.clone())),
        },
        Some(Data::Text(text)) => {
            fields.insert("value".into(), json_text(&**text));
        }
        None => {}
    }
    let mut system = Vec::new();
    let event_type = match ending {
        Ending::Completed { final_value } => {
            system.push(("final_value", final_value.clone()));
            COMPLETE
        }
        Ending::Failed { failure } => {
            system.push(("message", json_text(&failure.message)));
            system.push(("error_type", json_text(&failure.error_type)));
            ERROR
        }
        Ending::Cancelled { reason } => {
            system.push(("reason", json_text(reason)));
            CANCELLED
        }
    };
    for (name, _) in &system {
        fields.remove(*name);
    }
    fields.remove("_system");
    // Written by hand around the texts, so that a final value keeps the digits that the work gave it.
    let mut text = String::from("{");
    for (name, value) in &fields {
        text.push_str(&format!("{}:{},", json_text(name).as_str(), value.as_str()));
    }
    for (name, value) in &system {
        text.push_str(&format!("\"{name}\":{},", value.as_str()));
    }
    text.push_str("\"_system\":true}");
    NewEvent { event_type: EventType(event_type.into()), data: Data::Json(Json::from_store(text)), timestamp }
}

fn json_text<T: Serialize + ?Sized>(value: &T) -> Json {
    Json::of(value).expect("a string is JSON")
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// The work returned.
    Completed {
        /// What it returned.
        final_value: Json,
    },
    /// The attempt failed and no retry is left.
    Failed {
        /// Why.
        failure: Failure,
    },
    /// It was cancelled.
    Cancelled {
        /// Why.
        reason: String,
    },
}

impl Ending {
    /// The status that it leaves.
    #[must_use]
    pub fn status(&self) -> Status {
        match self {
            Self::Completed { .. } => Status::Completed,
            Self::Failed { .. } => Status::Failed,
            Self::Cancelled { .. } => Status::Cancelled,
        }
    }
}

/// How events are written for viewers; one slot a format in every [`Batch`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Format {
    /// Data with the system's fields, the type beside them.
    #[default]
    Full,
    /// Data as they were sent.
    Raw,
    /// Data with the system's fields and the type as one of them.
    Message,
}

impl Format {
    const COUNT: usize = 3;
}

/// Events that were committed (or read) together: the unit of the log, of the window and of encoding. Immutable and
/// never empty; its events are dense in `seq`.
pub struct Batch {
    events: Vec<Event>,
    data_bytes: usize,
    ends_run: bool,
    encoded: [OnceLock<Encoded>; Format::COUNT],
}

struct Encoded {
    bytes: Bytes,
    /// Where the frame of each event ends in `bytes`.
    ends: Vec<usize>,
}

impl Batch {
    /// Takes events that follow each other.
    ///
    /// # Panics
    /// Where there is none, or where they are not dense: whoever made them broke the log.
    #[must_use]
    pub fn new(events: Vec<Event>) -> Self {
        assert!(!events.is_empty(), "a batch is never empty");
        assert!(
            events.windows(2).all(|pair| pair[1].seq == pair[0].seq + 1),
            "the events of a batch are dense"
        );
        let data_bytes = events.iter().map(|e| e.data.as_str().len() + e.event_type.as_str().len()).sum();
        let ends_run = events.iter().any(|event| event.event_type.is_terminal());
        Self { events, data_bytes, ends_run, encoded: Default::default() }
    }

    /// The seq of its first event.
    #[must_use]
    pub fn first_seq(&self) -> Seq {
        self.events[0].seq
    }

    /// The seq of its last event.
    #[must_use]
    pub fn last_seq(&self) -> Seq {
        self.events[self.events.len() - 1].seq
    }

    /// Bytes that it holds in memory, at the most: the events, and their frames in every format.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        const FRAME_BYTES: usize = 200;
        const ALLOCATION_BYTES: usize = 64;
        let an_event = size_of::<Event>() + ALLOCATION_BYTES + Format::COUNT * FRAME_BYTES;
        self.events.len() * an_event + self.data_bytes * (1 + Format::COUNT)
    }

    /// The events.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Batch({}..={})", self.first_seq(), self.last_seq())
    }
}

/// Some consecutive events of a [`Batch`], shared and not copied.
#[derive(Debug, Clone)]
pub struct Slice {
    batch: Arc<Batch>,
    start: usize,
    end: usize,
}

impl Slice {
    /// The events of `batch` after `cursor`, up to the first terminal one; none where the batch has nothing after it.
    #[must_use]
    pub fn after(batch: Arc<Batch>, cursor: Seq) -> Option<Self> {
        if cursor >= batch.last_seq() {
            return None;
        }
        let start =
            usize::try_from((cursor + 1).saturating_sub(batch.first_seq())).expect("a batch fits in memory");
        let is_last = |event: &Event| event.event_type.is_terminal();
        let last = batch.ends_run.then(|| batch.events[start..].iter().position(is_last)).flatten();
        let end = last.map_or(batch.events.len(), |i| start + i + 1);
        Some(Self { batch, start, end })
    }

    /// The events, at least one.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.batch.events[self.start..self.end]
    }

    /// The seq of its last event.
    #[must_use]
    pub fn last_seq(&self) -> Seq {
        self.batch.events[self.end - 1].seq
    }

    /// Whether its last event ends a run.
    #[must_use]
    pub fn ends_run(&self) -> bool {
        self.batch.events[self.end - 1].event_type.is_terminal()
    }

    /// The frames of these events in a format. `encode` appends one event's frame to a buffer; it runs once for each
    /// event of the batch and format, whoever asks first, and everybody gets a view of the same bytes.
    pub fn encoded(&self, format: Format, encode: impl Fn(&Event, &mut Vec<u8>)) -> Bytes {
        let encoded = self.frames(format, encode);
        let from = self.start.checked_sub(1).map_or(0, |i| encoded.ends[i]);
        encoded.bytes.slice(from..encoded.ends[self.end - 1])
    }

    /// Of these events, which one's frame is the last that stands whole in the first `bytes` of what
    /// [`encoded`](Self::encoded) gives (none where not even the first does), and how many bytes of the next one's do.
    pub fn split_at(
        &self,
        format: Format,
        encode: impl Fn(&Event, &mut Vec<u8>),
        bytes: usize,
    ) -> (Option<Seq>, usize) {
        let encoded = self.frames(format, encode);
        let from = self.start.checked_sub(1).map_or(0, |i| encoded.ends[i]);
        let whole = encoded.ends[self.start..self.end].partition_point(|end| end - from <= bytes);
        match whole.checked_sub(1) {
            Some(last) => {
                let last = self.start + last;
                (Some(self.batch.events[last].seq), bytes - (encoded.ends[last] - from))
            }
            None => (None, bytes),
        }
    }

    fn frames(&self, format: Format, encode: impl Fn(&Event, &mut Vec<u8>)) -> &Encoded {
        self.batch.encoded[format as usize].get_or_init(|| {
            let mut bytes = Vec::with_capacity(self.batch.data_bytes + 160 * self.batch.events.len());
            let mut ends = Vec::with_capacity(self.batch.events.len());
            for event in &self.batch.events {
                encode(event, &mut bytes);
                ends.push(bytes.len());
            }
            Encoded { bytes: bytes.into(), ends }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(seq: Seq, event_type: &str) -> Event {
        NewEvent::from_work(event_type, Data::Text(format!("d{seq}").into()), Timestamp::from_micros(0))
            .unwrap()
            .at(seq, 1, Epoch(1))
    }

    #[test]
    fn a_slice_begins_after_the_cursor_ends_with_the_run_and_is_encoded_once() {
        let batch =
            Arc::new(Batch::new(vec![event(5, "a"), event(6, "b"), event(7, "complete"), event(8, "c")]));
        let calls = std::cell::Cell::new(0);
        let encode = |e: &Event, out: &mut Vec<u8>| {
            calls.set(calls.get() + 1);
            out.extend_from_slice(format!("<{}>", e.seq).as_bytes());
        };
        let text = |cursor| {
            let slice = Slice::after(batch.clone(), cursor).unwrap();
            (slice.encoded(Format::Full, encode), slice.ends_run(), slice.last_seq())
        };
        assert_eq!(text(4), (Bytes::from("<5><6><7>"), true, 7));
        assert_eq!(text(0), (Bytes::from("<5><6><7>"), true, 7));
        assert_eq!(text(5), (Bytes::from("<6><7>"), true, 7));
        assert_eq!(text(7), (Bytes::from("<8>"), false, 8));
        assert!(Slice::after(batch.clone(), 8).is_none());
        let slice = Slice::after(batch.clone(), 5).unwrap();
        let split = |bytes| slice.split_at(Format::Full, encode, bytes);
        assert_eq!(
            [0, 2, 3, 4, 6].map(split),
            [(None, 0), (None, 2), (Some(6), 0), (Some(6), 1), (Some(7), 0)]
        );
        assert_eq!(calls.get(), 4);
    }

    #[test]
    fn the_terminal_event_merges_what_the_work_sent_and_the_system_wins() {
        let held =
            Data::Json(Json::parse(r#"{"message":"Done","final_value":"mine","_system":false}"#).unwrap());
        let ending = Ending::Completed { final_value: Json::parse("12345678901234567890.5").unwrap() };
        let event = terminal(&ending, Some(&held), Timestamp::from_micros(0));
        assert_eq!(
            event.data.as_str(),
            r#"{"message":"Done","final_value":12345678901234567890.5,"_system":true}"#
        );
        let failed = Ending::Failed { failure: Failure::new("Boom", "it \"broke\"") };
        let event = terminal(&failed, Some(&Data::Text("last words".into())), Timestamp::from_micros(0));
        assert_eq!(event.event_type.as_str(), ERROR);
        assert_eq!(
            event.data.as_str(),
            r#"{"value":"last words","message":"it \"broke\"","error_type":"Boom","_system":true}"#
        );
    }

    #[test]
    fn work_may_not_send_a_gap_nor_a_type_that_breaks_a_line() {
        for bad in ["gap", "", "a\nb", "a\rb", "a\0b", &"x".repeat(129)] {
            assert!(NewEvent::from_work(bad, Data::Json(Json::null()), Timestamp::from_micros(0)).is_err());
        }
        assert!(NewEvent::from_work("retry", Data::Json(Json::null()), Timestamp::from_micros(0)).is_ok());
    }

    #[test]
    fn work_cannot_mark_its_events_as_the_systems() {
        let sent = |text| {
            let data = Data::Json(Json::parse(text).unwrap());
            NewEvent::from_work("retry", data, Timestamp::from_micros(0)).unwrap().data
        };
        assert_eq!(sent(r#"{"a":1.50,"_system":true}"#).as_str(), r#"{"a":1.50}"#);
        assert_eq!(sent(r#"{"_\u0073ystem":1,"b":[2]}"#).as_str(), r#"{"b":[2]}"#);
        assert_eq!(sent(r#"{"a": {"_system": true}}"#).as_str(), r#"{"a": {"_system": true}}"#);
    }

    #[test]
    #[should_panic(expected = "dense")]
    fn a_batch_with_a_hole_is_never_made() {
        let _ = Batch::new(vec![event(1, "a"), event(3, "b")]);
    }
}
