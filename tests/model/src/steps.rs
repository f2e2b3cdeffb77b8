//! The steps that can be taken next, and what each does.
//!
//! Decides: what is one step (what the product does in one atomic step at most) and how requests fail: a connection breaks
//! before a request has come through, after its commit, or in between, so that it lands when nobody waits for it any more.

use std::hash::{DefaultHasher, Hash, Hasher};

use soloist::{Status, lease::Stage, store::Renewal};

use crate::{
    process::{Beat, Compared, Held, How, Live, Process, Seen, Trip, What, Write, Writing, settled},
    record::{Answer, Asked, Fault, NAMES, Name, RUNS_MAX, Record, Row, Terms, Told},
    rules::Broken,
};

/// What the model is of, and its bounds.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    pub terms: Terms,
    /// Starts by callers who send theirs once.
    pub starts: u8,
    /// How often one more caller sends its start, under one idempotency key.
    pub keyed: u8,
    /// Events that an attempt sends at most.
    pub appends: u8,
    /// Crashes, shutdowns and broken connections at most; heartbeats are lost any number of times.
    pub faults: u8,
    /// Requests to cancel.
    pub cancels: u8,
    /// Whether processes shut down, and whether connections break.
    pub has_drains: bool,
    pub has_breaks: bool,
    /// Whether the store's clock jumps forward, once, over every lease.
    pub has_jump: bool,
    /// How often a process does nothing, or reaches nobody, for so long that it can trust its lease no more; any number of
    /// times where it is none.
    pub absences: Option<u8>,
    /// The largest epoch.
    pub epochs: u8,
}

/// Everything that is so at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct State<const N: usize> {
    pub record: Record<N>,
    pub processes: [Process; N],
    /// Requests that nobody waits for, and that may land yet.
    pub late_claims: [Option<Asked>; N],
    pub late_writes: [Option<Write>; N],
    /// The row that a caller has seen who wants to cancel.
    pub cancel: Option<Row>,
    pub starts_left: u8,
    pub keyed_left: u8,
    pub faults_left: u8,
    pub cancels_left: u8,
    pub absences_left: Option<u8>,
    pub has_jumped: bool,
    /// Which start was told that it has begun a run, by run.
    pub told: [u8; RUNS_MAX + 1],
    /// What the caller with the key was told.
    pub key_heard: Option<(bool, u8)>,
}

/// One step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    Tick,
    Jump,
    Beat(u8),
    BeatLands(u8),
    BeatHeard(u8),
    BeatLost(u8),
    Start(u8, Caller),
    Take(u8),
    ClaimLands(u8),
    ClaimHeard(u8),
    ClaimBreaks(u8, Then),
    LateClaimLands(u8),
    Append(u8),
    End(u8, How),
    WriteLands(u8),
    WriteHeard(u8),
    WriteBreaks(u8),
    LateWriteLands(u8),
    HearCancel(u8),
    Bury,
    Look(u8),
    TakeOver(u8),
    Compare(u8),
    CompareAgain(u8),
    TakeUp(u8),
    CancelLooks,
    CancelLands,
    Crash(u8),
    Leave(u8),
    Restart(u8),
    Rejoin(u8),
    LetGo(u8),
}

/// Who starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Caller {
    Plain,
    Keyed,
}

/// What is done about a request whose fate is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Then {
    GiveUp,
    SendAgain,
}

/// The number of the start that is sent under a key.
const KEYED: u8 = 1;
/// From here on claims are numbered that are made under it.
const CLAIMS_UNDER_A_KEY: u8 = 16;

impl<const N: usize> State<N> {
    pub fn first(bounds: &Bounds) -> Self {
        Self {
            record: Record::new(bounds.terms.lease),
            processes: [Process::joined(0); N],
            late_claims: [None; N],
            late_writes: [None; N],
            cancel: None,
            starts_left: bounds.starts,
            keyed_left: bounds.keyed,
            faults_left: bounds.faults,
            cancels_left: bounds.cancels,
            absences_left: bounds.absences,
            has_jumped: false,
            told: [0; RUNS_MAX + 1],
            key_heard: None,
        }
    }

    fn process(&mut self, p: u8) -> &mut Process {
        &mut self.processes[usize::from(p)]
    }

