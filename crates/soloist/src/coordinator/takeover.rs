//! What dead nodes have left, and what this node holds without knowing.
//!
//! Decides: when this node looks, and what it does with what it finds. Each look goes over *all* runs whose node is dead
//! or gone, not only those of a node that was just buried, so that a claim which slipped in between is found by the
//! next look, whoever makes it. A run is taken over by a compare-and-set on the epoch that was seen: of several nodes
//! that find it one ends or requeues it, and the others are told.
//!
//! With each heartbeat a node also compares what the store says it holds with what it runs: a claim whose answer was
//! lost is on record as ours and runs nowhere. Such a run is begun; one that had already been stopped here is ended.
//! Never takes a run from a node that was not marked dead first.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{CancelOptions, Inner, node::Session, settle::DEFAULT_REASON, start::REPLACED};
use crate::{
    Failure, Key, Status, Timestamp, fault,
    key::ModelKey,
    lease::{RunLease, part},
    limits, retry,
    state::{Command, Retries, next},
    store::{Change, Current, Evidence, Held, Prune, Rerun, StoreResult, Won},
    task::{Losses, NextRun},
};

/// Whether a run may be tried again.
pub(super) fn retries_left(retry_count: u32, max_retries: u32) -> Retries {
    if retry_count < max_retries { Retries::Left } else { Retries::Spent }
}

impl Inner {
    /// Looks for dead nodes and for what they left, until this process closes.
    pub(super) async fn sweeps(self: Arc<Self>) {
        let boot = &self.terms.clock;
        // After an outage every lease is over by the store's clock, also those of nodes that only wait as we did. Who
        // comes new cannot know whether there was one.
        let mut trust_leases_from = boot.now();
        if self.store.can_be_away() {
            trust_leases_from += self.terms.lease;
        }
        let mut is_away = false;
        let (mut looked, mut compared) = (boot.now(), boot.now());
        loop {
            tokio::select! {
                biased;
                () = self.closing.cancelled() => return,
                () = self.sweep.notified() => {}
                () = tokio::time::sleep(limits::SWEEP_EVERY) => {}
            }
            let now = boot.now();
            // What this node has met itself others may have met as well.
            if self.store.can_be_away() && !self.session().healthy() {
                trust_leases_from = now + self.terms.lease;
            }
            let evidence = if now >= trust_leases_from { Evidence::Lease } else { Evidence::Certain };
            let buried = self.store.bury(evidence).await;
            let is_late =
                boot.now().saturating_sub(now) >= part(self.terms.lease, limits::SWEEP_LATE_PERCENT);
            if buried.is_err() || (is_late && self.store.can_be_away()) {
                trust_leases_from = boot.now() + self.terms.lease;
            }
            let was_away = std::mem::replace(&mut is_away, buried.is_err());
            let buried = match buried {
                Ok(buried) => buried,
                Err(error) => {
                    // Said once, and not three times a second.
                    if !was_away {
                        tracing::warn!(%error, "the store cannot be asked; what runs waits, and it is tried again");
                    }
                    continue;
                }
            };
            if was_away {
                tracing::info!("the store can be asked again");
            }
            for node in &buried {
                tracing::warn!(node = %node, "a node is dead; its runs are taken over");
            }
            if !buried.is_empty() {
                fault::point("core:takeover-buried");
            }
            if !buried.is_empty() || now.saturating_sub(looked) >= limits::FOLLOW_ANYWAY {
                looked = now;
                self.settle_orphans().await;
            }
            if now.saturating_sub(compared) >= part(self.terms.lease, limits::LEASE_RENEW_PERCENT) {
                compared = now;
                if let Err(error) = self.reconcile(&self.session()).await {
                    tracing::warn!(%error, "cannot compare the record with what runs here; it is tried again");
                }
            }
        }
    }

    /// Clears away what is of no use, and deletes what is old, until this process closes. Apart from the look for dead nodes:
    /// there may be much of it.
    pub(super) async fn cleans(self: Arc<Self>) {
        let (mut tidied, every) = (Instant::now(), self.prune_every());
        loop {
            tokio::time::sleep(every).await;
            self.prune().await;
            if tidied.elapsed() >= fault::every(limits::TIDY_EVERY).saturating_sub(every) {
                tidied = Instant::now();
                self.tidy().await;
            }
        }
    }

