//! What other processes have written: their events for our viewers, cancels and signals for our runs, queued runs for
//! our free slots.
//!
//! Decides: when this node looks. A change of the store is a hint, and a slow look goes on without any, so that a lost
//! hint costs a delay and nothing else. One look serves all viewers of a task: it reads what is new once, into the
//! window that they share, and nobody waits at the tail with a query of his own.
//!
//! Never decides what is true: the log and the rows are read, whatever the hint was.

use std::{sync::Arc, time::Duration};

use tokio::sync::{Notify, watch};

use super::Inner;
use crate::{
    Key, Status, Timestamp,
    event::Batch,
    fault,
    hub::TopicUse,
    lease::RunLease,
    limits,
    store::{EventRange, QueuedClaim, StoreError, StoreResult, Waiting},
    sync::atomic::Ordering,
    task::Seq,
};

/// When it is time to look: at a hint, and in any case after a while.
struct Looks {
    changes: watch::Receiver<u64>,
    asked: Arc<Notify>,
}

impl Looks {
    async fn next(&mut self) {
        self.next_within(limits::FOLLOW_ANYWAY).await;
    }

    async fn next_within(&mut self, wait: Duration) {
        // Many commits, one look.
        tokio::time::sleep(limits::FOLLOW_EVERY).await;
        tokio::select! {
            biased;
            _ = self.changes.changed() => {}
            () = self.asked.notified() => {}
            () = tokio::time::sleep(wait.min(limits::FOLLOW_ANYWAY)) => {}
        }
        self.changes.mark_unchanged();
    }
}

/// Three looks side by side, each until this process closes: whatever holds one up holds up no other.
impl Inner {
    fn looks(&self, asked: &Arc<Notify>) -> Looks {
        Looks { changes: self.store.changes(), asked: asked.clone() }
    }

    /// Follows the logs of tasks that have viewers here.
    pub(super) async fn follow_logs(self: Arc<Self>) {
        let mut looks = self.looks(&self.look);
        loop {
            looks.next().await;
            said(self.show_news().await);
        }
    }

    /// Follows what others write for the runs here.
    pub(super) async fn follow_inbox(self: Arc<Self>) {
        let (mut looks, mut inbox) = (self.looks(&Arc::default()), None);
        loop {
            looks.next().await;
            said(self.read_inbox(&mut inbox).await);
        }
    }

    /// Follows the queue, and what is owed.
    pub(super) async fn follow_queue(self: Arc<Self>) {
        let mut looks = self.looks(&self.queue);
        let mut wait = limits::FOLLOW_ANYWAY;
        loop {
            looks.next_within(wait).await;
            // A task of its own, so that a shutdown waits for a claim under way and never leaves one without its run.
            match self.tasks.spawn(self.clone().tend_queue()).await {
                Ok(Ok(until)) => wait = until,
                Ok(Err(error)) => {
                    wait = limits::FOLLOW_ANYWAY;
                    said(Err(error));
                }
                Err(_) => wait = limits::FOLLOW_ANYWAY,
            }
        }
    }

    /// Makes ready what waited for its time, begins what is owed, and takes what waits for a node like this one. Returns how
    /// long nothing of it is to do, as far as is known.
    async fn tend_queue(self: Arc<Self>) -> StoreResult<Duration> {
        if self.draining.is_cancelled() || !self.session().trusted() {
            return Ok(limits::FOLLOW_ANYWAY);
        }
        let (mut waiting, now) = (self.store.waiting().await?, self.clock.now());
        if waiting.next_due.is_some_and(|due_at| due_at <= now) {
            fault::point("core:ripen-before");
            while self.store.ripen(now).await? {}
            fault::point("core:ripen-after");
            waiting = Waiting { ready: true, ..self.store.waiting().await? };
        }
        if waiting.owed {
            self.begin_owed().await?;
        }
        if waiting.ready || self.models.values().any(|model| model.is_waited_for.load(Ordering::Relaxed)) {
            self.clone().take_queued().await?;
        }
        let until = |due_at: Timestamp| due_at.as_micros().saturating_sub(self.clock.now().as_micros());
        let wait = waiting.next_due.map(|due_at| u64::try_from(until(due_at)).unwrap_or_default());
        Ok(wait.map_or(limits::FOLLOW_ANYWAY, Duration::from_micros))
    }

