//! Judges a history by what was promised, and by nothing else.
//!
//! It sees every commit at the moment at which it is made, everything that anybody is told, every event that a viewer is
//! shown, and every step of the work. It keeps a record of its own and holds all of that against it; it shares no rule with
//! the product. What breaks a promise is put down with the promise's name.

use std::collections::{BTreeMap, BTreeSet};

use soloist::{
    Event, Key, NodeId, Run, Seq, Status, Task,
    store::{NewNode, Renewal, Transition},
};

mod record;
mod told;
mod work;

/// What a write has done, as its store has answered it.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    Nothing,
    Created,
    Claimed(NodeId),
    Queued,
    Wanted,
    Taken(NodeId),
    Applied(Box<Transition>, u64),
    Deleted,
}

impl PartialEq for Act {
    fn eq(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

#[derive(Default)]
pub(crate) struct Oracle {
    pub(crate) now_ms: u64,
    /// Rises with everything that happens.
    tick: u64,
    keys: BTreeMap<Key, Shadow>,
    nodes: BTreeMap<NodeId, Node>,
    lives: BTreeMap<u64, Life>,
    /// Work that goes on.
    works: BTreeMap<usize, Work>,
    keyed: BTreeMap<(Key, String), (bool, Run)>,
    held: BTreeMap<String, u32>,
    totals: BTreeMap<String, u32>,
    slots: BTreeMap<String, usize>,
    pub(crate) found: Vec<String>,
    pub(crate) judged: Judged,
}

/// What was looked at.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Judged {
    pub(crate) commits: u64,
    pub(crate) events: u64,
    pub(crate) shown: u64,
    pub(crate) runs: u64,
    pub(crate) takeovers: u64,
    pub(crate) answers: u64,
    pub(crate) works: u64,
    pub(crate) sessions: u64,
    pub(crate) signals: u64,
    /// Runs that were promised and did not begin, as their whole task was cancelled or deleted.
    pub(crate) promises_taken_back: u64,
}

/// What is on record of a key, over all tasks of that name.
#[derive(Default)]
struct Shadow {
    row: Option<Row>,
    /// All events there ever were.
    log: Vec<Event>,
    runs: BTreeMap<Run, RunOf>,
    /// Where the log ended when tasks of that name were created.
    created: Vec<Seq>,
    /// When tasks of that name were deleted.
    deleted: Vec<u64>,
    /// Which start was told that it has started a run.
    started: BTreeMap<Run, u64>,
    /// Runs that were ever promised to who has asked for one more; the last one of them may be still to begin.
    promised: BTreeSet<Run>,
    is_owed: bool,
    /// The newest epoch under which work has begun.
    worked: u64,
    statuses: Vec<(u64, Status, Run)>,
}

impl Shadow {
    /// The number that the next run must have: the one that is promised, or else one that nobody was ever told of.
    fn next_run(&self) -> Run {
        let begun = self.runs.iter().rev().find(|(_, run)| run.begun > 0).map_or(0, |(run, _)| *run);
        let promised = self.promised.last().copied().unwrap_or(0);
        if self.is_owed { promised } else { begun.max(promised) + 1 }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    status: Status,
    run: Run,
    epoch: u64,
    node: Option<NodeId>,
    last_seq: Seq,
}

impl From<&Task> for Row {
    fn from(task: &Task) -> Self {
        Self {
            status: task.status,
            run: task.run,
            epoch: task.epoch.0,
            node: task.node.clone(),
            last_seq: task.last_seq,
        }
    }
}

#[derive(Debug, Default)]
struct RunOf {
    begun: u64,
    ended: Option<u64>,
    start_seq: Seq,
    signals: Vec<(String, String)>,
}

struct Node {
    life: u64,
    lease_ms: u64,
    lease_until_ms: u64,
    /// When the newest heartbeat was sent of which the node knows that it came through.
    sent_ms: u64,
    dead: bool,
}

#[derive(Default, Clone, Copy)]
struct Life {
    gone: bool,
    paused: bool,
    resumed_ms: u64,
}

struct Work {
    key: Key,
    epoch: u64,
    life: u64,
    /// The name under which it was claimed, where that is on record when it begins.
    node: Option<NodeId>,
}

/// How long work may still act in a process that was stopped and has just come back: until its next look at the clock.
const LATE_MS: u64 = 120;

/// So much of its lease a node may believe in, from the moment at which a heartbeat was sent.
const TRUSTED_PERCENT: u64 = 60;

impl Oracle {
    fn break_of(&mut self, promise: &str, key: &Key, what: impl std::fmt::Display) {
        let now = self.now_ms;
        self.found.push(format!("{promise}: {key}: {what} (at {now})"));
    }

