//! `BurstTask`: many events at a chosen size and rate, each with the time of its sending, for measurements.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use soloist::{Context, Data, Failure, Json, StreamTask, clock::wall_clock_ns, limits};
use tokio::time::{Instant, sleep_until};

use super::{input::at_most, until_cancelled};

/// Sends `events` events of the type `burst`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BurstTask {
    /// How many.
    #[serde(deserialize_with = "at_most::<{ limits::DEMO_MAX_EVENTS }, _>")]
    pub events: u64,
    /// How long the data of each are made, in bytes; never shorter than what they hold.
    #[serde(deserialize_with = "at_most::<{ limits::EVENT_DATA_MAX_BYTES as u64 }, _>")]
    pub bytes: u64,
    /// How many in a second; 0 is as fast as it can.
    #[serde(deserialize_with = "at_most::<{ limits::DEMO_RATE_MAX_PER_SECOND }, _>")]
    pub rate: u64,
}

impl StreamTask for BurstTask {
    const MODEL: &'static str = "BurstTask";
    type Output = Json;

    async fn process(self, context: Context) -> Result<Json, Failure> {
        let bytes = usize::try_from(self.bytes).unwrap_or(limits::EVENT_DATA_MAX_BYTES);
        let begun = Instant::now();
        until_cancelled(&context, async {
            for i in 1..=self.events {
                if self.rate > 0 {
                    // By the schedule and not by the event before, so that a late one delays none that follow.
                    sleep_until(begun + Duration::from_secs_f64((i - 1) as f64 / self.rate as f64)).await;
                } else if context.is_cancelled() {
                    // Sending waits only where the pipeline is full.
                    tokio::task::yield_now().await;
                }
                context.send("burst", Data::Json(event(i, wall_clock_ns(), bytes))).await?;
            }
            Ok(Json::of(&json!({"events": self.events}))?)
        })
        .await
    }
}

/// `{"i":1,"t_ns":...,"pad":"..."}` of the wanted length.
fn event(i: u64, t_ns: i64, bytes: usize) -> Json {
    let bare = format!(r#"{{"i":{i},"t_ns":{t_ns}"#);
    let frame = r#","pad":"""#.len() + 1;
    let text = match bytes.checked_sub(bare.len() + frame) {
        Some(pad) => format!(r#"{bare},"pad":"{}"}}"#, "x".repeat(pad)),
        None => format!("{bare}}}"),
    };
    Json::from_store(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_json_of_the_wanted_length() {
        for bytes in [0, 34, 35, 42, 43, 100, 1024, limits::EVENT_DATA_MAX_BYTES] {
            let text = event(7, 1_700_000_000_000_000_000, bytes);
            let read: serde_json::Value = Json::parse(text.as_str()).unwrap().read().unwrap();
            assert_eq!((&read["i"], &read["t_ns"]), (&json!(7), &json!(1_700_000_000_000_000_000_i64)));
            // 34 bytes without any padding, 43 with an empty one.
            assert_eq!(text.as_str().len(), if bytes < 43 { 34 } else { bytes });
        }
    }
}