    /// Every step that can be taken.
    pub fn steps(&self, bounds: &Bounds, out: &mut Vec<Step>) {
        // Where a promise is broken nothing more is to be seen.
        let is_wanted = bounds.terms.is(Broken::TakeoverKeepsTheEpoch);
        if self.record.faults & !(Fault::HolderLostKeepsEpoch as u16 * u16::from(is_wanted)) != 0 {
            return;
        }
        if self.absences_left.is_none_or(|left| left >= self.overdue(bounds)) {
            out.push(Step::Tick);
        }
        if bounds.has_jump && !self.has_jumped {
            out.push(Step::Jump);
        }
        out.push(Step::Bury);
        for p in 0..N as u8 {
            self.steps_of(p, bounds, out);
        }
        match self.cancel {
            None if self.cancels_left > 0 && self.record.row.status.is_active() => {
                out.push(Step::CancelLooks)
            }
            None => {}
            Some(_) => out.push(Step::CancelLands),
        }
    }

    fn steps_of(&self, p: u8, bounds: &Bounds, out: &mut Vec<Step>) {
        let terms = &bounds.terms;
        let i = usize::from(p);
        let process = &self.processes[i];
        if self.late_claims[i].is_some() {
            out.push(Step::LateClaimLands(p));
        }
        if self.late_writes[i].is_some() {
            out.push(Step::LateWriteLands(p));
        }
        let has_fresh_name = self.record.nodes[i].iter().any(Option::is_none);
        if !process.is_up {
            if has_fresh_name {
                out.push(Step::Restart(p));
            }
            return;
        }
        let is_trusted = process.is_trusted(terms.lease);
        match process.beat {
            Beat::None if process.since > 0 && !process.stop => out.push(Step::Beat(p)),
            Beat::None => {}
            Beat::Sent { .. } => out.extend([Step::BeatLands(p), Step::BeatLost(p)]),
            Beat::Answered { .. } => out.extend([Step::BeatHeard(p), Step::BeatLost(p)]),
        }
        let breaks = bounds.has_breaks && self.faults_left > 0;
        match process.trip {
            Trip::None if is_trusted => {
                let is_told_by_memory = process.works().is_some();
                let row = &self.record.row;
                let may_begin = usize::from(row.run) < RUNS_MAX;
                if self.starts_left > 0
                    && may_begin
                    && !is_told_by_memory
                    && self.record.is_startable((p, process.name), terms)
                {
                    out.push(Step::Start(p, Caller::Plain));
                }
                if self.keyed_left > 0 && may_begin {
                    out.push(Step::Start(p, Caller::Keyed));
                }
                let is_idle = process.live.is_none() && process.compared == Compared::None;
                if is_idle && row.status == Status::Queued {
                    out.push(Step::Take(p));
                }
            }
            Trip::None => {}
            Trip::Sent(asked) => {
                out.push(Step::ClaimLands(p));
                if breaks && self.late_claims[i].is_none() {
                    out.push(Step::ClaimBreaks(p, Then::GiveUp));
                    if asked.id != 0 {
                        out.push(Step::ClaimBreaks(p, Then::SendAgain));
                    }
                }
            }
            Trip::Answered(asked, _) => {
                out.push(Step::ClaimHeard(p));
                if breaks {
                    out.push(Step::ClaimBreaks(p, Then::GiveUp));
                    if asked.id != 0 {
                        out.push(Step::ClaimBreaks(p, Then::SendAgain));
                    }
                }
            }
        }
        self.steps_of_run(p, bounds, out);
        match process.seen {
            None if terms.is(Broken::OrphansAreLookedForOnce) => {}
            None if terms.is(Broken::DeathIsARead) && self.record.row.node.is_some() => {
                out.push(Step::Look(p));
            }
            None if self.record.is_orphaned(terms) => out.push(Step::Look(p)),
            None => {}
            Some(seen) if seen.left == 0 => out.push(Step::TakeOver(p)),
            Some(_) => {}
        }
        match process.compared {
            Compared::None => {
                let is_ours = self.record.row.node == Some((p, process.name));
                if is_ours && !process.knows() && !terms.is(Broken::LateClaimIsForgotten) {
                    out.push(Step::Compare(p));
                }
            }
            Compared::Looked(..) => out.push(Step::CompareAgain(p)),
            Compared::Found(..) => out.push(Step::TakeUp(p)),
        }
        let is_idle = process.live.is_none() && process.trip == Trip::None;
        if self.faults_left > 0 {
            out.push(Step::Crash(p));
            if bounds.has_drains && is_idle {
                out.push(Step::Leave(p));
            }
        }
        let is_over = process.stop || process.stage(terms.lease) >= Stage::Stop;
        if is_over && has_fresh_name && process.works().is_none() {
            out.push(Step::Rejoin(p));
        }
        if self.given_up(p).is_some() {
            out.push(Step::LetGo(p));
        }
    }

