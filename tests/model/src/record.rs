//! What is on record: one task with its log, the nodes, one idempotency key.
//!
//! Decides nothing: each verb asks the product's guards, as the memory store does, with the product's own rows, requests and
//! transitions, and then writes. Beside what is on record stands what nobody can see and the promises are about: which
//! start began a run, who wrote an event. Rules that are broken on purpose ([`Broken`]) are broken here or in `process.rs`.

use std::{sync::LazyLock, time::Duration};

use soloist::{
    Data, Epoch, Event, Json, Key, Losses, NextRun, NodeId, Policy, Status, Timestamp,
    event::NewEvent,
    idempotency::{Call, Idempotency},
    state::{Command, Place, next},
    store::{
        Applied, Change, Claim, ClaimRequest, Current, Evidence, Renewal, Transition, Writer,
        guard::{self, NodeRow, Now},
    },
};

use crate::rules::Broken;

/// Most events in the log.
pub const LOG_MAX: usize = 8;
/// Most runs.
pub const RUNS_MAX: usize = 2;
/// Leases are shorter, in ticks.
const LEASE_MAX: u8 = 8;
/// Names that a process can be known by at one time: its present one, and one that it has given up.
pub const NAMES: usize = 2;
/// Whoever takes over or cancels.
pub const NOBODY: u8 = 7;

/// A node's name: which process, and which of its names.
pub type Name = (u8, u8);

/// A name as the product has it.
pub fn id((process, name): Name) -> NodeId {
    static IDS: LazyLock<Vec<NodeId>> =
        LazyLock::new(|| (0..8).map(|n| NodeId::from_store(format!("node-{n}"))).collect());
    IDS[usize::from(process) * NAMES + usize::from(name)].clone()
}

/// The one task.
pub fn key() -> Key {
    static KEY: LazyLock<Key> = LazyLock::new(|| Key::new("app", "Model", "1").expect("a valid key"));
    KEY.clone()
}

/// An event; what it carries is of no interest.
pub fn event(kind: Kind) -> NewEvent {
    static EVENTS: LazyLock<[NewEvent; 3]> = LazyLock::new(|| {
        ["note", "retry", "ending"].map(|event_type| {
            let json = Data::Json(Json::from_store("{}"));
            NewEvent::from_work(event_type, json, Timestamp::from_micros(0)).expect("a valid event")
        })
    });
    EVENTS[kind as usize].clone()
}

/// What an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The work has sent it.
    Sent,
    /// Another attempt follows.
    Retry,
    /// The terminal event of its run.
    Ending,
}

impl Kind {
    fn of(event_type: &str) -> Self {
        match event_type {
            "note" => Self::Sent,
            "retry" => Self::Retry,
            _ => Self::Ending,
        }
    }
}

/// An event on record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Entry {
    pub seq: u8,
    pub epoch: u8,
    pub run: u8,
    pub kind: Kind,
    /// Which process has written it, or [`NOBODY`], and which of the writes of its attempt that was: nobody can see it.
    pub by: (u8, u8),
}

/// The log.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Log {
    len: u8,
    entries: [Option<Entry>; LOG_MAX],
}

impl Log {
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.entries[..usize::from(self.len)].iter().flatten()
    }

    /// The processes that have written in it.
    pub fn each_writer(&mut self, see: impl FnMut(&mut u8)) {
        let writers = self.entries.iter_mut().flatten().map(|entry| &mut entry.by.0);
        writers.filter(|writer| **writer != NOBODY).for_each(see);
    }

    /// How many events there are; only the first of more than [`LOG_MAX`] are kept.
    pub fn events(&self) -> u8 {
        self.len
    }

    fn push(&mut self, entry: Entry) {
        if let Some(place) = self.entries.get_mut(usize::from(self.len)) {
            *place = Some(entry);
        }
        self.len += 1;
    }
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let short = |e: &Entry| format!("{} e{} r{} {:?} by {:?}", e.seq, e.epoch, e.run, e.kind, e.by);
        f.debug_list().entries(self.iter().map(short)).finish()
    }
}

/// The task's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Row {
    pub status: Status,
    pub run: u8,
    pub attempt: u8,
    pub epoch: u8,
    pub node: Option<Name>,
    pub last_seq: u8,
    pub retry_count: u8,
    pub store_losses: u8,
    /// The number of the claim that has written it last.
    pub claim_id: u8,
}