    pub(crate) fn tick(&mut self) -> u64 {
        self.tick += 1;
        self.tick
    }

    /// Most runs of a model at a time, on one node and on all.
    pub(crate) fn bound(&mut self, model: &str, on_one: usize, on_all: Option<u32>) {
        self.slots.insert(model.to_owned(), on_one);
        self.totals.extend(on_all.map(|most| (model.to_owned(), most)));
    }

    pub(crate) fn end_of(&self, key: &Key) -> Seq {
        self.keys.get(key).map_or(0, |shadow| shadow.log.len() as Seq)
    }

    /// The newest run of a key.
    pub(crate) fn run_of(&self, key: &Key) -> Run {
        self.keys.get(key).and_then(|shadow| shadow.row.as_ref()).map_or(0, |row| row.run)
    }

    /// The record of a task that was created with its first run as it would be before that: judged as a create and a claim,
    /// one after the other.
    pub(crate) fn before_its_claim(&self, task: &Task) -> Task {
        let newest = |shadow: &Shadow| shadow.runs.keys().last().copied();
        let mut before = task.clone();
        (before.status, before.node) = (Status::Pending, None);
        before.run = self.keys.get(&task.key).and_then(newest).unwrap_or(0);
        if task.status == Status::Running {
            before.epoch = soloist::Epoch(task.epoch.0.saturating_sub(1));
        }
        before
    }

    pub(crate) fn joined(&mut self, life: u64, new: &NewNode) {
        self.judged.sessions += 1;
        let lease_ms = u64::try_from(new.lease.as_millis()).unwrap();
        let lease_until_ms = self.now_ms + lease_ms;
        let node = Node { life, lease_ms, lease_until_ms, sent_ms: 0, dead: false };
        let before = self.nodes.insert(new.id.clone(), node);
        if before.is_some() {
            self.found.push(format!("S1: the name {} was used before", new.id));
        }
    }

    pub(crate) fn renewed(&mut self, id: &NodeId, renewal: Renewal) {
        let now = self.now_ms;
        let node = self.nodes.get_mut(id).expect("it has joined");
        match renewal {
            Renewal::Renewed if node.dead => self.found.push(format!("S1: {id} is dead, and was renewed")),
            Renewal::Renewed if node.lease_until_ms <= now => {
                self.found.push(format!("S1: the lease of {id} was over, and was renewed"));
            }
            Renewal::Renewed => node.lease_until_ms = now + node.lease_ms,
            Renewal::Dead if !node.dead && node.lease_until_ms > now => {
                self.found.push(format!("S1: {id} was told that it is dead, and its lease is good"));
            }
            Renewal::Dead => {}
        }
    }

    /// A node is told what has become of a heartbeat, or of its join, that it has sent then.
    pub(crate) fn heard(&mut self, id: &NodeId, sent_ms: u64, renewal: Renewal) {
        let node = self.nodes.get_mut(id).expect("it has joined");
        if renewal == Renewal::Renewed {
            node.sent_ms = node.sent_ms.max(sent_ms);
        }
    }

    pub(crate) fn left(&mut self, id: &NodeId) {
        self.nodes.get_mut(id).expect("it has joined").dead = true;
    }

    pub(crate) fn buried(&mut self, id: &NodeId) {
        let now = self.now_ms;
        let node = self.nodes.get_mut(id).expect("it has joined");
        if node.lease_until_ms > now {
            self.found.push(format!("S1: {id} was buried, and its lease is good"));
        }
        node.dead = true;
    }

    pub(crate) fn life_ends(&mut self, life: u64) {
        self.lives.entry(life).or_default().gone = true;
        self.works.retain(|_, work| work.life != life);
    }

    pub(crate) fn life_pauses(&mut self, life: u64) {
        self.lives.entry(life).or_default().paused = true;
    }

    pub(crate) fn life_resumes(&mut self, life: u64) {
        let now = self.now_ms;
        let life = self.lives.entry(life).or_default();
        (life.paused, life.resumed_ms) = (false, now);
    }

    pub(crate) fn found(&mut self, promise: &str, key: &Key, what: impl std::fmt::Display) {
        self.break_of(promise, key, what);
    }

    /// What is not at rest.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.keys.values().all(|shadow| shadow.row.as_ref().is_none_or(|row| !row.status.is_active()))
    }

    pub(crate) fn active(&self) -> Vec<String> {
        let active = self.keys.iter().filter_map(|(key, shadow)| Some((key, shadow.row.as_ref()?)));
        active.filter(|(_, row)| row.status.is_active()).map(|(key, row)| format!("{key}: {row:?}")).collect()
    }
}