    fn steps_of_run(&self, p: u8, bounds: &Bounds, out: &mut Vec<Step>) {
        let process = &self.processes[usize::from(p)];
        match process.writing {
            Writing::Sent(_) => {
                out.push(Step::WriteLands(p));
                let has_room = self.late_writes[usize::from(p)].is_none();
                if bounds.has_breaks && self.faults_left > 0 && has_room {
                    out.push(Step::WriteBreaks(p));
                }
            }
            Writing::Answered(..) => {
                out.push(Step::WriteHeard(p));
                if bounds.has_breaks && self.faults_left > 0 {
                    out.push(Step::WriteBreaks(p));
                }
            }
            Writing::None => {}
        }
        let Some(live) = process.live.filter(|live| !live.is_ending) else { return };
        if process.writing == Writing::None {
            if live.held.written < bounds.appends {
                out.push(Step::Append(p));
            }
            out.push(Step::End(p, How::Returned));
            let is_trusted = process.is_trusted(bounds.terms.lease);
            out.push(Step::End(p, if is_trusted { How::Failed } else { How::StoreLost }));
            if bounds.has_drains && self.faults_left > 0 {
                out.push(Step::End(p, How::Drained));
            }
        }
        let row = &self.record.row;
        if !live.is_cancelling && row.status == Status::Cancelling && row.epoch == live.held.epoch {
            out.push(Step::HearCancel(p));
        }
    }

    /// A name that a process has given up, and that nothing needs any more.
    fn given_up(&self, p: u8) -> Option<Name> {
        let process = &self.processes[usize::from(p)];
        let is_needed = |name: Name| {
            let is_asking = match process.trip {
                Trip::None => false,
                Trip::Sent(asked) | Trip::Answered(asked, _) => asked.name == name,
            };
            is_asking || process.live.is_some_and(|live| live.held.name == name)
        };
        (0..NAMES as u8).map(|name| (p, name)).find(|name| {
            name.1 != process.name
                && self.record.node(*name).is_some_and(|node| !node.dead)
                && !is_needed(*name)
        })
    }

    /// The state after a step; none where it changes nothing.
    pub fn after(&self, step: Step, bounds: &Bounds) -> Option<Self> {
        let mut next = *self;
        next.take(step, bounds);
        next.forget_what_counts_no_more(bounds);
        (next != *self).then_some(next)
    }