impl Row {
    /// What of it an outsider compares and computes with.
    pub fn seen(self) -> Self {
        Self { node: None, last_seq: 0, claim_id: 0, ..self }
    }

    /// As the product has it.
    pub fn current(&self, max_retries: u8) -> Current {
        Current {
            status: self.status,
            run: self.run.into(),
            attempt: self.attempt.into(),
            epoch: Epoch(self.epoch.into()),
            node: self.node.map(id),
            started_at: None,
            last_seq: self.last_seq.into(),
            cancellation_reason: None,
            retry_count: self.retry_count.into(),
            max_retries: max_retries.into(),
            losses: Losses { node: 0, store: self.store_losses.into() },
            next_run: NextRun::None,
            taken_back: 0,
        }
    }
}

/// A node's row. Its lease is kept as what is left of it, so that time needs no number and no end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Node {
    pub dead: bool,
    pub left: u8,
}

/// Any moment serves where only what is left counts.
const MOMENT: Duration = Duration::from_secs(1_000);

pub fn seconds(ticks: u8) -> Duration {
    Duration::from_secs(ticks.into())
}

fn now() -> Now<'static> {
    Now { boot_id: "boot", time: MOMENT }
}

impl Node {
    /// As the product has it. They are few, and are made once.
    fn row(self, terms: &Terms) -> &'static NodeRow {
        static ROWS: LazyLock<Vec<NodeRow>> = LazyLock::new(|| {
            let all = (0..LEASE_MAX).flat_map(|lease| (0..LEASE_MAX).map(move |left| (lease, left)));
            let row = |(lease, left), dead| NodeRow {
                dead,
                boot_id: "boot".to_owned(),
                lease: seconds(lease),
                lease_until: MOMENT + seconds(left),
            };
            all.flat_map(|times| [row(times, false), row(times, true)]).collect()
        });
        let place = (terms.lease * LEASE_MAX + self.left) * 2 + u8::from(self.dead);
        &ROWS[usize::from(place)]
    }
}

/// A start on its way to the store, or the claim of a queued run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Asked {
    /// The number of the start: that of its caller, however often it is sent. 0: the claim of a queued run.
    pub id: u8,
    /// The number that it leaves on the row where it wins, and is sent again under where its answer was lost; a caller that
    /// sends its start once more makes another claim.
    pub claim_id: u8,
    pub name: Name,
    /// The caller sends it under an idempotency key.
    pub keyed: bool,
    pub here: bool,
    /// What the look before it has seen.
    pub seen_run: u8,
    pub seen_epoch: u8,
    /// Broken: the key was looked up by then, and is not again.
    pub is_key_looked_up: bool,
}

/// What it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Told {
    /// Won; `again` where it found its own number.
    Won {
        row: Row,
        again: bool,
    },
    Queued {
        run: u8,
    },
    Replayed {
        started: bool,
        run: u8,
    },
    Lost,
    NodeDead,
}

/// How a write was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Answer {
    Committed,
    AlreadyThere,
    Fenced,
    Moved(Status),
}

/// Promises that a step has broken; each is a property of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Fault {
    EpochSkipped = 1,
    EpochRepeated = 2,
    OldEpochWrote = 4,
    RunBegunTwice = 8,
    StartBeganTwo = 16,
    WinToldTwice = 32,
    ToldUntrue = 64,
    TrustedTakenOver = 128,
    DeadRenewed = 256,
    DeadClaimed = 512,
    HolderLostKeepsEpoch = 1024,
    KeyToldTwoThings = 2048,
    Malformed = 4096,
}

/// All of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Record<const N: usize> {
    pub row: Row,
    pub log: Log,
    pub nodes: [[Option<Node>; NAMES]; N],
    /// What the first use of the key was told.
    pub key: Option<(bool, u8)>,
    /// Which start has begun a run, by run.
    pub begun_by: [u8; RUNS_MAX + 2],
    /// The promises that are broken.
    pub faults: u16,
}

/// What the store is like, and what is broken in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    pub lease: u8,
    pub max_retries: u8,
    pub broken: Option<Broken>,
}

impl Terms {
    pub fn is(&self, broken: Broken) -> bool {
        self.broken == Some(broken)
    }
}

