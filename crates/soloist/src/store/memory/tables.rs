//! What the memory store keeps.
//!
//! Decides: nothing. Every change of a row stands here, so that the verbs read as: ask the guard, then write.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use crate::{
    Json, Key, NodeId, Timestamp,
    event::Event,
    idempotency::Idempotency,
    key::ModelKey,
    state::{Place, Status},
    store::{Change, ClaimRequest, Current, NewNode, Signal, Transition, Won, Writer},
    task::{Epoch, NewId, NewTask, Run, Seq, Task},
};

#[derive(Debug, Default)]
pub(super) struct Tables {
    pub(super) nodes: HashMap<NodeId, Node>,
    /// By number, so that a list is in the order of creation.
    pub(super) tasks: BTreeMap<u64, Row>,
    numbers: HashMap<Key, u64>,
    last_number: u64,
    last_ids: HashMap<ModelKey, u64>,
    /// The numbers of the tasks that wait, by the place that each got when it was queued.
    pub(super) queue: BTreeMap<u64, u64>,
    last_place: u64,
    pub(super) tombstones: HashMap<Key, Tombstone>,
    pub(super) keys: HashMap<UsedKey, Use>,
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) boot_id: String,
    pub(super) lease: Duration,
    pub(super) lease_until: Duration,
    pub(super) dead: bool,
    pub(super) models: HashSet<ModelKey>,
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
    pub(super) fn new(new: NewNode, boot_id: &str, now: Duration) -> Self {
        Self {
            boot_id: boot_id.to_owned(),
            lease: new.lease,
            lease_until: now + new.lease,
            dead: false,
            models: new.models.into_iter().collect(),
            inbox: 0,
        }
    }

    /// Whether the lease is over by the clock of this boot. One that ends later than any renewal could have put it was
    /// written before that clock was set back.
    pub(super) fn lease_is_over(&self, boot_id: &str, now: Duration) -> bool {
        self.boot_id != boot_id || self.lease_until <= now || self.lease_until > now + self.lease
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

    fn won(&self) -> Won {
        let t = &self.task;
        Won {
            run: t.run,
            attempt: t.attempt,
            epoch: t.epoch,
            last_seq: t.last_seq,
            started_at: t.started_at.expect("a run that is held was started"),
            retry_count: t.retry_count,
            max_retries: t.max_retries,
            input: t.input.clone(),
        }
    }
}

impl Tables {
    pub(super) fn row(&self, key: &Key) -> Option<&Row> {
        self.tasks.get(self.numbers.get(key)?)
    }

    pub(super) fn number(&self, key: &Key) -> Option<u64> {
        self.numbers.get(key).copied()
    }

    pub(super) fn alive(&self, node: &NodeId) -> bool {
        self.nodes.get(node).is_some_and(|node| !node.dead)
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

    pub(super) fn insert(&mut self, key: Key, new: NewTask, at: Timestamp) -> Task {
        let before = self.tombstones.remove(&key).unwrap_or(Tombstone {
            run: 0,
            epoch: Epoch(0),
            last_seq: 0,
            deleted_at: at,
        });
        let task = Task {
            key: key.clone(),
            input: new.input,
            status: Status::Pending,
            run: before.run,
            attempt: 0,
            epoch: before.epoch,
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
            max_retries: new.max_retries,
            timeout_seconds: None,
            run_at: None,
            node: None,
            last_seq: before.last_seq,
            run_start_seq: before.last_seq,
        };
        self.last_number += 1;
        self.numbers.insert(key, self.last_number);
        let row = Row { task: task.clone(), log: Vec::new(), signals: Vec::new(), place: None };
        self.tasks.insert(self.last_number, row);
        task
    }

    /// Takes a task away, and leaves a tombstone.
    pub(super) fn remove(&mut self, key: &Key, at: Timestamp) {
        let number = self.numbers.remove(key).expect("the row was found under this key");
        let Row { task, .. } = self.tasks.remove(&number).expect("a number names a row");
        let left = Tombstone { run: task.run, epoch: task.epoch, last_seq: task.last_seq, deleted_at: at };
        self.tombstones.insert(key.clone(), left);
    }

    /// A claim that the guard has let win begins a new run.
    pub(super) fn begin(&mut self, request: &ClaimRequest) -> Option<Won> {
        let number = self.numbers[&request.key];
        let row = self.tasks.get_mut(&number).expect("a number names a row");
        let t = &mut row.task;
        t.run += 1;
        t.attempt = 1;
        t.updated_at = request.at;
        t.run_start_seq = t.last_seq;
        t.retry_count = 0;
        (t.started_at, t.completed_at, t.failed_at, t.cancelled_at) = (None, None, None, None);
        (t.final_value, t.failure, t.cancellation_reason) = (None, None, None);
        match request.place {
            Place::Here => Some(self.hold(number, request.node.clone(), request.at)),
            Place::Queue => {
                self.enqueue(number);
                None
            }
        }
    }

    fn enqueue(&mut self, number: u64) {
        self.last_place += 1;
        self.queue.insert(self.last_place, number);
        let row = self.tasks.get_mut(&number).expect("a number names a row");
        row.task.status = Status::Queued;
        row.place = Some(self.last_place);
    }

    /// Makes a node the holder of the next epoch.
    pub(super) fn hold(&mut self, number: u64, node: NodeId, at: Timestamp) -> Won {
        let row = self.tasks.get_mut(&number).expect("a number names a row");
        if let Some(place) = row.place.take() {
            self.queue.remove(&place);
        }
        let t = &mut row.task;
        t.status = Status::Running;
        t.epoch = t.epoch.next();
        t.node = Some(node);
        t.started_at.get_or_insert(at);
        t.updated_at = at;
        row.won()
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
        if !to.is_held() {
            t.node = None;
        }
        if to.is_finished() {
            row.signals.clear();
            if let Some(place) = row.place.take() {
                self.queue.remove(&place);
            }
        }
        match transition.change {
            Change::Append => unreachable!("an append changes no status"),
            Change::Cancelling { reason } => t.cancellation_reason = Some(reason),
            Change::Requeued { attempt, retry_count } => {
                (t.attempt, t.retry_count) = (attempt, retry_count);
                self.enqueue(number);
            }
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
