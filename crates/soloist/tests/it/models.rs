//! Small models that the tests run, and how the tests talk to them.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use soloist::{
    Context, Coordinator, Create, Delivery, Event, Failure, From, Json, Key, MemoryStore, NewTask, Start,
    StartOptions, StreamTask, SubscribeOptions, Subscribed, Subscription,
};

/// Sends `events` events and returns their number.
#[derive(Serialize, Deserialize)]
pub(crate) struct Count {
    pub(crate) events: u64,
    #[serde(default)]
    pub(crate) bytes: usize,
}

impl StreamTask for Count {
    const MODEL: &'static str = "Count";
    type Output = u64;

    async fn process(self, context: Context) -> Result<u64, Failure> {
        let pad = "x".repeat(self.bytes);
        for i in 1..=self.events {
            context.send_event("tick", &serde_json::json!({"i": i, "pad": pad})).await?;
        }
        Ok(self.events)
    }
}

/// Waits for the signal `go`, or for a cancel.
#[derive(Serialize, Deserialize)]
pub(crate) struct Wait {}

impl StreamTask for Wait {
    const MODEL: &'static str = "Wait";
    type Output = Option<Json>;

    async fn process(self, context: Context) -> Result<Option<Json>, Failure> {
        context.send_event("waiting", &()).await?;
        tokio::select! {
            signal = context.wait_signal("go", Duration::from_secs(3600)) => Ok(signal?),
            () = context.cancelled() => Err(Failure::new("Stopped", "was asked to")),
        }
    }
}

/// Ends in the way that `how` names.
#[derive(Serialize, Deserialize)]
pub(crate) struct End {
    pub(crate) how: String,
}

impl StreamTask for End {
    const MODEL: &'static str = "End";
    type Output = String;

    async fn process(self, context: Context) -> Result<String, Failure> {
        match self.how.as_str() {
            "panic" => panic!("it blew up with {}", 42),
            "error" => Err("x".parse::<u32>().unwrap_err())?,
            "silent" => Ok(String::new()),
            "complete" => {
                context.send_event("complete", &serde_json::json!({"message": "first"})).await?;
                context.send_event("step", &1).await?;
                context.send_event("complete", &serde_json::json!({"message": "Done"})).await?;
                Ok("value".into())
            }
            "deep" => {
                let deep = (0..200).fold(serde_json::json!(1), |inner, _| serde_json::json!([inner]));
                context.send_event("complete", &deep).await?;
                context.send_event("complete", &serde_json::json!({"_system": 1, "deep": deep})).await?;
                Ok("deep".into())
            }
            "deaf" => {
                context.send_event("deaf", &()).await?;
                std::future::pending().await
            }
            "cancelled but done" => {
                context.send_event("ready", &()).await?;
                context.cancelled().await;
                Ok("finished anyway".into())
            }
            "huge" => Ok("x".repeat(soloist::limits::FINAL_VALUE_MAX_BYTES + 1)),
            other => Err(Failure::new("Unknown", other)),
        }
    }
}

/// A runner that never lets go by itself, and says whether it is there.
#[derive(Default)]
pub(crate) struct Deaf(pub(crate) std::sync::Arc<std::sync::atomic::AtomicBool>);

#[async_trait::async_trait]
impl soloist::Runner for Deaf {
    fn kind(&self) -> &'static str {
        "deaf"
    }

    fn check(&self, _: &Json) -> soloist::Result<()> {
        Ok(())
    }

    async fn run(&self, _: Json, context: Context) -> Result<Json, Failure> {
        struct There(Arc<std::sync::atomic::AtomicBool>);
        impl Drop for There {
            fn drop(&mut self) {
                // Letting go takes its time.
                (0..200).for_each(|_| std::thread::sleep(Duration::from_millis(1)));
                self.0.store(false, std::sync::atomic::Ordering::SeqCst);
            }
        }
        self.0.store(true, std::sync::atomic::Ordering::SeqCst);
        let _there = There(self.0.clone());
        context.send_event("deaf", &()).await?;
        std::future::pending().await
    }
}

/// Waits for the signal `go`; served with as many slots as a test wants.
pub(crate) struct OneAtATime;

#[async_trait::async_trait]
impl soloist::Runner for OneAtATime {
    fn kind(&self) -> &'static str {
        "test"
    }

    fn check(&self, _: &Json) -> soloist::Result<()> {
        Ok(())
    }

    async fn run(&self, _: Json, context: Context) -> Result<Json, Failure> {
        tokio::select! {
            _ = context.wait_signal("go", Duration::from_secs(60)) => Ok(Json::null()),
            () = context.cancelled() => Err(Failure::new("Stopped", "as asked")),
        }
    }
}

/// A runner that returns at once.
pub(crate) struct Quick;

#[async_trait::async_trait]
impl soloist::Runner for Quick {
    fn kind(&self) -> &'static str {
        "quick"
    }

    fn check(&self, _: &Json) -> soloist::Result<()> {
        Ok(())
    }

    async fn run(&self, _: Json, _: Context) -> Result<Json, Failure> {
        Ok(Json::null())
    }
}

pub(crate) async fn open() -> Coordinator {
    open_on(Arc::new(MemoryStore::new())).await
}

pub(crate) async fn open_on(store: Arc<dyn soloist::Store>) -> Coordinator {
    Coordinator::builder(store)
        .register::<Count>("t")
        .register::<Wait>("t")
        .register::<End>("t")
        .linger(Duration::from_millis(50))
        .open()
        .await
        .unwrap()
}

pub(crate) async fn create(coordinator: &Coordinator, key: &str, input: &str) -> Key {
    let key: Key = key.parse().unwrap();
    let new = NewTask::named(key.clone(), Json::parse(input).unwrap());
    assert!(matches!(coordinator.create(new).await.unwrap(), Create::Created(_)));
    key
}

pub(crate) async fn start(coordinator: &Coordinator, key: &Key) -> Start {
    coordinator.start(key, StartOptions::default()).await.unwrap()
}

pub(crate) async fn watch(coordinator: &Coordinator, key: &Key, from: From) -> Subscription {
    let options = SubscribeOptions { from, ..SubscribeOptions::default() };
    match coordinator.subscribe(key, options).await.unwrap() {
        Subscribed::Stream(subscription) => subscription,
        Subscribed::Ended => panic!("the stream of {key} is over"),
    }
}

/// Everything that a viewer gets until its stream is over.
pub(crate) async fn drain(subscription: &mut Subscription) -> Vec<Event> {
    let mut seen = Vec::new();
    while let Some(delivery) = subscription.next().await.unwrap() {
        match delivery {
            Delivery::Events(slice) => seen.extend_from_slice(slice.events()),
            Delivery::Gap { reason, first_seq } => panic!("gap {} before {first_seq}", reason.as_str()),
        }
    }
    seen
}

/// Reads until an event of that type has come.
pub(crate) async fn until(subscription: &mut Subscription, event_type: &str) {
    while let Some(delivery) = subscription.next().await.unwrap() {
        if let Delivery::Events(slice) = delivery
            && slice.events().iter().any(|e| e.event_type.as_str() == event_type)
        {
            return;
        }
    }
    panic!("the stream ended before {event_type}");
}
