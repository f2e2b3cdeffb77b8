//! What the memory store keeps.
//!
//! Decides: nothing. Every change of a row stands here, so that the verbs read as: ask the guard, then write.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::{
    Failure, Json, Key, NodeId, Timestamp,
    event::Event,
    idempotency::Idempotency,
    key::ModelKey,
    state::{Place, Status},
    store::{
        Change, ClaimRequest, Current, NewNode, Rerun, Signal, Transition, Won, Writer,
        guard::{self, NodeRow, Now},
    },
    task::{Epoch, Losses, NewId, NewTask, NextRun, Run, RunTerms, Seq, Task},
};

#[derive(Debug, Default)]
pub(super) struct Tables {
    pub(super) nodes: BTreeMap<NodeId, Node>,
    /// By number, so that a list is in the order of creation.
    pub(super) tasks: BTreeMap<u64, Row>,
    numbers: HashMap<Key, u64>,
    last_number: u64,
    last_ids: HashMap<ModelKey, u64>,
    /// The numbers of the tasks that wait for a node, by the place that each got when it was queued.
    pub(super) queue: BTreeMap<u64, u64>,
    /// Those that wait for their time, by when it comes.
    pub(super) delayed: BTreeSet<(Timestamp, u64)>,
    last_place: u64,
    /// The numbers of finished tasks of which one more run is to begin.
    pub(super) owed: BTreeSet<u64>,
    /// How many runs of each model are held.
    held: HashMap<ModelKey, u32>,
    pub(super) tombstones: HashMap<Key, Tombstone>,
    pub(super) keys: HashMap<UsedKey, Use>,
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) row: NodeRow,
    pub(super) models: HashMap<ModelKey, RunTerms>,
    pub(super) inbox: u64,
}

#[derive(Debug)]
pub(super) struct Row {
    pub(super) task: Task,
    /// Its events, dense; the first is the one after what a deleted task of its key had.
    pub(super) log: Vec<Event>,
    pub(super) signals: Vec<(Run, Signal)>,
    /// Its place in the queue.
    place: Option<u64>,
}

/// What a deleted task leaves.
#[derive(Debug)]
pub(super) struct Tombstone {
    run: Run,
    taken_back: u64,
    epoch: Epoch,
    last_seq: Seq,
    pub(super) deleted_at: Timestamp,
}

/// An idempotency key, with whose it is and what for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct UsedKey {
    subject: String,
    call: &'static str,
    target: String,
    key: String,
}

/// What the first use of an idempotency key was told.
#[derive(Debug)]
pub(super) struct Use {
    pub(super) digest: String,
    pub(super) task: Key,
    /// The task, by number: one that is created anew under its key is another.
    pub(super) number: u64,
    pub(super) started: bool,
    pub(super) run: Run,
    pub(super) at: Timestamp,
}

impl UsedKey {
    pub(super) fn new(idempotency: &Idempotency, target: impl ToString) -> Self {
        Self {
            subject: idempotency.subject.clone(),
            call: idempotency.call.as_str(),
            target: target.to_string(),
            key: idempotency.key.clone(),
        }
    }
}

impl Node {
    pub(super) fn new(new: NewNode, now: Now<'_>) -> Self {
        Self {
            row: NodeRow::joined(new.lease, now),
            models: new.models.into_iter().map(|served| (served.model, served.terms)).collect(),
            inbox: 0,
        }
    }
}

impl Row {
    pub(super) fn current(&self) -> Current {
        Current::from(&self.task)
    }

    pub(super) fn epoch_at(&self, seq: Seq) -> Option<Epoch> {
        let first = self.log.first()?.seq;
        self.log.get(usize::try_from(seq.checked_sub(first)?).ok()?).map(|event| event.epoch)
    }

    fn append(&mut self, event: Event) {
        assert_eq!(event.seq, self.task.last_seq + 1, "the log of {} is dense", self.task.key);
        self.task.last_seq = event.seq;
        self.log.push(event);
    }
}

impl Tables {
    pub(super) fn row(&self, key: &Key) -> Option<&Row> {
        self.tasks.get(self.numbers.get(key)?)
    }

    pub(super) fn number(&self, key: &Key) -> Option<u64> {
        self.numbers.get(key).copied()
    }

    /// Finished tasks of which one more run is to begin, and that anybody serves.
    pub(super) fn owed(&self) -> impl Iterator<Item = &Task> {
        let served = |task: &&Task| {
            let mut living = self.nodes.values().filter(|node| guard::is_alive(Some(&node.row)));
            living.any(|node| node.models.contains_key(task.key.model_key()))
        };
        self.owed.iter().map(|number| &self.tasks[number].task).filter(served)
    }

    pub(super) fn alive(&self, node: &NodeId) -> bool {
        guard::is_alive(self.nodes.get(node).map(|node| &node.row))
    }