impl<const N: usize> Record<N> {
    pub fn new(lease: u8) -> Self {
        let row = Row {
            status: Status::Pending,
            run: 0,
            attempt: 0,
            epoch: 0,
            node: None,
            last_seq: 0,
            retry_count: 0,
            store_losses: 0,
            claim_id: 0,
        };
        Self {
            row,
            log: Log { len: 0, entries: [None; LOG_MAX] },
            nodes: [[Some(Node { dead: false, left: lease }), None]; N],
            key: None,
            begun_by: [0; RUNS_MAX + 2],
            faults: 0,
        }
    }

    pub fn fault(&mut self, fault: Fault) {
        self.faults |= fault as u16;
    }

    pub fn node(&self, (process, name): Name) -> Option<Node> {
        self.nodes[usize::from(process)][usize::from(name)]
    }

    pub fn node_mut(&mut self, (process, name): Name) -> &mut Option<Node> {
        &mut self.nodes[usize::from(process)][usize::from(name)]
    }

    pub fn names() -> impl Iterator<Item = Name> {
        (0..N as u8).flat_map(|process| (0..NAMES as u8).map(move |name| (process, name)))
    }

    fn is_alive(&self, name: Name, terms: &Terms) -> bool {
        guard::is_alive(self.node(name).map(|node| node.row(terms)))
    }

    /// A heartbeat lands.
    pub fn renew(&mut self, name: Name, terms: &Terms) -> Renewal {
        let row = self.node(name).map(|node| node.row(terms));
        let mut renewal = guard::renews(row, now());
        if terms.is(Broken::DeadNodeRenews) {
            renewal = Renewal::Renewed;
        }
        if renewal == Renewal::Renewed {
            if row.is_none_or(|row| row.dead || row.lease_is_over(now())) {
                self.fault(Fault::DeadRenewed);
            }
            if let Some(node) = self.node_mut(name) {
                node.left = terms.lease;
            }
        }
        renewal
    }

    /// Every node that is dead is marked so. Returns the names of those.
    pub fn bury(&mut self, terms: &Terms) -> Vec<Name> {
        let dead = |name: &Name| {
            let node = self.node(*name).map(|node| node.row(terms));
            node.is_some_and(|node| guard::buries(node, Evidence::Lease, now()))
        };
        let buried: Vec<Name> = Self::names().filter(dead).collect();
        for name in &buried {
            self.node_mut(*name).as_mut().expect("it was just buried").dead = true;
        }
        buried
    }

    pub fn is_orphaned(&self, terms: &Terms) -> bool {
        let holder = self.row.node.and_then(|name| self.node(name)).map(|node| node.row(terms));
        self.row.node.is_some() && guard::is_orphaned(&self.row.current(terms.max_retries), holder)
    }

    /// Whether a look before a start sees that it is to be tried.
    pub fn is_startable(&self, name: Name, terms: &Terms) -> bool {
        let is_alive = self.is_alive(name, terms);
        let row = self.row.current(terms.max_retries);
        guard::lost_claim(Some(row), Policy::Restart, None, is_alive).is_none()
    }

    /// A start lands, or the claim of a queued run.
    pub fn claim(&mut self, asked: Asked, terms: &Terms) -> Told {
        if asked.id == 0 {
            return self.claim_queued(asked, terms);
        }
        // A claim leaves its number on the row that it wins; sent again it finds it.
        let is_ours = self.row.claim_id == asked.claim_id && !terms.is(Broken::ResentClaimBeginsAnew);
        if is_ours && self.row.status.is_held() && self.row.node == Some(asked.name) {
            return Told::Won { row: self.row, again: true };
        }
        if is_ours && self.row.status == Status::Queued && self.row.attempt == 1 {
            return Told::Queued { run: self.row.run };
        }
        let current = self.row.current(terms.max_retries);
        let request = request(asked);
        if asked.keyed
            && !asked.is_key_looked_up
            && let Some((started, run)) = self.key
        {
            let digest = &request.idempotency.as_ref().expect("it is keyed").digest;
            let first = guard::FirstUse { digest, started, run: run.into() };
            let Claim::Replayed { started, run, .. } = guard::repeated(first, &request, current) else {
                panic!("the same request is repeated")
            };
            return Told::Replayed { started, run: run as u8 };
        }
        let is_alive = self.is_alive(asked.name, terms) || terms.is(Broken::DeadNodeClaims);
        let lost = guard::lost_claim(Some(current), request.policy, request.after, is_alive);
        // It wins only the run after the one that its look has seen.
        let is_gone_on = self.row.run != asked.seen_run;
        let told = match lost {
            _ if terms.is(Broken::ClaimIsCheckThenAct) => self.begin(asked, true, terms),
            Some(Claim::NodeDead) => return Told::NodeDead,
            Some(_) => Told::Lost,
            None if is_gone_on && !terms.is(Broken::ResentClaimBeginsAnew) && !asked.keyed => Told::Lost,
            None => self.begin(asked, false, terms),
        };
        if asked.keyed {
            self.key = Some((told != Told::Lost, self.row.run));
        }
        told
    }

