//! What this process runs, and which starts it has under way, by key.
//!
//! Decides: whether a start can be answered from memory (a run of this process is active, and no ending of it has been
//! handed to the store), and which starts share a trip to the store (those that arrive before it is sent). Both
//! under one lock, so that a run and the start that made it are never both absent.
//!
//! A create that starts its task may learn its key from the store only, so it is under way without one. Until it is known here,
//! a run that is ours on record may be its own: whoever finds such a run waits for the creates that were under way then
//! ([`Live::created`]), and a cancel that finds nobody is kept for them.
//!
//! Never decides who wins: the store does.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::node::Session;
use crate::{
    Key, Result,
    chance::Map,
    lease::RunLease,
    state::Status,
    sync::{Mutex, MutexGuard},
    task::{Epoch, Run, Start, StartOptions},
};

pub(super) struct Live {
    tables: Mutex<Tables>,
    /// Told whenever a create is through.
    created: watch::Sender<()>,
}

impl Default for Live {
    fn default() -> Self {
        Self { tables: Mutex::default(), created: watch::Sender::new(()) }
    }
}

#[derive(Default)]
struct Tables {
    runs: Map<Key, Arc<LiveRun>>,
    gates: Map<Key, Gate>,
    /// Attempts that were stopped here without an ending on record, until somebody has settled them.
    stopped: Map<Key, Epoch>,
    creates: Creates,
}

/// The creates under way that start their tasks.
#[derive(Default)]
struct Creates {
    next: u64,
    under_way: BTreeSet<u64>,
    /// Cancels that were committed for a run which nobody here knows, each with the create that came next.
    cancelled: BTreeMap<(Key, Epoch), (u64, String)>,
}

impl Creates {
    fn oldest(&self) -> u64 {
        self.under_way.first().copied().unwrap_or(self.next)
    }
}

/// A create that starts its task, from before it is sent until its run is held here, or it has failed.
pub(super) struct CreateUnderWay {
    live: Arc<Live>,
    number: u64,
}

impl Drop for CreateUnderWay {
    fn drop(&mut self) {
        let mut tables = self.live.lock();
        let creates = &mut tables.creates;
        creates.under_way.remove(&self.number);
        let oldest = creates.oldest();
        creates.cancelled.retain(|_, (next, _)| *next > oldest);
        drop(tables);
        self.live.created.send_modify(|()| ());
    }
}

impl Tables {
    /// An attempt was stopped here without an ending on record. One whose claim was answered late may end after a newer one,
    /// of which nothing is forgotten.
    fn stop(&mut self, key: &Key, epoch: Epoch) {
        let newest = self.stopped.entry(key.clone()).or_insert(epoch);
        *newest = epoch.max(*newest);
    }
}

/// The starts of one key that wait, while one trip of that key is under way.
#[derive(Default)]
struct Gate {
    waiting: Vec<Waiter>,
    /// A cancel that was committed for an epoch which this process may have claimed and not yet learnt of.
    cancelled: Option<(Epoch, String)>,
}

/// A start that waits for its answer.
pub(super) struct Waiter {
    pub(super) options: StartOptions,
    pub(super) answer: oneshot::Sender<Result<Start>>,
}

/// How a start is taken in.
pub(super) enum Arrived {
    /// Answered from memory.
    Answered(Start),
    /// It waits; a trip under way will see to it.
    Waits(oneshot::Receiver<Result<Start>>),
    /// It waits, and nobody is under way for this key: the caller must send somebody.
    First(oneshot::Receiver<Result<Start>>),
}

/// A run that this process holds.
pub(super) struct LiveRun {
    pub(super) lease: RunLease,
    /// The session under which it was claimed.
    pub(super) session: Arc<Session>,
    /// Asks the work to stop, whatever the reason.
    pub(super) cancel: CancellationToken,
    /// The work is asked to stop, and dropped after a grace.
    pub(super) cancelled: CancellationToken,
    /// Rises with every signal for this run.
    pub(super) signals: watch::Sender<u64>,
    phase: Mutex<Phase>,
}

enum Phase {
    Running,
    Cancelling(String),
    /// An ending has been handed to the store: from now on only the store knows.
    Ending,
}

