//! One world: its nodes on one thread, its time, and what breaks when.
//!
//! Decides: in which order the nodes go on, step by step; which of them is killed, stopped for a while, shut down or cut off,
//! and when. At the end nothing breaks any more, and everything that was promised must come true in a while.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, Ordering::Relaxed},
    },
    time::Duration,
};

use soloist::{Coordinator, Key, ModelKey, ModelOptions, Retention, RunTerms, coordinator::OnTimeout};
use tokio::{runtime::Runtime, time::Instant};

use crate::{
    broken::Broken,
    clients::{Ask, Heard, Viewer},
    draw::Dice,
    ground::{Ground, SimulatedBoot, SimulatedWall},
    line::Line,
    oracle::Judged,
    weather::Weather,
    work::Scripted,
};

mod asks;
mod breaks;
mod rest;

/// What a seed came to.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) seed: u64,
    pub(crate) hash: u64,
    pub(crate) found: Vec<String>,
    pub(crate) lines: Vec<String>,
    pub(crate) totals: Totals,
    pub(crate) judged: Judged,
}

/// How much was done.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Totals {
    pub(crate) seeds: u64,
    pub(crate) steps: u64,
    pub(crate) virtual_ms: u64,
    pub(crate) calls: u64,
    pub(crate) requests_lost: u64,
    pub(crate) answers_lost: u64,
    pub(crate) twice: u64,
    pub(crate) wakes_lost: u64,
    pub(crate) crashes: u64,
    pub(crate) pauses: u64,
    pub(crate) outages: u64,
    pub(crate) drains: u64,
    pub(crate) asks: u64,
    pub(crate) viewers: u64,
    pub(crate) resumes: u64,
}

/// One life of a node.
struct Life {
    number: u64,
    runtime: Runtime,
    /// When it began, by the world's clock and by its own.
    begun: (u64, Instant),
    handle: Arc<Mutex<Option<Coordinator>>>,
    ahead_ms: Arc<AtomicI64>,
    paused_until: Option<u64>,
    drained: Option<Arc<AtomicBool>>,
}

#[derive(Default)]
struct Node {
    life: Option<Life>,
    begins_ms: u64,
}

struct World {
    ground: Arc<Ground>,
    dice: Dice,
    nodes: Vec<Node>,
    lives: u64,
    keys: Vec<Key>,
    asks: Vec<(Ask, usize, u64, Arc<Mutex<Heard>>)>,
    again: Vec<Ask>,
    viewers: Vec<(Arc<Mutex<Viewer>>, usize, u64)>,
    due: BTreeMap<Due, u64>,
    /// Lines that break later: when, of which node, for how long.
    fails: Vec<(u64, usize, u64)>,
    totals: Totals,
}

/// What comes again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Crash,
    Pause,
    Outage,
    Drain,
    Skew,
    Ask,
    Watch,
}

thread_local! {
    /// A panic of the product on this thread, which is a finding.
    pub(crate) static PANIC: std::cell::RefCell<Option<String>> = const { std::cell::RefCell::new(None) };
}

/// How long everything may take to come true once nothing breaks any more.
const SETTLES_WITHIN_MS: u64 = 300_000;

/// Plays a seed to its end.
pub(crate) fn play(seed: u64, broken: Option<Broken>, is_told: bool) -> Outcome {
    soloist::simulation::seed(Some(seed));
    PANIC.take();
    let ground = Ground::new(seed, broken, is_told);
    let mut world = World::new(ground.clone());
    world.storm();
    if world.is_sound() {
        world.settle();
    }
    let mut totals = world.totals;
    let count = &ground.counts;
    totals.virtual_ms = ground.age_ms();
    totals.calls = count.calls.load(Relaxed);
    totals.requests_lost = count.requests_lost.load(Relaxed);
    totals.answers_lost = count.answers_lost.load(Relaxed);
    totals.twice = count.twice.load(Relaxed);
    totals.wakes_lost = count.wakes_lost.load(Relaxed);
    drop(world);
    soloist::simulation::seed(None);
    let (hash, lines) = ground.history();
    let mut found = std::mem::take(&mut ground.oracle().found);
    found.extend(PANIC.take());
    let judged = ground.oracle().judged;
    Outcome { seed, hash, found, lines, totals, judged }
}