    /// A claim that wins begins a run. `by_what_was_seen`: broken, it writes what it has computed from an old look.
    fn begin(&mut self, asked: Asked, by_what_was_seen: bool, terms: &Terms) -> Told {
        let place = if asked.here { Place::Here } else { Place::Queue };
        let step = next(self.row.status, Command::Start(Policy::Restart, place));
        let before = self.row;
        let (run, epoch) = if by_what_was_seen {
            (asked.seen_run, asked.seen_epoch)
        } else {
            (self.row.run, self.row.epoch)
        };
        let to = match step {
            Ok(step) => step.to,
            Err(_) if asked.here => Status::Running,
            Err(_) => Status::Queued,
        };
        self.row = Row {
            status: to,
            run: run + 1,
            attempt: 1,
            epoch: epoch + u8::from(asked.here),
            node: asked.here.then_some(asked.name),
            last_seq: before.last_seq,
            retry_count: 0,
            store_losses: 0,
            claim_id: asked.claim_id,
        };
        if asked.here {
            self.won(before.epoch, asked.name, terms);
        }
        let begun = &mut self.begun_by[usize::from(self.row.run).min(RUNS_MAX + 1)];
        let is_taken = std::mem::replace(begun, asked.id) != 0;
        if is_taken {
            self.fault(Fault::RunBegunTwice);
        }
        if self.begun_by.iter().filter(|by| **by == asked.id).count() > 1 {
            self.fault(Fault::StartBeganTwo);
        }
        match asked.here {
            true => Told::Won { row: self.row, again: false },
            false => Told::Queued { run: self.row.run },
        }
    }

    fn claim_queued(&mut self, asked: Asked, terms: &Terms) -> Told {
        let claimer = self.node(asked.name).map(|node| node.row(terms));
        let current = self.row.current(terms.max_retries);
        let mut wins = guard::takes_from_queue(&current, true, false, claimer);
        if terms.is(Broken::DeadNodeClaims) {
            wins |= next(self.row.status, Command::Claim).is_ok();
        }
        if !wins {
            return Told::Lost;
        }
        let step = next(self.row.status, Command::Claim).expect("it waits");
        let before = self.row.epoch;
        let (status, node) = (step.to, Some(asked.name));
        self.row = Row { status, node, epoch: before + 1, claim_id: NOBODY, ..self.row };
        self.won(before, asked.name, terms);
        Told::Won { row: self.row, again: false }
    }

    /// What must hold of every claim that makes a holder.
    fn won(&mut self, before: u8, name: Name, terms: &Terms) {
        self.epoch_is(before, self.row.epoch, true);
        if !self.is_alive(name, terms) {
            self.fault(Fault::DeadClaimed);
        }
    }

    fn epoch_is(&mut self, before: u8, after: u8, must_rise: bool) {
        if after > before + 1 {
            self.fault(Fault::EpochSkipped);
        }
        if after < before || (must_rise && after == before) {
            self.fault(Fault::EpochRepeated);
        }
    }

