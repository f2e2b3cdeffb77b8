//! What the scenarios share: a store whose answers take their time, work that counts itself, viewers that check.

use std::{
    collections::BTreeMap,
    ops::Deref,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use interleaved::{pause, time};
use shuttle::rand::{Rng as _, thread_rng};
use soloist::{
    BootClock, Clock, Context, Coordinator, Create, Data, Delivery, Event, Failure, From, Json, Key,
    MemoryStore, ModelOptions, NewTask, Policy, Runner, Start, StartOptions, Store, SubscribeOptions,
    Subscribed, Subscription, Task, TaskFilter, Timestamp,
    store::{EventRange, StoreResult},
};
use tokio::task::{JoinHandle, spawn};

use crate::line::{Between, Call, Line};

/// The time of the tests, as it goes on record.
#[derive(Clone, Copy)]
pub(crate) struct Wall;

impl Clock for Wall {
    fn now(&self) -> Timestamp {
        let passed = i64::try_from(time::now().as_micros()).unwrap();
        Timestamp::from_micros(1_700_000_000_000_000 + passed)
    }
}

/// What leases are measured by: the time of the tests, or a clock that stands, under which no lease runs out.
#[derive(Clone, Copy)]
pub(crate) enum Boot {
    Passes,
    Stands,
}

impl BootClock for Boot {
    fn now(&self) -> Duration {
        let passed = if matches!(self, Self::Passes) { time::now() } else { Duration::ZERO };
        Duration::from_secs(1_000) + passed
    }

    fn boot_id(&self) -> &str {
        "boot"
    }
}

/// A store where others go on before each call, and between what it does and its answer: for long, now and then.
pub(crate) struct Far(MemoryStore);

async fn on_the_way() {
    let steps = if one_in(8) { 40 } else { 1 };
    for _ in 0..steps {
        pause().await;
    }
}

#[async_trait]
impl Between for Far {
    fn store(&self) -> &dyn Store {
        &self.0
    }

    async fn before(&self, _: Call<'_>) -> StoreResult<()> {
        on_the_way().await;
        Ok(())
    }

    async fn after(&self, _: Call<'_>) -> StoreResult<()> {
        on_the_way().await;
        Ok(())
    }
}

/// What work does when it has sent its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// Returns.
    Return,
    /// Waits until it is asked to stop, and fails.
    Wait,
    /// Takes no notice of being asked to stop.
    Stay,
}

/// Work that counts itself.
#[derive(Clone)]
pub(crate) struct Work {
    pub(crate) events: usize,
    pub(crate) then: Then,
    pub(crate) seen: Arc<Seen>,
}

/// What was seen of all work of an execution.
#[derive(Default)]
pub(crate) struct Seen {
    /// Attempts that go on, by task.
    running: Mutex<BTreeMap<Key, usize>>,
    /// Attempts that were begun.
    pub(crate) begun: AtomicUsize,
    /// Attempts that were begun beside another one.
    pub(crate) overlaps: AtomicUsize,
}

struct Running<'a>(&'a Seen, Key);

impl<'a> Running<'a> {
    fn begin(seen: &'a Seen, key: &Key) -> Self {
        seen.begun.fetch_add(1, Ordering::SeqCst);
        let mut running = seen.running.lock().unwrap();
        let beside = running.entry(key.clone()).or_default();
        seen.overlaps.fetch_add(*beside, Ordering::SeqCst);
        *beside += 1;
        drop(running);
        Self(seen, key.clone())
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if let Some(running) = self.0.running.lock().unwrap().get_mut(&self.1) {
            *running -= 1;
        }
    }
}

