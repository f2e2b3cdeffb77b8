//! What the nodes of one simulated world share: the time, the store with the requests on their way to it, the wake-ups that
//! it sends, and who judges.
//!
//! Decides: when a request is carried out, in which order, and who hears of it when. A request that was sent belongs to
//! nobody: it is carried out also where who sent it is gone by then.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::FutureExt as _;
use soloist::{BootClock, Clock, Key, MemoryStore, Store as _, StoreError, Timestamp, store::StoreResult};
use tokio::sync::watch;

use crate::{broken::Broken, draw::Dice, oracle::Oracle, weather::Weather};

/// When every world begins, by its clocks.
const BEGIN_MS: u64 = 1_000_000;
/// The same moment by the wall clock.
const BEGIN_WALL_MICROS: i64 = 1_800_000_000_000_000;

type Carried = Box<dyn FnOnce(&Ground) + Send>;

pub(crate) struct Ground {
    pub(crate) seed: u64,
    pub(crate) weather: Weather,
    pub(crate) broken: Option<Broken>,
    now_ms: AtomicU64,
    pub(crate) store: MemoryStore,
    /// Nothing breaks any more.
    pub(crate) is_calm: AtomicBool,
    /// Until when the store is away, for everybody and for each node.
    away: Mutex<(u64, BTreeMap<usize, u64>)>,
    /// Until when each node's line is slow.
    slow: Mutex<BTreeMap<usize, u64>>,
    under_way: Mutex<UnderWay>,
    wakes: Mutex<Wakes>,
    oracle: Mutex<Oracle>,
    trace: Mutex<Trace>,
    pub(crate) counts: Counts,
}

#[derive(Default)]
struct UnderWay {
    requests: BTreeMap<(u64, u64), Carried>,
    sent: u64,
}

#[derive(Default)]
struct Wakes {
    listeners: Vec<Listener>,
    commits: u64,
    listened: u64,
}

struct Listener {
    number: u64,
    version: watch::Sender<u64>,
    due_ms: Option<u64>,
}

/// How much of what happened.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) calls: AtomicU64,
    pub(crate) requests_lost: AtomicU64,
    pub(crate) answers_lost: AtomicU64,
    pub(crate) twice: AtomicU64,
    pub(crate) wakes_lost: AtomicU64,
}

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

/// All that happened, as one number, and for people line by line where it is wanted.
struct Trace {
    hash: DefaultHasher,
    lines: Option<Vec<String>>,
}

/// The memory store never waits.
pub(crate) fn now<T>(answer: impl Future<Output = T>) -> T {
    answer.now_or_never().expect("the memory store never waits")
}

impl Ground {
    pub(crate) fn new(seed: u64, broken: Option<Broken>, is_told: bool) -> Arc<Self> {
        Arc::new_cyclic(|ground: &std::sync::Weak<Self>| Self {
            seed,
            weather: Weather::of(seed),
            broken,
            now_ms: AtomicU64::new(BEGIN_MS),
            store: MemoryStore::new().with_boot_clock(SimulatedBoot(ground.clone())),
            is_calm: AtomicBool::new(false),
            away: Mutex::default(),
            slow: Mutex::default(),
            under_way: Mutex::default(),
            wakes: Mutex::default(),
            oracle: Mutex::default(),
            trace: Mutex::new(Trace { hash: DefaultHasher::new(), lines: is_told.then(Vec::new) }),
            counts: Counts::default(),
        })
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.now_ms.load(Relaxed)
    }

    /// Milliseconds since the world began.
    pub(crate) fn age_ms(&self) -> u64 {
        self.now_ms() - BEGIN_MS
    }

    pub(crate) fn is_calm(&self) -> bool {
        self.is_calm.load(Relaxed)
    }

