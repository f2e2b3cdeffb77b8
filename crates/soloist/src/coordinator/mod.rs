//! The handle that an application holds: create, start, watch, cancel.
//!
//! Decides: nothing that the store or the state table decides. It checks what it is given, asks, and turns answers into
//! calls of its parts: `builder` makes it, `start` is the path of a start, `supervise` that of an attempt, `settle`
//! what is done to a task by somebody who does not hold it, `node` is this process's lease, `takeover` sees to what
//! dead nodes left, `follow` to what other processes write.

mod builder;
mod create;
mod follow;
mod linger;
mod live;
mod node;
mod pages;
mod pulse;
mod settle;
mod start;
mod supervise;
mod takeover;
mod trust;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::sync::{Notify, Semaphore};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use self::{
    linger::Linger,
    live::Live,
    node::{Membership, Terms},
};
use crate::{
    Error, Json, Key, NodeId, Result, Runner,
    clock::SharedClock,
    fault,
    hub::{For, Hub},
    key::ModelKey,
    limits,
    state::Policy,
    store::{Served, Signalled, Store},
    subscription::{Arrival, SubscribeOptions, Subscribed},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    task::{
        Create, Created, Delete, NewTask, Run, RunTerms, Start, StartOptions, Task, TaskFilter, TaskPage,
    },
};

pub use self::builder::{CoordinatorBuilder, ModelOptions, OnTimeout, Retention};
pub use self::pages::EventPage;
pub use self::settle::{Cancel, CancelOptions};

/// What this process has in hand, by count. All but `viewers` and `kept` are zero when it is idle; `kept` falls to
/// zero once the linger is over and the last viewer has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Runs that this process holds.
    pub running: usize,
    /// Starts under way: tasks of which one is, and creates that start their tasks.
    pub starting: usize,
    /// Tasks for which anything is kept in memory.
    pub kept: usize,
    /// Viewers.
    pub viewers: usize,
    /// Attempts that were dropped and whose work has still not let go of its thread.
    pub stuck: usize,
}

/// Whether a process should be sent new work, and if not, why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// It should.
    Ready,
    /// It shuts down.
    Draining,
    /// Its last heartbeat did not reach the store, or its lease is over; it joins again by itself.
    NoLease,
    /// The store does not answer.
    NoStore,
}

struct Model {
    runner: Arc<dyn Runner>,
    slots: Arc<Semaphore>,
    options: ModelOptions,
    /// A run of it was queued here for want of a slot, and the queue has not been found empty since: whoever comes now stands
    /// behind it. A hint, and of this process alone.
    is_waited_for: AtomicBool,
}

struct Inner {
    store: Arc<dyn Store>,
    clock: SharedClock,
    terms: Terms,
    membership: Membership,
    models: BTreeMap<ModelKey, Model>,
    hub: Arc<Hub>,
    live: Arc<Live>,
    linger: Linger,
    stuck: AtomicUsize,
    /// Asks for a look at what others have written to logs that are watched here.
    look: Arc<Notify>,
    /// Asks for a look at the queue.
    queue: Arc<Notify>,
    /// Held from a claim of a queued run until this process knows that it holds it, and while what the store says is
    /// compared with what this process holds.
    taking: tokio::sync::Mutex<()>,
    /// Asks for a look at what dead nodes left.
    sweep: Notify,
    /// Starts under way and attempts.
    tasks: TaskTracker,
    /// Shutdown has begun: no new starts.
    draining: CancellationToken,
    /// Shutdown has begun, and viewers are served by another process.
    leaving: CancellationToken,
    /// The grace of the shutdown is over: attempts are given up.
    giving_up: CancellationToken,
    /// Nothing more is written, viewers leave.
    closing: CancellationToken,
}

/// Starts tasks once and streams them to everyone. Cheap to clone; all clones are one.
///
/// See the [crate's front page](crate) for a whole program.
#[derive(Clone)]
pub struct Coordinator {
    inner: Arc<Inner>,
    /// Ends what goes on in the background, with the last handle.
    _last: Arc<DropGuard>,
}

impl Coordinator {
    /// Begins to make one on a store.
    #[must_use]
    pub fn builder(store: Arc<dyn Store>) -> CoordinatorBuilder {
        CoordinatorBuilder::new(store)
    }

    /// Puts a task on record, pending. What it does not say of its runs its model says.
    ///
    /// # Errors
    /// [`Error::NotFound`] `unknown_model`; [`Error::Refused`] `not_served` for a task of [`ModelKey::OWN_APP`] that this
    /// process does not run; [`Error::Invalid`] `invalid_input`; [`Error::LimitReached`] `too_large`; [`Error::Closed`];
    /// [`Error::Unavailable`]. In all but the last nothing was created.
    pub async fn create(&self, task: NewTask) -> Result<Create> {
        self.inner.create(task).await
    }

