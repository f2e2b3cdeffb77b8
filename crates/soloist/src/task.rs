//! A task on record.
//!
//! Decides: what is kept of a task ([`Task`]) and what a creator may say of a new one ([`NewTask`]). Never decides
//! what moves it; that is [`crate::state`].

use std::{fmt, sync::Arc};

use crate::{
    Error, Failure, Json, Key, Result, Timestamp,
    idempotency::{Call, Idempotency, IdempotencyKey},
    key::ModelKey,
    limits,
    state::{Policy, Status},
};

/// Position of an event in its task's log: 1, 2, 3 ...; 0 is before the first.
pub type Seq = u64;

/// Number of a run of a task: 1, 2, 3 ...; 0 is before the first.
pub type Run = u64;

/// The fencing token of a task: rises by one with every claim, and whenever its holder loses it other than by its own
/// act. Whoever writes for a run must hold the newest one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The next one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The name of one process that runs tasks; fresh with every start of the process.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(Arc<str>);

impl NodeId {
    /// A fresh id: `node-` and 96 random bits in hexadecimal.
    #[must_use]
    pub fn random() -> Self {
        let bits: [u32; 3] = rand::random();
        Self(format!("node-{:08x}{:08x}{:08x}", bits[0], bits[1], bits[2]).into())
    }

    /// The id that a store gives back.
    #[must_use]
    pub fn from_store(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Everything on record about a task.
#[derive(Debug, Clone)]
pub struct Task {
    /// Its name.
    pub key: Key,
    /// What it was given.
    pub input: Json,
    /// Where it stands.
    pub status: Status,
    /// The number of its newest run; 0 before the first.
    pub run: Run,
    /// The number of the newest attempt of that run, from 1; 0 before the first.
    pub attempt: u32,
    /// The newest epoch.
    pub epoch: Epoch,
    /// The subject that it belongs to.
    pub owner: Option<String>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When anything but its log last changed.
    pub updated_at: Timestamp,
    /// When the newest run was started.
    pub started_at: Option<Timestamp>,
    /// When the newest run completed.
    pub completed_at: Option<Timestamp>,
    /// When the newest run failed.
    pub failed_at: Option<Timestamp>,
    /// When it was cancelled.
    pub cancelled_at: Option<Timestamp>,
    /// What the newest run returned.
    pub final_value: Option<Json>,
    /// Why the newest run failed.
    pub failure: Option<Failure>,
    /// Why it was cancelled, or is asked to stop.
    pub cancellation_reason: Option<String>,
    /// Retries of the newest run so far.
    pub retry_count: u32,
    /// Retries that a run may have.
    pub max_retries: u32,
    /// Seconds after which a run is stopped.
    pub timeout_seconds: Option<u32>,
    /// When it is to run at the earliest.
    pub run_at: Option<Timestamp>,
    /// The node that holds it; none unless it is running or cancelling.
    pub node: Option<NodeId>,
    /// The seq of its newest event; 0 before the first.
    pub last_seq: Seq,
    /// The seq before the first event of the newest run.
    pub run_start_seq: Seq,
}

/// The id of a new task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewId {
    /// The creator named it.
    Named(Key),
    /// The store assigns the next decimal number of the model.
    Assigned(ModelKey),
}

impl NewId {
    /// `app/model` of the task.
    #[must_use]
    pub fn model_key(&self) -> &ModelKey {
        match self {
            Self::Named(key) => key.model_key(),
            Self::Assigned(model_key) => model_key,
        }
    }
}

/// What a creator says of a new task.
///
/// ```
/// use soloist::{Json, NewTask};
/// let task = NewTask::named("media/Transcode/42".parse()?, Json::parse(r#"{"source":"in.mp4"}"#)?);
/// # Ok::<(), soloist::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct NewTask {
    /// Its name, or the model that it is to be a task of.
    pub id: NewId,
    /// What it is given.
    pub input: Json,
    /// The subject that it belongs to.
    pub owner: Option<String>,
    /// Retries that each of its runs may have; 0 by default.
    pub max_retries: u32,
    /// The key under which this very request may be sent again.
    pub idempotency: Option<Idempotency>,
}