    fn take(&mut self, step: Step, bounds: &Bounds) {
        let terms = &bounds.terms;
        match step {
            Step::Tick => {
                let overdue = self.overdue(bounds);
                self.absences_left = self.absences_left.map(|left| left - overdue);
                self.tick(terms);
            }
            Step::Jump => {
                self.has_jumped = true;
                self.record.nodes.iter_mut().flatten().flatten().for_each(|node| node.left = 0);
            }
            Step::Beat(p) => self.process(p).beat = Beat::Sent { age: 0 },
            Step::BeatLands(p) => {
                let process = self.processes[usize::from(p)];
                let Beat::Sent { age } = process.beat else { return };
                let is_renewed = self.record.renew((p, process.name), terms) == Renewal::Renewed;
                self.process(p).beat = Beat::Answered { age, is_renewed };
            }
            Step::BeatHeard(p) => self.process(p).hear_beat(terms),
            Step::BeatLost(p) => self.process(p).beat = Beat::None,
            Step::Start(p, caller) => self.start(p, caller, bounds),
            Step::Take(p) => {
                let asked = self.asked(p, 0, false, true, bounds);
                self.process(p).trip = Trip::Sent(asked);
            }
            Step::ClaimLands(p) => {
                let Trip::Sent(asked) = self.process(p).trip else { return };
                let told = self.record.claim(asked, terms);
                self.process(p).trip = Trip::Answered(asked, told);
            }
            Step::ClaimHeard(p) => self.hear_claim(p, terms),
            Step::ClaimBreaks(p, then) => {
                self.faults_left -= 1;
                let (asked, is_sent) = match self.process(p).trip {
                    Trip::None => return,
                    Trip::Sent(asked) => (asked, true),
                    Trip::Answered(asked, _) => (asked, false),
                };
                if is_sent {
                    self.late_claims[usize::from(p)] = Some(asked);
                }
                self.process(p).trip = match then {
                    Then::GiveUp => Trip::None,
                    Then::SendAgain => Trip::Sent(asked),
                };
            }
            Step::LateClaimLands(p) => {
                if let Some(asked) = self.late_claims[usize::from(p)].take() {
                    self.record.claim(asked, terms);
                }
            }
            Step::Append(p) => self.send(p, What::Append, Status::Running, terms),
            Step::End(p, how) => {
                if how == How::Drained {
                    self.faults_left -= 1;
                }
                self.end(p, how, terms);
            }
            Step::WriteLands(p) => {
                let Writing::Sent(write) = self.process(p).writing else { return };
                self.process(p).writing = match self.land(p, write, terms) {
                    Ok(answer) => Writing::Answered(write, answer),
                    Err(compared) => Writing::Sent(compared),
                };
            }
            Step::WriteHeard(p) => self.hear_write(p, terms),
            Step::WriteBreaks(p) => {
                self.faults_left -= 1;
                match self.process(p).writing {
                    Writing::None => {}
                    Writing::Sent(write) => self.late_writes[usize::from(p)] = Some(write),
                    Writing::Answered(write, _) => self.process(p).writing = Writing::Sent(write),
                }
            }
            Step::LateWriteLands(p) => {
                if let Some(write) = self.late_writes[usize::from(p)].take()
                    && let Err(compared) = self.land(p, write, terms)
                {
                    self.late_writes[usize::from(p)] = Some(compared);
                }
            }
            Step::HearCancel(p) => {
                if let Some(live) = &mut self.process(p).live {
                    live.is_cancelling = true;
                }
            }
            Step::Bury => self.bury(terms),
            Step::Look(p) => {
                let row = self.record.row;
                let left = match row.node.and_then(|name| self.record.node(name)) {
                    Some(node) if terms.is(Broken::DeathIsARead) && !node.dead => node.left,
                    _ => 0,
                };
                self.process(p).seen = Some(Seen { row: row.seen(), left });
            }
            Step::TakeOver(p) => {
                if let Some(seen) = self.process(p).seen.take() {
                    self.take_over(p, &seen.row, terms);
                }
            }
            Step::Compare(p) => {
                let (name, epoch) = (self.process(p).name, self.record.row.epoch);
                self.process(p).compared = Compared::Looked((p, name), epoch);
            }
            Step::CompareAgain(p) => {
                let row = self.record.row;
                let Compared::Looked(name, epoch) = self.process(p).compared else { return };
                let is_ours = row.epoch == epoch && row.node == Some(name) && row.status.is_held();
                let is_adrift = is_ours && !self.process(p).knows();
                self.process(p).compared =
                    if is_adrift { Compared::Found(name, row) } else { Compared::None };
            }
            Step::TakeUp(p) => self.take_up(p, terms),
            Step::CancelLooks => self.cancel = Some(self.record.row.seen()),
            Step::CancelLands => {
                self.cancels_left -= 1;
                if let Some(row) = self.cancel.take()
                    && let Some(transition) = settled(&row, true, false, terms)
                {
                    self.record.apply(&transition, (0, 0), false, terms);
                }
            }
            Step::Crash(p) => {
                self.faults_left -= 1;
                let process = self.processes[usize::from(p)];
                if let (Trip::Sent(asked), late @ None) =
                    (process.trip, &mut self.late_claims[usize::from(p)])
                {
                    *late = Some(asked);
                }
                if let (Writing::Sent(write), late @ None) =
                    (process.writing, &mut self.late_writes[usize::from(p)])
                {
                    *late = Some(write);
                }
                *self.process(p) = Process::down();
            }
            Step::Leave(p) => {
                self.faults_left -= 1;
                let name = (p, self.process(p).name);
                if let Some(node) = self.record.node_mut(name) {
                    node.dead = true;
                }
                *self.process(p) = Process::down();
            }
            Step::Restart(p) => *self.process(p) = Process::joined(self.join(p, terms)),
            Step::Rejoin(p) => {
                let name = self.join(p, terms);
                let process = self.process(p);
                let (trip, live, writing) = (process.trip, process.live, process.writing);
                let (stopped, seen) = (process.stopped, process.seen);
                *process = Process { trip, live, writing, stopped, seen, ..Process::joined(name) };
            }
            Step::LetGo(p) => {
                if let Some(name) = self.given_up(p)
                    && let Some(node) = self.record.node_mut(name)
                {
                    node.dead = true;
                }
            }
        }
    }