    /// Puts a task on record and starts it, as [`Coordinator::create`] and [`Coordinator::start`] do one after the other.
    /// Where the task is new both are one atomic step, unless one of them has an idempotency key or the runs of the model are
    /// bounded over all nodes; of any number of concurrent calls for one name exactly one is told [`Start::Started`]. Once
    /// called, it is carried out even if the returned future is dropped.
    ///
    /// ```
    /// # use soloist::{Context, Coordinator, Failure, Json, MemoryStore, NewTask, Start, StreamTask};
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// # struct Greet { name: String }
    /// # impl StreamTask for Greet {
    /// #     const MODEL: &'static str = "Greet";
    /// #     type Output = String;
    /// #     async fn process(self, _: Context) -> Result<String, Failure> { Ok(self.name) }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> soloist::Result<()> {
    /// let soloist = Coordinator::builder(std::sync::Arc::new(MemoryStore::new())).register::<Greet>("app").open().await?;
    /// let task = NewTask::named("app/Greet/1".parse()?, Json::parse(r#"{"name":"Ada"}"#)?);
    /// let created = soloist.create_and_start(task, Default::default()).await?;
    /// assert!(matches!(created.start, Some(Ok(Start::Started { run: 1 }))));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Those of [`Coordinator::create`]. Why a task was not started that is on record is in [`Created::start`].
    pub async fn create_and_start(&self, task: NewTask, options: StartOptions) -> Result<Created> {
        self.inner.create_and_start(task, options).await
    }

    /// Starts a task, unless it is active. Of any number of concurrent calls exactly one is told
    /// [`Start::Started`]. Once called, a start is carried out even if the returned future is dropped.
    ///
    /// Under [`Policy::Replace`] it returns when the run that it replaces has ended, which takes as long as its work takes to
    /// let go, and the next one has begun.
    ///
    /// # Errors
    /// [`Error::NotFound`] `unknown_task` and `unknown_model`; [`Error::Refused`] `not_served` for a task of
    /// [`ModelKey::OWN_APP`] that this process does not run (or has no free slot for); [`Error::Invalid`]
    /// `idempotency_key_reused`; [`Error::Closed`]; [`Error::Unavailable`].
    pub async fn start(&self, key: &Key, options: StartOptions) -> Result<Start> {
        self.inner.start(key, options).await
    }

    /// Asks the active run of a task to stop, or cancels a task that has not begun.
    ///
    /// # Errors
    /// [`Error::NotFound`] `unknown_task`; [`Error::LimitReached`] for an over-long reason; [`Error::Unavailable`].
    pub async fn cancel(&self, key: &Key, options: CancelOptions) -> Result<Cancel> {
        self.inner.cancel(key, options).await
    }

    /// Waits until a run is over, and returns the record as it is then. Returns at once where it is over already, or
    /// where this process shuts down.
    ///
    /// # Errors
    /// [`Error::NotFound`] `unknown_task`; [`Error::Unavailable`].
    pub async fn ended(&self, key: &Key, run: Run) -> Result<Task> {
        self.inner.ended(key, run).await
    }

    /// Watches a task.
    ///
    /// # Errors
    /// [`Error::NotFound`] `unknown_task`; with `autostart` also those of [`Coordinator::start`].
    pub async fn subscribe(&self, key: &Key, options: SubscribeOptions) -> Result<Subscribed> {
        self.inner.subscribe(key, options).await
    }

    /// A task's record.
    ///
    /// # Errors
    /// [`Error::NotFound`] `unknown_task`; [`Error::Unavailable`].
    pub async fn task(&self, key: &Key) -> Result<Task> {
        self.inner.task(key).await
    }

