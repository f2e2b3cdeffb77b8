//! Tasks: the record, a page of records, and the body that creates one.

use serde::{Deserialize, Deserializer, Serialize};

use crate::RawJson;

/// Everything on record about a task. Times are RFC 3339 in UTC; what does not apply is null.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TaskRecord {
    /// The app of its key.
    pub app: String,
    /// The model of its key.
    pub model: String,
    /// The id of its key.
    pub id: String,
    /// What it was given, as the text that came.
    pub input: RawJson,
    /// `pending`, `queued`, `running`, `cancelling`, `completed`, `failed` or `cancelled`.
    pub status: String,
    /// The number of its newest run; 0 before the first.
    pub run: u64,
    /// The number of the newest attempt of that run; 0 before the first.
    pub attempt: u32,
    /// The newest fencing token.
    pub epoch: u64,
    /// The subject that it belongs to.
    pub owner: Option<String>,
    /// When it was created.
    pub created_at: String,
    /// When anything but its log last changed.
    pub updated_at: String,
    /// When the newest run was started.
    pub started_at: Option<String>,
    /// When the newest run completed.
    pub completed_at: Option<String>,
    /// When the newest run failed.
    pub failed_at: Option<String>,
    /// When it was cancelled.
    pub cancelled_at: Option<String>,
    /// What the newest run returned.
    pub final_value: Option<RawJson>,
    /// The kind of failure of the newest run.
    pub error_type: Option<String>,
    /// What went wrong, for people.
    pub error_message: Option<String>,
    /// Where it went wrong, where that is known.
    pub error_traceback: Option<String>,
    /// Why it was cancelled, or is asked to stop.
    pub cancellation_reason: Option<String>,
    /// Retries of the newest run so far.
    pub retry_count: u32,
    /// Retries that a run may have.
    pub max_retries: u32,
    /// Seconds after which an attempt is stopped.
    pub timeout_seconds: Option<u32>,
    /// Seconds after which a run is stopped, from the start of its first attempt.
    #[serde(default)]
    pub deadline_seconds: Option<u32>,
    /// When it is to run at the earliest.
    pub run_at: Option<String>,
    /// When what waits in the queue for its time may be run.
    #[serde(default)]
    pub due_at: Option<String>,
    /// Its place among the runs of its model that wait for a node, from 1; null in a list.
    #[serde(default)]
    pub position: Option<u64>,
    /// The run that begins when the newest one has ended, where one was asked for.
    #[serde(default)]
    pub next_run: Option<u64>,
    /// The node that holds it.
    pub node: Option<String>,
    /// The seq of its newest event; 0 before the first.
    pub last_seq: u64,
}

impl TaskRecord {
    /// `app/model/id`.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}/{}/{}", self.app, self.model, self.id)
    }

    /// Whether its newest run is over.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        matches!(self.status.as_str(), "completed" | "failed" | "cancelled")
    }
}

/// A page of tasks, newest first.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TasksPage {
    /// The tasks.
    pub tasks: Vec<TaskRecord>,
    /// What to send as `cursor` for the next page; null where this is the last. Opaque.
    pub next_cursor: Option<String>,
}

/// What creates a task. A field that is not known is an error.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateBody {
    /// What the task is given; left out: `{}`.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub input: Option<RawJson>,
    /// Whether it is started at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<bool>,
    /// Retries that a run may have; left out: what its model says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_retries: Option<u32>,
    /// Seconds after which an attempt is stopped; left out: what its model says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u32>,
    /// Seconds after which a run is stopped, from the start of its first attempt; left out: what its model says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_seconds: Option<u32>,
    /// When it is to run at the earliest (RFC 3339). It is then started by this very call, unless `start` is false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_at: Option<String>,
}

/// `"input": null` is an input, and not the same as none.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<RawJson>, D::Error> {
    RawJson::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_keeps_its_text_and_null_is_an_input() {
        let read = |text: &str| {
            serde_json::from_str::<CreateBody>(text).map(|body| body.input.map(|i| i.get().to_owned()))
        };
        assert_eq!(
            read(r#"{"input": {"a" : 1.00, "b":12345678901234567890123}}"#).unwrap().unwrap(),
            r#"{"a" : 1.00, "b":12345678901234567890123}"#
        );
        assert_eq!(read(r#"{"input":null}"#).unwrap().unwrap(), "null");
        assert_eq!(read("{}").unwrap(), None);
        let unknown = read(r#"{"inputs":{}}"#).unwrap_err().to_string();
        assert!(unknown.contains("unknown field `inputs`"), "{unknown}");
    }

    #[test]
    fn a_record_of_a_server_that_knows_no_deadline_and_no_queue_is_read() {
        let older = r#"{"app":"a","model":"B","id":"1","input":{},"status":"running","run":2,"attempt":1,"epoch":3,
            "owner":null,"created_at":"t","updated_at":"t","started_at":"t","completed_at":null,"failed_at":null,
            "cancelled_at":null,"final_value":null,"error_type":null,"error_message":null,"error_traceback":null,
            "cancellation_reason":null,"retry_count":0,"max_retries":0,"timeout_seconds":null,"run_at":null,
            "node":"n","last_seq":7}"#;
        let record: TaskRecord = serde_json::from_str(older).unwrap();
        assert_eq!((record.deadline_seconds, record.due_at), (None, None));
        assert_eq!((record.position, record.next_run), (None, None));
    }
}
