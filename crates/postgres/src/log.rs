//! Events as they are stored: a row for a batch, its events as one JSON array.
//!
//! Decides: what one row holds (at most a page of events, so that a reader never fetches much more than it asked for), and
//! how an event is written: `[timestamp, type, data]` where its data are JSON, which stay byte for byte the text that came;
//! `[timestamp, type, null, text]` where they are other text. JSON with white space around it would lose it there, and is
//! written as `[timestamp, type, true, text]`. As JSON strings, types and texts may hold anything.
//!
//! Never decides a seq: an event's place in the row is counted from the row's first.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;
use soloist::{Data, Epoch, Event, EventType, Json, Seq, Timestamp, limits};

use crate::error::{SqlError, SqlResult};

/// One row of a batch that is to be appended; it knows its place in the batch, not in the log.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// The place of its first event among those of the batch, from 1.
    pub(crate) first: i64,
    /// The place of its last event.
    pub(crate) last: i64,
    /// Of the data of its events.
    pub(crate) bytes: i32,
    /// The events.
    pub(crate) events: String,
}

/// Cuts a batch into rows.
pub(crate) fn chunks<'a>(batch: impl Iterator<Item = (&'a EventType, &'a Data, Timestamp)>) -> Vec<Chunk> {
    let mut chunks: Vec<Chunk> = Vec::new();
    for (place, (event_type, data, timestamp)) in (1..).zip(batch) {
        let bytes = i32::try_from(data.as_str().len()).expect("the data of an event are bounded");
        let (most_events, most_bytes) = (int(limits::PAGE_MAX_EVENTS), int(limits::PAGE_MAX_BYTES));
        match chunks.last_mut() {
            Some(chunk)
                if place - chunk.first < most_events
                    && i64::from(chunk.bytes) + i64::from(bytes) <= most_bytes =>
            {
                (chunk.last, chunk.bytes) = (place, chunk.bytes + bytes);
                chunk.events.push(',');
                write(&mut chunk.events, event_type, data, timestamp);
            }
            _ => {
                let mut events = String::with_capacity(data.as_str().len() + 64);
                events.push('[');
                write(&mut events, event_type, data, timestamp);
                chunks.push(Chunk { first: place, last: place, bytes, events });
            }
        }
    }
    for chunk in &mut chunks {
        chunk.events.push(']');
    }
    chunks
}

fn write(out: &mut String, event_type: &EventType, data: &Data, timestamp: Timestamp) {
    let string = |text: &str| serde_json::to_string(text).expect("a string can be written");
    out.push_str(&format!("[{},{},", timestamp.as_micros(), string(event_type.as_str())));
    match data {
        Data::Json(json) if json.as_str().trim_ascii().len() == json.as_str().len() => {
            out.push_str(json.as_str())
        }
        Data::Json(json) => {
            out.push_str("true,");
            out.push_str(&string(json.as_str()));
        }
        Data::Text(text) => {
            out.push_str("null,");
            out.push_str(&string(text));
        }
    }
    out.push(']');
}

/// An event as it is stored.
#[derive(Deserialize)]
struct Stored<'a>(
    i64,
    #[serde(borrow)] Cow<'a, str>,
    #[serde(borrow)] &'a RawValue,
    #[serde(borrow, default)] Option<Cow<'a, str>>,
);

/// A row of the log.
pub(crate) struct Row {
    pub(crate) first_seq: Seq,
    pub(crate) last_seq: Seq,
    pub(crate) run: u64,
    pub(crate) epoch: Epoch,
    pub(crate) events: String,
}

impl Row {
    /// Its events, in the order of their seq.
    pub(crate) fn events(&self) -> SqlResult<Vec<Event>> {
        let corrupt = || {
            SqlError::Corrupt(format!(
                "the events {} to {} of a task cannot be read",
                self.first_seq, self.last_seq
            ))
        };
        let stored: Vec<Stored<'_>> = serde_json::from_str(&self.events).map_err(|_| corrupt())?;
        if !(self.first_seq..=self.last_seq).eq((self.first_seq..).take(stored.len())) {
            return Err(corrupt());
        }
        let event = |(seq, Stored(timestamp, event_type, json, text)): (Seq, Stored<'_>)| Event {
            seq,
            run: self.run,
            epoch: self.epoch,
            event_type: EventType::from_store(&*event_type),
            data: match text {
                Some(text) if json.get() == "true" => Data::Json(Json::from_store(&*text)),
                Some(text) => Data::Text((&*text).into()),
                None => Data::Json(Json::from_store(json.get())),
            },
            timestamp: Timestamp::from_micros(timestamp),
        };
        Ok((self.first_seq..).zip(stored).map(event).collect())
    }
}

fn int(n: usize) -> i64 {
    i64::try_from(n).expect("limits fit")
}

#[cfg(test)]
mod tests {
    use soloist::event::NewEvent;

    use super::*;

    fn event(data: Data) -> NewEvent {
        NewEvent::from_work("a \"type\"\u{2028}", data, Timestamp::from_micros(-7)).unwrap()
    }

    fn cut(events: &[NewEvent]) -> Vec<Chunk> {
        chunks(events.iter().map(|event| (&event.event_type, &event.data, event.timestamp)))
    }

    #[test]
    fn data_come_back_byte_for_byte() {
        let texts = ["", "\0", "null", "[1,2]", "a\r\nb\u{2028}\u{10ffff}\\\""];
        let jsons = [
            "null",
            r#"{ "b" : 1.50e1 ,"a":[ ], "a":"\u0000\/"}"#,
            "123456789012345678901234567890.10",
            "\"\"",
        ];
        let events: Vec<NewEvent> = texts
            .map(|text| event(Data::Text(text.into())))
            .into_iter()
            .chain(jsons.map(|text| event(Data::Json(Json::parse(text).unwrap()))))
            .chain([" {}", "true\n", "\t[1]\r\n"].map(|text| event(Data::of_text(text))))
            .collect();
        let [chunk] = &cut(&events)[..] else { panic!("they fit into one row") };
        assert!(!chunk.events.contains('\0'));
        let last_seq = 5 + events.len() as u64;
        let row = Row { first_seq: 6, last_seq, run: 2, epoch: Epoch(3), events: chunk.events.clone() };
        let expected: Vec<Event> = (6..).zip(events).map(|(seq, event)| event.at(seq, 2, Epoch(3))).collect();
        assert_eq!(row.events().unwrap(), expected);
        let short = Row { last_seq: last_seq - 1, ..row };
        assert!(matches!(short.events(), Err(SqlError::Corrupt(_))));
    }

    #[test]
    fn s8_a_row_holds_at_most_a_page() {
        let small: Vec<NewEvent> =
            (0..2 * limits::PAGE_MAX_EVENTS + 1).map(|_| event(Data::Text("".into()))).collect();
        let places = |events: &[NewEvent]| cut(events).iter().map(|c| (c.first, c.last)).collect::<Vec<_>>();
        assert_eq!(places(&small), [(1, 1_000), (1_001, 2_000), (2_001, 2_001)]);
        let half = || event(Data::Text("x".repeat(limits::PAGE_MAX_BYTES / 2).into()));
        let large = || event(Data::Text("x".repeat(limits::PAGE_MAX_BYTES * 3).into()));
        assert_eq!(places(&[half(), half(), half(), large(), half()]), [(1, 2), (3, 3), (4, 4), (5, 5)]);
        assert!(cut(&[]).is_empty());
    }
}