    /// How many processes can trust their lease no more when the clock has moved on.
    fn overdue(&self, bounds: &Bounds) -> u8 {
        let lease = bounds.terms.lease;
        let is_overdue = |process: &&Process| {
            let later = Process { since: process.since + 1, ..**process };
            process.is_trusted(lease) && !later.is_trusted(lease)
        };
        self.processes.iter().filter(is_overdue).count() as u8
    }

    /// Whether a step is something that goes wrong, or something more that is asked for: what need not happen for a run to
    /// come to its end.
    pub fn is_adverse(&self, step: Step, bounds: &Bounds) -> bool {
        use Step::*;
        match step {
            Jump | BeatLost(_) | Start(..) | ClaimBreaks(..) | WriteBreaks(_) | CancelLooks | Crash(_)
            | Leave(_) => true,
            End(_, how) => how == How::Drained,
            // Who is there renews its lease in time.
            Tick => self.overdue(bounds) > 0,
            Beat(_) | BeatLands(_) | BeatHeard(_) | Take(_) | ClaimLands(_) | ClaimHeard(_)
            | LateClaimLands(_) | Append(_) | WriteLands(_) | WriteHeard(_) | LateWriteLands(_)
            | HearCancel(_) | Bury | Look(_) | TakeOver(_) | Compare(_) | CompareAgain(_) | TakeUp(_)
            | CancelLands | Restart(_) | Rejoin(_) | LetGo(_) => false,
        }
    }

    fn tick(&mut self, terms: &Terms) {
        for node in self.record.nodes.iter_mut().flatten().flatten() {
            node.left = node.left.saturating_sub(1);
        }
        for process in &mut self.processes {
            process.since = (process.since + 1).min(terms.lease);
            if let Beat::Sent { age } | Beat::Answered { age, .. } = &mut process.beat {
                *age = (*age + 1).min(terms.lease);
            }
            if let Some(seen) = &mut process.seen {
                seen.left = seen.left.saturating_sub(1);
            }
        }
    }

    /// A fresh name. One is fresh again when nothing on record or under way tells of it any more.
    fn join(&mut self, p: u8, terms: &Terms) -> u8 {
        let names = &mut self.record.nodes[usize::from(p)];
        let fresh = names.iter().position(Option::is_none).expect("it was looked for");
        names[fresh] = Some(crate::record::Node { dead: false, left: terms.lease });
        fresh as u8
    }

    fn asked(&self, p: u8, id: u8, keyed: bool, here: bool, bounds: &Bounds) -> Asked {
        let row = &self.record.row;
        let name = (p, self.processes[usize::from(p)].name);
        Asked {
            id,
            claim_id: id,
            name,
            keyed,
            here,
            seen_run: row.run,
            seen_epoch: if bounds.terms.is(Broken::ClaimIsCheckThenAct) { row.epoch } else { 0 },
            is_key_looked_up: false,
        }
    }

    fn start(&mut self, p: u8, caller: Caller, bounds: &Bounds) {
        let here = self.process(p).live.is_none();
        let asked = match caller {
            Caller::Plain => {
                self.starts_left -= 1;
                self.asked(p, KEYED + bounds.starts - self.starts_left, false, here, bounds)
            }
            Caller::Keyed => {
                self.keyed_left -= 1;
                let is_read = bounds.terms.is(Broken::KeyIsReadBeforeTheClaim) && self.record.key.is_none();
                let claim_id = CLAIMS_UNDER_A_KEY + self.keyed_left;
                Asked { claim_id, is_key_looked_up: is_read, ..self.asked(p, KEYED, true, here, bounds) }
            }
        };
        self.process(p).trip = Trip::Sent(asked);
    }

