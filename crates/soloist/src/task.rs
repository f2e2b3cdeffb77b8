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
    trace::TraceContext,
};

/// Position of an event in its task's log: 1, 2, 3 ...; 0 is before the first.
pub type Seq = u64;

/// Number of a run of a task: 1, 2, 3 ...; 0 is before the first. Numbers rise, and one that was promised to a start is never
/// another start's: where the promise was taken back with the whole task, no run has it.
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
        let bits: [u32; 3] = crate::chance::random();
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
    /// Attempts of the newest run that were lost.
    pub losses: Losses,
    /// Seconds after which an attempt is stopped.
    pub timeout_seconds: Option<u32>,
    /// Seconds after which a run is stopped, from the start of its first attempt.
    pub deadline_seconds: Option<u32>,
    /// When it is to run at the earliest.
    pub run_at: Option<Timestamp>,
    /// When what waits in the queue may be taken from it; none where it may be taken at once, or does not wait.
    pub due_at: Option<Timestamp>,
    /// Its place among the runs of its model that wait for a node, from 1; none where it does not wait, waits for a time, or
    /// where more than one task was asked for.
    pub position: Option<u64>,
    /// Whether one more run begins when the newest one has ended.
    pub next_run: NextRun,
    /// How many numbers after the newest run's were promised to starts and taken back, so that no run may have them.
    pub taken_back: u64,
    /// The node that holds it; none unless it is running or cancelling.
    pub node: Option<NodeId>,
    /// The seq of its newest event; 0 before the first.
    pub last_seq: Seq,
    /// The seq before the first event of the newest run.
    pub run_start_seq: Seq,
    /// The trace that the start of the newest run was part of.
    pub trace: Option<TraceContext>,
}

impl Task {
    /// The number of the run that follows the newest one: of the one that was promised, or else of the next that a start
    /// begins.
    #[must_use]
    pub fn following_run(&self) -> Run {
        self.run + self.taken_back + 1
    }

    /// How often each of its runs may be tried, and for how long.
    #[must_use]
    pub fn terms(&self) -> RunTerms {
        RunTerms {
            max_retries: self.max_retries,
            timeout_seconds: self.timeout_seconds,
            deadline_seconds: self.deadline_seconds,
        }
    }

    /// The record of a task that was created now, pending, under a key that no task had before.
    #[must_use]
    pub fn created(key: Key, new: NewTask, at: Timestamp) -> Self {
        let terms = new.terms();
        Self {
            key,
            input: new.input,
            status: Status::Pending,
            run: 0,
            attempt: 0,
            epoch: Epoch(0),
            owner: new.owner,
            created_at: at,
            updated_at: at,
            started_at: None,
            completed_at: None,
            failed_at: None,
            cancelled_at: None,
            final_value: None,
            failure: None,
            cancellation_reason: None,
            retry_count: 0,
            max_retries: terms.max_retries,
            losses: Losses::default(),
            timeout_seconds: terms.timeout_seconds,
            deadline_seconds: terms.deadline_seconds,
            run_at: new.run_at,
            due_at: None,
            position: None,
            next_run: NextRun::None,
            taken_back: 0,
            node: None,
            last_seq: 0,
            run_start_seq: 0,
            trace: None,
        }
    }
}

/// Attempts of a run that ended without a fault of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Losses {
    /// Their node died.
    pub node: u32,
    /// The store was away for too long.
    pub store: u32,
}

/// Whether one more run of a task is to begin when the active one has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum NextRun {
    /// Nobody has asked for it.
    #[default]
    None,
    /// Somebody has, under [`Policy::Rerun`].
    Rerun,
    /// Somebody has, under [`Policy::Replace`], and so has the active one cancelled.
    Replace,
}

impl NextRun {
    /// What a start under a policy asks for where it finds a run active.
    #[must_use]
    pub fn wanted(policy: Policy) -> Self {
        match policy {
            Policy::Restart | Policy::Once => Self::None,
            Policy::Rerun => Self::Rerun,
            Policy::Replace => Self::Replace,
        }
    }

    /// The number on record.
    #[must_use]
    pub fn as_number(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Rerun => 1,
            Self::Replace => 2,
        }
    }

    /// What that number says.
    #[must_use]
    pub fn from_number(number: i64) -> Option<Self> {
        [Self::None, Self::Rerun, Self::Replace]
            .into_iter()
            .find(|next| i64::from(next.as_number()) == number)
    }
}

