//! `AsyncGeneratorTask` and `SyncGeneratorTask`: a stream and an iterator whose items become events.

use std::time::Duration;

use futures_util::stream;
use serde::{Deserialize, Serialize};
use soloist::{Context, Failure, Json, StreamTask, limits};

use super::{input::at_most, until_cancelled};

/// Sends `count` items, one every `delay_ms`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AsyncGeneratorTask {
    /// How many items.
    #[serde(default = "five", deserialize_with = "at_most::<{ limits::DEMO_MAX_EVENTS }, _>")]
    pub count: u64,
    /// How long it waits before each, in milliseconds.
    #[serde(default = "a_tenth", deserialize_with = "at_most::<{ limits::DEMO_DELAY_MAX_MS }, _>")]
    pub delay_ms: u64,
}

fn five() -> u64 {
    5
}

fn a_tenth() -> u64 {
    100
}

/// An item of [`AsyncGeneratorTask`].
#[derive(Debug, Clone, Serialize)]
pub struct Item {
    /// Its number, from 1.
    pub step: u64,
    /// How many there are.
    pub total: u64,
}

impl StreamTask for AsyncGeneratorTask {
    const MODEL: &'static str = "AsyncGeneratorTask";
    /// The last item.
    type Output = Option<Item>;

    async fn process(self, context: Context) -> Result<Option<Item>, Failure> {
        let Self { count, delay_ms } = self;
        let items = stream::unfold(1, |step| async move {
            if step > count {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(delay_ms)).await;
            Some((Item { step, total: count }, step + 1))
        });
        until_cancelled(&context, async { Ok(context.stream(items).await?) }).await
    }
}

/// Sends each of its items.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SyncGeneratorTask {
    /// The items, any JSON.
    pub items: Vec<Json>,
}

impl StreamTask for SyncGeneratorTask {
    const MODEL: &'static str = "SyncGeneratorTask";
    /// The last item.
    type Output = Option<Json>;

    async fn process(self, context: Context) -> Result<Option<Json>, Failure> {
        until_cancelled(&context, async { Ok(context.iter(self.items).await?) }).await
    }
}
