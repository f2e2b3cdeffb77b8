//! The store in memory: the readable reference.
//!
//! Decides nothing: each verb takes the one lock, asks a pure guard ([`super::guard`]), and writes. Nothing survives
//! the process; use it for tests, for demos, and for work whose record may go with its process.

mod tables;

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::Arc,
};

use async_trait::async_trait;
use tokio::sync::watch;

use self::tables::{Node, Tables, Use, UsedKey};
use super::{
    Applied, Claim, ClaimRequest, Current, EventRange, Evidence, FirstClaim, Heartbeat, Held, NewNode, Prune,
    QueuedClaim, Renewal, Signal, Signalled, Store, StoreResult, Transition, Waiting, Won, guard,
};
use crate::{
    HostBootClock, Json, Key, NodeId, Timestamp,
    clock::{BootClock, SharedBootClock},
    event::Event,
    key::ModelKey,
    limits,
    state::Status,
    sync::{Mutex, MutexGuard},
    task::{Create, Delete, NewTask, NextRun, Run, RunTerms, Task, TaskFilter, TaskPage},
};

/// A [`Store`] that keeps everything in memory. A clone is another handle on the same memory.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use soloist::{Json, NewTask, Store, MemoryStore, Timestamp};
/// let store = MemoryStore::new();
/// let task = NewTask::named("a/B/1".parse()?, Json::parse("{}")?);
/// store.create(task, Timestamp::now()).await?;
/// assert!(store.task(&"a/B/1".parse()?).await?.is_some());
/// # Ok::<(), soloist::Error>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct MemoryStore {
    tables: Arc<Mutex<Tables>>,
    changes: watch::Sender<u64>,
    clock: SharedBootClock,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self { tables: Arc::default(), changes: watch::Sender::new(0), clock: Arc::new(HostBootClock) }
    }

    /// The same memory, judging leases by this clock.
    #[must_use]
    pub fn with_boot_clock(self, clock: impl BootClock) -> Self {
        Self { clock: Arc::new(clock), ..self }
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        lock(&self.tables)
    }

    fn now(&self) -> guard::Now<'_> {
        guard::Now { boot_id: self.clock.boot_id(), time: self.clock.now() }
    }

    fn changed(&self) {
        self.changes.send_modify(|version| *version += 1);
    }

    fn put(&self, new: NewTask, claim: Option<FirstClaim>, at: Timestamp) -> Create {
        let mut tables = self.lock();
        let target = match &new.id {
            crate::NewId::Named(key) => key.to_string(),
            crate::NewId::Assigned(model) => model.to_string(),
        };
        let used = new.idempotency.clone().map(|used| (UsedKey::new(&used, target), used.digest));
        if let Some((used, digest)) = &used
            && let Some(first) = tables.keys.get(used)
        {
            return if first.digest != *digest {
                Create::KeyReused
            } else if tables.number(&first.task) == Some(first.number) {
                Create::Replayed(tables.row(&first.task).expect("a number names a row").task.clone())
            } else {
                Create::ReplayedDeleted(first.task.clone())
            };
        }
        let key = tables.new_key(&new.id);
        let created = match tables.row(&key) {
            Some(row) if row.task.input.same_value(&new.input) => Create::Exists(row.task.clone()),
            Some(row) => return Create::Differs(row.task.clone()),
            None => {
                tables.insert(key.clone(), new, at);
                if let Some(claim) = claim.filter(|claim| tables.alive(&claim.node)) {
                    tables.begin(&claim.of(key.clone(), at));
                }
                Create::Created(tables.row(&key).expect("it was just made").task.clone())
            }
        };
        if let Some((used, digest)) = used {
            let number = tables.number(&key).expect("it was just found or made");
            tables.keys.insert(used, Use { digest, task: key, number, started: false, run: 0, at });
        }
        drop(tables);
        self.changed();
        created
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryStore")
    }
}

fn lock(tables: &Mutex<Tables>) -> MutexGuard<'_, Tables> {
    tables.lock().expect("no code panics while it holds the tables")
}

/// What keeps a node of a [`MemoryStore`] alive.
struct Beat {
    store: MemoryStore,
    node: NodeId,
}

impl Heartbeat for Beat {
    fn renew(&mut self) -> StoreResult<Renewal> {
        let mut tables = self.store.lock();
        let now = self.store.now();
        let node = tables.nodes.get_mut(&self.node).map(|node| &mut node.row);
        let renewal = guard::renews(node.as_deref(), now);
        if let (Some(node), Renewal::Renewed) = (node, renewal) {
            node.lease_until = now.time + node.lease;
        }
        Ok(renewal)
    }

