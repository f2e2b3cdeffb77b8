//! What a coordinator is made of, and how it begins.
//!
//! Decides: what counts where nothing is said, and in which order a process begins: it joins the store, ends what dead
//! processes have left, and only then is there a handle through which anybody could ask. Never opens two models of one
//! name.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use tokio::sync::{Notify, Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Coordinator, Inner, Model,
    linger::Linger,
    node::{self, Terms},
    offered,
};
use crate::{
    Clock, Error, Result, Runner, StreamTask, SystemClock,
    clock::{BootClock, HostBootClock, SharedClock},
    fault,
    key::ModelKey,
    lease::OnLeaseLost,
    limits,
    runner::Native,
    state::Status,
    store::{Evidence, Store},
    sync::atomic::{AtomicBool, AtomicUsize},
    task::RunTerms,
};

/// How a model is run.
///
/// ```
/// use std::time::Duration;
/// use soloist::{ModelOptions, RunTerms};
/// let options = ModelOptions {
///     max_concurrent: 4,
///     terms: RunTerms { max_retries: 3, timeout_seconds: Some(600), ..RunTerms::default() },
///     ..ModelOptions::default()
/// };
/// # assert_eq!(options.retry_delay, Duration::from_secs(2));
/// ```
#[derive(Debug, Clone, Copy)]
pub struct ModelOptions {
    /// Most runs of this model at a time in this process; a start beyond it waits in the queue.
    pub max_concurrent: usize,
    /// Most runs of it at a time over all processes, where it is bounded; all of them should say the same.
    pub max_concurrent_total: Option<u32>,
    /// How often a run of it is tried and how long it may take, where its task does not say.
    pub terms: RunTerms,
    /// The wait before the first retry of a run; it doubles with each (see [`crate::retry`]).
    pub retry_delay: Duration,
    /// What becomes of a run whose attempt has taken too long.
    pub on_timeout: OnTimeout,
    /// How long its finished tasks are kept.
    pub retention: Retention,
}

/// What becomes of a run whose attempt has taken longer than its timeout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnTimeout {
    /// It ends as cancelled.
    #[default]
    Cancel,
    /// It is tried again, where it has a retry left.
    Retry,
}

/// How long finished tasks are kept, by how they ended; none is for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Those that completed.
    pub completed: Option<Duration>,
    /// Those that failed.
    pub failed: Option<Duration>,
    /// Those that were cancelled.
    pub cancelled: Option<Duration>,
}

impl Default for Retention {
    fn default() -> Self {
        let kept = Some(limits::RETENTION);
        Self { completed: kept, failed: kept, cancelled: kept }
    }
}

impl Retention {
    /// Each ending with how long it is kept.
    pub(super) fn parts(self) -> impl Iterator<Item = (Status, Duration)> {
        let all = [
            (Status::Completed, self.completed),
            (Status::Failed, self.failed),
            (Status::Cancelled, self.cancelled),
        ];
        all.into_iter().filter_map(|(status, kept)| Some((status, kept?)))
    }
}

impl Default for ModelOptions {
    fn default() -> Self {
        Self {
            max_concurrent: limits::NATIVE_MAX_CONCURRENT,
            max_concurrent_total: None,
            terms: RunTerms::default(),
            retry_delay: limits::RETRY_DELAY,
            on_timeout: OnTimeout::default(),
            retention: Retention::default(),
        }
    }
}

/// What a [`Coordinator`] is made of.
pub struct CoordinatorBuilder {
    store: Arc<dyn Store>,
    clock: SharedClock,
    terms: Terms,
    linger: Duration,
    models: Vec<(Result<ModelKey>, Arc<dyn Runner>, ModelOptions)>,
}

