//! A node that dies between any two steps of its calls to the store, while the store lives on.
//!
//! A process takes its memory store along, so here the death is that of a coordinator: at one step, before a call has
//! reached the store or after it was carried out, its line is severed for ever. One scenario is played once for every step
//! of it, from the join over a takeover, starts, retries, cancels, deletes and a prune to the drain. Another node then takes
//! over and brings everything to its end. At last the dead one comes back, as one does that was only stopped: nothing of
//! what it still writes counts.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use soloist::{
    CancelOptions, Clock, Coordinator, Epoch, Event, From, IdempotencyKey, Json, Key, MemoryStore,
    ModelOptions, NewTask, Policy, Result, Retention, Start, StartOptions, Status, Store, StoreError,
    SubscribeOptions, Subscribed, TaskFilter, Timestamp,
    store::{Heartbeat, Renewal, StoreResult},
};
use soloist_store_contract::line::{Between, Call, Line};
use tokio::sync::watch;

use crate::{
    models::{Count, End, Wait, until, watch as watch_task},
    nodes::Hands,
};

/// A line that is severed at one step, counted from 0; each call has two.
#[derive(Clone)]
struct Severed {
    store: MemoryStore,
    at: u64,
    steps: Arc<AtomicU64>,
    state: watch::Sender<State>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Whole,
    Severed,
    /// What hung goes on.
    Back,
}

impl Severed {
    fn new(store: &MemoryStore, at: u64) -> Self {
        Self { store: store.clone(), at, steps: Arc::default(), state: watch::Sender::new(State::Whole) }
    }

    /// One step; whether the line is severed then.
    fn step(&self) -> bool {
        if *self.state.borrow() == State::Whole && self.steps.fetch_add(1, Ordering::SeqCst) == self.at {
            self.state.send_replace(State::Severed);
        }
        *self.state.borrow() == State::Severed
    }

    async fn pass(&self) -> StoreResult<()> {
        if self.step() {
            let _ = self.state.subscribe().wait_for(|state| *state == State::Back).await;
        }
        Ok(())
    }
}

#[async_trait]
impl Between for Severed {
    fn store(&self) -> &dyn Store {
        &self.store
    }

    async fn before(&self, _: Call<'_>) -> StoreResult<()> {
        self.pass().await
    }

    async fn after(&self, _: Call<'_>) -> StoreResult<()> {
        self.pass().await
    }

    fn heartbeat(&self, heartbeat: Box<dyn Heartbeat>) -> Box<dyn Heartbeat> {
        Box::new(Beat { line: self.clone(), heartbeat })
    }
}

/// Its thread is not one of the runtime, and so does not hang.
struct Beat {
    line: Severed,
    heartbeat: Box<dyn Heartbeat>,
}

impl Beat {
    fn pass<T>(&mut self, ask: impl FnOnce(&mut dyn Heartbeat) -> StoreResult<T>) -> StoreResult<T> {
        let severed = || StoreError::Unavailable("the line is severed".to_owned());
        if self.line.step() {
            return Err(severed());
        }
        let answer = ask(&mut *self.heartbeat);
        if self.line.step() { Err(severed()) } else { answer }
    }
}

impl Heartbeat for Beat {
    fn renew(&mut self) -> StoreResult<Renewal> {
        self.pass(|heartbeat| heartbeat.renew())
    }

    fn leave(&mut self) -> StoreResult<()> {
        self.pass(|heartbeat| heartbeat.leave())
    }
}

/// Wall time that goes as the test's own does.
struct Wall(tokio::time::Instant);

impl Clock for Wall {
    fn now(&self) -> Timestamp {
        let since = i64::try_from(self.0.elapsed().as_micros()).unwrap();
        Timestamp::from_micros(1_700_000_000_000_000 + since)
    }
}

/// A node whose own clock of leases stands still.
async fn node(
    store: Arc<dyn Store>,
    began: tokio::time::Instant,
    kept: Option<Duration>,
) -> Result<Coordinator> {
    let retention = Retention { completed: kept, ..Retention::default() };
    let forgetful = ModelOptions { retention, ..ModelOptions::default() };
    Coordinator::builder(store)
        .clock(Wall(began))
        .boot_clock(Hands::new())
        .lease(Duration::from_secs(10))
        .register_with::<Count>("t", forgetful)
        .register::<Wait>("t")
        .register::<End>("t")
        .open()
        .await
}