    /// A page of tasks, newest first.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn list(&self, filter: TaskFilter) -> Result<TaskPage> {
        Ok(self.inner.store.list(filter).await?)
    }

    /// Deletes a task with its events, unless it is active. Its viewers are told that the stream is over. Where `run` is
    /// named, only if that is its last run and has ended: whoever has read the record and finds it old deletes what it
    /// read, and not what was started since.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn delete(&self, key: &Key, run: Option<Run>) -> Result<Delete> {
        let (inner, key) = (self.inner.clone(), key.clone());
        self.detached(async move {
            fault::point("core:delete-before");
            let deleted = inner.store.delete(&key, run, inner.clock.now()).await?;
            fault::point("core:delete-after");
            if deleted == Delete::Deleted {
                inner.hub.delete(&key);
            }
            Ok(deleted)
        })
        .await
    }

    /// Sends a message to the work of a task: to its active run or, where it is pending, to its next one.
    ///
    /// # Errors
    /// [`Error::Invalid`] `invalid_signal` for a name that is empty or over-long; [`Error::LimitReached`] for data
    /// over [`limits::SIGNAL_DATA_MAX_BYTES`]; [`Error::Unavailable`].
    pub async fn signal(&self, key: &Key, name: &str, data: Json) -> Result<Signalled> {
        if name.is_empty() || name.len() > limits::SIGNAL_NAME_MAX_BYTES || name.chars().any(char::is_control)
        {
            return Err(Error::invalid(
                "invalid_signal",
                format!(
                    "the name of a signal has 1 to {} bytes, none of them control characters",
                    limits::SIGNAL_NAME_MAX_BYTES
                ),
            ));
        }
        let bytes = data.as_str().len();
        if bytes > limits::SIGNAL_DATA_MAX_BYTES {
            return Err(Error::too_large("the signal's data", bytes, limits::SIGNAL_DATA_MAX_BYTES));
        }
        let (inner, key, name) = (self.inner.clone(), key.clone(), name.to_owned());
        self.detached(async move {
            fault::point("core:signal-before");
            let signalled = inner.store.signal(&key, &name, data, inner.clock.now()).await?;
            fault::point("core:signal-after");
            if let Signalled::Recorded { run, .. } = signalled {
                inner.live.signalled(&key, run);
            }
            Ok(signalled)
        })
        .await
    }

    /// The models that this process serves, with the kind of their runner, by name.
    #[must_use]
    pub fn models(&self) -> Vec<(ModelKey, &'static str)> {
        let mut models: Vec<_> =
            self.inner.models.iter().map(|(k, m)| (k.clone(), m.runner.kind())).collect();
        models.sort();
        models
    }

    /// The name of this process on record; a fresh one after it has lost its lease.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.inner.session().node.clone()
    }

    /// Whether this process should be sent new work: it is not shutting down, its lease is good, and the store answers
    /// within `within`. Asks the store, with a read that costs next to nothing.
    pub async fn readiness(&self, within: Duration) -> Readiness {
        let inner = &self.inner;
        if inner.draining.is_cancelled() {
            return Readiness::Draining;
        }
        if !inner.session().healthy() {
            return Readiness::NoLease;
        }
        match tokio::time::timeout(within, inner.store.waiting()).await {
            Ok(Ok(_)) => Readiness::Ready,
            Ok(Err(_)) | Err(_) => Readiness::NoStore,
        }
    }

    /// What this process has in hand.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let (running, starting) = self.inner.live.counts();
        Stats {
            running,
            starting,
            kept: self.inner.hub.kept(),
            viewers: self.inner.hub.viewers(),
            stuck: self.inner.stuck.load(Ordering::Relaxed),
        }
    }

    /// Cancelled once a shutdown has begun: new starts are refused, running work goes on for its grace.
    #[must_use]
    pub fn draining(&self) -> CancellationToken {
        self.inner.draining.clone()
    }

    /// Cancelled once a shutdown has begun and another process can serve the viewers: they are sent there at once.
    #[must_use]
    pub fn leaving(&self) -> CancellationToken {
        self.inner.leaving.clone()
    }

    /// Cancelled once a shutdown is through with the work: viewers leave.
    #[must_use]
    pub fn closing(&self) -> CancellationToken {
        self.inner.closing.clone()
    }

    /// Takes no more starts, sends viewers to other processes where there are any, waits up to `grace` for the work that
    /// runs, hands what is left to other processes (where a task may not be tried again it fails as `Drained`) and lets
    /// viewers go. May be called more than once; each call returns when all is done.
    pub async fn shutdown(&self, grace: Duration) {
        let inner = &self.inner;
        inner.draining.cancel();
        inner.tasks.close();
        fault::point("core:drain-begun");
        let node = self.node();
        let beside = inner.store.beside(&node);
        if let Ok(Ok(true)) = tokio::time::timeout(limits::READY_WAIT.min(grace), beside).await {
            inner.leaving.cancel();
        }
        if tokio::time::timeout(grace, inner.tasks.wait()).await.is_err() {
            inner.giving_up.cancel();
            // The store may be away: then the next process on it ends these runs as what a dead one left.
            if tokio::time::timeout(limits::GIVE_UP_WAIT, inner.tasks.wait()).await.is_err() {
                tracing::warn!("some runs could not be ended on record; the next start on this store will");
            }
        }
        fault::point("core:drain-waited");
        inner.closing.cancel();
        inner.linger.clear();
        if inner.stuck.load(Ordering::Relaxed) > 0 {
            // Whoever leaves is dead at once, and another attempt of that work would run beside it. Not renewed any more, the
            // lease runs out (where the system does not tell of the death first).
            inner.membership.abandon();
            return tracing::warn!(
                "work has not let go; other processes take it over when the lease is over"
            );
        }
        inner.membership.leave().await;
    }

    /// Carries a call out to its end, even if its caller goes away.
    async fn detached<T: Send + 'static>(
        &self,
        call: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        self.inner.tasks.spawn(call).await.unwrap_or(Err(Error::Closed))
    }
}