impl CoordinatorBuilder {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        let terms = Terms {
            lease: limits::LEASE,
            clock: Arc::new(HostBootClock),
            on_lease_lost: OnLeaseLost::default(),
            runners: Arc::new([]),
        };
        Self { store, clock: Arc::new(SystemClock), terms, linger: limits::LINGER, models: Vec::new() }
    }

    /// Serves a model that is written in Rust, under `app` and the type's own name of the model.
    #[must_use]
    pub fn register<T: StreamTask>(self, app: &str) -> Self {
        self.register_with::<T>(app, ModelOptions::default())
    }

    /// The same, with options.
    #[must_use]
    pub fn register_with<T: StreamTask>(mut self, app: &str, options: ModelOptions) -> Self {
        let model = ModelKey::new(app, T::MODEL);
        self.models.push((model, Arc::new(Native::<T>::new()), options));
        self
    }

    /// Serves a model by any runner.
    #[must_use]
    pub fn runner(mut self, model: ModelKey, runner: Arc<dyn Runner>, options: ModelOptions) -> Self {
        self.models.push((Ok(model), runner, options));
        self
    }

    /// How long a finished run stays in memory for late viewers; [`limits::LINGER`] by default.
    #[must_use]
    pub fn linger(mut self, linger: Duration) -> Self {
        self.linger = linger;
        self
    }

    /// How long this process lives on record without renewing its lease; [`limits::LEASE`] by default. A store that is away
    /// for less than 30 % of it costs nothing, and one that is away for more than 60 % costs the attempts that run.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.terms.lease = lease;
        self
    }

    /// What this process does where work has not let go and its lease is nearly over; [`OnLeaseLost::Detach`] by
    /// default.
    #[must_use]
    pub fn on_lease_lost(mut self, then: OnLeaseLost) -> Self {
        self.terms.on_lease_lost = then;
        self
    }

    /// What leases are measured by; the store must judge by the same clock.
    #[must_use]
    pub fn boot_clock(mut self, clock: impl BootClock) -> Self {
        self.terms.clock = Arc::new(clock);
        self
    }

    /// Where "now" comes from.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Joins the store as a fresh node and ends what processes that died have left running. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a name that is not valid or a model that is served twice; [`Error::Unavailable`] where
    /// the store cannot be asked.
    pub async fn open(mut self) -> Result<Coordinator> {
        self.terms.runners = self.models.iter().map(|(_, runner, _)| runner.clone()).collect();
        let mut models = BTreeMap::new();
        for (model, runner, options) in self.models {
            let model = model?;
            let max_concurrent = options.max_concurrent.clamp(1, Semaphore::MAX_PERMITS);
            let slots = Arc::new(Semaphore::new(max_concurrent));
            if models
                .insert(
                    model.clone(),
                    Model { runner, slots, options, is_waited_for: AtomicBool::new(false) },
                )
                .is_some()
            {
                return Err(Error::invalid("duplicate_model", format!("the model {model} is served twice")));
            }
        }
        let served = offered(&models);
        let membership = node::join(&*self.store, &self.terms, served, self.clock.now()).await?;
        fault::point("core:open-joined");
        let inner = Arc::new(Inner {
            store: self.store,
            clock: self.clock,
            terms: self.terms,
            membership,
            models,
            hub: Arc::default(),
            live: Arc::default(),
            linger: Linger::new(self.linger),
            stuck: AtomicUsize::new(0),
            look: Arc::default(),
            queue: Arc::default(),
            taking: tokio::sync::Mutex::default(),
            sweep: Notify::new(),
            tasks: TaskTracker::new(),
            draining: CancellationToken::new(),
            leaving: CancellationToken::new(),
            giving_up: CancellationToken::new(),
            closing: CancellationToken::new(),
        });
        // A restart waits for no lease: what is certainly dead is taken over before anybody is answered.
        let evidence = if inner.store.can_be_away() { Evidence::Certain } else { Evidence::Lease };
        inner.store.bury(evidence).await?;
        fault::point("core:open-buried");
        inner.settle_orphans().await;
        fault::point("core:open-settled");
        let background = inner.closing.child_token();
        for part in [
            inner.clone().rejoin().boxed(),
            inner.clone().sweeps().boxed(),
            inner.clone().cleans().boxed(),
            inner.clone().follow_logs().boxed(),
            inner.clone().follow_inbox().boxed(),
            inner.clone().follow_queue().boxed(),
        ] {
            tokio::spawn(background.clone().run_until_cancelled_owned(part));
        }
        Ok(Coordinator { inner, _last: Arc::new(background.drop_guard()) })
    }
}