    /// New events of runs that are held elsewhere, for the viewers here.
    async fn show_news(&self) -> StoreResult<()> {
        let watched = self.hub.watched();
        for page in watched.chunks(limits::LIST_MAX_TASKS) {
            // Before the rows are asked for: what was seen by then is in them.
            let seen: Vec<Seq> = page.iter().map(|(_, topic)| topic.seen()).collect();
            let rows = self.store.rows(page.iter().map(|(key, _)| key.clone()).collect()).await?;
            for (((key, topic), seen), row) in page.iter().zip(seen).zip(rows) {
                match row {
                    // The store has lost what it had: a failover to a copy that was behind, or a power cut. Whoever has
                    // seen that comes back with his cursor, and is told.
                    Some(row) if row.last_seq < seen => {
                        tracing::error!(task.key = %key, "the log on record ends before what was seen of it; its viewers are sent away");
                        self.hub.delete(key);
                    }
                    Some(row) => match self.show_until(key, topic, row.last_seq).await {
                        // Its viewers read it themselves and are told; those of other tasks do not wait for it.
                        Err(StoreError::Corrupt(_)) => topic.known(row.last_seq),
                        shown => shown?,
                    },
                    None => self.hub.delete(key),
                }
            }
        }
        Ok(())
    }

    async fn show_until(&self, key: &Key, topic: &TopicUse, last_seq: Seq) -> StoreResult<()> {
        while let Some(after) = topic.behind(last_seq) {
            // Who is that far behind reads pages of his own; the window would not hold them.
            if last_seq - after > limits::WINDOW_MAX_EVENTS as Seq {
                topic.known(last_seq);
                return Ok(());
            }
            let range = EventRange {
                after,
                until: last_seq,
                max_events: limits::PAGE_MAX_EVENTS,
                max_bytes: limits::PAGE_MAX_BYTES,
            };
            let events = self.store.events(key, range).await?;
            if events.is_empty() {
                topic.known(last_seq);
                return Ok(());
            }
            topic.show(Arc::new(Batch::new(events)));
        }
        Ok(())
    }

    /// Cancels and signals for runs that this node holds, written by others.
    async fn read_inbox(&self, seen: &mut Option<(crate::NodeId, u64)>) -> StoreResult<()> {
        let node = self.session().node.clone();
        let read = Some((node.clone(), self.store.inbox(&node).await?));
        if *seen == read {
            return Ok(());
        }
        // A run that is being taken is on record before it is known here, and its cancel would find nobody.
        let _taking = self.taking.lock().await;
        for held in self.store.held(&node, Status::Cancelling).await? {
            let reason = held.current.cancellation_reason.unwrap_or_default();
            self.live.cancel(&held.key, held.current.epoch, reason);
        }
        self.live.wake_all();
        // Only now: what could not be read is read again.
        *seen = read;
        Ok(())
    }

    /// Runs that wait for a node like this one.
    async fn take_queued(self: Arc<Self>) -> StoreResult<()> {
        loop {
            let session = self.session();
            if self.draining.is_cancelled() || !session.trusted() {
                return Ok(());
            }
            // The slots are taken before the claim, and given back where it found nothing for them.
            let mut slots: Vec<_> = self
                .models
                .iter()
                .filter(|(key, _)| !key.is_own())
                .filter_map(|(key, model)| Some((key, model.slots.clone().try_acquire_owned().ok()?)))
                .collect();
            if slots.is_empty() {
                return Ok(());
            }
            let models = slots.iter().map(|(key, _)| {
                ((*key).clone(), self.models.get(key).and_then(|model| model.options.max_concurrent_total))
            });
            let models = models.collect();
            let _taking = self.taking.lock().await;
            let claim = QueuedClaim { node: session.node.clone(), models, at: self.clock.now() };
            fault::point("core:queued-claim-before");
            let Some((key, won)) = self.store.claim_queued(claim).await? else {
                for (model, _) in &slots {
                    if let Some(model) = self.models.get(model) {
                        model.is_waited_for.store(false, Ordering::Relaxed);
                    }
                }
                return Ok(());
            };
            fault::point("core:queued-claim-won");
            let own = slots.iter().position(|(model, _)| *model == key.model_key());
            let (_, slot) = slots.swap_remove(own.expect("only models that were asked for are claimed"));
            drop(slots);
            let lease = RunLease::from_claim(key, session.node.clone(), &won);
            // Nobody waits for an answer.
            drop(self.begin(session, lease, won.input, slot));
        }
    }
}

fn said(looked: StoreResult<()>) {
    match looked {
        Ok(()) => {}
        // Whoever looks for dead nodes says so, once.
        Err(StoreError::Unavailable(error) | StoreError::Full(error)) => {
            tracing::debug!(error, "cannot read what others have written; it is tried again");
        }
        Err(error @ StoreError::Corrupt(_)) => {
            tracing::warn!(%error, "cannot read what others have written; it is tried again");
        }
    }
}
