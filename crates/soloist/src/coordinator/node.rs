//! This process as a node: its lease, its heartbeat, and what it does when that fails.
//!
//! Decides: when this process believes that it is alive ([`Session::trusted`]), when its work is asked to stop, dropped,
//! and when the process ends with it (the stages of [`crate::lease`]). `pulse` sees to that.
//!
//! A session that has once left its trust window is over: its attempts come to their end, and the process joins again
//! under a fresh name. Never decides who is dead; the store does.

use std::{ops::ControlFlow, sync::Arc, time::Duration};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{
    Inner, offered,
    pulse::{Leave, Pulse},
    trust::Trust,
};
use crate::{
    NodeId, Result, Runner,
    clock::SharedBootClock,
    fault,
    lease::{OnLeaseLost, Stage, part},
    limits,
    store::{NewNode, Renewal, StoreResult},
    sync::{
        RwLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

/// The time for which this process is one node.
pub(super) struct Session {
    pub(super) node: NodeId,
    lease: Duration,
    clock: SharedBootClock,
    trust: Trust,
    /// The last heartbeat found no store.
    missed: AtomicBool,
    /// Work is asked to stop; no more claims.
    pub(super) stop: CancellationToken,
    /// Work is ended or dropped.
    pub(super) drop: CancellationToken,
    /// Who is told how long work may go on.
    runners: Arc<[Arc<dyn Runner>]>,
    /// Work that has not let go.
    working: AtomicUsize,
    /// Nobody watches it any more.
    closed: AtomicBool,
}

impl Session {
    /// Whether the last heartbeat came through, and its lease is good.
    pub(super) fn healthy(&self) -> bool {
        self.trusted() && !self.missed.load(Ordering::Acquire)
    }

    /// Whether this node's runs are certainly its own.
    pub(super) fn trusted(&self) -> bool {
        self.trust.is_held(|| self.clock.now())
    }

    fn stage(&self) -> Stage {
        self.trust.stage(|| self.clock.now())
    }

    fn renewed(&self, sent: Duration) {
        self.trust.renewed(sent, || self.clock.now());
        for runner in &*self.runners {
            runner.lease_renewed(sent + part(self.lease, limits::LEASE_DROP_PERCENT));
        }
    }

    /// The store says that this node is dead: all stages at once.
    pub(super) fn lost(&self) {
        self.stop.cancel();
        self.drop.cancel();
    }

    /// Counts work that runs, until what is returned is dropped.
    pub(super) fn work(self: &Arc<Self>) -> Working {
        self.working.fetch_add(1, Ordering::AcqRel);
        Working(self.clone())
    }
}

/// Work that has not let go.
pub(super) struct Working(Arc<Session>);

impl Drop for Working {
    fn drop(&mut self) {
        self.0.working.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The present session, and the way to its heartbeat. Dropping it without [`Membership::leave`] is a death.
pub(super) struct Membership {
    present: RwLock<Present>,
}

struct Present {
    session: Arc<Session>,
    /// To who has the heartbeat.
    leave: Leave,
}

impl Drop for Present {
    fn drop(&mut self) {
        self.session.closed.store(true, Ordering::Release);
    }
}

impl Membership {
    pub(super) fn session(&self) -> Arc<Session> {
        self.present.read().expect("no code panics while it holds the session").session.clone()
    }

    /// Leaves the store: nobody has to wait for this node's lease. Returns when it is on record, or cannot be.
    pub(super) async fn leave(&self) {
        let heartbeat = self.present.read().expect("no code panics while it holds the session").leave.clone();
        heartbeat.leave().await;
    }

    /// Renews the lease no more, and leaves it to run out.
    pub(super) fn abandon(&self) {
        let mut present = self.present.write().expect("no code panics while it holds the session");
        // Who has the heartbeat ends where nobody can ask for anything any more.
        present.leave = Leave::nobody();
    }

    /// Goes on under another name; returns what was until now.
    fn replace(&self, next: Present) -> Present {
        let mut present = self.present.write().expect("no code panics while it holds the session");
        std::mem::replace(&mut *present, next)
    }
}

/// What every session of this process has in common.
#[derive(Clone)]
pub(super) struct Terms {
    pub(super) lease: Duration,
    pub(super) clock: SharedBootClock,
    pub(super) on_lease_lost: OnLeaseLost,
    pub(super) runners: Arc<[Arc<dyn Runner>]>,
}

/// Joins the store under a fresh name.
pub(super) async fn join(
    store: &dyn crate::Store,
    terms: &Terms,
    models: Vec<crate::store::Served>,
    at: crate::Timestamp,
) -> Result<Membership> {
    Ok(Membership { present: RwLock::new(present(store, terms, models, at).await?) })
}

async fn present(
    store: &dyn crate::Store,
    terms: &Terms,
    models: Vec<crate::store::Served>,
    at: crate::Timestamp,
) -> Result<Present> {
    let node = NodeId::random();
    let mut sent = terms.clock.now();
    let mut pulse =
        Pulse::of(store.join(NewNode { id: node.clone(), lease: terms.lease, models, at }).await?);
    // A store that was away may have taken long to let it in: then a renewal is due already.
    let clock = terms.clock.clone();
    if clock.now().saturating_sub(sent) >= part(terms.lease, limits::LEASE_RENEW_PERCENT) {
        sent = clock.now();
        let (renewal, renewed) = pulse.renew().await?;
        if renewal? == Renewal::Dead {
            return Err(crate::Error::Unavailable {
                message: "the lease was over before the store had answered".to_owned(),
            });
        }
        pulse = renewed;
    }
    let stop = CancellationToken::new();
    let session = Arc::new(Session {
        node,
        lease: terms.lease,
        clock: terms.clock.clone(),
        trust: Trust::new(terms.lease, sent, stop.clone()),
        missed: AtomicBool::new(false),
        stop,
        drop: CancellationToken::new(),
        runners: terms.runners.clone(),
        working: AtomicUsize::new(0),
        closed: AtomicBool::new(false),
    });
    session.renewed(sent);
    let leave =
        pulse.keep(session.clone(), terms.on_lease_lost).map_err(|error| crate::Error::Unavailable {
            message: format!("this process cannot start a thread for its heartbeat: {error}"),
        })?;
    Ok(Present { session, leave })
}

/// What is made of the answers to a session's heartbeats.
#[derive(Default)]
pub(super) struct Beats {
    missed: bool,
    sent: Duration,
}

impl Beats {
    /// The wait before the first one.
    pub(super) fn first(session: &Session) -> Duration {
        part(session.lease, limits::LEASE_RENEW_PERCENT)
    }

    /// A heartbeat is sent now.
    pub(super) fn send(&mut self, session: &Session) {
        self.sent = session.clock.now();
    }

    /// What it was answered. Goes on with the wait before the next one; there is none where the node is dead.
    pub(super) fn answered(
        &mut self,
        session: &Session,
        renewal: StoreResult<Renewal>,
    ) -> ControlFlow<(), Duration> {
        session.missed.store(renewal.is_err(), Ordering::Release);
        match renewal {
            Ok(Renewal::Renewed) => {
                session.renewed(self.sent);
                if std::mem::take(&mut self.missed) {
                    tracing::info!(node = %session.node, "the lease is renewed again");
                }
                ControlFlow::Continue(part(session.lease, limits::LEASE_RENEW_PERCENT))
            }
            Ok(Renewal::Dead) => {
                tracing::error!(node = %session.node, "the store holds this node for dead; its work stops, and it joins again");
                session.lost();
                ControlFlow::Break(())
            }
            Err(error) => {
                if !std::mem::replace(&mut self.missed, true) {
                    tracing::warn!(node = %session.node, %error, "the lease could not be renewed; it is tried again");
                }
                ControlFlow::Continue(part(session.lease, limits::LEASE_RETRY_PERCENT))
            }
        }
    }
}

/// Takes a session through the stages of its lease, look by look.
pub(super) struct Watch {
    on_lease_lost: OnLeaseLost,
    dropped_at: Option<Duration>,
}

impl Watch {
    pub(super) fn new(on_lease_lost: OnLeaseLost) -> Self {
        Self { on_lease_lost, dropped_at: None }
    }

    /// One look. Goes on with the wait before the next one; there is none where the session is over.
    pub(super) fn look(&mut self, session: &Session) -> ControlFlow<(), Duration> {
        if session.closed.load(Ordering::Acquire) {
            return ControlFlow::Break(());
        }
        let (now, stage) = (session.clock.now(), session.stage());
        if stage >= Stage::Stop && !session.stop.is_cancelled() {
            session.stop.cancel();
            tracing::error!(node = %session.node, "the lease was not renewed in time; work is asked to stop");
        }
        if stage >= Stage::Drop {
            session.drop.cancel();
        }
        if session.drop.is_cancelled() {
            // Late, it takes all stages at once; what was just dropped still has the time between the last two.
            let grace = part(session.lease, limits::LEASE_ABORT_PERCENT - limits::LEASE_DROP_PERCENT);
            if now.saturating_sub(*self.dropped_at.get_or_insert(now)) >= grace {
                end(session, self.on_lease_lost);
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(limits::LEASE_LOOK.min(part(session.lease, limits::LEASE_RETRY_PERCENT)))
    }
}

fn end(session: &Session, on_lease_lost: OnLeaseLost) {
    let working = session.working.load(Ordering::Acquire);
    if working == 0 {
        return;
    }
    match on_lease_lost {
        OnLeaseLost::Abort => {
            tracing::error!(node = %session.node, working, "work has not let go before the lease was over; this process ends itself");
            std::process::abort();
        }
        OnLeaseLost::Detach => {
            tracing::error!(node = %session.node, working, "work has not let go before the lease was over; it is fenced, and goes on");
        }
    }
}

impl Inner {
    /// The present session.
    pub(super) fn session(&self) -> Arc<Session> {
        self.membership.session()
    }

    /// Joins again, whenever a session is over, until this process closes.
    pub(super) async fn rejoin(self: Arc<Self>) {
        let mut leaving = JoinSet::new();
        loop {
            while leaving.try_join_next().is_some() {}
            let session = self.session();
            tokio::select! {
                biased;
                () = self.closing.cancelled() => return,
                () = session.stop.cancelled() => {}
            }
            // What its attempts can still end themselves they end; the lease may be good for that. It may also be good again
            // for ever: work that does not let go then is dropped as after any other request to stop.
            let asked_at = self.terms.clock.now();
            let in_time = || self.terms.clock.now().saturating_sub(asked_at) < limits::CANCEL_GRACE;
            while in_time() && session.working.load(Ordering::Acquire) > 0 && !session.drop.is_cancelled() {
                tokio::select! {
                    biased;
                    () = self.closing.cancelled() => return,
                    () = session.drop.cancelled() => {}
                    () = tokio::time::sleep(limits::LEASE_LOOK) => {}
                }
            }
            session.drop.cancel();
            let mut is_said = false;
            loop {
                fault::point("core:rejoin-before");
                let models = offered(&self.models);
                match present(&*self.store, &self.terms, models, self.clock.now()).await {
                    Ok(next) => {
                        fault::point("core:rejoin-after");
                        tracing::info!(was = %session.node, node = %next.session.node, "joined again");
                        leaving.spawn(self.clone().let_go(self.membership.replace(next)));
                        self.sweep.notify_one();
                        break;
                    }
                    Err(error) => {
                        if !std::mem::replace(&mut is_said, true) {
                            tracing::warn!(%error, "cannot join the store; it is tried again");
                        }
                    }
                }
                tokio::select! {
                    biased;
                    () = self.closing.cancelled() => return,
                    () = tokio::time::sleep(limits::REJOIN_EVERY) => {}
                }
            }
        }
    }

    /// Leaves the store under a name that is given up, once nothing needs it any more.
    ///
    /// Whoever leaves is dead at once, and what it still holds is taken from it. Attempts that wait for a store which is
    /// away settle themselves when it is back, and claims under way come to their end. Until then the old name is kept
    /// alive, and its work is watched: what does not let go ends the process, where that is wanted.
    async fn let_go(self: Arc<Self>, old: Present) {
        let (session, since) = (old.session.clone(), self.terms.clock.now());
        loop {
            let is_settled = !self.live.has_of(&session);
            let is_idle = !self.live.is_starting() && session.working.load(Ordering::Acquire) == 0;
            let is_over = self.terms.clock.now().saturating_sub(since) >= self.terms.lease;
            if is_settled && (is_idle || is_over) {
                break;
            }
            tokio::time::sleep(limits::LEASE_LOOK).await;
        }
        old.leave.clone().leave().await;
    }
}