fn model(name: &str) -> ModelKey {
    ModelKey::new("sim", name).unwrap()
}

/// The models, with their options.
fn models(weather: &Weather) -> Vec<(ModelKey, ModelOptions)> {
    let terms = |max_retries| RunTerms { max_retries, ..RunTerms::default() };
    let retry_delay = Duration::from_millis(60);
    let options = |terms, max_concurrent| ModelOptions {
        terms,
        max_concurrent,
        retry_delay,
        ..ModelOptions::default()
    };
    let kept = (weather.prune_after_ms > 0).then(|| Duration::from_millis(weather.prune_after_ms));
    let retention = Retention { completed: kept, failed: kept, cancelled: None };
    let timed = RunTerms { max_retries: 2, timeout_seconds: Some(1), deadline_seconds: Some(3) };
    vec![
        (model("Once"), options(terms(0), 3)),
        (model("Again"), ModelOptions { retention, ..options(terms(3), 2) }),
        (model("Total"), ModelOptions { max_concurrent_total: Some(2), ..options(terms(2), 2) }),
        (model("Timed"), ModelOptions { on_timeout: OnTimeout::Retry, ..options(timed, 1) }),
    ]
}

impl World {
    fn new(ground: Arc<Ground>) -> Self {
        let mut dice = Dice::new(ground.seed, &[0]);
        let weather = ground.weather.clone();
        let models = models(&weather);
        for (model, options) in &models {
            let (on_one, on_all) = (options.max_concurrent, options.max_concurrent_total);
            ground.oracle().bound(&model.to_string(), on_one, on_all);
        }
        let keys = (0..weather.keys)
            .map(|n| models[usize::try_from(n).unwrap() % models.len()].0.with_id(&n.to_string()).unwrap())
            .collect();
        let mut due = BTreeMap::new();
        for (what, every) in [
            (Due::Crash, weather.crash_every_ms),
            (Due::Pause, weather.pause_every_ms),
            (Due::Outage, weather.outage_every_ms),
            (Due::Drain, weather.drain_every_ms),
            (Due::Skew, weather.skew_every_ms),
            (Due::Ask, weather.ask_every_ms),
            (Due::Watch, weather.watch_every_ms),
        ] {
            if every > 0 {
                due.insert(what, dice.between(1, every * 2));
            }
        }
        let nodes =
            (0..weather.nodes).map(|_| Node { life: None, begins_ms: dice.of(&[0, 0, 20, 300]) }).collect();
        Self {
            ground,
            dice,
            nodes,
            lives: 0,
            keys,
            asks: Vec::new(),
            again: Vec::new(),
            viewers: Vec::new(),
            due,
            fails: Vec::new(),
            totals: Totals::default(),
        }
    }

    fn is_sound(&self) -> bool {
        self.ground.oracle().found.is_empty() && PANIC.with_borrow(Option::is_none)
    }

    /// While things break.
    fn storm(&mut self) {
        for key in self.keys.clone() {
            self.totals.asks += 1;
            let ask = Ask { number: self.totals.asks, key, what: self.create(), is_repeat: false };
            self.again.push(ask);
        }
        while self.ground.age_ms() < self.ground.weather.stormy_ms && self.is_sound() {
            self.break_something();
            let step = match self.dice.below(10) {
                0..4 => self.dice.between(1, 3),
                4..8 => self.dice.between(4, 12),
                _ => self.dice.between(15, 30),
            };
            self.step(step);
        }
    }

    /// Nothing breaks any more: whatever was promised must come true.
    fn settle(&mut self) {
        self.ground.is_calm.store(true, Relaxed);
        self.ground.note(9, "calm", "", String::new);
        for node in &mut self.nodes {
            node.begins_ms = node.begins_ms.min(self.ground.age_ms());
        }
        self.due.clear();
        let calm_since = self.ground.age_ms();
        let mut rested = 0;
        while self.is_sound() {
            let step = self.dice.between(10, 40);
            self.step(step);
            rested = if self.is_at_rest() { rested + 1 } else { 0 };
            if rested == 3 {
                return self.judge_rest();
            }
            if self.ground.age_ms() - calm_since > SETTLES_WITHIN_MS {
                return self.complain();
            }
        }
    }