impl NewTask {
    /// A task with a name that the creator chose.
    #[must_use]
    pub fn named(key: Key, input: Json) -> Self {
        Self { id: NewId::Named(key), input, owner: None, max_retries: 0, idempotency: None }
    }

    /// A task whose id the store assigns.
    #[must_use]
    pub fn assigned(model_key: ModelKey, input: Json) -> Self {
        Self { id: NewId::Assigned(model_key), input, owner: None, max_retries: 0, idempotency: None }
    }

    /// Holds the task to [`limits`].
    ///
    /// # Errors
    /// [`Error::LimitReached`].
    pub fn check(&self) -> Result<()> {
        let input = self.input.as_str().len();
        if input > limits::INPUT_MAX_BYTES {
            return Err(Error::too_large("the input", input, limits::INPUT_MAX_BYTES));
        }
        if self.max_retries > limits::RETRIES_MAX {
            let message =
                format!("max_retries is {}; at most {} are allowed", self.max_retries, limits::RETRIES_MAX);
            return Err(Error::invalid("invalid_body", message));
        }
        match &self.owner {
            Some(owner) if owner.len() > limits::OWNER_MAX_BYTES => {
                Err(Error::too_large("the owner", owner.len(), limits::OWNER_MAX_BYTES))
            }
            _ => Ok(()),
        }
    }
}

/// Which tasks a list is to hold; all that is named must fit.
#[derive(Debug, Clone, Default)]
pub struct TaskFilter {
    /// Only of this app.
    pub app: Option<String>,
    /// Only of this model.
    pub model: Option<String>,
    /// Only in this status.
    pub status: Option<Status>,
    /// Only of this owner.
    pub owner: Option<String>,
    /// Most tasks in the page, from 1 to [`limits::LIST_MAX_TASKS`].
    pub limit: usize,
    /// Only tasks created before the one with this number, as [`TaskPage::next_cursor`] gave it.
    pub before: Option<u64>,
}

/// A page of tasks, newest first.
#[derive(Debug, Clone)]
pub struct TaskPage {
    /// The tasks.
    pub tasks: Vec<Task>,
    /// Where the next page begins; none where this is the last.
    pub next_cursor: Option<u64>,
}

/// How a start was answered: data, never an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// This start won; the run is on record as running.
    Started {
        /// The number of the new run.
        run: Run,
    },
    /// A run is active; attach to it.
    AlreadyActive {
        /// Its number.
        run: Run,
        /// Queued, running or cancelling.
        status: Status,
        /// The node that holds it; none while it is queued.
        node: Option<NodeId>,
        /// When it was started.
        since: Option<Timestamp>,
    },
    /// The task is finished, and the policy is [`Policy::Once`].
    AlreadyFinished {
        /// The number of its last run.
        run: Run,
        /// How that ended.
        status: Status,
    },
    /// The idempotency key was used before, for this very request: what that was told, and how its task stands now.
    Replayed {
        /// Whether the first use won.
        started: bool,
        /// The run that the first use was told of.
        run: Run,
        /// How the task stands now.
        status: Status,
    },
}

/// How a start behaves.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct StartOptions {
    /// Whether a finished task is started again.
    pub policy: Policy,
    /// The key under which this very request may be sent again.
    pub idempotency: Option<IdempotencyKey>,
    /// The call that the key is used for.
    pub call: Call,
}

/// How a create was answered.
#[derive(Debug, Clone)]
pub enum Create {
    /// It is new.
    Created(Task),
    /// A task of that name was there, with an input of the same value; it is as it was.
    Exists(Task),
    /// A task of that name was there, with another input; it is as it was.
    Differs(Task),
    /// The idempotency key was used before, for this very request: the task that its first use created, as it is now.
    Replayed(Task),
    /// The idempotency key was used before, for this very request, and the task that it created has been deleted.
    ReplayedDeleted(Key),
    /// The idempotency key was used before, for another request.
    KeyReused,
}

/// How a delete was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delete {
    /// The record and its events are gone.
    Deleted,
    /// A run is active; cancel it first.
    Active(Status),
    /// Another run than the one that was named is the last, or it never ended. Nothing was deleted.
    OtherRun,
    /// There is no such task.
    Missing,
}
