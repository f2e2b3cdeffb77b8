//! Where all of it is on record: the seam between the rules and the storage.
//!
//! Decides: what a store can be asked ([`Store`]) and every answer it may give. A method returns an outcome enum for
//! what the world may answer; [`StoreError`] only says "could not ask". Whoever writes says under which epoch.
//!
//! Never decides: what moves a task. The core reads that from [`crate::state`] and hands a [`Transition`] down; a
//! store compares it with the task's own row and sets it, in one atomic step with the log.
//!
//! Every store passes the same suite, `soloist-store-contract`.

pub mod guard;
pub mod memory;

use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

use crate::{
    Failure, Json, Key, NodeId, Timestamp,
    event::{Event, NewEvent},
    idempotency::Idempotency,
    key::ModelKey,
    state::{Place, Policy, Status},
    task::{Create, Delete, Epoch, Losses, NewTask, NextRun, Run, RunTerms, Seq, Task, TaskFilter, TaskPage},
    trace::TraceContext,
};

/// Why a store could not be asked. Races are not errors; they are in each method's outcome.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It cannot be reached, or cannot write now. What was asked was not done, unless the message says that it may have
    /// been: where a connection broke before the answer, and the store could not find out in a bounded time. Whoever asks
    /// again then is answered by what is on record (a batch is already there, a claim of the same node is found by its
    /// next look at what it holds).
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// It has no room for what was to be written: its disk is full. It was not done, and what is on record is whole.
    #[error("full: {0}")]
    Full(String),
    /// What it holds breaks an invariant. Do not go on with that task.
    #[error("corrupt: {0}")]
    Corrupt(String),
}

/// What of a commit survives a power cut, where a store keeps things on a disk. A crash of this program alone never takes
/// anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// Everything that was answered.
    #[default]
    Full,
    /// Everything but the last moments of events; every change of a task's state survives, and what came before it.
    Relaxed,
}

/// A result whose error is [`StoreError`].
pub type StoreResult<T> = Result<T, StoreError>;

/// The part of a task's row that decides who may do what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Current {
    /// Where it stands.
    pub status: Status,
    /// Its newest run.
    pub run: Run,
    /// The newest attempt of that run.
    pub attempt: u32,
    /// Its newest epoch.
    pub epoch: Epoch,
    /// The node that holds it; none unless it is running or cancelling.
    pub node: Option<NodeId>,
    /// When its newest run was started.
    pub started_at: Option<Timestamp>,
    /// The seq of its newest event.
    pub last_seq: Seq,
    /// Why it is asked to stop, or was cancelled.
    pub cancellation_reason: Option<String>,
    /// Retries of its newest run so far.
    pub retry_count: u32,
    /// Retries that a run may have.
    pub max_retries: u32,
    /// Attempts of its newest run that were lost.
    pub losses: Losses,
    /// Whether one more run begins when the newest one has ended.
    pub next_run: NextRun,
    /// How many numbers after the newest run's were promised and taken back; see [`Current::following_run`].
    pub taken_back: u64,
}

impl Current {
    /// The number of the run that follows the newest one. Where one more is to begin it is promised to whoever has asked for
    /// it; where that is taken back it is passed over, and never another start's.
    #[must_use]
    pub fn following_run(&self) -> Run {
        self.run + self.taken_back + 1
    }
}

impl From<&Task> for Current {
    fn from(task: &Task) -> Self {
        Self {
            status: task.status,
            run: task.run,
            attempt: task.attempt,
            epoch: task.epoch,
            node: task.node.clone(),
            started_at: task.started_at,
            last_seq: task.last_seq,
            cancellation_reason: task.cancellation_reason.clone(),
            retry_count: task.retry_count,
            max_retries: task.max_retries,
            losses: task.losses,
            next_run: task.next_run,
            taken_back: task.taken_back,
        }
    }
}

/// What a process says of itself when it becomes a node.
#[derive(Debug, Clone)]
pub struct NewNode {
    /// Its name, never used before.
    pub id: NodeId,
    /// How long it lives after each renewal.
    pub lease: Duration,
    /// The models that it serves.
    pub models: Vec<Served>,
    /// The time that goes on record as `joined_at`.
    pub at: Timestamp,
}

/// A model that a node serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// The model.
    pub model: ModelKey,
    /// What it says of its runs, for tasks that are created elsewhere.
    pub terms: RunTerms,
    /// Most runs of it at a time over all nodes, where it is bounded.
    pub max_total: Option<u32>,
}

/// How the renewal of a lease was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    /// The node lives on for a whole lease from now.
    Renewed,
    /// The node is dead for good: its lease was over, or somebody has buried it. What it held is not its any more.
    Dead,
}