    fn step(&mut self, by_ms: u64) {
        self.totals.steps += 1;
        self.ground.advance(by_ms);
        let age = self.ground.age_ms();
        let mut order: Vec<usize> = (0..self.nodes.len()).collect();
        self.dice.shuffle(&mut order);
        for n in order {
            if self.nodes[n].life.is_none() && self.nodes[n].begins_ms <= age {
                self.begin(n);
            }
            self.go_on(n);
        }
        self.ground.oracle().judge_leases();
        self.hear();
    }

    /// A node goes on until now, unless it is stopped.
    fn go_on(&mut self, n: usize) {
        let (now, calm) = (self.ground.now_ms(), self.ground.is_calm());
        let Some(life) = &mut self.nodes[n].life else { return };
        let until = life.begun.1 + Duration::from_millis(now - life.begun.0);
        if let Some(resumes) = life.paused_until {
            if now < resumes && !calm {
                return;
            }
            life.paused_until = None;
            self.ground.note(n, "goes on", "", String::new);
            self.ground.oracle().life_resumes(life.number);
            // All at once it is later, and whatever was due is late.
            life.runtime.block_on(async {
                tokio::time::advance(until.saturating_duration_since(Instant::now())).await;
            });
        }
        life.runtime.block_on(async { tokio::time::sleep_until(until).await });
        if life.drained.as_ref().is_some_and(|drained| drained.load(Relaxed)) {
            self.ground.note(n, "has shut down", "", String::new);
            self.end(n);
            self.nodes[n].begins_ms = self.ground.age_ms() + self.dice.below(500);
        }
    }

    fn begin(&mut self, n: usize) {
        self.lives += 1;
        let number = self.lives;
        self.ground.note(n, "begins", "", || format!("life {number}"));
        let (ground, weather) = (self.ground.clone(), &self.ground.weather);
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let handle = Arc::new(Mutex::new(None));
        let ahead_ms = Arc::new(AtomicI64::new(i64::try_from(self.dice.below(20)).unwrap() - 10));
        let wall = SimulatedWall { ground: ground.clone(), ahead_ms: ahead_ms.clone() };
        let line = Line::new(ground.clone(), n, number);
        let mut served = models(weather);
        served.retain(|_| !self.dice.per_mille(weather.unserved * 10) || n == 0);
        let (lease, linger) = (weather.lease_ms, weather.linger_ms);
        let opened = handle.clone();
        runtime.spawn(async move {
            loop {
                let builder = Coordinator::builder(Arc::new(line.clone()));
                let mut builder = builder
                    .lease(Duration::from_millis(lease))
                    .linger(Duration::from_millis(linger))
                    .boot_clock(SimulatedBoot(Arc::downgrade(&ground)))
                    .clock(wall.clone());
                for (model, options) in &served {
                    let runner = Scripted { ground: ground.clone(), node: n, life: number };
                    builder = builder.runner(model.clone(), Arc::new(runner), *options);
                }
                match builder.open().await {
                    Ok(coordinator) => return *opened.lock().unwrap() = Some(coordinator),
                    Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                }
            }
        });
        let begun = (self.ground.now_ms(), runtime.block_on(async { Instant::now() }));
        self.nodes[n].life =
            Some(Life { number, runtime, begun, handle, ahead_ms, paused_until: None, drained: None });
    }

    /// The end of a node's process, in the middle of whatever it does.
    fn end(&mut self, n: usize) {
        let Some(life) = self.nodes[n].life.take() else { return };
        self.ground.oracle().life_ends(life.number);
        drop(life.handle.lock().unwrap().take());
        drop(life.runtime);
    }

    fn living(&mut self) -> Option<(usize, u64, Coordinator)> {
        let n = usize::try_from(self.dice.below(self.nodes.len() as u64)).unwrap();
        let life = self.nodes[n].life.as_ref()?;
        let handle = life.handle.lock().unwrap().clone()?;
        Some((n, life.number, handle))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for n in 0..self.nodes.len() {
            self.end(n);
        }
    }
}