impl std::fmt::Debug for Coordinator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Coordinator({})", self.node())
    }
}

impl Inner {
    async fn task(&self, key: &Key) -> Result<Task> {
        self.store.task(key).await?.ok_or_else(|| unknown_task(key))
    }

    async fn ended(&self, key: &Key, run: Run) -> Result<Task> {
        let (arrival, task) = self.arrive(key).await?;
        // A task that was created anew under a deleted key is pending, with the number of a run that is over.
        if task.run == run
            && task.status != crate::Status::Pending
            && let Subscribed::Stream(mut subscription) =
                arrival.place(task, crate::From::Tail, false).await?
        {
            loop {
                match tokio::time::timeout(limits::FOLLOW_ANYWAY, subscription.next()).await {
                    Ok(next) => {
                        if next?.is_none() {
                            break;
                        }
                    }
                    // Deleted and created anew between two looks, its log has nothing more of this run.
                    Err(_) => {
                        let task = self.task(key).await?;
                        if task.run != run || !task.status.is_active() {
                            return Ok(task);
                        }
                    }
                }
            }
        }
        self.task(key).await
    }

    async fn subscribe(self: &Arc<Self>, key: &Key, options: SubscribeOptions) -> Result<Subscribed> {
        let (arrival, task) = self.arrive(key).await?;
        let is_ours = self.models.contains_key(key.model_key()) || !key.model_key().is_own();
        if options.autostart && is_ours && task.status == crate::Status::Pending {
            // Somebody else may have started it since it was read, and it may be finished: a viewer starts it once.
            self.start(key, StartOptions { policy: Policy::Once, ..StartOptions::default() }).await?;
        }
        arrival.place(task, options.from, options.follow).await
    }

    /// Lets a viewer in. The wake-up first, then the record: what changes in between is seen by one of the two.
    async fn arrive(&self, key: &Key) -> Result<(Arrival, Task)> {
        let mut topic = self.hub.topic(key, For::Viewer);
        let seen = topic.seen();
        let task = self.task(key).await?;
        if task.last_seq < seen {
            // The store has lost what was kept of this log; see the look at logs in `follow`.
            self.hub.delete(key);
            topic = self.hub.topic(key, For::Viewer);
        }
        let arrival = Arrival {
            topic,
            hub: self.hub.clone(),
            store: self.store.clone(),
            look: self.look.clone(),
            closing: self.closing.clone(),
        };
        Ok((arrival, task))
    }

    fn check_open(&self) -> Result<()> {
        if self.draining.is_cancelled() { Err(Error::Closed) } else { Ok(()) }
    }

    /// What a model says of its runs that a node beside this one serves, so that its tasks may wait for it.
    async fn served_elsewhere(&self, model: &ModelKey) -> Result<RunTerms> {
        if model.is_own() {
            return Err(Error::refused(
                "not_served",
                format!(
                    "tasks of {model} are started by the process that runs them, and by no other; run the command with \
                     `soloist run`"
                ),
            ));
        }
        self.store.serves(model).await?.ok_or_else(|| {
            Error::not_found(
                "unknown_model",
                format!(
                    "no process serves the model {model}; check its spelling, or add it to the configuration"
                ),
            )
        })
    }
}

/// The models that this process offers to the others.
fn offered(models: &BTreeMap<ModelKey, Model>) -> Vec<Served> {
    let offered = models.iter().filter(|(key, _)| !key.is_own());
    offered
        .map(|(key, model)| Served {
            model: key.clone(),
            terms: model.options.terms,
            max_total: model.options.max_concurrent_total,
        })
        .collect()
}

fn unknown_task(key: &Key) -> Error {
    Error::not_found("unknown_task", format!("there is no task {key}; create it first"))
}