    /// Ends or requeues what dead nodes have left. What cannot be settled now is found by the next look, and holds up
    /// nothing beside it.
    pub(super) async fn settle_orphans(&self) {
        loop {
            let orphans = match self.store.orphans(limits::LIST_MAX_TASKS).await {
                Ok(orphans) => orphans,
                Err(error) => return tracing::warn!(%error, "cannot look for what dead nodes left"),
            };
            let mut settled = 0;
            for Held { key, current } in &orphans {
                fault::point("core:takeover-found");
                match self
                    .settle_lost(key, current, "the process that ran it ended before the work did")
                    .await
                {
                    Ok(()) => {
                        settled += 1;
                        fault::point("core:takeover-settled");
                    }
                    Err(error) => {
                        tracing::error!(task.key = %key, %error, "a run of a dead node cannot be settled")
                    }
                }
            }
            if settled == 0 || orphans.len() < limits::LIST_MAX_TASKS {
                return;
            }
        }
    }

    /// One run whose holder is lost: by the table it ends, or goes on with another attempt.
    async fn settle_lost(&self, key: &Key, row: &Current, why: &str) -> crate::Result<()> {
        let failure = Failure::new("NodeLost", why);
        let Ok(step) = next(row.status, Command::NodeLost(retries_left(row.retry_count, row.max_retries)))
        else {
            return Err(crate::Error::Corrupt { message: format!("{key} is {} and has a node", row.status) });
        };
        let change = match step.to {
            Status::Queued => {
                let retry_count = row.retry_count + 1;
                // The first death of a node is nobody's failure. Of several, the work may be what kills it.
                let wait = match row.losses.node {
                    0 => Duration::ZERO,
                    _ => retry::delay(self.retry_delay(key.model_key()), retry_count),
                };
                let losses = Losses { node: row.losses.node + 1, ..row.losses };
                let due_at = self.due_after(wait);
                Change::Requeued { attempt: row.attempt + 1, retry_count, losses, due_at }
            }
            Status::Cancelled => Change::Cancelled {
                reason: row.cancellation_reason.clone().unwrap_or_else(|| DEFAULT_REASON.to_owned()),
                rerun: Rerun::Keep,
            },
            _ => Change::Failed { failure: failure.clone() },
        };
        tracing::warn!(task.key = %key, run = row.run, to = %step.to, "a run was left by its node");
        // Where somebody else was first, the next look finds what is left to do.
        self.settle(key, row, step, change, Some(&failure)).await.map(drop)
    }

    /// The wait before the first retry of a model; of one that is not served here what is usual.
    fn retry_delay(&self, model: &ModelKey) -> Duration {
        self.models.get(model).map_or(limits::RETRY_DELAY, |model| model.options.retry_delay)
    }

    /// When a run that waits may be taken from the queue; none where it need not wait.
    pub(super) fn due_after(&self, wait: Duration) -> Option<Timestamp> {
        let micros = i64::try_from(wait.as_micros()).unwrap_or(i64::MAX);
        (micros > 0).then(|| Timestamp::from_micros(self.clock.now().as_micros().saturating_add(micros)))
    }

    /// Compares what the store says this node holds with what it runs.
    pub(super) async fn reconcile(self: &Arc<Self>, session: &Arc<Session>) -> StoreResult<()> {
        // A run that was just taken from the queue is on record before it is known here.
        let _taking = self.taking.lock().await;
        let (mut adrift, mut replaced) = (Vec::new(), Vec::new());
        for status in [Status::Running, Status::Cancelling] {
            for held in self.store.held(&session.node, status).await? {
                if status == Status::Running && held.current.next_run == NextRun::Replace {
                    replaced.push((held.key.clone(), held.current.run));
                }
                if !self.live.knows(&held.key) {
                    adrift.push(held);
                }
            }
        }
        // Whoever asked for it has promised the next run, and may have died before it could cancel this one.
        for (key, run) in replaced {
            let options = CancelOptions { reason: Some(REPLACED.to_owned()), run: Some(run) };
            if let Err(error) = self.cancel(&key, options).await {
                tracing::warn!(task.key = %key, %error, "a run that is to be replaced cannot be cancelled; it is tried again");
            }
        }
        if adrift.is_empty() {
            return Ok(());
        }
        // Their keys may be news to creates that are under way. One that hangs holds up nothing but this: what is found now is
        // found by the next comparison as well.
        if tokio::time::timeout(limits::LEASE_LOOK, self.live.created()).await.is_err() {
            return Ok(());
        }
        adrift.retain(|held| !self.live.knows(&held.key));
        // A run that ended here in between is forgotten after its ending is on record. So what was not known here, and
        // is held under the same epoch by a look that came later, runs nowhere.
        let rows = self.store.rows(adrift.iter().map(|held| held.key.clone()).collect()).await?;
        for (Held { key, current }, row) in adrift.into_iter().zip(rows) {
            let Some(row) = row else { continue };
            let ours = row.epoch == current.epoch && row.node.as_ref() == Some(&session.node);
            if ours && row.status.is_held() && !self.live.knows(&key) {
                self.take_up(session, &key, &row).await?;
            }
        }
        Ok(())
    }

