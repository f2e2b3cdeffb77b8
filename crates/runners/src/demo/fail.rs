//! `FailTask`: begins and fails.

use serde::{Deserialize, Serialize};
use serde_json::json;
use soloist::{Context, Failure, StreamTask};

/// Sends `start` and fails with a `TaskError`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FailTask {
    /// What the failure says.
    pub message: String,
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct TaskError(String);

impl StreamTask for FailTask {
    const MODEL: &'static str = "FailTask";
    type Output = ();

    async fn process(self, context: Context) -> Result<(), Failure> {
        context.send_event("start", &json!({"message": self.message})).await?;
        Err(TaskError(self.message))?
    }
}
