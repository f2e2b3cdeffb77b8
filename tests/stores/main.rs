//! The three stores side by side: random commands, the same ones to each, and the same answers, records, logs and signals
//! from each.
//!
//! A command is turned into a transition as the library does it, by the state table and from the row as the store in memory
//! has it; sometimes from a row as it was a while ago, as a process does it that is behind.
//!
//! `PROPTEST_CASES` says how many sequences are tried; what fails is made smaller before it is shown.
#![allow(missing_docs, clippy::unwrap_used)]

mod reads;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use soloist::{
    Create, Data, Ending, Epoch, Failure, IdempotencyKey, Json, Key, Losses, MemoryStore, ModelKey, NewTask,
    NodeId, Policy, RunTerms, Status, Store, Timestamp, TraceContext,
    event::{self, NewEvent},
    idempotency::{Call, Idempotency},
    state::{Command, EpochChange, Logged, Place, Retries, next},
    store::{
        Change, ClaimRequest, Current, EventRange, Evidence, FirstClaim, Heartbeat, NewNode, Prune,
        QueuedClaim, Rerun, Served, StoreResult, Transition, Writer,
    },
};
use soloist_postgres::{PgOptions, PgStore};
use soloist_sqlite::{SqliteOptions, SqliteStore};
use soloist_store_contract::ManualBootClock;
use soloist_test_postgres::Cluster;

const TASKS: usize = 4;
const NODES: usize = 3;
/// How long a node lives after each renewal, by the clock that all three read.
const LEASE: Duration = Duration::from_secs(30);
const DAY_MICROS: i64 = 24 * 60 * 60 * 1_000_000;

/// What the starts of a node are part of: another trace for each, and none for the first.
fn trace_of(node: usize) -> Option<TraceContext> {
    TraceContext::new(&format!("00-{:032x}-{node:016x}-01", 7), Some("a=1").filter(|_| node > 1))
}