/// What was told of starts, by anybody.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<BTreeMap<Key, Vec<u64>>>>);

impl Told {
    async fn start(&self, at: &Coordinator, key: &Key, options: StartOptions) -> Result<Start> {
        let answer = at.start(key, options).await?;
        if let Start::Started { run } = answer {
            self.0.lock().unwrap().entry(key.clone()).or_default().push(run);
        }
        Ok(answer)
    }

    /// Creates a task and starts it in one call.
    async fn create_and_start(&self, at: &Coordinator, name: &str, input: &str) -> Result<Key> {
        let new = NewTask::named(key(name), Json::parse(input).unwrap());
        let created = at.create_and_start(new, StartOptions::default()).await?;
        if let Start::Started { run } = created.start.expect("there is a task to start")? {
            self.0.lock().unwrap().entry(key(name)).or_default().push(run);
        }
        Ok(key(name))
    }
}

fn key(text: &str) -> Key {
    text.parse().unwrap()
}

fn under(policy: Policy) -> StartOptions {
    StartOptions { policy, ..StartOptions::default() }
}

fn keyed() -> StartOptions {
    StartOptions { idempotency: Some(IdempotencyKey::new("k").unwrap()), ..StartOptions::default() }
}

async fn create(at: &Coordinator, name: &str, input: &str, max_retries: u32) -> Result<Key> {
    let new = NewTask::named(key(name), Json::parse(input).unwrap());
    at.create(NewTask { max_retries: Some(max_retries), ..new }).await?;
    Ok(key(name))
}

async fn ended(at: &Coordinator, key: &Key) -> Result<()> {
    let run = at.task(key).await?.run;
    at.ended(key, run).await.map(drop)
}

