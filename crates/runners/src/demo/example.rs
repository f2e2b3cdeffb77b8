//! `ExampleTask`: a start, three steps and an end, spread over a chosen time.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use soloist::{Context, Failure, Json, StreamTask, limits};

use super::{input::at_most, until_cancelled};

const STEPS: u32 = 3;

/// Sends `start`, three `progress` events and `complete` in `delay_ms`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExampleTask {
    /// What it says.
    pub message: String,
    /// How long it takes, in milliseconds.
    #[serde(default = "two_seconds", deserialize_with = "at_most::<{ limits::DEMO_DELAY_MAX_MS }, _>")]
    pub delay_ms: u64,
}

fn two_seconds() -> u64 {
    2_000
}

impl StreamTask for ExampleTask {
    const MODEL: &'static str = "ExampleTask";
    type Output = Json;

    async fn process(self, context: Context) -> Result<Json, Failure> {
        let message = &self.message;
        until_cancelled(&context, async {
            context.send_event("start", &json!({"message": message, "total_steps": STEPS})).await?;
            for step in 1..=STEPS {
                tokio::time::sleep(Duration::from_millis(self.delay_ms) / STEPS).await;
                let said = format!("step {step} of {STEPS}");
                let progress = json!({"step": step, "total_steps": STEPS, "message": said});
                context.send_event("progress", &progress).await?;
            }
            context.send_event("complete", &json!({"message": format!("done: {message}")})).await?;
            Ok(Json::of(&json!({"message": message, "steps": STEPS}))?)
        })
        .await
    }
}