    pub(crate) fn oracle(&self) -> MutexGuard<'_, Oracle> {
        self.oracle.lock().unwrap()
    }

    /// Puts down what happens: part of the history that a seed gives.
    pub(crate) fn note(&self, node: usize, what: &str, about: &str, detail: impl FnOnce() -> String) {
        let mut trace = self.trace.lock().unwrap();
        let detail = detail();
        (self.now_ms(), node, what, about, &detail).hash(&mut trace.hash);
        if let Some(lines) = &mut trace.lines {
            lines.push(format!("{:>6} ms  node {node}  {what} {about} {detail}", self.age_ms()));
        }
    }

    pub(crate) fn history(&self) -> (u64, Vec<String>) {
        let mut trace = self.trace.lock().unwrap();
        (trace.hash.finish(), trace.lines.as_mut().map(std::mem::take).unwrap_or_default())
    }

    /// Moves the time on, carries out what has arrived by then, and wakes who is to hear of it.
    pub(crate) fn advance(&self, by_ms: u64) {
        let now = self.now_ms.fetch_add(by_ms, Relaxed) + by_ms;
        self.oracle().now_ms = now;
        loop {
            let mut under_way = self.under_way.lock().unwrap();
            let Some(first) = under_way.requests.first_entry().filter(|first| first.key().0 <= now) else {
                break;
            };
            let request = first.remove();
            drop(under_way);
            request(self);
        }
        let mut wakes = self.wakes.lock().unwrap();
        wakes.listeners.retain(|listener| listener.version.receiver_count() > 0);
        for listener in &mut wakes.listeners {
            if listener.due_ms.is_some_and(|due| due <= now) {
                listener.due_ms = None;
                listener.version.send_modify(|version| *version += 1);
            }
        }
    }

    /// Sends a request: it arrives after a while, whatever becomes of its sender.
    pub(crate) fn send(&self, after_ms: u64, order: u64, request: Carried) {
        let mut under_way = self.under_way.lock().unwrap();
        under_way.sent += 1;
        // Of those that arrive at one moment chance says which is first.
        let order = (order << 20) | (under_way.sent & 0xf_ffff);
        under_way.requests.insert((self.now_ms() + after_ms, order), request);
    }

    /// The store cannot be reached for a while: by one node, or by none.
    pub(crate) fn takes_away(&self, node: Option<usize>, for_ms: u64) {
        let mut away = self.away.lock().unwrap();
        match node {
            Some(node) => drop(away.1.insert(node, self.now_ms() + for_ms)),
            None => away.0 = self.now_ms() + for_ms,
        }
    }

    /// A node's line is slow for a while.
    pub(crate) fn slows(&self, node: usize, for_ms: u64) {
        self.slow.lock().unwrap().insert(node, self.now_ms() + for_ms);
    }

    pub(crate) fn is_slow(&self, node: usize) -> bool {
        self.slow.lock().unwrap().get(&node).is_some_and(|until| *until > self.now_ms())
    }

    /// Whether the store answers a node now.
    pub(crate) fn reach(&self, node: usize) -> StoreResult<()> {
        let away = self.away.lock().unwrap();
        let until = away.0.max(away.1.get(&node).copied().unwrap_or_default());
        if self.is_calm() || until <= self.now_ms() { Ok(()) } else { Err(cut("the store is away")) }
    }

    /// Somebody listens for wake-ups.
    pub(crate) fn listen(&self) -> watch::Receiver<u64> {
        let mut wakes = self.wakes.lock().unwrap();
        let (version, listener) = watch::channel(0);
        wakes.listened += 1;
        let number = wakes.listened;
        wakes.listeners.push(Listener { number, version, due_ms: None });
        listener
    }

    /// Something was committed: who listens hears of it at once, later, or not at all; what is due together is heard once.
    pub(crate) fn changed(&self) {
        let (now, lost) = (self.now_ms(), if self.is_calm() { 0 } else { self.weather.lose_wake });
        let mut wakes = self.wakes.lock().unwrap();
        wakes.commits += 1;
        let commits = wakes.commits;
        for listener in &mut wakes.listeners {
            let mut dice = Dice::new(self.seed, &[2, commits, listener.number]);
            if dice.per_mille(lost) {
                count(&self.counts.wakes_lost);
                continue;
            }
            let due = now + if dice.per_mille(700) { 0 } else { dice.below(60) };
            listener.due_ms = Some(listener.due_ms.map_or(due, |before| before.min(due)));
        }
    }

    /// The memory as it is after a write, for the judge.
    pub(crate) fn observe(
        &self,
        key: &Key,
        judge: impl FnOnce(&mut Oracle, Option<soloist::Task>, Vec<soloist::Event>),
    ) {
        let mut oracle = self.oracle();
        let after = oracle.end_of(key);
        let range =
            soloist::store::EventRange { after, until: u64::MAX, max_events: 10_000, max_bytes: usize::MAX };
        let (task, events) =
            (now(self.store.task(key)).unwrap(), now(self.store.events(key, range)).unwrap());
        judge(&mut oracle, task, events);
    }
}

pub(crate) fn cut(why: &str) -> StoreError {
    StoreError::Unavailable(format!("simulated: {why}"))
}

/// The clock of all leases.
pub(crate) struct SimulatedBoot(pub(crate) std::sync::Weak<Ground>);

impl BootClock for SimulatedBoot {
    fn now(&self) -> Duration {
        Duration::from_millis(self.0.upgrade().map_or(0, |ground| ground.now_ms()))
    }

    fn boot_id(&self) -> &str {
        "simulated"
    }
}

/// A node's wall clock, which somebody sets now and then.
#[derive(Clone)]
pub(crate) struct SimulatedWall {
    pub(crate) ground: Arc<Ground>,
    pub(crate) ahead_ms: Arc<AtomicI64>,
}

impl Clock for SimulatedWall {
    fn now(&self) -> Timestamp {
        let age = i64::try_from(self.ground.age_ms()).unwrap() + self.ahead_ms.load(Relaxed);
        Timestamp::from_micros(BEGIN_WALL_MICROS + age * 1000)
    }
}
