//! `ContinueTask`: waits for somebody to say that it may go on.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use soloist::{Context, Failure, Json, StreamTask, limits};

use super::{input::at_most, until_cancelled};

/// Sends `waiting`, waits for the signal `continue`, and sends `continued` with the signal's data.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContinueTask {
    /// What it says.
    pub message: String,
    /// How long it waits, in milliseconds.
    #[serde(default = "a_minute", deserialize_with = "at_most::<{ limits::DEMO_DELAY_MAX_MS }, _>")]
    pub timeout_ms: u64,
}

fn a_minute() -> u64 {
    60_000
}

impl StreamTask for ContinueTask {
    const MODEL: &'static str = "ContinueTask";
    /// The data of the signal.
    type Output = Json;

    async fn process(self, context: Context) -> Result<Json, Failure> {
        until_cancelled(&context, async {
            let waiting =
                json!({"message": self.message, "signal": "continue", "timeout_ms": self.timeout_ms});
            context.send_event("waiting", &waiting).await?;
            match context.wait_signal("continue", Duration::from_millis(self.timeout_ms)).await? {
                Some(data) => {
                    context.send_event("continued", &data).await?;
                    Ok(data)
                }
                None => Err(Failure::new(
                    "Timeout",
                    format!("no signal \"continue\" came within {} ms", self.timeout_ms),
                )),
            }
        })
        .await
    }
}