    fn hear_claim(&mut self, p: u8, terms: &Terms) {
        let Trip::Answered(asked, told) = self.process(p).trip else { return };
        self.process(p).trip = Trip::None;
        match told {
            Told::Won { row, .. } => {
                if asked.id != 0 {
                    self.tell(asked, true, row.run);
                }
                let process = &mut self.processes[usize::from(p)];
                let is_trusted = process.is_trusted(terms.lease) && asked.name == (p, process.name)
                    || terms.is(Broken::WorkBeginsBeyondTrust);
                let held = Held::from_claim(asked.name, &row);
                process.live = Some(Live { held, is_cancelling: false, is_ending: !is_trusted });
                if !is_trusted {
                    self.send(p, What::End(How::NotBegun), Status::Running, terms);
                }
            }
            Told::Queued { run } => self.tell(asked, true, run),
            Told::Replayed { started, run } => self.tell(asked, started, if started { run } else { 0 }),
            Told::Lost if asked.keyed => self.tell(asked, false, 0),
            Told::Lost => {}
            Told::NodeDead => self.process(p).lose(terms),
        }
    }

    /// A caller is told whether it has started a run, and which.
    fn tell(&mut self, asked: Asked, started: bool, run: u8) {
        if started {
            let told = &mut self.told[usize::from(run).min(RUNS_MAX)];
            let is_other = *told != 0 && *told != asked.id;
            *told = asked.id;
            if is_other {
                self.record.fault(Fault::WinToldTwice);
            }
        }
        if asked.keyed {
            if self.key_heard.is_some_and(|heard| heard != (started, run)) {
                self.record.fault(Fault::KeyToldTwoThings);
            }
            self.key_heard = Some((started, run));
        }
    }

    fn send(&mut self, p: u8, what: What, from: Status, terms: &Terms) {
        let process = self.process(p);
        let Some(live) = &mut process.live else { return };
        live.is_ending |= what != What::Append;
        let write = Write { held: live.held, from, what, is_compared: false };
        process.writing = Writing::Sent(write);
        if write.transition(terms).is_none() {
            // No rule ends a run from there.
            self.forget(p, false);
        }
    }

    fn end(&mut self, p: u8, how: How, terms: &Terms) {
        let is_cancelling = self.process(p).live.is_some_and(|live| live.is_cancelling);
        let from = if is_cancelling { Status::Cancelling } else { Status::Running };
        self.send(p, What::End(how), from, terms);
    }

    /// The run is over here; `ended` where that is on record, or somebody else has it.
    fn forget(&mut self, p: u8, ended: bool) {
        let process = self.process(p);
        process.writing = Writing::None;
        let Some(live) = process.live.take() else { return };
        if !ended {
            process.stopped = live.held.epoch;
        } else if process.stopped <= live.held.epoch {
            process.stopped = 0;
        }
    }

    /// A write comes to the store. Broken: the first time its epoch is compared, and the second time it is written.
    fn land(&mut self, p: u8, write: Write, terms: &Terms) -> Result<Answer, Write> {
        let transition = write.transition(terms).expect("it was made when it was sent");
        if terms.is(Broken::FenceIsARead) && !write.is_compared {
            let row = self.record.row.current(terms.max_retries);
            if soloist::store::guard::admits(&row, &transition) {
                return Err(Write { is_compared: true, ..write });
            }
        }
        Ok(self.record.apply(&transition, (p, write.held.written), write.is_compared, terms))
    }

    fn hear_write(&mut self, p: u8, terms: &Terms) {
        let Writing::Answered(write, answer) = self.process(p).writing else { return };
        self.process(p).writing = Writing::None;
        if matches!(answer, Answer::Committed | Answer::AlreadyThere) {
            let by = (p, write.held.written);
            if !self.record.log.iter().any(|entry| entry.by == by && entry.epoch == write.held.epoch) {
                self.record.fault(Fault::ToldUntrue);
            }
        }
        match (write.what, answer) {
            (What::Append, Answer::Committed | Answer::AlreadyThere) => {
                if let Some(live) = &mut self.process(p).live {
                    live.held.last_seq += 1;
                    live.held.written += 1;
                }
            }
            (What::Append, Answer::Moved(_)) => self.end(p, How::Failed, terms),
            (What::End(_), Answer::Moved(status)) if status != write.from && status.is_held() => {
                if let Some(live) = &mut self.process(p).live {
                    live.is_cancelling = true;
                }
                self.send(p, write.what, status, terms);
            }
            (What::End(_), Answer::Moved(_)) => self.forget(p, false),
            (What::End(_), Answer::Committed | Answer::AlreadyThere) | (_, Answer::Fenced) => {
                self.forget(p, true);
            }
        }
    }