/// How often a run may be tried, and for how long: what a model says where a task does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RunTerms {
    /// Retries that a run may have.
    pub max_retries: u32,
    /// Seconds after which an attempt is stopped.
    pub timeout_seconds: Option<u32>,
    /// Seconds after which a run is stopped, from the start of its first attempt.
    pub deadline_seconds: Option<u32>,
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
    /// Retries that each of its runs may have; what its model says by default.
    pub max_retries: Option<u32>,
    /// Seconds after which an attempt is stopped; what its model says by default.
    pub timeout_seconds: Option<u32>,
    /// Seconds after which a run is stopped, from the start of its first attempt; what its model says by default.
    pub deadline_seconds: Option<u32>,
    /// When it is to run at the earliest; a start before then waits in the queue.
    pub run_at: Option<Timestamp>,
    /// The key under which this very request may be sent again.
    pub idempotency: Option<Idempotency>,
}

impl NewTask {
    /// A task with a name that the creator chose.
    #[must_use]
    pub fn named(key: Key, input: Json) -> Self {
        Self::of(NewId::Named(key), input)
    }

    /// A task whose id the store assigns.
    #[must_use]
    pub fn assigned(model_key: ModelKey, input: Json) -> Self {
        Self::of(NewId::Assigned(model_key), input)
    }

    /// A task of which nothing else is said.
    #[must_use]
    pub fn of(id: NewId, input: Json) -> Self {
        Self {
            id,
            input,
            owner: None,
            max_retries: None,
            timeout_seconds: None,
            deadline_seconds: None,
            run_at: None,
            idempotency: None,
        }
    }

    /// What it says of its runs; nothing said is no retry and no end of time.
    #[must_use]
    pub fn terms(&self) -> RunTerms {
        RunTerms {
            max_retries: self.max_retries.unwrap_or_default(),
            timeout_seconds: self.timeout_seconds,
            deadline_seconds: self.deadline_seconds,
        }
    }

    /// The same, with what its model says where it says nothing itself.
    #[must_use]
    pub(crate) fn under(mut self, model: RunTerms) -> Self {
        self.max_retries.get_or_insert(model.max_retries);
        self.timeout_seconds = self.timeout_seconds.or(model.timeout_seconds);
        self.deadline_seconds = self.deadline_seconds.or(model.deadline_seconds);
        self
    }

    /// Holds the task to [`limits`].
    ///
    /// # Errors
    /// [`Error::LimitReached`]; [`Error::Invalid`] `invalid_body`.
    pub fn check(&self) -> Result<()> {
        let input = self.input.as_str().len();
        if input > limits::INPUT_MAX_BYTES {
            return Err(Error::too_large("the input", input, limits::INPUT_MAX_BYTES));
        }
        if let Some(given) = self.max_retries.filter(|given| *given > limits::RETRIES_MAX) {
            let message = format!("max_retries is {given}; at most {} are allowed", limits::RETRIES_MAX);
            return Err(Error::invalid("invalid_body", message));
        }
        for (name, given) in
            [("timeout_seconds", self.timeout_seconds), ("deadline_seconds", self.deadline_seconds)]
        {
            if let Some(given) = given.filter(|given| !(1..=limits::RUN_MAX_SECONDS).contains(given)) {
                let message = format!("{name} is {given}; allowed is 1 to {}", limits::RUN_MAX_SECONDS);
                return Err(Error::invalid("invalid_body", message));
            }
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
    /// A run is active, and one more begins when it has ended ([`Policy::Rerun`]).
    Next {
        /// The number of that one.
        run: Run,
        /// The number of the active one.
        active: Run,
        /// Queued, running or cancelling.
        status: Status,
        /// The node that holds the active one; none while it is queued.
        node: Option<NodeId>,
        /// When the active one was started.
        since: Option<Timestamp>,
        /// Whether nobody had asked for it before this start.
        is_first: bool,
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
    /// The trace that this start is part of: kept with the run that it begins, and given to every attempt of it
    /// ([`crate::Context::trace`]). Starts of one task that arrive together share a trip to the store, and then the first
    /// one's counts. A run that is begun later, when the active one has ended ([`Policy::Rerun`], [`Policy::Replace`]), has
    /// none: it may have been asked for by many.
    pub trace: Option<TraceContext>,
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

/// How a create that starts its task was answered.
#[derive(Debug, Clone)]
pub struct Created {
    /// The create. Of a task that is new and running the record shows its run; any other record is from before the start.
    pub create: Create,
    /// The start; none where there is no task to start: the create found another one, or one that has been deleted, or its
    /// idempotency key was used before for another request.
    pub start: Option<Result<Start>>,
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