/// What keeps one node alive: its own way to the store, apart from all other verbs, used from one thread that waits for
/// nothing else. Every call blocks.
///
/// Dropping it without [`Heartbeat::leave`] is what the death of the process is to the store.
pub trait Heartbeat: Send {
    /// Renews the lease, unless it is over by the store's clock or the node is marked dead: one conditional write.
    ///
    /// # Errors
    /// [`StoreError`]; whether the lease was renewed is not known then.
    fn renew(&mut self) -> StoreResult<Renewal>;

    /// Marks the node dead by its own wish, so that nobody waits for its lease. Call it when the node writes no more.
    ///
    /// # Errors
    /// [`StoreError`]; the lease decides then.
    fn leave(&mut self) -> StoreResult<()>;

    /// What stands in for it in a simulation, where nothing blocks; see [`crate::simulation`].
    #[doc(hidden)]
    fn simulated(&mut self) -> Option<Box<dyn crate::simulation::SlowHeartbeat>> {
        None
    }
}

/// What is enough to bury a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// Only what is certain whatever the clocks say: the operating system has let go of what its process held.
    Certain,
    /// Also a lease that is over by the store's clock.
    Lease,
}

/// A node asks to become the holder of the next epoch of a task.
#[derive(Debug, Clone)]
pub struct ClaimRequest {
    /// The task.
    pub key: Key,
    /// The node; it must be alive.
    pub node: NodeId,
    /// What becomes of a task that was started before.
    pub policy: Policy,
    /// Whether the claimer runs it, or it waits for a node that does. It waits in any case where its time has not come, or
    /// where as many of its model run as `max_total` says, or others of it wait.
    pub place: Place,
    /// Only the run that is owed after this one, where it is the newest.
    pub after: Option<Run>,
    /// Most runs of its model at a time over all nodes.
    pub max_total: Option<u32>,
    /// The key under which this very request may be sent again.
    pub idempotency: Option<Idempotency>,
    /// The trace that goes on record with the run where it wins; none takes that of the run before it off.
    pub trace: Option<TraceContext>,
    /// The time that goes on record as `started_at`.
    pub at: Timestamp,
}

/// A node asks for the first run of a task together with the task itself. Neither brings an idempotency key, and the runs of
/// the model are not bounded over all nodes.
#[derive(Debug, Clone)]
pub struct FirstClaim {
    /// The node.
    pub node: NodeId,
    /// As in [`ClaimRequest::place`].
    pub place: Place,
    /// The trace that goes on record with the run.
    pub trace: Option<TraceContext>,
}

impl FirstClaim {
    /// The claim that would come to the same right after the task was created, before anybody else has seen it.
    #[must_use]
    pub fn of(self, key: Key, at: Timestamp) -> ClaimRequest {
        ClaimRequest {
            key,
            node: self.node,
            policy: Policy::Once,
            place: self.place,
            after: None,
            max_total: None,
            idempotency: None,
            trace: self.trace,
            at,
        }
    }
}

/// A claim that won: the task is running, and its row shows the claimer and the new epoch.
#[derive(Debug, Clone)]
pub struct Won {
    /// The new run.
    pub run: Run,
    /// Its attempt.
    pub attempt: u32,
    /// The new epoch.
    pub epoch: Epoch,
    /// The seq of the newest event before the run.
    pub last_seq: Seq,
    /// When its first attempt was started.
    pub started_at: Timestamp,
    /// Retries of the run so far.
    pub retry_count: u32,
    /// What its task says of its runs.
    pub terms: RunTerms,
    /// Attempts of the run that were lost so far.
    pub losses: Losses,
    /// What the task was given.
    pub input: Json,
    /// The trace that its start was part of; the same for all its attempts.
    pub trace: Option<TraceContext>,
}

impl Won {
    /// Of a run that a record says is held.
    #[must_use]
    pub fn of(task: Task) -> Self {
        Self {
            run: task.run,
            attempt: task.attempt,
            epoch: task.epoch,
            last_seq: task.last_seq,
            started_at: task.started_at.unwrap_or(task.created_at),
            retry_count: task.retry_count,
            terms: task.terms(),
            losses: task.losses,
            input: task.input,
            trace: task.trace,
        }
    }
}