impl LiveRun {
    pub(super) fn new(session: Arc<Session>, lease: RunLease) -> Self {
        Self {
            lease,
            session,
            cancel: CancellationToken::new(),
            cancelled: CancellationToken::new(),
            signals: watch::Sender::new(0),
            phase: Mutex::new(Phase::Running),
        }
    }

    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().expect("no code panics while it holds a phase")
    }

    /// The answer to a start, while that is certainly true.
    fn active(&self) -> Option<Start> {
        if !self.session.trusted() {
            return None;
        }
        let status = match &*self.phase() {
            Phase::Running => Status::Running,
            Phase::Cancelling(_) => Status::Cancelling,
            Phase::Ending => return None,
        };
        Some(Start::AlreadyActive {
            run: self.lease.run(),
            status,
            node: Some(self.lease.node().clone()),
            since: Some(self.lease.since()),
        })
    }

    /// Asks the work to stop, for another attempt; it is dropped after a grace.
    pub(super) fn stop(&self) {
        self.cancelled.cancel();
        self.cancel.cancel();
    }

    /// A cancel is on record; ask the work to stop.
    pub(super) fn cancel(&self, reason: String) {
        let mut phase = self.phase();
        if matches!(*phase, Phase::Running) {
            *phase = Phase::Cancelling(reason);
        }
        drop(phase);
        self.cancelled.cancel();
        self.cancel.cancel();
    }

    /// From now on starts go to the store. Returns why the run was asked to stop, if it was.
    pub(super) fn ending(&self) -> Option<String> {
        match std::mem::replace(&mut *self.phase(), Phase::Ending) {
            Phase::Running | Phase::Ending => None,
            Phase::Cancelling(reason) => Some(reason),
        }
    }
}

