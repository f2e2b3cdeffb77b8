//! Bodies and answers of the calls that are not about records: start, cancel, signals, health, stats.

use serde::{Deserialize, Serialize};

use crate::RawJson;

/// What a start does where the task was started before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// A finished task is started again.
    #[default]
    Restart,
    /// A finished task stays finished.
    Once,
    /// Of an active task one more run begins when this one has ended, however many ask for it.
    Rerun,
    /// The active run is cancelled, and the next one begins when it has ended.
    Replace,
}

/// What starts a task. A field that is not known is an error.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartBody {
    /// Left out: `restart`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
}

/// How a start was answered. Exactly one of concurrent starts is told `started: true`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartAnswer {
    /// Whether this start won.
    pub started: bool,
    /// The run that it started, or that was there before it.
    pub run: u64,
    /// Where that run stands.
    pub status: String,
    /// The node that holds the run that was there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// When the run that was there was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// The run that begins when that one has ended, where one was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_run: Option<u64>,
}

/// What cancels a task. A field that is not known is an error.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CancelBody {
    /// Why, for the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Only this run: a late cancel never stops a newer one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<u64>,
}

/// How a cancel was answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelAnswer {
    /// Whether the task is cancelled by now.
    pub cancelled: bool,
    /// Where it stands: `cancelled`, `cancelling`, or how it ended instead.
    pub status: String,
    /// The run that was asked to stop; left out where the task had not been started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<u64>,
}

/// The id of a task where it stands for itself: a number where it is canonical decimal that every JSON reader keeps
/// exact, a string otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TaskId {
    /// Canonical decimal up to 2^53 - 1.
    Number(u64),
    /// Any other.
    Text(String),
}

/// The answer of `/cancel/...`, which waits for the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelledAnswer {
    /// `cancelled`; `not_running` where there was nothing to cancel or the work finished first; `cancelling` where it
    /// has not let go yet.
    pub status: String,
    /// The task.
    pub task_id: TaskId,
    /// Why it was cancelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The answer of `GET /stream/...` on a finished task to a client that does not read streams: how it ended. What does
/// not apply to that ending is left out.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct FinishedAnswer {
    /// `completed`, `failed` or `cancelled`.
    pub status: String,
    /// Completed: what the work returned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub final_value: Option<RawJson>,
    /// Completed: when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<String>,
    /// Failed: the kind of failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_type: Option<String>,
    /// Failed: what went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
    /// Failed: when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_at: Option<String>,
    /// Cancelled: why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancellation_reason: Option<String>,
    /// Cancelled: when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancelled_at: Option<String>,
}

/// A signal is on record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignalAnswer {
    /// The run that will read it: the active one, or the next one of a pending task.
    pub run: u64,
    /// Its number among the signals of that run.
    pub number: u64,
}

/// The process is alive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// `ok`, or `draining` once a shutdown has begun; of a server that is asked whether it is ready, `ready`.
    pub status: String,
    /// The version of the server.
    pub version: String,
    /// The node that answers; fresh with every start of the process.
    pub node: String,
}

/// Live counts of one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatsBody {
    /// The node that answers.
    pub node: String,
    /// Runs that this node holds.
    pub running: u64,
    /// Starts under way.
    pub starting: u64,
    /// Keys of which anything is kept in memory; zero again once all runs and lingers are over.
    pub kept: u64,
    /// Viewers attached.
    pub viewers: u64,
    /// Runs whose work was dropped because it did not let go.
    pub stuck: u64,
}
