//! What a start that loses costs, and an event on its way to viewers: `cargo bench -p soloist`.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use divan::{Bencher, black_box, counter::ItemsCount};
use futures_util::FutureExt as _;
use soloist::{
    BootClock, Context, Coordinator, Delivery, Failure, From, Json, Key, MemoryStore, NewTask, Start,
    StartOptions, StreamTask, SubscribeOptions, Subscribed, Subscription,
};
use tokio::{
    runtime::{Builder, Runtime},
    sync::Notify,
};

fn main() {
    divan::main();
}

/// Has the task say something.
static SAY: Notify = Notify::const_new();

#[derive(serde::Serialize, serde::Deserialize)]
struct Says {}

impl StreamTask for Says {
    const MODEL: &'static str = "Says";
    type Output = ();

    async fn process(self, context: Context) -> Result<(), Failure> {
        loop {
            SAY.notified().await;
            context.send_event("said", "x").await?;
        }
    }
}

/// The time of this process. The host's own boot clock is read in a way that valgrind does not know.
#[derive(Clone)]
struct SinceHere(Instant);

impl BootClock for SinceHere {
    fn now(&self) -> Duration {
        // Later than nothing from the first moment on.
        Duration::from_secs(1) + self.0.elapsed()
    }

    fn boot_id(&self) -> &str {
        "here"
    }
}

/// A run that goes on, on the memory store.
fn running() -> (Runtime, Coordinator, Key) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let (coordinator, key) = runtime.block_on(async {
        let clock = SinceHere(Instant::now());
        let store = Arc::new(MemoryStore::new().with_boot_clock(clock.clone()));
        let builder = Coordinator::builder(store).boot_clock(clock).register::<Says>("bench");
        let coordinator = builder.open().await.unwrap();
        let key: Key = "bench/Says/1".parse().unwrap();
        coordinator.create(NewTask::named(key.clone(), Json::parse("{}").unwrap())).await.unwrap();
        let start = coordinator.start(&key, StartOptions::default()).await.unwrap();
        assert!(matches!(start, Start::Started { .. }));
        (coordinator, key)
    });
    (runtime, coordinator, key)
}

/// A start of a key that runs here is refused without a wait: nothing is asked of the store.
#[divan::bench]
fn refusal(bencher: Bencher<'_, '_>) {
    let (runtime, coordinator, key) = running();
    let _entered = runtime.enter();
    bencher.counter(ItemsCount::new(1_u32)).bench_local(|| {
        let start = coordinator.start(black_box(&key), StartOptions::default()).now_or_never();
        assert!(matches!(start, Some(Ok(Start::AlreadyActive { .. }))));
    });
}

/// One event from the work over the store (in memory) to so many viewers.
#[divan::bench(args = [1, 100, 1_000])]
fn event_to_viewers(bencher: Bencher<'_, '_>, viewers: usize) {
    let (runtime, coordinator, key) = running();
    let mut watching: Vec<Subscription> = Vec::new();
    runtime.block_on(async {
        for _ in 0..viewers {
            let options = SubscribeOptions { from: From::Tail, ..SubscribeOptions::default() };
            match coordinator.subscribe(&key, options).await.unwrap() {
                Subscribed::Stream(subscription) => watching.push(subscription),
                other => panic!("{other:?}"),
            }
        }
    });
    bencher.counter(ItemsCount::new(viewers)).bench_local(|| {
        runtime.block_on(async {
            SAY.notify_one();
            for viewer in &mut watching {
                match viewer.next().await.unwrap() {
                    Some(Delivery::Events(events)) => assert_eq!(events.events().len(), 1),
                    other => panic!("{other:?}"),
                }
            }
        });
    });
}