/// How a claim was answered.
#[derive(Debug, Clone)]
pub enum Claim {
    /// It won, and the claimer holds the run.
    Won(Won),
    /// It won, and the run waits for a node.
    Queued(Current),
    /// Its idempotency key was used before, for this very request. Nothing was written.
    Replayed {
        /// Whether the first use won.
        started: bool,
        /// The run that the first use was told of.
        run: Run,
        /// The task as it is now.
        current: Current,
    },
    /// Its idempotency key was used before, for another request. Nothing was written.
    KeyReused,
    /// A run is active. Nothing was written and no row was locked for long.
    Active(Current),
    /// A run is active, and one more begins when it has ended, as the policy asks for; or one has ended, and the one that was
    /// asked for is about to begin, by a claim that names the one that has ended.
    Rerun {
        /// The row.
        current: Current,
        /// Whether it is this claim that has asked for it first.
        first: bool,
    },
    /// The task is finished, and the policy does not start it again.
    Finished(Current),
    /// There is no such task.
    Missing,
    /// The claimer is not a living node, as far as the store knows; it must not run anything.
    NodeDead,
}

/// Who asks for a [`Transition`], and what the store compares with the task's row.
#[derive(Debug, Clone)]
pub enum Writer {
    /// The node that holds the run. Compared: its epoch, its node, a held status, and that the log ends right before
    /// the first of `events`.
    Holder {
        /// The node.
        node: NodeId,
        /// The epoch of its claim.
        epoch: Epoch,
        /// What it appends, dense in `seq`; may be empty.
        events: Vec<Event>,
        /// The seq that the log must end with before them.
        after: Seq,
    },
    /// Somebody else: a cancel, a takeover. Compared: the epoch, the run (a run that nobody has held yet has the epoch of
    /// the one before it), and that the status is exactly `from`. The store gives the event its seq from the row that it
    /// has locked.
    Outsider {
        /// The epoch that the caller saw.
        epoch: Epoch,
        /// The run that the caller saw.
        run: Run,
        /// What is appended, if anything.
        event: Option<NewEvent>,
    },
}

impl Writer {
    /// The epoch that the writer believes to be the newest.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        match self {
            Self::Holder { epoch, .. } | Self::Outsider { epoch, .. } => *epoch,
        }
    }
}

/// What becomes of the task's record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Only its log grows; the status stays as it is.
    Append,
    /// running -> cancelling.
    Cancelling {
        /// Why.
        reason: String,
        /// What becomes of one more run that was asked for.
        rerun: Rerun,
    },
    /// -> queued, for another attempt of the same run; the node is taken off the row.
    Requeued {
        /// The number of that attempt.
        attempt: u32,
        /// Retries of the run by then.
        retry_count: u32,
        /// Attempts of the run that were lost by then.
        losses: Losses,
        /// When it may be taken from the queue; none: at once.
        due_at: Option<Timestamp>,
    },
    /// -> completed; the node is taken off the row.
    Completed {
        /// What the work returned.
        final_value: Json,
    },
    /// -> failed; the node is taken off the row.
    Failed {
        /// Why.
        failure: Failure,
    },
    /// -> cancelled; the node is taken off the row.
    Cancelled {
        /// Why.
        reason: String,
        /// What becomes of one more run that was asked for.
        rerun: Rerun,
    },
}

/// What becomes of one more run that was asked for while another is active.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rerun {
    /// It begins when that one has ended.
    Keep,
    /// It does not: the whole task is cancelled, and not only one run of it. Its number was promised, so no run gets it.
    Forget,
}

impl Change {
    /// The status after it, where it changes the status.
    #[must_use]
    pub fn to(&self) -> Option<Status> {
        match self {
            Self::Append => None,
            Self::Cancelling { .. } => Some(Status::Cancelling),
            Self::Requeued { .. } => Some(Status::Queued),
            Self::Completed { .. } => Some(Status::Completed),
            Self::Failed { .. } => Some(Status::Failed),
            Self::Cancelled { .. } => Some(Status::Cancelled),
        }
    }
}

/// One move of one task, computed from the state table and applied as a compare-and-set on the task's own row, in one
/// atomic step with the log.
#[derive(Debug, Clone)]
pub struct Transition {
    /// The task.
    pub key: Key,
    /// Who writes, what is compared, what is appended.
    pub writer: Writer,
    /// The status that the move was computed from; [`Change::Append`] alone is taken in any held status.
    pub from: Status,
    /// What becomes of the record.
    pub change: Change,
    /// The epoch after it: the writer's own, or the next where the table lets it rise. Events of a holder stay under
    /// the holder's epoch; an outsider's event is written under this one.
    pub epoch_after: Epoch,
    /// The time that goes on record.
    pub at: Timestamp,
}