    fn leave(&mut self) -> StoreResult<()> {
        if let Some(node) = self.store.lock().nodes.get_mut(&self.node) {
            node.row.dead = true;
        }
        self.store.changed();
        Ok(())
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn join(&self, node: NewNode) -> StoreResult<Box<dyn Heartbeat>> {
        let id = node.id.clone();
        self.lock().nodes.insert(id.clone(), Node::new(node, self.now()));
        self.changed();
        Ok(Box::new(Beat { store: self.clone(), node: id }))
    }

    async fn bury(&self, evidence: Evidence) -> StoreResult<Vec<NodeId>> {
        let mut buried = Vec::new();
        let mut tables = self.lock();
        let now = self.now();
        for (id, node) in &mut tables.nodes {
            if guard::buries(&node.row, evidence, now) {
                node.row.dead = true;
                buried.push(id.clone());
            }
        }
        drop(tables);
        if !buried.is_empty() {
            self.changed();
        }
        Ok(buried)
    }

    async fn serves(&self, model: &ModelKey) -> StoreResult<Option<RunTerms>> {
        let tables = self.lock();
        let mut living = tables.nodes.values().filter(|node| guard::is_alive(Some(&node.row)));
        Ok(living.find_map(|node| node.models.get(model)).copied())
    }

    async fn beside(&self, node: &NodeId) -> StoreResult<bool> {
        let tables = self.lock();
        let mut others =
            tables.nodes.iter().filter(|(id, other)| *id != node && guard::is_alive(Some(&other.row)));
        Ok(others.any(|(_, other)| !other.models.is_empty()))
    }

    async fn create(&self, new: NewTask, at: Timestamp) -> StoreResult<Create> {
        Ok(self.put(new, None, at))
    }

    async fn create_claimed(&self, new: NewTask, claim: FirstClaim, at: Timestamp) -> StoreResult<Create> {
        Ok(self.put(new, Some(claim), at))
    }
    async fn claim(&self, request: ClaimRequest) -> StoreResult<Claim> {
        let mut tables = self.lock();
        let alive = tables.alive(&request.node);
        let Some(row) = tables.row(&request.key).map(|row| row.current()) else { return Ok(Claim::Missing) };
        let number = tables.number(&request.key).expect("it has a row");
        let used = request.idempotency.as_ref().map(|used| (UsedKey::new(used, &request.key), &used.digest));
        if let Some((used, _)) = &used
            && let Some(first) = tables.keys.get(used)
        {
            debug_assert_eq!(first.task, request.key, "a key of a start belongs to its task");
            let first = guard::FirstUse { digest: &first.digest, started: first.started, run: first.run };
            return Ok(guard::repeated(first, &request, row));
        }
        let is_active = row.status.is_active();
        let answer = match guard::lost_claim(Some(row), request.policy, request.after, alive) {
            Some(lost) => lost,
            None if is_active && request.policy.asks_for_more() => {
                tables.want(&request.key, NextRun::wanted(request.policy));
                let current = tables.row(&request.key).expect("it has a row").current();
                Claim::Rerun { current, first: true }
            }
            None => match tables.begin(&request) {
                Some(won) => Claim::Won(won),
                None => Claim::Queued(tables.row(&request.key).expect("it has a row").current()),
            },
        };
        let run = tables.row(&request.key).expect("it has a row").task.run;
        if let (Some((used, digest)), Some((started, run))) = (used, guard::first_use(&answer, run)) {
            let (digest, task) = (digest.clone(), request.key.clone());
            tables.keys.insert(used, Use { digest, task, number, started, run, at: request.at });
        }
        drop(tables);
        if matches!(answer, Claim::Won(_) | Claim::Queued(_) | Claim::Rerun { first: true, .. }) {
            self.changed();
        }
        Ok(answer)
    }

    async fn claim_queued(&self, request: QueuedClaim) -> StoreResult<Option<(Key, Won)>> {
        let mut tables = self.lock();
        let claimer = tables.nodes.get(&request.node).map(|node| &node.row);
        let full = |(model, max): &(ModelKey, Option<u32>)| (model.clone(), tables.is_full(model, *max));
        let models: HashMap<_, _> = request.models.iter().map(full).collect();
        // What waits for its time is not in the queue.
        let first = tables.queue.values().copied().find_map(|number| {
            let row = &tables.tasks[&number];
            let is_full = *models.get(row.task.key.model_key())?;
            let is_due = row.task.due_at.is_none();
            let taken = guard::takes_from_queue(&row.current(), is_due, is_full, claimer);
            taken.then(|| (number, row.task.key.clone()))
        });
        let Some((number, key)) = first else { return Ok(None) };
        let won = tables.hold(number, request.node, request.at);
        drop(tables);
        self.changed();
        Ok(Some((key, won)))
    }

    async fn waiting(&self) -> StoreResult<Waiting> {
        let tables = self.lock();
        Ok(Waiting {
            ready: !tables.queue.is_empty(),
            next_due: tables.delayed.first().map(|(due_at, _)| *due_at),
            owed: tables.owed().next().is_some(),
        })
    }

    async fn ripen(&self, at: Timestamp) -> StoreResult<bool> {
        self.lock().ripen(at);
        Ok(false)
    }

    async fn owed(&self, limit: usize) -> StoreResult<Vec<(Key, Run)>> {
        let tables = self.lock();
        Ok(tables.owed().take(limit).map(|task| (task.key.clone(), task.run)).collect())
    }

    async fn apply(&self, transition: Transition) -> StoreResult<Applied> {
        guard::well_formed(&transition)?;
        let mut tables = self.lock();
        let Some(row) = tables.row(&transition.key) else { return Ok(Applied::Fenced(None)) };
        let current = row.current();
        if !guard::admits(&current, &transition) {
            return Ok(guard::refused(Some(current), &transition, |seq| row.epoch_at(seq)));
        }
        let last_seq = tables.write(transition);
        drop(tables);
        self.changed();
        Ok(Applied::Committed { last_seq })
    }

    async fn orphans(&self, limit: usize) -> StoreResult<Vec<Held>> {
        let tables = self.lock();
        let orphaned = |row: &&tables::Row| {
            let holder = row.task.node.as_ref().and_then(|node| tables.nodes.get(node));
            row.task.node.is_some() && guard::is_orphaned(&row.current(), holder.map(|node| &node.row))
        };
        Ok(tables.tasks.values().filter(orphaned).map(held).take(limit).collect())
    }

    async fn held(&self, node: &NodeId, status: Status) -> StoreResult<Vec<Held>> {
        let tables = self.lock();
        let its = |row: &&tables::Row| row.task.node.as_ref() == Some(node) && row.task.status == status;
        Ok(tables.tasks.values().filter(its).map(held).collect())
    }

    async fn rows(&self, keys: Vec<Key>) -> StoreResult<Vec<Option<Current>>> {
        let tables = self.lock();
        Ok(keys.iter().map(|key| tables.row(key).map(tables::Row::current)).collect())
    }

    async fn inbox(&self, node: &NodeId) -> StoreResult<u64> {
        Ok(self.lock().nodes.get(node).map_or(0, |node| node.inbox))
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    async fn tidy(&self, at: Timestamp) -> StoreResult<bool> {
        let mut tables = self.lock();
        let tables = &mut *tables;
        let older = |then: Timestamp, kept: std::time::Duration| {
            u128::try_from(at.as_micros() - then.as_micros()).is_ok_and(|age| age > kept.as_micros())
        };
        tables.tombstones.retain(|_, tombstone| !older(tombstone.deleted_at, limits::TOMBSTONE_KEPT));
        let living = &tables.tasks;
        tables
            .keys
            .retain(|_, used| living.contains_key(&used.number) || !older(used.at, limits::IDEMPOTENCY_KEPT));
        let holders: HashSet<_> = tables.tasks.values().filter_map(|row| row.task.node.clone()).collect();
        tables.nodes.retain(|id, node| guard::is_alive(Some(&node.row)) || holders.contains(id));
        Ok(false)
    }

    async fn task(&self, key: &Key) -> StoreResult<Option<Task>> {
        let tables = self.lock();
        let Some(number) = tables.number(key) else { return Ok(None) };
        let mut task = tables.tasks[&number].task.clone();
        task.position = tables.position(number);
        Ok(Some(task))
    }

    async fn list(&self, filter: TaskFilter) -> StoreResult<TaskPage> {
        let tables = self.lock();
        let fits = |t: &Task| {
            filter.app.as_deref().is_none_or(|app| app == t.key.app())
                && filter.model.as_deref().is_none_or(|model| model == t.key.model())
                && filter.status.is_none_or(|status| status == t.status)
                && (filter.owner.is_none() || filter.owner == t.owner)
        };
        let limit = filter.limit.clamp(1, limits::LIST_MAX_TASKS);
        let (mut page, mut bytes, mut next_cursor) = (Vec::<Task>::new(), 0, None);
        let mut last_number = 0;
        for (number, row) in tables.tasks.range(..filter.before.unwrap_or(u64::MAX)).rev() {
            let task = &row.task;
            if !fits(task) {
                continue;
            }
            if page.len() == limit || bytes >= limits::LIST_MAX_BYTES {
                next_cursor = Some(last_number);
                break;
            }
            bytes += task.input.as_str().len() + task.final_value.as_ref().map_or(0, |v| v.as_str().len());
            last_number = *number;
            page.push(task.clone());
        }
        Ok(TaskPage { tasks: page, next_cursor })
    }

    async fn events(&self, key: &Key, range: EventRange) -> StoreResult<Vec<Event>> {
        let tables = self.lock();
        let Some(row) = tables.row(key) else { return Ok(Vec::new()) };
        let mut bytes = 0;
        let first = row.log.first().map_or(1, |event| event.seq);
        let skipped = range.after.saturating_add(1).saturating_sub(first);
        Ok(row
            .log
            .iter()
            .skip(usize::try_from(skipped).unwrap_or(usize::MAX))
            .take_while(|e| e.seq <= range.until)
            .take(range.max_events.max(1))
            .take_while(|e| {
                let room = bytes == 0 || bytes < range.max_bytes;
                bytes += e.data.as_str().len();
                room
            })
            .cloned()
            .collect())
    }

    async fn delete(&self, key: &Key, run: Option<Run>, at: Timestamp) -> StoreResult<Delete> {
        let mut tables = self.lock();
        let Some(row) = tables.row(key) else { return Ok(Delete::Missing) };
        if let Some(kept) = guard::kept(&row.current(), run) {
            return Ok(kept);
        }
        tables.remove(key, at);
        drop(tables);
        self.changed();
        Ok(Delete::Deleted)
    }

    async fn prune(&self, request: Prune, at: Timestamp) -> StoreResult<Vec<Key>> {
        let mut tables = self.lock();
        let ended = |task: &Task| task.completed_at.or(task.failed_at).or(task.cancelled_at);
        let is_old = |task: &Task| {
            task.key.model_key() == &request.model
                && task.status == request.status
                && task.status.is_finished()
                && task.next_run == NextRun::None
                && ended(task).is_some_and(|ended| ended < request.before)
        };
        let mut old: Vec<_> =
            tables.tasks.values().map(|row| &row.task).filter(|task| is_old(task)).collect();
        old.sort_by_key(|task| ended(task));
        let keys: Vec<Key> = old.into_iter().take(request.limit).map(|task| task.key.clone()).collect();
        keys.iter().for_each(|key| tables.remove(key, at));
        drop(tables);
        if !keys.is_empty() {
            self.changed();
        }
        Ok(keys)
    }

    async fn signal(&self, key: &Key, name: &str, data: Json, _at: Timestamp) -> StoreResult<Signalled> {
        let mut tables = self.lock();
        let Some(row) = tables.row(key) else { return Ok(Signalled::Missing) };
        let run = match row.task.status {
            Status::Pending => row.task.following_run(),
            Status::Queued | Status::Running | Status::Cancelling => row.task.run,
            finished @ (Status::Completed | Status::Failed | Status::Cancelled) => {
                return Ok(Signalled::NotRunning(finished));
            }
        };
        if row.signals.len() as u64 >= limits::SIGNALS_MAX_PER_RUN {
            return Ok(Signalled::Full);
        }
        let number = tables.signal(key, run, name, data);
        drop(tables);
        self.changed();
        Ok(Signalled::Recorded { run, number })
    }

    async fn signals(&self, key: &Key, run: Run, after: u64, limit: usize) -> StoreResult<Vec<Signal>> {
        let tables = self.lock();
        let Some(row) = tables.row(key) else { return Ok(Vec::new()) };
        Ok(row
            .signals
            .iter()
            .filter(|(of, signal)| *of == run && signal.number > after)
            .map(|(_, signal)| signal.clone())
            .take(limit)
            .collect())
    }
}

fn held(row: &tables::Row) -> Held {
    Held { key: row.task.key.clone(), current: row.current() }
}