#[async_trait]
impl Runner for Work {
    fn kind(&self) -> &'static str {
        "work"
    }

    fn check(&self, _: &Json) -> soloist::Result<()> {
        Ok(())
    }

    async fn run(&self, _: Json, context: Context) -> Result<Json, Failure> {
        let _running = Running::begin(&self.seen, context.key());
        for _ in 0..self.events {
            context.send("tick", Data::of_text("x")).await?;
            pause().await;
        }
        match self.then {
            Then::Return => Ok(Json::null()),
            Then::Wait => {
                context.cancelled().await;
                Err(Failure::new("Stopped", "was asked to"))
            }
            Then::Stay => std::future::pending().await,
        }
    }
}

/// How long a finished run is kept.
pub(crate) const LINGER: Duration = Duration::from_millis(500);

/// One or several nodes on one store, and the task that all is about.
pub(crate) struct World {
    pub(crate) memory: MemoryStore,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) seen: Arc<Seen>,
    pub(crate) key: Key,
    boot: Boot,
    linger: Duration,
}

impl World {
    pub(crate) fn new(boot: Boot) -> Self {
        let memory = MemoryStore::new().with_boot_clock(boot);
        let store = Arc::new(Line(Far(memory.clone())));
        let key = "t/Work/1".parse().unwrap();
        // Both ways: what comes late finds it kept, or has to be served from the record.
        let linger = if one_in(2) { LINGER } else { Duration::ZERO };
        Self { memory, store, seen: Arc::default(), key, boot, linger }
    }

    /// A node that serves this work.
    pub(crate) async fn node(&self, events: usize, then: Then, options: ModelOptions) -> Coordinator {
        let work = Work { events, then, seen: self.seen.clone() };
        Coordinator::builder(self.store.clone())
            .clock(Wall)
            .boot_clock(self.boot)
            .linger(self.linger)
            .runner(self.key.model_key().clone(), Arc::new(work), options)
            .open()
            .await
            .unwrap()
    }

    /// The usual: one node, the task on record.
    pub(crate) async fn with_task(events: usize, then: Then) -> (Self, Coordinator) {
        let world = Self::new(Boot::Stands);
        let node = world.node(events, then, ModelOptions::default()).await;
        world.create(&node).await;
        (world, node)
    }

    pub(crate) async fn create(&self, node: &Coordinator) {
        self.create_key(node, &self.key).await;
    }

    pub(crate) async fn create_key(&self, node: &Coordinator, key: &Key) {
        let task = NewTask::named(key.clone(), Json::parse("{}").unwrap());
        assert!(matches!(node.create(task).await.unwrap(), Create::Created(_)));
    }

    pub(crate) async fn task(&self) -> Task {
        self.memory.task(&self.key).await.unwrap().unwrap()
    }

    pub(crate) async fn tasks(&self) -> Vec<Task> {
        self.memory.list(TaskFilter { limit: 100, ..TaskFilter::default() }).await.unwrap().tasks
    }

    /// Reads to the end. Every event comes once, in order, none is left out, and none before it is on record.
    pub(crate) fn read(&self, mut viewer: Subscription) -> impl Future<Output = Vec<Event>> + Send + use<> {
        let (memory, key) = (self.memory.clone(), self.key.clone());
        async move {
            let mut events = Vec::<Event>::new();
            loop {
                let after = viewer.cursor();
                let Some(delivery) = viewer.next().await.unwrap() else { return events };
                let Delivery::Events(slice) = delivery else { panic!("S5: a gap") };
                let range =
                    EventRange { after, until: slice.last_seq(), max_events: 1_000, max_bytes: 1 << 20 };
                let on_record = memory.events(&key, range).await.unwrap();
                assert_eq!(slice.events(), on_record, "S5: what is on record after {after}");
                events.extend(on_record);
            }
        }
    }

    /// What has to be true of every log and all work, whatever has happened.
    pub(crate) async fn check(&self) {
        assert_eq!(self.seen.overlaps.load(Ordering::SeqCst), 0, "S1: two attempts of one task at once");
        self.check_record().await;
    }