    fn bury(&mut self, terms: &Terms) {
        // Somebody must be there to do it.
        if !self.processes.iter().any(|process| process.is_up) {
            return;
        }
        let buried = self.record.bury(terms);
        let is_news = !buried.is_empty();
        for (p, name) in buried {
            let process = &self.processes[usize::from(p)];
            if process.may_work(name, terms) && !self.has_jumped {
                self.record.fault(Fault::TrustedTakenOver);
            }
        }
        if terms.is(Broken::OrphansAreLookedForOnce) && is_news && self.record.is_orphaned(terms) {
            let row = self.record.row;
            let idle = self.processes.iter_mut().find(|process| process.is_up && process.seen.is_none());
            if let Some(idle) = idle {
                idle.seen = Some(Seen { row: row.seen(), left: 0 });
            }
        }
    }

    fn take_over(&mut self, p: u8, row: &Row, terms: &Terms) {
        let keeps_epoch = terms.is(Broken::TakeoverKeepsTheEpoch);
        let Some(transition) = settled(row, false, keeps_epoch, terms) else { return };
        let before = self.record.row;
        let answer = self.record.apply(&transition, (0, 0), false, terms);
        if let (Answer::Committed, Some((holder, name))) = (answer, before.node)
            && holder != p
        {
            let process = &self.processes[usize::from(holder)];
            if process.may_work(name, terms) && !self.has_jumped {
                self.record.fault(Fault::TrustedTakenOver);
            }
        }
    }

    /// A run that is ours on record and runs nowhere: begun, or ended where it had been stopped here.
    fn take_up(&mut self, p: u8, terms: &Terms) {
        let Compared::Found(name, row) = self.process(p).compared else { return };
        self.process(p).compared = Compared::None;
        let process = self.process(p);
        if process.live.is_some() {
            return;
        }
        let is_trusted = process.is_trusted(terms.lease) && name == (p, process.name);
        let begins = row.status == Status::Running && is_trusted && process.stopped != row.epoch;
        if begins {
            let held = Held::from_claim(name, &row);
            process.live = Some(Live { held, is_cancelling: false, is_ending: false });
            return;
        }
        process.stopped = 0;
        self.take_over(p, &row, terms);
    }

    /// What makes no difference any more is made the same, so that states are one where nobody could tell them apart.
    fn forget_what_counts_no_more(&mut self, bounds: &Bounds) {
        let terms = &bounds.terms;
        for process in &mut self.processes {
            if !process.is_up {
                *process = Process { name: process.name, ..Process::down() };
            } else if process.stop || process.stage(terms.lease) >= Stage::Stop {
                // A heartbeat that is answered now ends the session as well; one that lands now is taken for lost.
                (process.stop, process.beat) = (true, Beat::None);
            }
            if process.stopped < self.record.row.epoch {
                process.stopped = 0;
            }
        }
        self.drop_what_is_fenced(terms);
        self.forget_names();
    }

    /// A request that nobody waits for, and that the guard refuses for its epoch or its run now, is refused at any later
    /// time: both only grow.
    fn drop_what_is_fenced(&mut self, terms: &Terms) {
        let row = self.record.row;
        let is_gone = |epoch: u8| epoch < row.epoch && terms.broken.is_none_or(Broken::fences_by_epoch);
        for process in &mut self.processes {
            process.seen = process.seen.filter(|seen| !is_gone(seen.row.epoch));
        }
        self.cancel = self.cancel.filter(|seen| !is_gone(seen.epoch));
        for write in &mut self.late_writes {
            *write = write.filter(|write| !is_gone(write.held.epoch));
        }
        for claim in &mut self.late_claims {
            let keeps_count = terms.broken.is_none_or(Broken::counts_runs);
            *claim = claim.filter(|asked| asked.seen_run == row.run || !keeps_count);
        }
    }

