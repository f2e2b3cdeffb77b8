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

use async_trait::async_trait;

use crate::{
    Failure, Json, Key, NodeId, Timestamp,
    event::{Event, NewEvent},
    state::{Policy, Status},
    task::{Create, Delete, Epoch, NewTask, Run, Seq, Task, TaskFilter, TaskPage},
};

/// Why a store could not be asked. Races are not errors; they are in each method's outcome.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It cannot be reached, or cannot write now (a full disk). What was asked was not done.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// What it holds breaks an invariant. Do not go on with that task.
    #[error("corrupt: {0}")]
    Corrupt(String),
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
}

/// A node asks to become the holder of the next epoch of a task.
#[derive(Debug, Clone)]
pub struct ClaimRequest {
    /// The task.
    pub key: Key,
    /// The node; it must be alive.
    pub node: NodeId,
    /// Whether a finished task is startable.
    pub policy: Policy,
    /// The time that goes on record as `started_at`.
    pub at: Timestamp,
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
    /// When it was started.
    pub started_at: Timestamp,
    /// What the task was given.
    pub input: Json,
}

/// How a claim was answered.
#[derive(Debug, Clone)]
pub enum Claim {
    /// It won.
    Won(Won),
    /// A run is active. Nothing was written and no row was locked for long.
    Active(Current),
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
    /// Somebody else: a cancel, a takeover. Compared: the epoch, and that the status is exactly `from`. The store
    /// gives the event its seq from the row that it has locked.
    Outsider {
        /// The epoch that the caller saw.
        epoch: Epoch,
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
    },
}

impl Change {
    /// The status after it, where it changes the status.
    #[must_use]
    pub fn to(&self) -> Option<Status> {
        match self {
            Self::Append => None,
            Self::Cancelling { .. } => Some(Status::Cancelling),
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

/// A task that is on record as held by a node that is dead or gone.
#[derive(Debug, Clone)]
pub struct Orphan {
    /// The task.
    pub key: Key,
    /// Its row.
    pub current: Current,
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
/// anybody can see (where a disk failed in the middle of a commit, a crash right after it may still bring that to light).
/// Dropping a returned future does not undo what it asked for: the write may still happen.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Makes `node` a living node. Where the storage admits one process only, all others are marked dead in the same
    /// step, so that [`Store::orphans`] finds what they left.
    async fn join(&self, node: &NodeId, at: Timestamp) -> StoreResult<()>;

    /// Creates a task, unless one of that name is there. Assigned ids rise from 1 within a model, skip those that are
    /// taken, and may have gaps.
    async fn create(&self, task: NewTask, at: Timestamp) -> StoreResult<Create>;

    /// Makes a node the holder of the next epoch of a task: run + 1, attempt 1, epoch + 1, status running. One atomic
    /// step; of any number of concurrent claims of one startable task exactly one wins.
    async fn claim(&self, request: ClaimRequest) -> StoreResult<Claim>;

    /// Applies a transition: compare, append, set, in one atomic step. Concurrent calls may share one commit; each
    /// gets its own answer, and one fenced writer never fails the others.
    async fn apply(&self, transition: Transition) -> StoreResult<Applied>;

    /// Up to `limit` tasks on record as held by a node that is dead or gone.
    async fn orphans(&self, limit: usize) -> StoreResult<Vec<Orphan>>;

    /// A task's record.
    async fn task(&self, key: &Key) -> StoreResult<Option<Task>>;

    /// A page of tasks, newest first. A page that ends before the list does names a cursor.
    async fn list(&self, filter: TaskFilter) -> StoreResult<TaskPage>;

    /// A page of events. None where the task has none in that range (or is gone).
    async fn events(&self, key: &Key, range: EventRange) -> StoreResult<Vec<Event>>;

    /// Deletes a task with its events and signals, unless it is active.
    async fn delete(&self, key: &Key) -> StoreResult<Delete>;

    /// Puts a signal on record for the active run, or for the next run of a pending task. Numbered under the task's
    /// row lock.
    async fn signal(&self, key: &Key, name: &str, data: Json, at: Timestamp) -> StoreResult<Signalled>;

    /// The signals of a run after a number, in order, at most `limit`.
    async fn signals(&self, key: &Key, run: Run, after: u64, limit: usize) -> StoreResult<Vec<Signal>>;
}