    /// The same, of the log alone: what work of a process does that was stopped for long no lease can promise.
    pub(crate) async fn check_record(&self) {
        for Task { key, .. } in self.tasks().await {
            // Read as if at one moment: the work may go on.
            let (task, log) = loop {
                let range = EventRange { after: 0, until: u64::MAX, max_events: 1_000, max_bytes: 1 << 20 };
                let before = self.memory.task(&key).await.unwrap().unwrap();
                let log = self.memory.events(&key, range).await.unwrap();
                let after = self.memory.task(&key).await.unwrap().unwrap();
                if (before.last_seq, before.run, before.status) == (after.last_seq, after.run, after.status) {
                    break (after, log);
                }
            };
            check_log(&task, &log);
        }
    }
}

fn check_log(task: &Task, log: &[Event]) {
    let seqs: Vec<_> = log.iter().map(|event| event.seq).collect();
    assert_eq!(seqs, (1..=task.last_seq).collect::<Vec<_>>(), "S3: the log is dense");
    assert!(
        log.is_sorted_by_key(|event| (event.run, event.epoch)),
        "S6: no event of an older epoch: {log:?}"
    );
    for run in 1..=task.run {
        let of_run: Vec<_> = log.iter().filter(|event| event.run == run).collect();
        let endings = of_run.iter().filter(|event| event.event_type.is_terminal()).count();
        let is_over = run < task.run || task.status.is_finished();
        assert_eq!(endings, usize::from(is_over), "S7: run {run} of {} ends once: {log:?}", task.status);
        let last = of_run.last().is_some_and(|event| event.event_type.is_terminal());
        assert_eq!(last, is_over, "S4: nothing after the end of run {run}");
    }
}

impl Deref for World {
    type Target = Key;

    fn deref(&self) -> &Key {
        &self.key
    }
}

pub(crate) fn with(policy: Policy) -> StartOptions {
    StartOptions { policy, ..StartOptions::default() }
}

/// A start on its way.
pub(crate) fn start(
    node: &Coordinator,
    key: &Key,
    options: StartOptions,
) -> JoinHandle<soloist::Result<Start>> {
    let (node, key) = (node.clone(), key.clone());
    spawn(async move { node.start(&key, options).await })
}

pub(crate) async fn subscribe(
    node: &Coordinator,
    key: &Key,
    from: From,
    follow: bool,
) -> Option<Subscription> {
    let options = SubscribeOptions { from, follow, autostart: false };
    match node.subscribe(key, options).await.unwrap() {
        Subscribed::Stream(subscription) => Some(subscription),
        Subscribed::Ended => None,
    }
}

/// The same, some steps later.
pub(crate) fn start_later(
    node: &Coordinator,
    key: &Key,
    options: StartOptions,
) -> JoinHandle<soloist::Result<Start>> {
    let (node, key, steps) = (node.clone(), key.clone(), thread_rng().gen_range(0..40));
    spawn(async move {
        for _ in 0..steps {
            pause().await;
        }
        node.start(&key, options).await
    })
}

/// One in so many.
pub(crate) fn one_in(n: u32) -> bool {
    thread_rng().gen_range(0..n) == 0
}

/// Lets time pass while the rest goes on, so many times at most.
pub(crate) fn let_time_pass(times: usize) {
    spawn(async move {
        for _ in 0..times {
            // Behind all others, or nothing else would go on where ranks decide.
            tokio::task::yield_now().await;
            time::pass_to_a_timer();
        }
    });
}

/// Lets time pass while nothing else goes on: whatever is waited for longer than an hour hangs.
pub(crate) fn let_time_pass_while_idle() {
    spawn(time::pass_while_idle(Duration::from_secs(60 * 60)));
}

/// Waits until something is so, by the time of the tests, though not for ever.
pub(crate) async fn until(is_so: impl AsyncFn() -> bool) {
    // By looks, and not by the clock: others may let it pass as well.
    for _ in 0..1_200 {
        if is_so().await {
            return;
        }
        time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it never comes to that");
}