    /// The key of a new task; an assigned id is one that no task has.
    pub(super) fn new_key(&mut self, id: &NewId) -> Key {
        match id {
            NewId::Named(key) => key.clone(),
            NewId::Assigned(model_key) => loop {
                let last = self.last_ids.entry(model_key.clone()).or_default();
                *last += 1;
                let key = model_key.with_id(&last.to_string()).expect("a decimal number is a valid id");
                if !self.numbers.contains_key(&key) {
                    return key;
                }
            },
        }
    }

    pub(super) fn insert(&mut self, key: Key, new: NewTask, at: Timestamp) {
        let mut task = Task::created(key.clone(), new, at);
        if let Some(left) = self.tombstones.remove(&key) {
            (task.run, task.taken_back, task.epoch) = (left.run, left.taken_back, left.epoch);
            (task.last_seq, task.run_start_seq) = (left.last_seq, left.last_seq);
        }
        self.last_number += 1;
        self.numbers.insert(key, self.last_number);
        self.tasks.insert(self.last_number, Row { task, log: Vec::new(), signals: Vec::new(), place: None });
    }

    /// Takes a task away, and leaves a tombstone.
    pub(super) fn remove(&mut self, key: &Key, at: Timestamp) {
        let number = self.numbers.remove(key).expect("the row was found under this key");
        let Row { task, .. } = self.tasks.remove(&number).expect("a number names a row");
        self.owed.remove(&number);
        let left = Tombstone {
            run: task.run,
            taken_back: guard::taken_back(task.next_run, task.taken_back),
            epoch: task.epoch,
            last_seq: task.last_seq,
            deleted_at: at,
        };
        self.tombstones.insert(key.clone(), left);
    }

    /// A claim that the guard has let win begins a new run: here, or in the queue where its time has not come or as many of
    /// its model run as may.
    pub(super) fn begin(&mut self, request: &ClaimRequest) -> Option<Won> {
        let number = self.numbers[&request.key];
        let model = request.key.model_key();
        let is_full = request.max_total.is_some()
            && (self.is_full(model, request.max_total) || self.is_waited_for(model));
        let row = self.tasks.get_mut(&number).expect("a number names a row");
        let t = &mut row.task;
        t.run = t.following_run();
        t.taken_back = 0;
        t.attempt = 1;
        t.updated_at = request.at;
        t.run_start_seq = t.last_seq;
        t.retry_count = 0;
        (t.losses, t.next_run) = (Losses::default(), NextRun::None);
        (t.started_at, t.completed_at, t.failed_at, t.cancelled_at) = (None, None, None, None);
        (t.final_value, t.failure, t.cancellation_reason) = (None, None, None);
        t.trace = request.trace.clone();
        let due_at = t.run_at.filter(|run_at| *run_at > request.at);
        self.owed.remove(&number);
        if request.place == Place::Here && due_at.is_none() && !is_full {
            return Some(self.hold(number, request.node.clone(), request.at));
        }
        self.enqueue(number, due_at);
        None
    }

    /// Whether as many of a model run, on all nodes, as may.
    pub(super) fn is_full(&self, model: &ModelKey, max_total: Option<u32>) -> bool {
        max_total.is_some_and(|max| self.held.get(model).is_some_and(|held| *held >= max))
    }

    /// Whether runs of a model are ready in the queue.
    fn is_waited_for(&self, model: &ModelKey) -> bool {
        self.queue.values().any(|number| self.tasks[number].task.key.model_key() == model)
    }

    /// Notes that one more run is wanted.
    pub(super) fn want(&mut self, key: &Key, next_run: NextRun) {
        let number = self.numbers[key];
        self.tasks.get_mut(&number).expect("a number names a row").task.next_run = next_run;
    }

    fn enqueue(&mut self, number: u64, due_at: Option<Timestamp>) {
        self.last_place += 1;
        let row = self.tasks.get_mut(&number).expect("a number names a row");
        row.task.status = Status::Queued;
        row.task.due_at = due_at;
        row.place = Some(self.last_place);
        match due_at {
            Some(due_at) => drop(self.delayed.insert((due_at, number))),
            None => drop(self.queue.insert(self.last_place, number)),
        }
    }

    /// Takes a task out of the queue, whatever it waits for.
    fn dequeue(&mut self, number: u64) {
        let row = self.tasks.get_mut(&number).expect("a number names a row");
        if let Some(place) = row.place.take() {
            self.queue.remove(&place);
        }
        if let Some(due_at) = row.task.due_at.take() {
            self.delayed.remove(&(due_at, number));
        }
    }

