//! The store in memory: the readable reference.
//!
//! Decides nothing: each verb takes the one lock, asks a pure guard ([`super::guard`]), and writes. Nothing survives
//! the process; use it for tests, for demos, and for work whose record may go with its process.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Mutex, MutexGuard},
};

use async_trait::async_trait;

use super::{
    Applied, Change, Claim, ClaimRequest, Current, EventRange, Orphan, Signal, Signalled, Store, StoreResult,
    Transition, Won, Writer, guard,
};
use crate::{
    Json, Key, NodeId, Timestamp,
    event::Event,
    key::ModelKey,
    limits,
    state::Status,
    task::{Create, Delete, Epoch, NewId, NewTask, Run, Task, TaskFilter, TaskPage},
};

/// A [`Store`] that keeps everything in memory.
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
#[derive(Debug, Default)]
pub struct MemoryStore {
    tables: Mutex<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    living: HashSet<NodeId>,
    /// By number, so that a list is in the order of creation.
    tasks: BTreeMap<u64, Row>,
    numbers: HashMap<Key, u64>,
    last_number: u64,
    last_ids: HashMap<ModelKey, u64>,
}

#[derive(Debug)]
struct Row {
    task: Task,
    /// The event with seq n stands at n - 1.
    log: Vec<Event>,
    signals: Vec<(Run, Signal)>,
}

impl Row {
    fn current(&self) -> Current {
        let t = &self.task;
        Current {
            status: t.status,
            run: t.run,
            attempt: t.attempt,
            epoch: t.epoch,
            node: t.node.clone(),
            started_at: t.started_at,
            last_seq: t.last_seq,
            cancellation_reason: t.cancellation_reason.clone(),
        }
    }

    fn epoch_at(&self, seq: u64) -> Option<Epoch> {
        let index = usize::try_from(seq.checked_sub(1)?).ok()?;
        self.log.get(index).map(|e| e.epoch)
    }

    fn append(&mut self, event: Event) {
        assert_eq!(event.seq, self.task.last_seq + 1, "the log of {} is dense", self.task.key);
        self.task.last_seq = event.seq;
        self.log.push(event);
    }
}

impl Tables {
    fn row(&self, key: &Key) -> Option<&Row> {
        self.tasks.get(self.numbers.get(key)?)
    }

    fn row_mut(&mut self, key: &Key) -> Option<&mut Row> {
        self.tasks.get_mut(self.numbers.get(key)?)
    }
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().expect("no code panics while it holds the tables")
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn join(&self, node: &NodeId, _at: Timestamp) -> StoreResult<()> {
        let mut tables = self.lock();
        tables.living.clear();
        tables.living.insert(node.clone());
        Ok(())
    }

    async fn create(&self, new: NewTask, at: Timestamp) -> StoreResult<Create> {
        let mut tables = self.lock();
        let key = match new.id {
            NewId::Named(key) => key,
            NewId::Assigned(model_key) => loop {
                let last = tables.last_ids.entry(model_key.clone()).or_default();
                *last += 1;
                let key = model_key.with_id(&last.to_string()).expect("a decimal number is a valid id");
                if !tables.numbers.contains_key(&key) {
                    break key;
                }
            },
        };
        if let Some(row) = tables.row(&key) {
            let there = row.task.clone();
            return Ok(if there.input.same_value(&new.input) {
                Create::Exists(there)
            } else {
                Create::Differs(there)
            });
        }
        let task = Task {
            key: key.clone(),
            input: new.input,
            status: Status::Pending,
            run: 0,
            attempt: 0,
            epoch: Epoch(0),
            owner: new.owner,
            created_at: at,
            updated_at: at,
            started_at: None,
            completed_at: None,
            failed_at: None,
            cancelled_at: None,
            final_value: None,
            failure: None,
            cancellation_reason: None,
            retry_count: 0,
            max_retries: 0,
            timeout_seconds: None,
            run_at: None,
            node: None,
            last_seq: 0,
            run_start_seq: 0,
        };
        tables.last_number += 1;
        let number = tables.last_number;
        tables.numbers.insert(key, number);
        tables.tasks.insert(number, Row { task: task.clone(), log: Vec::new(), signals: Vec::new() });
        Ok(Create::Created(task))
    }

