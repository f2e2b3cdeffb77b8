//! `FailTask`: begins and fails, each time or the first times.

use serde::{Deserialize, Serialize};
use serde_json::json;
use soloist::{Context, Failure, StreamTask};

/// Sends `start` and fails with a `TaskError`; with `times`, only in the first attempts of a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FailTask {
    /// What the failure says.
    pub message: String,
    /// How many attempts of a run fail before one completes; all of them where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct TaskError(String);

impl StreamTask for FailTask {
    const MODEL: &'static str = "FailTask";
    type Output = ();

    async fn process(self, context: Context) -> Result<(), Failure> {
        context.send_event("start", &json!({"message": self.message})).await?;
        if self.times.is_some_and(|times| context.attempt() > times) {
            return Ok(());
        }
        Err(TaskError(self.message))?
    }
}