impl Live {
    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().expect("no code panics while it holds the tables")
    }

    /// Runs, and starts under way: keys of which one is, and creates.
    pub(super) fn counts(&self) -> (usize, usize) {
        let tables = self.lock();
        (tables.runs.len(), tables.gates.len() + tables.creates.under_way.len())
    }

    /// Whether a run is held that was claimed under this session.
    pub(super) fn has_of(&self, session: &Arc<Session>) -> bool {
        self.lock().runs.values().any(|run| Arc::ptr_eq(&run.session, session))
    }

    /// Whether any start is under way.
    pub(super) fn is_starting(&self) -> bool {
        let tables = self.lock();
        !tables.gates.is_empty() || !tables.creates.under_way.is_empty()
    }

    /// A create that starts its task is about to be sent.
    pub(super) fn create(self: &Arc<Self>) -> CreateUnderWay {
        let mut tables = self.lock();
        let creates = &mut tables.creates;
        let number = creates.next;
        creates.next += 1;
        creates.under_way.insert(number);
        CreateUnderWay { live: self.clone(), number }
    }

    /// Returns when all creates are through that are under way now.
    pub(super) async fn created(&self) {
        let mut created = self.created.subscribe();
        let next = self.lock().creates.next;
        while self.lock().creates.oldest() < next {
            if created.changed().await.is_err() {
                return;
            }
        }
    }

    /// Takes a start in.
    pub(super) fn arrive(&self, key: &Key, options: StartOptions) -> Arrived {
        let mut tables = self.lock();
        // What was answered under an idempotency key, and that one more run is wanted, only the store knows.
        if options.idempotency.is_none()
            && !options.policy.asks_for_more()
            && let Some(answer) = tables.runs.get(key).and_then(|run| run.active())
        {
            return Arrived::Answered(answer);
        }
        let (answer, receiver) = oneshot::channel();
        let waiter = Waiter { options, answer };
        if let Some(gate) = tables.gates.get_mut(key) {
            gate.waiting.push(waiter);
            return Arrived::Waits(receiver);
        }
        tables.gates.insert(key.clone(), Gate { waiting: vec![waiter], cancelled: None });
        Arrived::First(receiver)
    }

    /// The starts that wait for the next trip; none (and the gate is gone) where there is no next trip.
    pub(super) fn next_trip(&self, key: &Key) -> Option<Vec<Waiter>> {
        let mut tables = self.lock();
        let gate = tables.gates.get_mut(key)?;
        if gate.waiting.is_empty() {
            tables.gates.remove(key);
            return None;
        }
        Some(std::mem::take(&mut gate.waiting))
    }

    /// Takes the gate away where its trip broke off; who waits there is told so.
    pub(super) fn break_off(&self, key: &Key) {
        self.lock().gates.remove(key);
    }

    /// The answer from memory, if there is one.
    pub(super) fn active(&self, key: &Key) -> Option<Start> {
        self.lock().runs.get(key).and_then(|run| run.active())
    }

    /// A claim has won; a cancel that overtook the news of it is delivered. An older run of the key that is just
    /// ending is replaced. The news may also be so late that a newer run is held: that one stays, and this one ends
    /// without being known here.
    pub(super) fn hold(&self, run: Arc<LiveRun>) {
        let mut tables = self.lock();
        let key = run.lease.key().clone();
        if let Some((_, reason)) = tables.creates.cancelled.remove(&(key.clone(), run.lease.epoch())) {
            run.cancel(reason);
        }
        if let Some(gate) = tables.gates.get_mut(&key)
            && let Some((epoch, reason)) = gate.cancelled.take()
            && epoch == run.lease.epoch()
        {
            run.cancel(reason);
        }
        if tables.runs.get(&key).is_none_or(|held| held.lease.epoch() < run.lease.epoch()) {
            tables.runs.insert(key, run);
        }
    }

    /// Whether this process runs the task, or may just have claimed it.
    pub(super) fn knows(&self, key: &Key) -> bool {
        let tables = self.lock();
        tables.runs.contains_key(key) || tables.gates.contains_key(key)
    }

    /// Whether an attempt of this epoch was stopped here without an ending on record.
    pub(super) fn was_stopped(&self, key: &Key, epoch: Epoch) -> bool {
        self.lock().stopped.get(key) == Some(&epoch)
    }

    /// What was stopped here without an ending on record is settled.
    pub(super) fn settled(&self, key: &Key) {
        self.lock().stopped.remove(key);
    }

    /// Work that waits for a signal should look.
    pub(super) fn wake_all(&self) {
        self.lock().runs.values().for_each(|run| run.signals.send_modify(|n| *n += 1));
    }

    /// A run is over here; `ended` where that is on record, or somebody else has it.
    pub(super) fn forget(&self, run: &Arc<LiveRun>, ended: bool) {
        let mut tables = self.lock();
        let (key, epoch) = (run.lease.key(), run.lease.epoch());
        if !ended {
            tables.stop(key, epoch);
        } else if tables.stopped.get(key).is_some_and(|stopped| *stopped <= epoch) {
            tables.stopped.remove(key);
        }
        if tables.runs.get(run.lease.key()).is_some_and(|held| Arc::ptr_eq(held, run)) {
            tables.runs.remove(run.lease.key());
        }
    }

    /// A cancel of an epoch is on record: tell the run, or the trip or the create that is about to learn that it won.
    pub(super) fn cancel(&self, key: &Key, epoch: Epoch, reason: String) {
        let mut tables = self.lock();
        match tables.runs.get(key) {
            Some(run) if run.lease.epoch() == epoch => run.cancel(reason),
            _ => {
                let creates = &mut tables.creates;
                if !creates.under_way.is_empty() {
                    creates.cancelled.insert((key.clone(), epoch), (creates.next, reason.clone()));
                }
                if let Some(gate) = tables.gates.get_mut(key) {
                    gate.cancelled = Some((epoch, reason));
                }
            }
        }
    }

    /// A signal for a run is on record: the work should look.
    pub(super) fn signalled(&self, key: &Key, run: Run) {
        if let Some(live) = self.lock().runs.get(key)
            && live.lease.run() == run
        {
            live.signals.send_modify(|n| *n += 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_attempt_that_ends_late_does_not_hide_that_a_newer_one_was_stopped() {
        let (live, key) = (Live::default(), "a/b/c".parse().unwrap());
        for epoch in [4, 2] {
            live.lock().stop(&key, Epoch(epoch));
        }
        assert!(live.was_stopped(&key, Epoch(4)));
        live.settled(&key);
        assert!(!live.was_stopped(&key, Epoch(4)));
    }
}
