//! An event as a viewer has it: the data that the work sent, and the system's fields apart from them.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;
use soloist_wire::{RawJson, sse::Message};

use crate::Cursor;

/// One event of a task.
#[derive(Debug, Clone)]
pub struct Event {
    /// Its position: dense within the task.
    pub seq: u64,
    /// The epoch under which it was written, where the server names it.
    pub epoch: Option<u64>,
    /// The run it belongs to.
    pub run: u64,
    /// Its type.
    pub event_type: String,
    /// When it was sent, as RFC 3339.
    pub timestamp: String,
    /// What it carries: an object without the system's fields; what is no object stands in its field `value`.
    pub data: RawJson,
}

impl Event {
    /// Whether it ends a run.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        matches!(self.event_type.as_str(), "complete" | "error" | "cancelled")
    }

    /// Where a viewer that has seen it resumes.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        Cursor { seq: self.seq, epoch: self.epoch }
    }

    /// Reads an event, or says what is wrong with it.
    pub(crate) fn read(message: Message) -> Result<Self, String> {
        let id = message.id.as_deref().and_then(|id| id.parse().ok());
        let Some(Cursor { seq, epoch }) = id else {
            return Err(format!("an event whose id is no position: {:?}", message.id));
        };
        let fields: Fields =
            serde_json::from_str(&message.data).map_err(|e| format!("the data of event {seq}: {e}"))?;
        let mut event = Self {
            seq,
            epoch,
            run: 0,
            event_type: message.event_type,
            timestamp: String::new(),
            data: RawJson::default(),
        };
        let mut data = String::from("{");
        for (name, value) in fields.0 {
            match name.as_str() {
                "_run" => {
                    event.run =
                        serde_json::from_str(value.get()).map_err(|e| format!("_run of event {seq}: {e}"))?
                }
                "_timestamp" => event.timestamp = serde_json::from_str(value.get()).unwrap_or_default(),
                "_task_id" | "_app" | "_model" => {}
                _ => {
                    if data.len() > 1 {
                        data.push(',');
                    }
                    data.push_str(&serde_json::to_string(&name).expect("a text is a JSON string"));
                    data.push(':');
                    data.push_str(value.get());
                }
            }
        }
        data.push('}');
        event.data = RawValue::from_string(data).map_err(|e| format!("the data of event {seq}: {e}"))?;
        Ok(event)
    }
}

/// Events are missing here: the log no longer has them, or never had the position that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Gap {
    /// `pruned` or `unknown_cursor`.
    pub reason: String,
    /// The seq of the first event that follows.
    pub first_seq: u64,
}

/// The fields of an object in their order.
struct Fields(Vec<(String, RawJson)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(data: &str) -> Result<Event, String> {
        Event::read(Message { id: Some("7".into()), event_type: "progress".into(), data: data.into() })
    }

    #[test]
    fn data_keep_their_text_and_the_systems_fields_stand_apart() {
        let event = read(
            r#"{"n":1.00,"_mine":[1, 2],"_task_id":1,"_app":"a","_model":"B","_run":3,"_timestamp":"t"}"#,
        )
        .unwrap();
        assert_eq!(event.data.get(), r#"{"n":1.00,"_mine":[1, 2]}"#);
        assert_eq!((event.seq, event.run, event.timestamp.as_str()), (7, 3, "t"));
        assert_eq!(read(r#"{"_run":1}"#).unwrap().data.get(), "{}");
        assert!(read("[1]").is_err() && read("{").is_err() && read(r#"{"_run":"x"}"#).is_err());
    }
}
