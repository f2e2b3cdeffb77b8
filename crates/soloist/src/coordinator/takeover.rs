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

use std::sync::Arc;

use super::{Inner, node::Session, settle::DEFAULT_REASON};
use crate::{
    Failure, Key, Status,
    lease::{RunLease, part},
    limits,
    state::{Command, Retries, next},
    store::{Change, Current, Evidence, Held, StoreResult, Won},
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
        let (mut looked, mut compared, mut tidied) = (boot.now(), boot.now(), boot.now());
        loop {
            tokio::select! {
                () = tokio::time::sleep(limits::SWEEP_EVERY) => {}
                () = self.sweep.notified() => {}
                () = self.closing.cancelled() => return,
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
            if now.saturating_sub(tidied) >= limits::TIDY_EVERY {
                tidied = now;
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
                match self
                    .settle_lost(key, current, "the process that ran it ended before the work did")
                    .await
                {
                    Ok(()) => settled += 1,
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
            Status::Queued => Change::Requeued { attempt: row.attempt + 1, retry_count: row.retry_count + 1 },
            Status::Cancelled => Change::Cancelled {
                reason: row.cancellation_reason.clone().unwrap_or_else(|| DEFAULT_REASON.to_owned()),
            },
            _ => Change::Failed { failure: failure.clone() },
        };
        tracing::warn!(task.key = %key, run = row.run, to = %step.to, "a run was left by its node");
        // Where somebody else was first, the next look finds what is left to do.
        self.settle(key, row, step, change, Some(&failure)).await.map(drop)
    }

    /// Compares what the store says this node holds with what it runs.
    pub(super) async fn reconcile(self: &Arc<Self>, session: &Arc<Session>) -> StoreResult<()> {
        // A run that was just taken from the queue is on record before it is known here.
        let _taking = self.taking.lock().await;
        let mut adrift = Vec::new();
        for status in [Status::Running, Status::Cancelling] {
            let held = self.store.held(&session.node, status).await?;
            adrift.extend(held.into_iter().filter(|held| !self.live.knows(&held.key)));
        }
        if adrift.is_empty() {
            return Ok(());
        }
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
                max_retries: row.max_retries,
                input: task.input,
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
        let step = next(row.status, Command::Drain).expect("it is running");
        let change = Change::Requeued { attempt: row.attempt + 1, retry_count: row.retry_count };
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
            match self.store.tidy(self.clock.now()).await {
                Ok(true) => tokio::time::sleep(limits::TIDY_PAUSE).await,
                Ok(false) => return,
                Err(error) => return tracing::warn!(%error, "cannot clear away what is of no use on record"),
            }
        }
    }
}
