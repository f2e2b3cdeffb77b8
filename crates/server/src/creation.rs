//! What calls have in common that create a task and start it.
//!
//! Decides: how what a request says of a task becomes a [`NewTask`], and which answers to a create are problems. Never
//! decides whether the task is new or who starts it; the store does, in one atomic step, or one for each. Sent again under its
//! key, a request completes what is missing and no more.

use soloist::{Create, IdempotencyKey, Json, Key, NewId, NewTask, Task, idempotency::Idempotency};
use soloist_wire::problem;

use crate::problem::Problem;

/// What a request says of the runs of a new task.
#[derive(Debug, Default)]
pub(crate) struct Terms<'a> {
    pub(crate) max_retries: Option<u32>,
    pub(crate) timeout_seconds: Option<u32>,
    pub(crate) deadline_seconds: Option<u32>,
    pub(crate) run_at: Option<&'a str>,
}

/// The task that a request asks for; `then` says what is to be done with it besides, as part of what the idempotency key
/// stands for.
pub(crate) fn new_task(
    id: NewId,
    input: Json,
    terms: &Terms<'_>,
    key: Option<&IdempotencyKey>,
    then: &str,
) -> Result<NewTask, Problem> {
    let mut task = NewTask {
        max_retries: terms.max_retries,
        timeout_seconds: terms.timeout_seconds,
        deadline_seconds: terms.deadline_seconds,
        run_at: terms.run_at.map(time).transpose()?,
        ..NewTask::of(id, input)
    };
    task.idempotency = key.map(|key| Idempotency::create(key, &task, then));
    Ok(task)
}

fn time(text: &str) -> Result<soloist::Timestamp, Problem> {
    text.parse().map_err(|_| {
        Problem::new(
            problem::INVALID_BODY,
            "run_at is a time as RFC 3339 writes it, such as 2026-11-23T12:00:00Z",
        )
    })
}

/// How a task came to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Made {
    /// It is new.
    New,
    /// It was there, with the same input.
    Before,
    /// An earlier use of the request's idempotency key made it.
    Replayed,
}

/// The task of a create that was carried out, now or before.
pub(crate) fn made(answer: Create) -> Result<(Made, Task), Problem> {
    match answer {
        Create::Created(task) => Ok((Made::New, task)),
        Create::Exists(task) => Ok((Made::Before, task)),
        Create::Replayed(task) => Ok((Made::Replayed, task)),
        Create::Differs(task) => Err(differs(&task.key)),
        Create::ReplayedDeleted(key) => Err(Problem::new(
            problem::UNKNOWN_TASK,
            format!(
                "this request was carried out before, and its task {key} has been deleted; use a fresh key"
            ),
        )),
        Create::KeyReused => Err(Problem::new(
            problem::IDEMPOTENCY_KEY_REUSED,
            "this Idempotency-Key was used before for another request; use a fresh one for a new request",
        )),
    }
}

/// The task is there with another input than the request brings.
pub(crate) fn differs(key: &Key) -> Problem {
    let detail = format!("the task {key} is there with another input; choose another id");
    Problem::new(problem::INPUT_DIFFERS, detail)
}

/// Why a task was not started that was created by the same request: it is there nevertheless.
pub(crate) fn not_started(key: &Key, error: soloist::Error) -> Problem {
    let problem = Problem::from(error);
    Problem { detail: format!("the task {key} is there, but was not started: {}", problem.detail), ..problem }
}