/// What a node leaves that dies before the scenario begins: a run that may be tried again, one that may not, and one that
/// is asked to stop.
async fn leave(store: &MemoryStore, began: tokio::time::Instant) -> Result<Coordinator> {
    let line = Severed::new(store, u64::MAX);
    let node = node(Arc::new(Line(line.clone())), began, None).await?;
    for (name, input, max_retries) in
        [("t/Wait/left-1", "{}", 1), ("t/Wait/left-2", "{}", 0), ("t/End/left-3", r#"{"how":"deaf"}"#, 0)]
    {
        let key = create(&node, name, input, max_retries).await?;
        node.start(&key, StartOptions::default()).await?;
        let word = if name.starts_with("t/End") { "deaf" } else { "waiting" };
        until(&mut watch_task(&node, &key, From::RunStart).await, word).await;
    }
    node.cancel(&key("t/End/left-3"), CancelOptions::default()).await?;
    line.state.send_replace(State::Severed);
    Ok(node)
}

/// The scenario. Whoever plays it is told an error, or nothing any more, once the line is severed.
async fn play(
    line: Severed,
    began: tokio::time::Instant,
    told: Told,
    opened: Arc<OnceLock<Coordinator>>,
) -> Result<()> {
    let a = node(Arc::new(Line(line)), began, Some(Duration::from_secs(2))).await?;
    let _ = opened.set(a.clone());
    // Appends and an ending.
    let gone = create(&a, "t/Count/gone", r#"{"events":3}"#, 0).await?;
    let pruned = create(&a, "t/Count/pruned", r#"{"events":3}"#, 0).await?;
    let at_once = told.create_and_start(&a, "t/End/at-once", r#"{"how":"error"}"#).await?;
    ended(&a, &at_once).await?;
    for key in [&gone, &pruned] {
        told.start(&a, key, StartOptions::default()).await?;
        ended(&a, key).await?;
    }
    a.delete(&gone, None).await?;
    // A retry that waits for its time, and a failure.
    let fails = create(&a, "t/End/fails", r#"{"how":"error"}"#, 1).await?;
    told.start(&a, &fails, StartOptions::default()).await?;
    // A signal, and one more run that was asked for meanwhile.
    let twice = create(&a, "t/Wait/twice", "{}", 0).await?;
    told.start(&a, &twice, keyed()).await?;
    a.start(&twice, under(Policy::Rerun)).await?;
    a.signal(&twice, "go", Json::null()).await?;
    a.ended(&twice, 1).await?;
    // A cancel; one run in place of another.
    let cancelled = create(&a, "t/Wait/cancelled", "{}", 0).await?;
    told.start(&a, &cancelled, StartOptions::default()).await?;
    a.cancel(&cancelled, CancelOptions::default()).await?;
    ended(&a, &cancelled).await?;
    let replaced = create(&a, "t/Wait/replaced", "{}", 0).await?;
    told.start(&a, &replaced, StartOptions::default()).await?;
    told.start(&a, &replaced, under(Policy::Replace)).await?;
    // The retry, and a prune of what has completed.
    ended(&a, &fails).await?;
    while a.task(&pruned).await.is_ok() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    // A drain: one run goes on elsewhere, the others end.
    let drained = create(&a, "t/Wait/drained", "{}", 1).await?;
    told.start(&a, &drained, StartOptions::default()).await?;
    until(&mut watch_task(&a, &drained, From::RunStart).await, "waiting").await;
    a.shutdown(Duration::ZERO).await;
    Ok(())
}

/// All tasks on record.
async fn tasks(at: &Coordinator) -> Vec<soloist::Task> {
    at.list(TaskFilter { limit: 100, ..TaskFilter::default() }).await.unwrap().tasks
}

async fn log(at: &Coordinator, key: &Key) -> Vec<Event> {
    at.events(key, 0, 1_000).await.unwrap().events
}

/// Follows a task from its first event, for ever.
fn follow(at: &Coordinator, key: &Key) -> Arc<Mutex<Vec<Event>>> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (at, key, shown) = (at.clone(), key.clone(), seen.clone());
    tokio::spawn(async move {
        let options = SubscribeOptions { from: From::After(0.into()), follow: true, ..Default::default() };
        // It may just have been deleted by a call that hung.
        let Ok(Subscribed::Stream(mut viewer)) = at.subscribe(&key, options).await else { return };
        while let Some(delivery) = viewer.next().await.unwrap() {
            let soloist::Delivery::Events(slice) = delivery else { panic!("{key}: a gap") };
            shown.lock().unwrap().extend_from_slice(slice.events());
        }
    });
    seen
}

/// The promises, by the record and the log of one task.
fn judge(task: &soloist::Task, log: &[Event]) {
    let name = &task.key;
    assert!(log.iter().map(|event| event.seq).eq(1..=task.last_seq), "S3: {name}: {log:?}");
    assert!(log.windows(2).all(|two| two[0].epoch <= two[1].epoch && two[0].run <= two[1].run), "S6: {name}");
    let mut last = 0;
    for run in 1..=task.run {
        let events: Vec<_> = log.iter().filter(|event| event.run == run).collect();
        let ends = events.iter().filter(|event| event.event_type.is_terminal()).count();
        assert_eq!(ends, 1, "S7: run {run} of {name}: {events:?}");
        assert!(events.last().unwrap().event_type.is_terminal(), "S4: run {run} of {name}");
        // Each attempt is of the next epoch, or of the one after, where the one before was lost.
        for event in &events {
            let rise = event.epoch.0 - last;
            let is_new = event.run > 1 && event.seq == events[0].seq || last == 0;
            assert!(rise <= 2 || is_new && rise <= 4, "S2: {name}: {log:?}");
            last = event.epoch.0;
        }
    }
    assert!(task.epoch.0 >= last && task.epoch.0 <= last + 1, "S2: {name} {}: {log:?}", task.epoch.0);
    assert!(task.node.is_none(), "S1: {name}");
}

/// When the dead one comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Back {
    /// When its runs were taken over and go on elsewhere.
    Early,
    /// When everything is over.
    Late,
}

/// Plays the scenario up to a step, and what comes after. Whether it came to the step at all.
async fn survive(at: u64, back: Back) -> bool {
    let began = tokio::time::Instant::now();
    let judged_by = Hands::new();
    let store = MemoryStore::new().with_boot_clock(judged_by.clone());
    let _first = leave(&store, began).await.unwrap();
    judged_by.advance(Duration::from_secs(600));

    let (line, told) = (Severed::new(&store, at), Told::default());
    // A node whose last handle is gone looks after nothing any more, and this one is to come back whole.
    let opened = Arc::default();
    let mut playing = tokio::spawn(play(line.clone(), began, told.clone(), Arc::clone(&opened)));
    let mut state = line.state.subscribe();
    let severed = tokio::select! {
        played = &mut playing => {
            // The last steps are those of the heartbeat, of which nobody is told.
            let was_severed = *line.state.borrow() == State::Severed;
            played.unwrap().unwrap();
            was_severed
        }
        _ = state.wait_for(|state| *state == State::Severed) => true,
    };

    // Its lease runs out, and another node begins.
    judged_by.advance(Duration::from_secs(600));
    let b = node(Arc::new(store.clone()), began, None).await.unwrap();
    // What hung goes on; nobody asks for anything more.
    let come_back = || {
        playing.abort();
        line.state.send_replace(State::Back);
    };
    if back == Back::Early {
        tokio::time::sleep(Duration::from_millis(100)).await;
        come_back();
    }
    let mut viewers = BTreeMap::new();
    for looks in 0.. {
        assert!(
            looks < 10_000,
            "it does not come to an end at {}: {:#?}",
            b.node(),
            tasks(&b)
                .await
                .iter()
                .filter(|task| !task.status.is_finished() || task.next_run != soloist::NextRun::None)
                .collect::<Vec<_>>()
        );
        let all = tasks(&b).await;
        for task in &all {
            viewers.entry(task.key.clone()).or_insert_with(|| follow(&b, &task.key));
            match task.status {
                // A start whose answer was lost is sent again, as it was.
                Status::Pending => {
                    let options = if task.key.id() == "twice" { keyed() } else { StartOptions::default() };
                    told.start(&b, &task.key, options).await.unwrap();
                }
                Status::Running if task.key.model() == "Wait" => {
                    b.signal(&task.key, "go", Json::null()).await.unwrap();
                }
                _ => {}
            }
        }
        // Also that one more run is begun where it was promised.
        if all.iter().all(|task| task.status.is_finished() && task.next_run == soloist::NextRun::None) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let twice = key("t/Wait/twice");
    if b.task(&twice).await.is_ok() {
        let again = b.start(&twice, keyed()).await.unwrap();
        assert!(matches!(again, Start::Replayed { started: true, run: 1, .. }), "{again:?}");
    }

    let mut kept = BTreeMap::new();
    for task in tasks(&b).await {
        let log = log(&b, &task.key).await;
        judge(&task, &log);
        let seen = &viewers[&task.key];
        let all_seen = async {
            while (seen.lock().unwrap().len() as u64) < task.last_seq {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), all_seen).await.expect("S5: its viewer sees it all");
        let ids = |events: &[Event]| events.iter().map(|event| event.seq).collect::<Vec<_>>();
        assert_eq!(ids(&seen.lock().unwrap()), ids(&log), "S5: {}", task.key);
        let won = told.0.lock().unwrap().get(&task.key).cloned().unwrap_or_default();
        assert_eq!(won.iter().collect::<BTreeSet<_>>().len(), won.len(), "S1: {}: {won:?}", task.key);
        assert!(won.iter().all(|run| (1..=task.run).contains(run)), "S1: {}: {won:?}", task.key);
        kept.insert(task.key.clone(), (task.status, task.run, task.epoch, ids(&log)));
    }

    if back == Back::Late {
        come_back();
    }
    tokio::time::sleep(Duration::from_secs(20)).await;
    for task in tasks(&b).await {
        let log = log(&b, &task.key).await;
        judge(&task, &log);
        let now = (task.status, task.run, task.epoch, log.iter().map(|event| event.seq).collect::<Vec<_>>());
        // A create that hung is carried out late, and its start is refused: the node that has asked is dead.
        let not_begun = (Status::Pending, 0, Epoch(0), Vec::new());
        let before = kept.remove(&task.key).unwrap_or(not_begun);
        assert_eq!(before, now, "S6: the dead has written to {}", task.key);
    }
    severed
}

#[test]
fn s1_to_s8_a_node_that_dies_at_any_step_of_its_calls_to_the_store_is_taken_over_and_loses_nothing() {
    let mut steps = 0;
    for at in 0.. {
        // A failure names its step.
        let mut is_severed = false;
        for back in [Back::Early, Back::Late] {
            println!("severed at step {at}, back {back:?}");
            let runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = { runtime }.enable_all().start_paused(true).build().unwrap();
            is_severed |= runtime.block_on(survive(at, back));
        }
        if !is_severed {
            break;
        }
        steps = at + 1;
    }
    println!("{steps} steps");
    assert!(steps > 200, "the scenario came to an end after {steps} steps");
}
