//! A coordinator on a store, with one model to try things on.

use std::{
    collections::VecDeque,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use serde_json::Value;
use soloist::{
    Coordinator, Create, Delivery, Event, From, Json, Key, MemoryStore, ModelOptions, NewTask, Run, Runner,
    Start, StartOptions, Store, SubscribeOptions, Subscribed, Subscription, Task, store::StoreResult,
};
use soloist_postgres::PgStore;
use soloist_runners::{
    exec::{ExecOptions, ExecRunner},
    guard::Guard,
};
use soloist_sqlite::SqliteStore;
use soloist_store_contract::line::{Between, Call};
use soloist_test_postgres::Cluster;
use tokio::sync::watch;

/// Longest that anything here may take; reached only where something hangs.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);

/// The guard of all tests that do no harm to it. It ends with this process.
static GUARD: LazyLock<Guard> = LazyLock::new(guard);

/// A guard of its own. The `main` of a test is not its own, so another program is executed.
pub(crate) fn guard() -> Guard {
    Guard::start_from(env!("CARGO_BIN_EXE_exec-guard")).unwrap()
}

pub(crate) fn exec(options: ExecOptions) -> ExecRunner {
    ExecRunner::new(options, &GUARD).unwrap()
}

/// An empty store: in memory, or of the kind that `SOLOIST_TEST_STORE` names, because work is the same on all of them.
async fn fresh_store() -> Arc<dyn Store> {
    match std::env::var("SOLOIST_TEST_STORE").as_deref() {
        Err(_) | Ok("memory") => Arc::new(MemoryStore::new()),
        Ok("sqlite") => {
            static DIR: LazyLock<tempfile::TempDir> = LazyLock::new(|| tempfile::tempdir().unwrap());
            static NEXT: AtomicUsize = AtomicUsize::new(0);
            let name = format!("{}.db", NEXT.fetch_add(1, Ordering::Relaxed));
            Arc::new(SqliteStore::open(DIR.path().join(name)).unwrap())
        }
        Ok("postgres") => {
            let database = Cluster::shared().database("runners");
            let store = PgStore::open(&database.url()).await.unwrap();
            // It goes with the cluster.
            std::mem::forget(database);
            Arc::new(store)
        }
        Ok(other) => panic!("SOLOIST_TEST_STORE is memory, sqlite or postgres, and not {other}"),
    }
}

/// A real store that takes no events until its gate is open.
pub(crate) struct Gated {
    pub(crate) store: MemoryStore,
    pub(crate) open: watch::Receiver<bool>,
}

#[async_trait]
impl Between for Gated {
    fn store(&self) -> &dyn Store {
        &self.store
    }

    async fn before(&self, call: Call<'_>) -> StoreResult<()> {
        if let Call::Apply(_) = call {
            self.open.clone().wait_for(|open| *open).await.unwrap();
        }
        Ok(())
    }
}

pub(crate) struct World {
    pub(crate) coordinator: Coordinator,
}

pub(crate) struct Ran {
    pub(crate) task: Task,
    pub(crate) events: Vec<Event>,
}

impl World {
    pub(crate) async fn of(runner: impl Runner) -> Self {
        Self::on(fresh_store().await, runner).await
    }

    pub(crate) async fn on(store: Arc<dyn Store>, runner: impl Runner) -> Self {
        let options = ModelOptions { max_concurrent: 8, ..ModelOptions::default() };
        Self::with(store, runner, options).await
    }

    /// Runs `t/Model` on the terms of its options.
    pub(crate) async fn on_terms(runner: impl Runner, options: ModelOptions) -> Self {
        Self::with(fresh_store().await, runner, options).await
    }

    async fn with(store: Arc<dyn Store>, runner: impl Runner, options: ModelOptions) -> Self {
        let model = "t/Model/1".parse::<Key>().unwrap().model_key().clone();
        let builder = Coordinator::builder(store);
        let builder = builder.runner(model, Arc::new(runner), options);
        Self { coordinator: soloist_runners::demo::register(builder).open().await.unwrap() }
    }

    /// Creates and starts a task of a model.
    pub(crate) async fn start(&self, model: &str, input: &str) -> (Key, Run) {
        let key: Key = format!("{model}/1").parse().unwrap();
        let new = NewTask::named(key.clone(), Json::parse(input).unwrap());
        assert!(matches!(self.coordinator.create(new).await.unwrap(), Create::Created(_)));
        match self.coordinator.start(&key, StartOptions::default()).await.unwrap() {
            Start::Started { run } => (key, run),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn run(&self, model: &str, input: &str) -> Ran {
        let (key, run) = self.start(model, input).await;
        self.ended(&key, run).await
    }

    pub(crate) async fn ended(&self, key: &Key, run: Run) -> Ran {
        let ended = tokio::time::timeout(DEADLINE, self.coordinator.ended(key, run));
        let task = ended.await.expect("the run ends").unwrap();
        let mut events = Vec::new();
        while (events.len() as u64) < task.last_seq {
            let page = self.coordinator.events(key, events.len() as u64, 1_000).await.unwrap();
            assert!(!page.events.is_empty());
            events.extend(page.events);
        }
        Ran { task, events }
    }

    /// A viewer from the beginning of the run.
    pub(crate) async fn watch(&self, key: &Key) -> Viewer {
        let options = SubscribeOptions { from: From::RunStart, follow: false, autostart: false };
        match self.coordinator.subscribe(key, options).await.unwrap() {
            Subscribed::Stream(subscription) => Viewer { subscription, came: VecDeque::new() },
            Subscribed::Ended => panic!("it has not ended"),
        }
    }
}

pub(crate) struct Viewer {
    subscription: Subscription,
    /// What came in one batch with an event that was waited for, and behind it.
    came: VecDeque<Event>,
}

impl Viewer {
    /// The data of the next event of a type.
    pub(crate) async fn until(&mut self, event_type: &str) -> Value {
        let wait = async {
            loop {
                while let Some(event) = self.came.pop_front() {
                    if event.event_type.as_str() == event_type {
                        return data(&event);
                    }
                }
                match self.subscription.next().await.unwrap() {
                    Some(Delivery::Events(slice)) => self.came.extend(slice.events().iter().cloned()),
                    Some(Delivery::Gap { .. }) => panic!("a gap"),
                    None => panic!("the run ended without the event {event_type}"),
                }
            }
        };
        tokio::time::timeout(DEADLINE, wait).await.expect("the event comes")
    }
}

impl Ran {
    /// The data of all events of a type.
    pub(crate) fn of_type(&self, event_type: &str) -> Vec<Value> {
        self.events.iter().filter(|e| e.event_type.as_str() == event_type).map(data).collect()
    }

    /// The lines of all `output` events.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.of_type("output").into_iter().map(|data| data["line"].as_str().unwrap().to_owned()).collect()
    }

    pub(crate) fn final_value(&self) -> &str {
        self.task.final_value.as_ref().expect("it completed").as_str()
    }

    /// Type and message of its failure.
    pub(crate) fn failure(&self) -> (&str, &str) {
        assert_eq!(self.task.status, soloist::Status::Failed);
        let failure = self.task.failure.as_ref().expect("it failed");
        (&failure.error_type, &failure.message)
    }
}

pub(crate) fn data(event: &Event) -> Value {
    serde_json::from_str(event.data.as_str()).expect("the data are JSON")
}

/// The options of a command that the shell runs.
pub(crate) fn shell(script: &str) -> ExecOptions {
    ExecOptions { command: vec![script.to_owned()], shell: true, ..ExecOptions::default() }
}

/// The options of a command that no shell sees.
pub(crate) fn command(words: &[&str]) -> ExecOptions {
    ExecOptions { command: words.iter().map(|&word| word.to_owned()).collect(), ..ExecOptions::default() }
}

pub(crate) async fn world(options: ExecOptions) -> World {
    World::of(exec(options)).await
}

/// Runs a command once with the input `{}`.
pub(crate) async fn run(options: ExecOptions) -> Ran {
    world(options).await.run("t/Model", "{}").await
}

/// Whether a process with this pid is alive.
pub(crate) fn is_alive(pid: &Value) -> bool {
    let pid = pid.as_i64().expect("a pid");
    // One that is dead and not reaped yet by its new parent is gone, too.
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}