/// Something that somebody does.
#[derive(Debug, Clone)]
enum Op {
    Create {
        task: usize,
        run_at: Option<i64>,
        keyed: bool,
        /// With another input than the others.
        differs: bool,
        /// With its first run, where it brings no key and the runs of the model are not bounded.
        first: Option<(usize, Place)>,
    },
    Start {
        task: usize,
        node: usize,
        policy: Policy,
        place: Place,
        keyed: Option<(u8, Call)>,
        after: Option<u64>,
    },
    ClaimQueued {
        node: usize,
    },
    Append {
        task: usize,
        count: u64,
    },
    Holder {
        task: usize,
        command: Command,
        wait: i64,
    },
    Other {
        task: usize,
        command: Command,
        wait: i64,
        rerun: Rerun,
    },
    /// What somebody does who looked a while ago.
    Late {
        task: usize,
        command: Command,
    },
    Signal {
        task: usize,
    },
    Delete {
        task: usize,
        run: Option<u64>,
    },
    Ripen {
        later: i64,
    },
    Prune {
        status: Status,
    },
    Owed,
    Leave {
        node: usize,
    },
    Renew {
        node: usize,
    },
    /// The clock of the leases goes on.
    Pass {
        seconds: u64,
    },
    Bury {
        evidence: Evidence,
    },
    /// What is old by then is removed.
    Tidy {
        days: i64,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let task = 0..TASKS;
    let node = 0..NODES;
    let policy = prop::sample::select(Policy::ALL.to_vec());
    let place = prop::sample::select(vec![Place::Here, Place::Here, Place::Queue]);
    let rerun = prop::sample::select(vec![Rerun::Keep, Rerun::Forget]);
    let own = prop::sample::select(vec![
        Command::Complete,
        Command::Fail(Retries::Left),
        Command::Fail(Retries::Spent),
        Command::TimeOut,
        Command::Drain(Retries::Left),
        Command::Drain(Retries::Spent),
        Command::Drop,
    ]);
    let others = prop::sample::select(vec![
        Command::Cancel,
        Command::NodeLost(Retries::Left),
        Command::NodeLost(Retries::Spent),
    ]);
    let wait = prop::sample::select(vec![0, 0, 50, 500]);
    let call =
        prop::sample::select(vec![Call::Start, Call::Start, Call::CreateAndStart, Call::StartOrAttach]);
    prop_oneof![
        3 => (task.clone(), prop::option::weighted(0.2, 1..500_i64), prop::bool::weighted(0.2), prop::bool::weighted(0.1),
              prop::option::weighted(0.4, (node.clone(), place.clone())))
            .prop_map(|(task, run_at, keyed, differs, first)| Op::Create { task, run_at, keyed, differs, first }),
        6 => (task.clone(), node.clone(), policy, place, prop::option::weighted(0.2, (0..3_u8, call)), prop::option::weighted(0.15, 0..4_u64))
            .prop_map(|(task, node, policy, place, keyed, after)| Op::Start { task, node, policy, place, keyed, after }),
        4 => node.clone().prop_map(|node| Op::ClaimQueued { node }),
        3 => (task.clone(), 1..4_u64).prop_map(|(task, count)| Op::Append { task, count }),
        6 => (task.clone(), own.clone(), wait.clone()).prop_map(|(task, command, wait)| Op::Holder { task, command, wait }),
        4 => (task.clone(), others.clone(), wait, rerun)
            .prop_map(|(task, command, wait, rerun)| Op::Other { task, command, wait, rerun }),
        2 => (task.clone(), prop_oneof![own, others]).prop_map(|(task, command)| Op::Late { task, command }),
        2 => task.clone().prop_map(|task| Op::Signal { task }),
        1 => (task, prop::option::of(0..4_u64)).prop_map(|(task, run)| Op::Delete { task, run }),
        2 => prop::sample::select(vec![0, 100, 1_000]).prop_map(|later| Op::Ripen { later }),
        1 => prop::sample::select(vec![Status::Completed, Status::Failed, Status::Cancelled])
            .prop_map(|status| Op::Prune { status }),
        2 => Just(Op::Owed),
        1 => node.clone().prop_map(|node| Op::Leave { node }),
        1 => node.prop_map(|node| Op::Renew { node }),
        1 => prop::sample::select(vec![1, 10, 29, 31]).prop_map(|seconds| Op::Pass { seconds }),
        1 => prop::sample::select(vec![Evidence::Certain, Evidence::Lease])
            .prop_map(|evidence| Op::Bury { evidence }),
        1 => prop::sample::select(vec![0, 0, 2, 401]).prop_map(|days| Op::Tidy { days }),
    ]
}

/// The three, with what keeps their nodes alive.
struct Stores {
    all: Vec<(&'static str, Arc<dyn Store>)>,
    /// What all three measure leases by.
    boot: ManualBootClock,
}

/// One sequence: a model of its own, and nodes of its own.
struct World<'a> {
    stores: &'a Stores,
    model: ModelKey,
    nodes: Vec<NodeId>,
    heartbeats: Vec<Vec<Box<dyn Heartbeat>>>,
    /// Most runs of the model at a time.
    total: Option<u32>,
    clock: i64,
    /// Rows as they were before the last change of each.
    before: BTreeMap<usize, Current>,
    signals: u32,
}

static MODELS: AtomicU64 = AtomicU64::new(0);

impl<'a> World<'a> {
    async fn new(stores: &'a Stores, total: Option<u32>) -> World<'a> {
        let name = format!("M{}", MODELS.fetch_add(1, Ordering::Relaxed));
        let model = ModelKey::new("p", &name).unwrap();
        let mut world = World {
            stores,
            model,
            nodes: (0..NODES).map(|_| NodeId::random()).collect(),
            heartbeats: Vec::new(),
            total,
            clock: 1_800_000_000_000_000,
            before: BTreeMap::new(),
            signals: 0,
        };
        let at = world.now();
        for node in world.nodes.clone() {
            world.heartbeats.push(world.join(&node, at).await);
        }
        world
    }

    async fn join(&self, node: &NodeId, at: Timestamp) -> Vec<Box<dyn Heartbeat>> {
        let mut heartbeats = Vec::new();
        for (_, store) in &self.stores.all {
            let terms = RunTerms { max_retries: 2, timeout_seconds: Some(9), deadline_seconds: None };
            let served = Served { model: self.model.clone(), terms, max_total: self.total };
            let new = NewNode { id: node.clone(), lease: LEASE, models: vec![served], at };
            heartbeats.push(store.join(new).await.unwrap());
        }
        heartbeats
    }

    fn now(&mut self) -> Timestamp {
        self.clock += 1_000;
        Timestamp::from_micros(self.clock)
    }

    fn after(&self, millis: i64) -> Option<Timestamp> {
        (millis > 0).then(|| Timestamp::from_micros(self.clock + millis * 1_000))
    }

    fn key(&self, task: usize) -> Key {
        self.model.with_id(&format!("t{task}")).unwrap()
    }

    /// Asks all three the same; what they answer is the same.
    async fn ask<T, F>(&self, what: &str, ask: impl Fn(Arc<dyn Store>) -> F) -> Result<T, TestCaseError>
    where
        T: std::fmt::Debug,
        F: Future<Output = StoreResult<T>>,
    {
        let mut first: Option<(String, StoreResult<T>)> = None;
        for (name, store) in &self.stores.all {
            let answer = ask(store.clone()).await;
            let shown = format!("{answer:?}");
            match &first {
                None => first = Some((shown, answer)),
                Some((expected, _)) => prop_assert_eq!(&shown, expected, "{} of {}", what, name),
            }
        }
        first.unwrap().1.map_err(|error| TestCaseError::fail(format!("{what}: {error}")))
    }

    async fn row(&self, task: usize) -> Result<Option<Current>, TestCaseError> {
        let key = self.key(task);
        let rows = self.ask("rows", |store| {
            let key = key.clone();
            async move { store.rows(vec![key]).await }
        });
        Ok(rows.await?.remove(0))
    }

    async fn apply(&mut self, task: usize, transition: Transition) -> Result<(), TestCaseError> {
        if let Some(row) = self.row(task).await? {
            self.before.insert(task, row);
        }
        let what = format!("{:?} from {}", transition.change, transition.from);
        self.ask(&what, |store| {
            let transition = transition.clone();
            async move { store.apply(transition).await }
        })
        .await
        .map(drop)
    }

    /// The transition that a command makes of a row, as the library computes it; none where the table refuses it.
    fn transition(
        &mut self,
        task: usize,
        row: &Current,
        command: Command,
        wait: i64,
        rerun: Rerun,
    ) -> Option<Transition> {
        let step = next(row.status, command).ok()?;
        let (at, key) = (self.now(), self.key(task));
        let failure = Failure::new("Boom", "it broke").with_traceback("here");
        let due_at = self.after(wait);
        let change = match (step.to, command) {
            (Status::Queued, _) => Change::Requeued {
                attempt: row.attempt + 1,
                retry_count: row.retry_count + u32::from(!matches!(command, Command::Drain(_))),
                losses: match command {
                    Command::NodeLost(_) => Losses { node: row.losses.node + 1, ..row.losses },
                    _ => row.losses,
                },
                due_at,
            },
            (Status::Cancelling, _) => Change::Cancelling { reason: "stop".into(), rerun },
            (Status::Completed, _) => Change::Completed { final_value: Json::parse("[1]").unwrap() },
            (Status::Failed, _) => Change::Failed { failure: failure.clone() },
            (Status::Cancelled, _) => Change::Cancelled { reason: "stop".into(), rerun },
            (Status::Pending | Status::Running, _) => return None,
        };
        let ending = match &change {
            Change::Completed { final_value } => Some(Ending::Completed { final_value: final_value.clone() }),
            Change::Failed { failure } => Some(Ending::Failed { failure: failure.clone() }),
            Change::Cancelled { reason, .. } => Some(Ending::Cancelled { reason: reason.clone() }),
            Change::Append | Change::Cancelling { .. } | Change::Requeued { .. } => None,
        };
        let event: Option<NewEvent> = match step.logged {
            Logged::Nothing => None,
            Logged::Retry => Some(event::retry(row.attempt + 1, 2, Duration::ZERO, &failure, at)),
            Logged::Timeout => Some(event::timeout("Timeout", at)),
            Logged::Terminal => Some(event::terminal(&ending?, None, at)),
        };
        let by_holder = !matches!(command, Command::Cancel | Command::NodeLost(_));
        let writer = match (&row.node, by_holder) {
            (Some(node), true) => Writer::Holder {
                node: node.clone(),
                epoch: row.epoch,
                events: event
                    .into_iter()
                    .map(|event| event.at(row.last_seq + 1, row.run, row.epoch))
                    .collect(),
                after: row.last_seq,
            },
            _ => Writer::Outsider { epoch: row.epoch, run: row.run, event },
        };
        let epoch_after = match step.epoch {
            EpochChange::Keep => row.epoch,
            EpochChange::Rise => row.epoch.next(),
        };
        Some(Transition { key, writer, from: row.status, change, epoch_after, at })
    }

    async fn act(&mut self, op: &Op) -> Result<(), TestCaseError> {
        match *op {
            Op::Create { task, run_at, keyed, differs, first } => {
                let input = if differs { r#"{"a": 1.0}"# } else { r#"{"a": 1}"# };
                let mut new = NewTask::named(self.key(task), Json::parse(input).unwrap());
                new.owner = reads::owner(task).map(str::to_owned);
                (new.max_retries, new.timeout_seconds) = (Some(2), Some(9));
                new.run_at = run_at.and_then(|millis| self.after(millis));
                if keyed {
                    let key = IdempotencyKey::new("k").unwrap();
                    new.idempotency = Some(Idempotency::create(&key, &new, ""));
                }
                let at = self.now();
                let first = first.filter(|_| !keyed && self.total.is_none());
                let claim = first.map(|(node, place)| {
                    let (node, trace) = (self.nodes[node].clone(), trace_of(node));
                    FirstClaim { node, place, trace }
                });
                let what = format!("{op:?}");
                let create = self.ask(&what, |store| {
                    let (new, claim) = (new.clone(), claim.clone());
                    async move {
                        // A task that is there may stand in the queue, and a create tells no place.
                        let created = match claim {
                            Some(claim) => store.create_claimed(new, claim, at).await?,
                            None => store.create(new, at).await?,
                        };
                        Ok(match created {
                            Create::Exists(mut task) | Create::Replayed(mut task) => {
                                task.position = None;
                                Create::Exists(task)
                            }
                            other => other,
                        })
                    }
                });
                create.await.map(drop)
            }
            Op::Start { task, node, policy, place, keyed, after } => {
                let idempotency = keyed.map(|(key, call)| {
                    let key = IdempotencyKey::new(format!("k{key}")).unwrap();
                    Idempotency::start(&key, call, policy)
                });
                let request = ClaimRequest {
                    key: self.key(task),
                    node: self.nodes[node].clone(),
                    policy,
                    place,
                    after,
                    max_total: self.total,
                    idempotency,
                    trace: trace_of(node),
                    at: self.now(),
                };
                let what = format!("{op:?}");
                self.ask(&what, |store| {
                    let request = request.clone();
                    async move { store.claim(request).await }
                })
                .await
                .map(drop)
            }
            Op::ClaimQueued { node } => {
                let models = vec![(self.model.clone(), self.total)];
                let request = QueuedClaim { node: self.nodes[node].clone(), models, at: self.now() };
                self.ask("claim_queued", |store| {
                    let request = request.clone();
                    async move { store.claim_queued(request).await }
                })
                .await
                .map(drop)
            }
            Op::Append { task, count } => {
                let Some(row) = self.row(task).await? else { return Ok(()) };
                let Some(node) = row.node.clone() else { return Ok(()) };
                let at = self.now();
                let events = (1..=count).map(|n| {
                    let data = match n {
                        1 => Data::Text("plain \0 text\r\n".into()),
                        _ => Data::Json(Json::parse(r#"{"n": 1.00}"#).unwrap()),
                    };
                    NewEvent::from_work("note", data, at).unwrap().at(row.last_seq + n, row.run, row.epoch)
                });
                let writer =
                    Writer::Holder { node, epoch: row.epoch, events: events.collect(), after: row.last_seq };
                let (key, from, epoch_after) = (self.key(task), row.status, row.epoch);
                let append = Transition { key, writer, from, change: Change::Append, epoch_after, at };
                self.apply(task, append).await
            }
            Op::Holder { task, command, wait } => {
                let Some(row) = self.row(task).await? else { return Ok(()) };
                match self.transition(task, &row, command, wait, Rerun::Keep) {
                    Some(transition) => self.apply(task, transition).await,
                    None => Ok(()),
                }
            }
            Op::Other { task, command, wait, rerun } => {
                let Some(row) = self.row(task).await? else { return Ok(()) };
                match self.transition(task, &row, command, wait, rerun) {
                    Some(transition) => self.apply(task, transition).await,
                    None => Ok(()),
                }
            }
            Op::Late { task, command } => {
                let Some(row) = self.before.get(&task).cloned() else { return Ok(()) };
                match self.transition(task, &row, command, 0, Rerun::Keep) {
                    Some(transition) => self.apply(task, transition).await,
                    None => Ok(()),
                }
            }
            Op::Signal { task } => {
                self.signals += 1;
                let (key, data, at) = (self.key(task), Json::of(&self.signals).unwrap(), self.now());
                self.ask("signal", |store| {
                    let (key, data) = (key.clone(), data.clone());
                    async move { store.signal(&key, "go", data, at).await }
                })
                .await
                .map(drop)
            }
            Op::Delete { task, run } => {
                let (key, at) = (self.key(task), self.now());
                self.ask("delete", |store| {
                    let key = key.clone();
                    async move { store.delete(&key, run, at).await }
                })
                .await
                .map(drop)
            }
            Op::Ripen { later } => {
                let at = self.after(later).unwrap_or(Timestamp::from_micros(self.clock));
                self.ask("ripen", |store| async move {
                    while store.ripen(at).await? {}
                    Ok(())
                })
                .await
            }
            Op::Prune { status } => {
                let before = self.now();
                let request = Prune { model: self.model.clone(), status, before, limit: 2 };
                self.ask("prune", |store| {
                    let request = request.clone();
                    async move {
                        // Which are gone counts, and not in which order they are named.
                        let mut gone = store.prune(request, before).await?;
                        gone.sort();
                        Ok(gone)
                    }
                })
                .await
                .map(drop)
            }
            Op::Owed => {
                let owed = self.ask("owed", |store| async move { store.owed(100_000).await }).await?;
                let model = self.model.clone();
                for (key, run) in owed.into_iter().filter(|(key, _)| *key.model_key() == model) {
                    let task = key.id()[1..].parse().unwrap();
                    let start = Op::Start {
                        task,
                        node: 0,
                        policy: Policy::Restart,
                        place: Place::Here,
                        keyed: None,
                        after: Some(run),
                    };
                    Box::pin(self.act(&start)).await?;
                }
                Ok(())
            }
            Op::Leave { node } => {
                for heartbeat in self.heartbeats[node].drain(..) {
                    let mut heartbeat = heartbeat;
                    tokio::task::spawn_blocking(move || heartbeat.leave()).await.unwrap().unwrap();
                }
                // Another process under a fresh name.
                self.nodes[node] = NodeId::random();
                let (fresh, at) = (self.nodes[node].clone(), self.now());
                self.heartbeats[node] = self.join(&fresh, at).await;
                Ok(())
            }
            Op::Renew { node } => {
                let mut heartbeats = std::mem::take(&mut self.heartbeats[node]);
                let (back, answers) = tokio::task::spawn_blocking(move || {
                    let answers: Vec<_> = heartbeats.iter_mut().map(|heartbeat| heartbeat.renew()).collect();
                    (heartbeats, answers)
                })
                .await
                .unwrap();
                self.heartbeats[node] = back;
                prop_assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "renew: {:?}", answers);
                Ok(())
            }
            Op::Pass { seconds } => {
                self.stores.boot.advance(Duration::from_secs(seconds));
                Ok(())
            }
            Op::Bury { evidence } => {
                let own = self.nodes.clone();
                self.ask("bury", |store| {
                    let own = own.clone();
                    async move {
                        // What earlier sequences have left is buried with it.
                        let mut buried = store.bury(evidence).await?;
                        buried.retain(|node| own.contains(node));
                        buried.sort_by(|a, b| a.as_str().cmp(b.as_str()));
                        Ok(buried)
                    }
                })
                .await
                .map(drop)
            }
            Op::Tidy { days } => {
                let at = Timestamp::from_micros(self.clock + days * DAY_MICROS);
                self.ask("tidy", |store| async move {
                    while store.tidy(at).await? {}
                    Ok(())
                })
                .await
            }
        }
    }

    /// Carries a command out; who is told of it is the same everywhere.
    async fn act_and_tell(&mut self, op: &Op) -> Result<(), TestCaseError> {
        let tells = matches!(op, Op::Signal { .. } | Op::Other { command: Command::Cancel, .. });
        if !tells {
            return self.act(op).await;
        }
        let before = self.inboxes().await;
        self.act(op).await?;
        let after = self.inboxes().await;
        let rose: Vec<Vec<bool>> = after
            .iter()
            .zip(&before)
            .map(|(after, before)| after.iter().zip(before).map(|(after, before)| after > before).collect())
            .collect();
        prop_assert!(rose.windows(2).all(|pair| pair[0] == pair[1]), "inboxes after {:?}: {:?}", op, rose);
        Ok(())
    }

    /// The number of each node's inbox, store by store.
    async fn inboxes(&self) -> Vec<Vec<u64>> {
        let mut all = Vec::new();
        for (_, store) in &self.stores.all {
            let mut numbers = Vec::new();
            for node in &self.nodes {
                numbers.push(store.inbox(node).await.unwrap());
            }
            all.push(numbers);
        }
        all
    }

    /// All nodes are gone, what they have left is taken over and ended, and all tasks are deleted: nothing is left that the
    /// next sequence would meet.
    async fn end(&mut self) -> Result<(), TestCaseError> {
        for heartbeats in &mut self.heartbeats {
            for mut heartbeat in heartbeats.drain(..) {
                tokio::task::spawn_blocking(move || heartbeat.leave()).await.unwrap().unwrap();
            }
        }
        let model = self.model.clone();
        let orphans = self.ask("orphans", |store| {
            let model = model.clone();
            async move {
                let mut orphans = store.orphans(100_000).await?;
                orphans.retain(|held| *held.key.model_key() == model);
                orphans.sort_by(|a, b| a.key.cmp(&b.key));
                Ok(orphans)
            }
        });
        let orphans = orphans.await?;
        for task in 0..TASKS {
            let Some(row) = self.row(task).await? else { continue };
            let key = self.key(task);
            let is_orphan = orphans.iter().any(|held| held.key == key);
            prop_assert_eq!(is_orphan, row.node.is_some(), "{} is an orphan where somebody held it", key);
            let command = if is_orphan { Command::NodeLost(Retries::Spent) } else { Command::Cancel };
            if let Some(ending) = self.transition(task, &row, command, 0, Rerun::Forget) {
                self.apply(task, ending).await?;
            }
            self.act(&Op::Delete { task, run: None }).await?;
            prop_assert_eq!(self.row(task).await?, None);
        }
        let waiting = self.ask("waiting", |store| async move { store.waiting().await }).await?;
        prop_assert_eq!(waiting, soloist::store::Waiting::default());
        Ok(())
    }

    async fn play(&mut self, ops: &[Op]) -> Result<(), TestCaseError> {
        for op in ops {
            self.act_and_tell(op).await?;
        }
        self.compare().await
    }

    /// Everything that is on record of the sequence, and the invariants of each log.
    async fn compare(&self) -> Result<(), TestCaseError> {
        for task in 0..TASKS {
            let key = self.key(task);
            let record = self.ask("record", |store| {
                let key = key.clone();
                async move { store.task(&key).await }
            });
            let Some(record) = record.await? else { continue };
            let range = EventRange { after: 0, until: u64::MAX, max_events: 10_000, max_bytes: usize::MAX };
            let log = self.ask("log", |store| {
                let key = key.clone();
                async move { store.events(&key, range).await }
            });
            let log = log.await?;
            for run in [record.run, record.following_run()] {
                let signals = self.ask("signals", |store| {
                    let key = key.clone();
                    async move { store.signals(&key, run, 0, 1_000).await }
                });
                signals.await?;
            }
            prop_assert!(log.windows(2).all(|pair| pair[1].seq == pair[0].seq + 1), "S3: {:?}", log);
            prop_assert!(log.windows(2).all(|pair| pair[1].epoch >= pair[0].epoch), "S2: {:?}", log);
            prop_assert_eq!(log.last().map_or(record.last_seq, |event| event.seq), record.last_seq);
            for pair in log.windows(2).filter(|pair| pair[0].event_type.is_terminal()) {
                prop_assert!(pair[1].run > pair[0].run, "S4: {:?}", log);
            }
            let ended =
                log.last().is_some_and(|event| event.event_type.is_terminal() && event.run == record.run);
            prop_assert!(!record.status.is_finished() || ended || log.is_empty(), "S7: {:?}", record);
            prop_assert!(log.iter().all(|event| event.epoch <= record.epoch && event.epoch >= Epoch(0)));
        }
        let held = |status| {
            let nodes = self.nodes.clone();
            self.ask("held", move |store| {
                let nodes = nodes.clone();
                async move {
                    let mut all = Vec::new();
                    for node in &nodes {
                        let mut held = store.held(node, status).await?;
                        held.sort_by(|a, b| a.key.cmp(&b.key));
                        all.push(held);
                    }
                    Ok(all)
                }
            })
        };
        held(Status::Running).await?;
        held(Status::Cancelling).await?;
        self.ask("waiting", |store| async move { store.waiting().await }).await?;
        self.ask("serves", |store| {
            let model = self.model.clone();
            async move { store.serves(&model).await }
        })
        .await?;
        for node in &self.nodes {
            self.ask("beside", |store| async move { store.beside(node).await }).await?;
        }
        self.compare_pages().await
    }
}

#[test]
fn s1_to_s8_random_commands_leave_the_same_records_and_logs_in_memory_sqlite_and_postgres() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualBootClock::at(Duration::from_secs(3_600));
    let stores = runtime.block_on(async {
        let memory: Arc<dyn Store> = Arc::new(MemoryStore::new().with_boot_clock(clock.clone()));
        let options = SqliteOptions { boot_clock: Arc::new(clock.clone()), ..SqliteOptions::default() };
        let sqlite: Arc<dyn Store> =
            Arc::new(SqliteStore::open_with(dir.path().join("a.db"), options).unwrap());
        let database = Cluster::shared().database("properties");
        let options = PgOptions { clock: Some(Arc::new(clock.clone())), ..PgOptions::default() };
        let postgres: Arc<dyn Store> = Arc::new(PgStore::open_with(&database.url(), options).await.unwrap());
        // It goes with the cluster.
        std::mem::forget(database);
        Stores { all: vec![("memory", memory), ("sqlite", sqlite), ("postgres", postgres)], boot: clock }
    });
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(64);
    let mut runner = TestRunner::new(Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 300,
        ..Config::default()
    });
    let total = prop::sample::select(vec![Some(1), Some(2), Some(2), None]);
    let ran = runner.run(&(total, prop::collection::vec(op(), 1..60)), |(total, ops)| {
        runtime.block_on(async {
            let mut world = World::new(&stores, total).await;
            let went = world.play(&ops).await;
            // Also after a failure, which is tried again with fewer commands.
            let ended = world.end().await;
            went.and(ended)
        })
    });
    if let Err(error) = ran {
        panic!("{error}");
    }
    println!("{cases} sequences of up to 59 commands");
    drop(stores);
    drop(runtime);
}
