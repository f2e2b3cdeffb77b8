//! Small work to watch.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use soloist::{Context, Data, Failure, Json, Runner, StreamTask};

const LONG: Duration = Duration::from_secs(120);

/// Sends `step` events and returns how many.
#[derive(Serialize, Deserialize)]
pub(crate) struct Steps {
    #[serde(default)]
    pub(crate) count: u32,
}

impl StreamTask for Steps {
    const MODEL: &'static str = "Steps";
    type Output = u32;

    async fn process(self, context: Context) -> Result<u32, Failure> {
        for i in 1..=self.count {
            context.send_event("step", &serde_json::json!({ "i": i })).await?;
        }
        Ok(self.count)
    }
}

/// Sends `start`, then holds until it is told `go`; lets go at once when it is asked to stop.
#[derive(Serialize, Deserialize)]
pub(crate) struct Hold {}

impl StreamTask for Hold {
    const MODEL: &'static str = "Hold";
    type Output = Option<Json>;

    async fn process(self, context: Context) -> Result<Option<Json>, Failure> {
        context.send_event("start", &serde_json::json!({})).await?;
        tokio::select! {
            signal = context.wait_signal("go", LONG) => Ok(signal?),
            () = context.cancelled() => Err(Failure::new("Stopped", "as asked")),
        }
    }
}

/// Finishes when it is asked to stop.
#[derive(Serialize, Deserialize)]
pub(crate) struct Finish {}

impl StreamTask for Finish {
    const MODEL: &'static str = "Finish";
    type Output = &'static str;

    async fn process(self, context: Context) -> Result<&'static str, Failure> {
        context.cancelled().await;
        Ok("done anyway")
    }
}

/// Sends `complete` itself.
#[derive(Serialize, Deserialize)]
pub(crate) struct SaysComplete {}

impl StreamTask for SaysComplete {
    const MODEL: &'static str = "SaysComplete";
    type Output = u32;

    async fn process(self, context: Context) -> Result<u32, Failure> {
        context.send_event("complete", &serde_json::json!({ "message": "Done" })).await?;
        Ok(7)
    }
}

/// Fails.
#[derive(Serialize, Deserialize)]
pub(crate) struct Fails {}

impl StreamTask for Fails {
    const MODEL: &'static str = "Fails";
    type Output = ();

    async fn process(self, _: Context) -> Result<(), Failure> {
        Err(Failure::new("Boom", "it broke"))
    }
}

/// Sends what it is told to: events of a type with JSON or text.
#[derive(Serialize, Deserialize)]
pub(crate) struct Says {
    pub(crate) json: Vec<(String, Json)>,
    pub(crate) text: Vec<(String, String)>,
}

impl StreamTask for Says {
    const MODEL: &'static str = "Says";
    type Output = ();

    async fn process(self, context: Context) -> Result<(), Failure> {
        for (event_type, json) in self.json {
            context.send(&event_type, Data::Json(json)).await?;
        }
        for (event_type, text) in self.text {
            context.send(&event_type, Data::Text(text.into())).await?;
        }
        Ok(())
    }
}

/// Silent until it is told to `say` something: each time it sends that as `said`. It ends when it is told to say null, or
/// asked to stop.
#[derive(Serialize, Deserialize)]
pub(crate) struct Talks {}

impl StreamTask for Talks {
    const MODEL: &'static str = "Talks";
    type Output = u32;

    async fn process(self, context: Context) -> Result<u32, Failure> {
        for said in 0.. {
            let word = tokio::select! {
                signal = context.wait_signal("say", LONG) => signal?,
                () = context.cancelled() => return Err(Failure::new("Stopped", "as asked")),
            };
            match word {
                Some(word) if word.as_str() != "null" => context.send("said", Data::Json(word)).await?,
                _ => return Ok(said),
            }
        }
        unreachable!("nobody says that much")
    }
}

/// Returns the trace that it was given.
#[derive(Serialize, Deserialize)]
pub(crate) struct Traced {}

impl StreamTask for Traced {
    const MODEL: &'static str = "Traced";
    type Output = Option<(String, Option<String>)>;

    async fn process(self, context: Context) -> Result<Self::Output, Failure> {
        let trace = context.trace();
        Ok(trace.map(|trace| (trace.traceparent().to_owned(), trace.tracestate().map(str::to_owned))))
    }
}

/// A model of which one runs at a time.
pub(crate) struct OneAtATime;

#[async_trait::async_trait]
impl Runner for OneAtATime {
    fn kind(&self) -> &'static str {
        "test"
    }

    fn check(&self, _: &Json) -> soloist::Result<()> {
        Ok(())
    }

    async fn run(&self, _: Json, context: Context) -> Result<Json, Failure> {
        context.cancelled().await;
        Err(Failure::new("Stopped", "as asked"))
    }
}