    /// A transition lands; `by` is who has sent it, and which of its writes that is.
    pub fn apply(&mut self, t: &Transition, by: (u8, u8), accepted_unseen: bool, terms: &Terms) -> Answer {
        if guard::well_formed(t).is_err() {
            self.fault(Fault::Malformed);
            return Answer::Fenced;
        }
        let current = self.row.current(terms.max_retries);
        if !accepted_unseen && !self.admits(&current, t, terms) {
            let epoch_at = |seq: u64| {
                let entry = self.log.iter().find(|entry| u64::from(entry.seq) == seq);
                entry.map(|entry| Epoch(entry.epoch.into()))
            };
            return match guard::refused(Some(current), t, epoch_at) {
                Applied::Committed { .. } => unreachable!("it was not admitted"),
                Applied::AlreadyThere => Answer::AlreadyThere,
                Applied::Fenced(_) => Answer::Fenced,
                Applied::Moved(row) => Answer::Moved(row.status),
            };
        }
        self.write(t, by, terms);
        Answer::Committed
    }

    fn admits(&self, row: &Current, t: &Transition, terms: &Terms) -> bool {
        match &t.writer {
            Writer::Holder { events, after, .. } => match terms.broken {
                Some(Broken::FinishWithoutEpoch) if t.change != Change::Append => row.status == t.from,
                // As if the end of the log were not compared: what is there already is written once more.
                Some(Broken::ResentBatchIsNew) if row.last_seq > *after && !events.is_empty() => {
                    let after = row.last_seq;
                    let moved = |event: &Event| Event { seq: after + 1, ..event.clone() };
                    let events = events.iter().map(moved).collect();
                    let (node, epoch) = (row.node.clone(), t.writer.epoch());
                    let Some(node) = node else { return false };
                    let writer = Writer::Holder { node, epoch, events, after };
                    guard::admits(row, &Transition { writer, ..t.clone() })
                }
                _ => guard::admits(row, t),
            },
            Writer::Outsider { .. } if terms.is(Broken::TakeoverWithoutCompare) => row.status.is_held(),
            Writer::Outsider { .. } => guard::admits(row, t),
        }
    }

    /// Writes what was admitted, as the memory store does.
    fn write(&mut self, t: &Transition, by: (u8, u8), terms: &Terms) {
        let before = self.row;
        match &t.writer {
            Writer::Holder { epoch, events, .. } => {
                if epoch.0 != u64::from(before.epoch) {
                    self.fault(Fault::OldEpochWrote);
                }
                for (event, n) in events.iter().zip(by.1..) {
                    let moved = terms.is(Broken::ResentBatchIsNew).then_some(self.row.last_seq + 1);
                    let seq = moved.unwrap_or(event.seq as u8);
                    self.push(seq, event.epoch, event.run as u8, event.event_type.as_str(), (by.0, n));
                }
            }
            Writer::Outsider { event: Some(event), .. } => {
                let seq = before.last_seq + 1;
                self.push(seq, t.epoch_after, before.run, event.event_type.as_str(), (NOBODY, 0));
            }
            Writer::Outsider { event: None, .. } => {}
        }
        self.row.epoch = t.epoch_after.0 as u8;
        self.epoch_is(before.epoch, self.row.epoch, false);
        let Some(to) = t.change.to() else { return };
        self.row.status = to;
        if let Change::Requeued { attempt, retry_count, losses, .. } = t.change {
            (self.row.attempt, self.row.retry_count) = (attempt as u8, retry_count as u8);
            self.row.store_losses = losses.store as u8;
        }
        if !to.is_held() {
            self.row.node = None;
            let is_taken_away = matches!(t.writer, Writer::Outsider { .. }) && before.status.is_held();
            if is_taken_away && self.row.epoch == before.epoch {
                self.fault(Fault::HolderLostKeepsEpoch);
            }
        }
    }

    fn push(&mut self, seq: u8, epoch: Epoch, run: u8, event_type: &str, by: (u8, u8)) {
        self.row.last_seq = seq;
        self.log.push(Entry { seq, epoch: epoch.0 as u8, run, kind: Kind::of(event_type), by });
    }
}

/// As the product has it.
fn request(asked: Asked) -> ClaimRequest {
    static KEYED: LazyLock<Idempotency> = LazyLock::new(|| {
        let key = soloist::IdempotencyKey::new("k").expect("a valid key");
        Idempotency::start(&key, Call::Start, Policy::Restart)
    });
    ClaimRequest {
        key: key(),
        node: id(asked.name),
        policy: Policy::Restart,
        place: if asked.here { Place::Here } else { Place::Queue },
        after: None,
        max_total: None,
        idempotency: asked.keyed.then(|| KEYED.clone()),
        trace: None,
        at: Timestamp::from_micros(0),
    }
}
