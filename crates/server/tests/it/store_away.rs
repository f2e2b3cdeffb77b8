//! A store that cannot be asked for a while.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use soloist::{
    Context, Coordinator, Failure, Json, Key, MemoryStore, NewTask, StartOptions, Store, StoreError,
    StreamTask,
    store::{Heartbeat, Renewal, StoreResult},
};
use soloist_server::ServerOptions;
use soloist_store_contract::line::{Between, Call, Line};
use soloist_wire::sse::Frame;

use crate::{
    client::SSE,
    server::{Server, coordinator_on},
};

/// A real store, and a switch in the line to it.
#[derive(Default)]
struct Switched {
    store: MemoryStore,
    cut: Arc<AtomicBool>,
}

/// The heartbeat of a node, over the same line.
struct Beat {
    heartbeat: Box<dyn Heartbeat>,
    cut: Arc<AtomicBool>,
}

fn whole(cut: &AtomicBool) -> StoreResult<()> {
    if cut.load(SeqCst) {
        return Err(StoreError::Unavailable("cannot reach db.internal:5432".into()));
    }
    Ok(())
}

impl Heartbeat for Beat {
    fn renew(&mut self) -> StoreResult<Renewal> {
        whole(&self.cut)?;
        self.heartbeat.renew()
    }
    fn leave(&mut self) -> StoreResult<()> {
        whole(&self.cut)?;
        self.heartbeat.leave()
    }
}

#[async_trait]
impl Between for Switched {
    fn store(&self) -> &dyn Store {
        &self.store
    }

    async fn before(&self, _call: Call<'_>) -> StoreResult<()> {
        whole(&self.cut)
    }

    fn heartbeat(&self, heartbeat: Box<dyn Heartbeat>) -> Box<dyn Heartbeat> {
        Box::new(Beat { heartbeat, cut: self.cut.clone() })
    }
}

#[tokio::test]
async fn while_the_store_is_away_programs_are_told_and_event_sources_come_back() {
    let line = Arc::new(Line::<Switched>::default());
    let server = Server::on(coordinator_on(line.clone()).await, ServerOptions::default()).await;
    server.call("PUT", "/tasks/demo/Steps/1", &[], "").await;
    line.cut.store(true, SeqCst);
    for (method, path) in [
        ("GET", "/tasks"),
        ("GET", "/tasks/demo/Steps/1"),
        ("POST", "/tasks/demo/Steps/1/start"),
        ("GET", "/stream/demo/Steps/1"),
    ] {
        let away = server.call(method, path, &[], "").await;
        assert_eq!((away.status, &*away.code()), (503, "store_unavailable"), "{method} {path}");
        assert!(away.header("retry-after").is_some());
        assert!(!away.body.contains("db.internal"), "what only the operator should know: {away:?}");
    }
    assert_eq!(server.get("/health").await.status, 200);
    let ready = server.get("/health/ready").await;
    assert_eq!((ready.status, &*ready.code()), (503, "store_unavailable"), "{ready:?}");
    let mut viewer = server.send("GET", "/stream/demo/Steps/1", &[SSE], "").await;
    assert_eq!(viewer.status, 200);
    assert!(matches!(viewer.frame().await, Some(Frame::Retry(2_000..=4_000))));
    assert!(matches!(viewer.frame().await, Some(Frame::Comment(_))));
    assert_eq!(viewer.frame().await, None);

    line.cut.store(false, SeqCst);
    assert_eq!(server.get("/health/ready").await.status, 200);
    assert_eq!(server.watch("/stream/demo/Steps/1").await.events().await.len(), 1);
}

/// More than any buffer between the server and a viewer holds.
#[derive(Serialize, Deserialize)]
struct Long {}

const EVENTS: usize = 5_000;

impl StreamTask for Long {
    const MODEL: &'static str = "Long";
    type Output = ();

    async fn process(self, context: Context) -> Result<(), Failure> {
        for _ in 0..EVENTS {
            context.send_event("part", &"x".repeat(4_000)).await?;
        }
        Ok(())
    }
}

/// In the middle of a log that only the store has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_stays_while_the_store_is_away_and_misses_nothing() {
    let line = Arc::new(Line::<Switched>::default());
    let elsewhere = Coordinator::builder(Arc::new(line.store.clone())).register::<Long>("demo");
    let elsewhere = elsewhere.open().await.unwrap();
    let key: Key = "demo/Long/1".parse().unwrap();
    elsewhere.create(NewTask::named(key.clone(), Json::parse("{}").unwrap())).await.unwrap();
    elsewhere.start(&key, StartOptions::default()).await.unwrap();
    elsewhere.ended(&key, 1).await.unwrap();

    let options = ServerOptions { heartbeat: Duration::from_millis(20), ..ServerOptions::default() };
    let server = Server::on(coordinator_on(line.clone()).await, options).await;
    let mut viewer = server.watch("/stream/demo/Long/1").await;
    let (mut events, mut heartbeats) = (0, 0);
    loop {
        match viewer.frame().await {
            Some(Frame::Event(event)) => {
                events += 1;
                assert_eq!(event.id, Some(events.to_string()));
                if events == 1 {
                    line.cut.store(true, SeqCst);
                }
            }
            Some(Frame::Comment(text)) if text == "heartbeat" => {
                heartbeats += 1;
                if heartbeats == 10 {
                    assert!(events < EVENTS, "the store was not needed");
                    line.cut.store(false, SeqCst);
                }
            }
            Some(Frame::Retry(2_000)) => {}
            None => break,
            other => panic!("it was sent away: {other:?}"),
        }
    }
    assert_eq!(events, EVENTS + 1);
    assert!(heartbeats >= 10);
}