    /// A run that is ours on record and runs nowhere: begun, or ended where it had been stopped here.
    async fn take_up(self: &Arc<Self>, session: &Arc<Session>, key: &Key, row: &Current) -> StoreResult<()> {
        let slot =
            self.models.get(key.model_key()).and_then(|model| model.slots.clone().try_acquire_owned().ok());
        let begin =
            row.status == Status::Running && session.trusted() && !self.live.was_stopped(key, row.epoch);
        let begin = begin.then_some(slot);
        if let Some(None) = begin
            && !key.model_key().is_own()
        {
            // Nothing of it has been done. It waits for a slot, here or elsewhere, and loses no retry.
            return self.give_back(key, row).await;
        }
        if let (Some(Some(slot)), Some(task)) = (begin, self.store.task(key).await?) {
            tracing::warn!(task.key = %key, run.epoch = %row.epoch, "a run is ours on record and runs nowhere; it begins now");
            let won = Won {
                run: row.run,
                attempt: row.attempt,
                epoch: row.epoch,
                last_seq: row.last_seq,
                started_at: row.started_at.unwrap_or(task.created_at),
                retry_count: row.retry_count,
                losses: row.losses,
                ..Won::of(task)
            };
            let lease = RunLease::from_claim(key.clone(), session.node.clone(), &won);
            drop(self.begin(session.clone(), lease, won.input, slot));
            return Ok(());
        }
        match self.settle_lost(key, row, "this node could not go on with it").await {
            Ok(()) => self.live.settled(key),
            Err(error) => {
                tracing::error!(task.key = %key, %error, "a run of ours that runs nowhere cannot be settled");
            }
        }
        Ok(())
    }

    /// A run that is ours on record, and that nobody has begun: back into the queue.
    async fn give_back(&self, key: &Key, row: &Current) -> StoreResult<()> {
        let step = next(row.status, Command::Drain(Retries::Left)).expect("it is running");
        let (attempt, retry_count, losses) = (row.attempt + 1, row.retry_count, row.losses);
        let change = Change::Requeued { attempt, retry_count, losses, due_at: None };
        let why = Failure::new("Drained", "this node has no free slot for it");
        tracing::warn!(task.key = %key, run.epoch = %row.epoch, "a run is ours on record and has no slot here; it waits for one");
        if let Err(error) = self.settle(key, row, step, change, Some(&why)).await {
            tracing::error!(task.key = %key, %error, "a run of ours that has no slot cannot be given back");
        }
        self.queue.notify_one();
        Ok(())
    }

    async fn tidy(&self) {
        loop {
            fault::point("core:tidy-before");
            let tidied = self.store.tidy(self.clock.now()).await;
            fault::point("core:tidy-after");
            match tidied {
                Ok(true) => tokio::time::sleep(limits::TIDY_PAUSE).await,
                Ok(false) => return,
                Err(error) => return tracing::warn!(%error, "cannot clear away what is of no use on record"),
            }
        }
    }

    /// How often old tasks are looked for: often beside the shortest time for which any are kept.
    fn prune_every(&self) -> Duration {
        let kept = self.models.values().flat_map(|model| model.options.retention.parts());
        let shortest = kept.map(|(_, kept)| kept / 4).min().unwrap_or(limits::TIDY_EVERY);
        shortest.clamp(limits::FOLLOW_ANYWAY, fault::every(limits::TIDY_EVERY))
    }

    /// Deletes finished tasks whose time is over, in small steps.
    async fn prune(&self) {
        let now = self.clock.now();
        for (key, model) in self.models.iter().filter(|(key, _)| !key.is_own()) {
            for (status, kept) in model.options.retention.parts() {
                let kept = i64::try_from(kept.as_micros()).unwrap_or(i64::MAX);
                let before = Timestamp::from_micros(now.as_micros().saturating_sub(kept));
                let request = Prune { model: key.clone(), status, before, limit: limits::PRUNE_MAX_TASKS };
                loop {
                    fault::point("core:prune-before");
                    let gone = match self.store.prune(request.clone(), now).await {
                        Ok(gone) => gone,
                        Err(error) => {
                            return tracing::warn!(%error, "cannot prune old tasks; it is tried again");
                        }
                    };
                    if !gone.is_empty() {
                        fault::point("core:prune-after");
                    }
                    gone.iter().for_each(|key| self.hub.delete(key));
                    if gone.len() < limits::PRUNE_MAX_TASKS {
                        break;
                    }
                    tokio::time::sleep(limits::TIDY_PAUSE).await;
                }
            }
        }
    }
}