    /// Nodes of which nothing tells any more are gone; who is up is known by its first name, and processes that are alike
    /// come in one order.
    fn forget_names(&mut self) {
        let mut used = [[false; NAMES]; N];
        self.each_name(|(p, name)| {
            used[usize::from(*p)][usize::from(*name)] = true;
        });
        let mut names = [[0, 1]; N];
        for p in 0..N {
            for (name, is_used) in used[p].into_iter().enumerate() {
                let is_present = self.processes[p].is_up && usize::from(self.processes[p].name) == name;
                let node = &mut self.record.nodes[p][name];
                match node {
                    _ if !is_used && !is_present => *node = None,
                    Some(row) if row.dead => row.left = 0,
                    _ => {}
                }
            }
            let process = &mut self.processes[p];
            let first = match process.is_up {
                true => process.name,
                false => u8::from(self.record.nodes[p][0].is_none()),
            };
            process.name = 0;
            if first == 1 {
                names[p] = [1, 0];
                self.record.nodes[p].swap(0, 1);
            }
        }
        self.each_name(|(p, name)| *name = names[usize::from(*p)][usize::from(*name)]);
        let mut order: [usize; N] = std::array::from_fn(|p| p);
        let alike = |p: usize| {
            let mut one = (self.processes[p], self.late_claims[p], self.late_writes[p]);
            names_of(&mut one.0, &mut one.1, &mut one.2, &mut |name| name.0 = 0);
            let holds = self.record.row.node.filter(|name| usize::from(name.0) == p).map(|name| name.1);
            let mut hasher = DefaultHasher::new();
            (one, self.record.nodes[p], holds).hash(&mut hasher);
            hasher.finish()
        };
        let keys: [u64; N] = std::array::from_fn(alike);
        order.sort_by_key(|p| keys[*p]);
        if order.is_sorted() {
            return;
        }
        let mut place = [0; N];
        order.iter().zip(0u8..).for_each(|(p, now)| place[*p] = now);
        self.processes = order.map(|p| self.processes[p]);
        self.late_claims = order.map(|p| self.late_claims[p]);
        self.late_writes = order.map(|p| self.late_writes[p]);
        self.record.nodes = order.map(|p| self.record.nodes[p]);
        self.each_name(|name| name.0 = place[usize::from(name.0)]);
        self.record.log.each_writer(|p| *p = place[usize::from(*p)]);
    }

    /// Every place where a node is named, but for the rows of the nodes.
    fn each_name(&mut self, mut see: impl FnMut(&mut Name)) {
        self.record.row.node.iter_mut().for_each(&mut see);
        self.cancel.iter_mut().filter_map(|row| row.node.as_mut()).for_each(&mut see);
        for p in 0..N {
            let (claim, write) = (&mut self.late_claims[p], &mut self.late_writes[p]);
            names_of(&mut self.processes[p], claim, write, &mut see);
        }
    }
}

fn names_of(
    process: &mut Process,
    claim: &mut Option<Asked>,
    write: &mut Option<Write>,
    see: &mut impl FnMut(&mut Name),
) {
    if let Some(asked) = claim {
        see(&mut asked.name);
    }
    if let Some(write) = write {
        see(&mut write.held.name);
    }
    match &mut process.trip {
        Trip::None => {}
        Trip::Sent(asked) => see(&mut asked.name),
        Trip::Answered(asked, told) => {
            see(&mut asked.name);
            if let Told::Won { row: Row { node: Some(name), .. }, .. } = told {
                see(name);
            }
        }
    }
    if let Some(live) = &mut process.live {
        see(&mut live.held.name);
    }
    match &mut process.writing {
        Writing::None => {}
        Writing::Sent(write) | Writing::Answered(write, _) => see(&mut write.held.name),
    }
    match &mut process.compared {
        Compared::None => {}
        Compared::Looked(name, _) => see(name),
        Compared::Found(name, row) => {
            see(name);
            row.node.iter_mut().for_each(see);
        }
    }
}

impl Process {
    /// The store says that this node is dead: all stages at once.
    fn lose(&mut self, terms: &Terms) {
        (self.stop, self.since) = (true, terms.lease);
    }

    /// Whether a node of this name may have work that goes on.
    fn may_work(&self, name: u8, terms: &Terms) -> bool {
        self.is_up && self.name == name && self.stage(terms.lease) < Stage::Drop
    }

    fn hear_beat(&mut self, terms: &Terms) {
        let Beat::Answered { age, is_renewed } = std::mem::replace(&mut self.beat, Beat::None) else {
            return;
        };
        if !is_renewed {
            return self.lose(terms);
        }
        // Who was stopped for so long has left its trust window unseen, and others have acted on that.
        if self.stage(terms.lease) >= Stage::Stop {
            self.stop = true;
        }
        let age = if terms.is(Broken::LeaseCountsFromTheAnswer) { 0 } else { age };
        self.since = self.since.min(age);
    }
}