/// How a transition was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// It is on record, on disk.
    Committed {
        /// The seq of the newest event after it.
        last_seq: Seq,
    },
    /// It was on record already: this very write, sent again after a lost answer.
    AlreadyThere,
    /// The writer's epoch is old, or the task is gone (`None`). Nothing was written; stop.
    Fenced(Option<Current>),
    /// The epoch is right, but the status is not `from` (or the log does not end where the holder thinks). Nothing was
    /// written; compute the move anew.
    Moved(Current),
}

/// A task that is on record as held by a node.
#[derive(Debug, Clone)]
pub struct Held {
    /// The task.
    pub key: Key,
    /// Its row.
    pub current: Current,
}

/// A node asks for the run that has waited longest for one like it.
#[derive(Debug, Clone)]
pub struct QueuedClaim {
    /// The node; it must be alive.
    pub node: NodeId,
    /// The models that it has a free slot for, each with the most runs of it at a time over all nodes.
    pub models: Vec<(ModelKey, Option<u32>)>,
    /// The time that goes on record as `started_at`, where the run has none yet.
    pub at: Timestamp,
}

/// What there is to do beside what runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Waiting {
    /// Runs wait for a node, of whatever model.
    pub ready: bool,
    /// When the next one that waits for its time may be taken.
    pub next_due: Option<Timestamp>,
    /// Runs have ended after which one more is to begin.
    pub owed: bool,
}

/// Which finished tasks are old.
#[derive(Debug, Clone)]
pub struct Prune {
    /// Of this model.
    pub model: ModelKey,
    /// How they ended.
    pub status: Status,
    /// They ended before.
    pub before: Timestamp,
    /// At most so many.
    pub limit: usize,
}

/// Which events of a task are wanted, in the order of `seq`.
#[derive(Debug, Clone, Copy)]
pub struct EventRange {
    /// Only after this one.
    pub after: Seq,
    /// Only up to this one, inclusive.
    pub until: Seq,
    /// At most so many.
    pub max_events: usize,
    /// Stop once the data of the page have so many bytes; a page holds at least one event where there is one.
    pub max_bytes: usize,
}

/// A message for the work of a task: durable, in order, waits for work that is not listening yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signal {
    /// 1, 2, 3 ... within its run.
    pub number: u64,
    /// Its name.
    pub name: String,
    /// What it carries.
    pub data: Json,
}

/// How a signal was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signalled {
    /// It is on record for this run (of a pending task: its next one).
    Recorded {
        /// The run.
        run: Run,
        /// Its number within the run.
        number: u64,
    },
    /// The task is finished; nobody will read it.
    NotRunning(Status),
    /// The run keeps [`crate::limits::SIGNALS_MAX_PER_RUN`] signals already.
    Full,
    /// There is no such task.
    Missing,
}