    async fn claim(&self, request: ClaimRequest) -> StoreResult<Claim> {
        let mut tables = self.lock();
        let alive = tables.living.contains(&request.node);
        let Some(row) = tables.row_mut(&request.key) else { return Ok(Claim::Missing) };
        if let Some(lost) = guard::lost_claim(Some(row.current()), request.policy, alive) {
            return Ok(lost);
        }
        let t = &mut row.task;
        t.status = Status::Running;
        t.run += 1;
        t.attempt = 1;
        t.epoch = t.epoch.next();
        t.node = Some(request.node);
        t.started_at = Some(request.at);
        t.updated_at = request.at;
        t.run_start_seq = t.last_seq;
        t.retry_count = 0;
        (t.completed_at, t.failed_at, t.cancelled_at) = (None, None, None);
        (t.final_value, t.failure, t.cancellation_reason) = (None, None, None);
        Ok(Claim::Won(Won {
            run: t.run,
            attempt: t.attempt,
            epoch: t.epoch,
            last_seq: t.last_seq,
            started_at: request.at,
            input: t.input.clone(),
        }))
    }

    async fn apply(&self, transition: Transition) -> StoreResult<Applied> {
        guard::well_formed(&transition)?;
        let mut tables = self.lock();
        let Some(row) = tables.row_mut(&transition.key) else { return Ok(Applied::Fenced(None)) };
        let current = row.current();
        if !guard::admits(&current, &transition) {
            return Ok(guard::refused(Some(current), &transition, |seq| row.epoch_at(seq)));
        }
        match transition.writer {
            Writer::Holder { events, .. } => events.into_iter().for_each(|event| row.append(event)),
            Writer::Outsider { event: Some(event), .. } => {
                let event = event.at(row.task.last_seq + 1, row.task.run, transition.epoch_after);
                row.append(event);
            }
            Writer::Outsider { event: None, .. } => {}
        }
        let t = &mut row.task;
        t.epoch = transition.epoch_after;
        if let Some(to) = transition.change.to() {
            t.status = to;
            t.updated_at = transition.at;
            if to.is_finished() {
                t.node = None;
            }
        }
        match transition.change {
            Change::Append => {}
            Change::Cancelling { reason } => t.cancellation_reason = Some(reason),
            Change::Completed { final_value } => {
                t.completed_at = Some(transition.at);
                t.final_value = Some(final_value);
                t.cancellation_reason = None;
            }
            Change::Failed { failure } => {
                t.failed_at = Some(transition.at);
                t.failure = Some(failure);
                t.cancellation_reason = None;
            }
            Change::Cancelled { reason } => {
                t.cancelled_at = Some(transition.at);
                t.cancellation_reason = Some(reason);
            }
        }
        let (last_seq, finished) = (t.last_seq, t.status.is_finished());
        if finished {
            row.signals.clear();
        }
        Ok(Applied::Committed { last_seq })
    }

    async fn orphans(&self, limit: usize) -> StoreResult<Vec<Orphan>> {
        let tables = self.lock();
        Ok(tables
            .tasks
            .values()
            .filter(|row| row.task.node.as_ref().is_some_and(|node| !tables.living.contains(node)))
            .map(|row| Orphan { key: row.task.key.clone(), current: row.current() })
            .take(limit)
            .collect())
    }

    async fn task(&self, key: &Key) -> StoreResult<Option<Task>> {
        Ok(self.lock().row(key).map(|row| row.task.clone()))
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
        Ok(row
            .log
            .iter()
            .skip(usize::try_from(range.after).unwrap_or(usize::MAX))
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

    async fn delete(&self, key: &Key) -> StoreResult<Delete> {
        let mut tables = self.lock();
        let Some(row) = tables.row(key) else { return Ok(Delete::Missing) };
        if row.task.status.is_active() {
            return Ok(Delete::Active(row.task.status));
        }
        let number = tables.numbers.remove(key).expect("the row was found under this key");
        tables.tasks.remove(&number);
        Ok(Delete::Deleted)
    }

    async fn signal(&self, key: &Key, name: &str, data: Json, _at: Timestamp) -> StoreResult<Signalled> {
        let mut tables = self.lock();
        let Some(row) = tables.row_mut(key) else { return Ok(Signalled::Missing) };
        let run = match row.task.status {
            Status::Pending => row.task.run + 1,
            Status::Queued | Status::Running | Status::Cancelling => row.task.run,
            finished @ (Status::Completed | Status::Failed | Status::Cancelled) => {
                return Ok(Signalled::NotRunning(finished));
            }
        };
        let number = row.signals.len() as u64 + 1;
        if number > limits::SIGNALS_MAX_PER_RUN {
            return Ok(Signalled::Full);
        }
        row.signals.push((run, Signal { number, name: name.to_owned(), data }));
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