    /// Makes ready what waits for a time that has come.
    pub(super) fn ripen(&mut self, at: Timestamp) {
        while let Some((due_at, number)) = self.delayed.first().copied().filter(|(due_at, _)| *due_at <= at) {
            self.delayed.remove(&(due_at, number));
            let row = self.tasks.get_mut(&number).expect("a number names a row");
            row.task.due_at = None;
            self.queue.insert(row.place.expect("it waits"), number);
        }
    }

    /// How many of its model stand before a task in the queue, and itself.
    pub(super) fn position(&self, number: u64) -> Option<u64> {
        let row = &self.tasks[&number];
        let place = row.place.filter(|_| row.task.due_at.is_none())?;
        let its = |number: &&u64| self.tasks[number].task.key.model_key() == row.task.key.model_key();
        Some(self.queue.range(..=place).map(|(_, number)| number).filter(its).count() as u64)
    }

    /// Makes a node the holder of the next epoch.
    pub(super) fn hold(&mut self, number: u64, node: NodeId, at: Timestamp) -> Won {
        self.dequeue(number);
        let row = self.tasks.get_mut(&number).expect("a number names a row");
        let t = &mut row.task;
        t.status = Status::Running;
        t.epoch = t.epoch.next();
        t.node = Some(node);
        t.started_at.get_or_insert(at);
        t.updated_at = at;
        *self.held.entry(t.key.model_key().clone()).or_default() += 1;
        Won::of(row.task.clone())
    }

    /// Writes a transition that the guard has admitted. Returns the end of the log after it.
    pub(super) fn write(&mut self, transition: Transition) -> Seq {
        let number = self.numbers[&transition.key];
        let row = self.tasks.get_mut(&number).expect("a number names a row");
        match transition.writer {
            Writer::Holder { events, .. } => events.into_iter().for_each(|event| row.append(event)),
            Writer::Outsider { event: Some(event), .. } => {
                let event = event.at(row.task.last_seq + 1, row.task.run, transition.epoch_after);
                row.append(event);
            }
            Writer::Outsider { event: None, .. } => {}
        }
        let last_seq = row.task.last_seq;
        let t = &mut row.task;
        t.epoch = transition.epoch_after;
        let Some(to) = transition.change.to() else { return last_seq };
        t.status = to;
        t.updated_at = transition.at;
        if matches!(to, Status::Cancelling)
            && let Some(node) = t.node.as_ref().and_then(|node| self.nodes.get_mut(node))
        {
            node.inbox += 1;
        }
        if !to.is_held() && t.node.take().is_some() {
            let held = self.held.get_mut(t.key.model_key()).expect("it was counted when it was held");
            *held -= 1;
            if *held == 0 {
                self.held.remove(t.key.model_key());
            }
        }
        if to.is_finished() {
            row.signals.clear();
        }
        match transition.change {
            Change::Append => unreachable!("an append changes no status"),
            Change::Cancelling { reason, rerun } => {
                t.cancellation_reason = Some(reason);
                if rerun == Rerun::Forget {
                    take_back(t);
                }
            }
            Change::Requeued { attempt, retry_count, losses, due_at } => {
                (t.attempt, t.retry_count, t.losses) = (attempt, retry_count, losses);
                self.enqueue(number, due_at);
            }
            Change::Completed { final_value } => {
                t.completed_at = Some(transition.at);
                t.final_value = Some(final_value);
                t.cancellation_reason = None;
            }
            Change::Failed { failure } => {
                t.failed_at = Some(transition.at);
                // Whether and when another attempt may help was decided by when it came here.
                t.failure = Some(Failure { retryable: true, retry_after: None, ..failure });
                t.cancellation_reason = None;
            }
            Change::Cancelled { reason, rerun } => {
                t.cancelled_at = Some(transition.at);
                t.cancellation_reason = Some(reason);
                if rerun == Rerun::Forget {
                    take_back(t);
                }
            }
        }
        if to.is_finished() {
            if self.tasks[&number].task.next_run != NextRun::None {
                self.owed.insert(number);
            }
            self.dequeue(number);
        }
        last_seq
    }

    /// Puts a signal on record, and tells the node that holds the run.
    pub(super) fn signal(&mut self, key: &Key, run: Run, name: &str, data: Json) -> u64 {
        let number = self.numbers[key];
        let row = self.tasks.get_mut(&number).expect("a number names a row");
        let signal = Signal { number: row.signals.len() as u64 + 1, name: name.to_owned(), data };
        let given = signal.number;
        row.signals.push((run, signal));
        if let Some(node) = row.task.node.as_ref().and_then(|node| self.nodes.get_mut(node)) {
            node.inbox += 1;
        }
        given
    }
}

/// One more run that was asked for does not begin, and its number goes with it.
fn take_back(task: &mut Task) {
    task.taken_back = guard::taken_back(task.next_run, task.taken_back);
    task.next_run = NextRun::None;
}