/// Where tasks, events, signals and nodes are on record. One verb a promise; the contract suite holds every
/// implementation to the same named tests.
///
/// All methods may be called from any number of tasks at once. A method that writes and returns `Ok` has made its
/// write survive what the store's durability promises; one that returns [`StoreError::Unavailable`] has done nothing that
/// anybody can see, unless its message says that it may have (where a disk failed in the middle of a commit, a crash right
/// after it may still bring that to light).
/// Dropping a returned future does not undo what it asked for: the write may still happen.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Makes a process a living node, and hands out what keeps it alive.
    async fn join(&self, node: NewNode) -> StoreResult<Box<dyn Heartbeat>>;

    /// Marks dead every node that is: death is a write, under the lock of the node's row, and the condition is compared
    /// in that very write, so that a node which renews in the same moment either lives or is told. Returns those that
    /// this call has buried.
    async fn bury(&self, evidence: Evidence) -> StoreResult<Vec<NodeId>>;

    /// Whether every node can lose its way to the store at one time, while the store's clock goes on: so it is with a
    /// database server, which is restarted or fails over. Then all leases are over when it is back, also those of nodes
    /// that live, and a node that comes new believes none before it has been there for a lease itself.
    fn can_be_away(&self) -> bool {
        false
    }

    /// What a model says of its runs, where any living node serves it. Where several do, any of them.
    async fn serves(&self, model: &ModelKey) -> StoreResult<Option<RunTerms>>;

    /// Whether another living node serves anything.
    async fn beside(&self, node: &NodeId) -> StoreResult<bool>;

    /// Creates a task, unless one of that name is there. Assigned ids rise from 1 within a model, skip those that are
    /// taken, and may have gaps. A task whose key was deleted goes on from the run, the epoch and the seq of the deleted
    /// one, and past the numbers that it had promised. An idempotency key is looked up first, and kept, in the same atomic step.
    async fn create(&self, task: NewTask, at: Timestamp) -> StoreResult<Create>;

    /// The same and, where the task is new, what [`Store::claim`] would do right after, in one atomic step: nobody sees the
    /// task before. The record of [`Create::Created`] says what has come of it: running, and the claimer holds that run;
    /// queued; or pending, where the claimer is not a living node, and where a store leaves the claim to a step of its own
    /// because the key was deleted before. A task that was there is left as it is.
    async fn create_claimed(&self, task: NewTask, claim: FirstClaim, at: Timestamp) -> StoreResult<Create>;

    /// Makes a node the holder of the next epoch of a task: its following run, attempt 1, epoch + 1, status running (or,
    /// where its place is the queue: its following run, attempt 1, status queued). One atomic step; of any number of concurrent claims
    /// of one startable task exactly one wins. An idempotency key is looked up before anything else, and kept, in that
    /// same step, also by a claim that loses.
    async fn claim(&self, request: ClaimRequest) -> StoreResult<Claim>;

    /// Makes a node the holder of the next epoch of the task that was queued first among those of its models whose time has
    /// come, and of which fewer run than `max_total` says; none where nothing waits for it, or the node is not alive.
    async fn claim_queued(&self, request: QueuedClaim) -> StoreResult<Option<(Key, Won)>>;

    /// What there is to do beside what runs. A hint, which costs a read; the claim alone decides.
    async fn waiting(&self) -> StoreResult<Waiting>;

    /// Makes ready what waits in the queue and whose time has come, in small steps: it keeps the place that it was queued at.
    /// True where there may be more.
    async fn ripen(&self, at: Timestamp) -> StoreResult<bool>;

    /// Up to `limit` finished tasks of which one more run is to begin, with the run that has ended; only of models that a
    /// living node serves.
    async fn owed(&self, limit: usize) -> StoreResult<Vec<(Key, Run)>>;

    /// Applies a transition: compare, append, set, in one atomic step. Concurrent calls may share one commit; each
    /// gets its own answer, and one fenced writer never fails the others.
    async fn apply(&self, transition: Transition) -> StoreResult<Applied>;

    /// Up to `limit` tasks on record as held by a node that is dead or gone.
    async fn orphans(&self, limit: usize) -> StoreResult<Vec<Held>>;

    /// The tasks on record as held by a node, in a status.
    async fn held(&self, node: &NodeId, status: Status) -> StoreResult<Vec<Held>>;

    /// The rows of some tasks, in their order; none where there is no such task.
    async fn rows(&self, keys: Vec<Key>) -> StoreResult<Vec<Option<Current>>>;

    /// A number that rises with every cancel of a run that this node holds, and with every signal for one.
    async fn inbox(&self, node: &NodeId) -> StoreResult<u64>;

    /// Rises after a commit of anybody, in this process or another, for a task whose row was asked for here in the last
    /// seconds ([`Store::rows`]), for a node that joined here, for the queue, or among the nodes: the time to look again. A
    /// hint; it may come late, once for many commits, or without any.
    fn changes(&self) -> watch::Receiver<u64>;

    /// Removes, in small steps that hold up nobody, what is on record and of no use: what deleted tasks have left,
    /// tombstones and idempotency keys whose time is over, dead nodes that hold nothing. True where there is more.
    async fn tidy(&self, at: Timestamp) -> StoreResult<bool>;

    /// A task's record.
    async fn task(&self, key: &Key) -> StoreResult<Option<Task>>;

    /// A page of tasks, newest first. A page that ends before the list does names a cursor.
    async fn list(&self, filter: TaskFilter) -> StoreResult<TaskPage>;

    /// A page of events. None where the task has none in that range (or is gone).
    async fn events(&self, key: &Key, range: EventRange) -> StoreResult<Vec<Event>>;

    /// Deletes a task with its events and signals, unless it is active. Its key keeps a tombstone, from which a new task
    /// of that key goes on. Where `run` is named, only a task whose last run that is, and which has ended.
    async fn delete(&self, key: &Key, run: Option<Run>, at: Timestamp) -> StoreResult<Delete>;

    /// Deletes some tasks that ended long ago, oldest first, each as [`Store::delete`] does, and none of which one more run is
    /// to begin. Returns their keys.
    async fn prune(&self, request: Prune, at: Timestamp) -> StoreResult<Vec<Key>>;

    /// Puts a signal on record for the active run, or for the next run of a pending task. Numbered under the task's
    /// row lock.
    async fn signal(&self, key: &Key, name: &str, data: Json, at: Timestamp) -> StoreResult<Signalled>;

    /// The signals of a run after a number, in order, at most `limit`.
    async fn signals(&self, key: &Key, run: Run, after: u64, limit: usize) -> StoreResult<Vec<Signal>>;
}
