//! Events as they are read back page by page.

use serde::{Deserialize, Serialize};

use crate::RawJson;

/// An event in a task's log.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EventRecord {
    /// Its position: 1, 2, 3 ..., dense, continues across runs.
    pub seq: u64,
    /// The run it belongs to.
    pub run: u64,
    /// Its type.
    #[serde(rename = "type")]
    pub event_type: String,
    /// What it carries, as the text that came. Data that are no JSON stand here as a string.
    pub data: RawJson,
    /// Whether the data are text that is no JSON; left out where they are JSON.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub text: bool,
    /// When it was sent.
    pub timestamp: String,
}

/// A page of events, in order.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EventsPage {
    /// The events.
    pub events: Vec<EventRecord>,
    /// The seq of the newest event of the task, whether it is in this page or not.
    pub last_seq: u64,
    /// Where the task stood when that event was its newest, never ahead of the events: finished, and no events after a
    /// position, says that nothing comes there without another start. Empty from a server that does not say it.
    #[serde(default)]
    pub status: String,
}
