//! Tasks: create, read, list, delete.

use axum::{
    Json,
    extract::{OriginalUri, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use soloist::{
    Coordinator, Delete, IdempotencyKey, Key, NewId, NewTask, Policy, Run, Start, StartOptions, Status, Task,
    TaskFilter, idempotency::Call, limits,
};
use soloist_wire::{CreateBody, problem};

use crate::{
    body::{self, BodyOf},
    convert,
    creation::{self, Made, Terms},
    idempotency,
    problem::Problem,
    query::{self, KeyPath, ModelPath, QueryOf},
    trace,
};

/// `POST /tasks/{app}/{model}`
pub(crate) async fn create(
    State(coordinator): State<Coordinator>,
    OriginalUri(uri): OriginalUri,
    ModelPath(model): ModelPath,
    headers: HeaderMap,
    BodyOf(body): BodyOf<CreateBody>,
) -> Result<Response, Problem> {
    let key = idempotency::key(&headers)?;
    // Under whatever path this router is nested, the new task stands right below the path that was called.
    let location = |key: &Key| format!("{}/{}", uri.path(), key.id());
    let new = new_task(NewId::Assigned(model), &body, key.as_ref())?;
    created(&coordinator, new, &body, once(key, &headers), location).await
}

/// `PUT /tasks/{app}/{model}/{id}`
pub(crate) async fn put(
    State(coordinator): State<Coordinator>,
    OriginalUri(uri): OriginalUri,
    KeyPath(key): KeyPath,
    headers: HeaderMap,
    BodyOf(body): BodyOf<CreateBody>,
) -> Result<Response, Problem> {
    let idempotency = idempotency::key(&headers)?;
    let location = |_: &Key| uri.path().to_owned();
    let new = new_task(NewId::Named(key), &body, idempotency.as_ref())?;
    created(&coordinator, new, &body, once(idempotency, &headers), location).await
}

/// How a create starts its task: once, however often it is sent.
fn once(idempotency: Option<IdempotencyKey>, headers: &HeaderMap) -> StartOptions {
    let trace = trace::context(headers);
    StartOptions { policy: Policy::Once, idempotency, call: Call::CreateAndStart, trace }
}

fn new_task(id: NewId, body: &CreateBody, key: Option<&IdempotencyKey>) -> Result<NewTask, Problem> {
    let input = match &body.input {
        Some(input) => body::json(input)?,
        None => soloist::Json::parse("{}")?,
    };
    let terms = Terms {
        max_retries: body.max_retries,
        timeout_seconds: body.timeout_seconds,
        deadline_seconds: body.deadline_seconds,
        run_at: body.run_at.as_deref(),
    };
    creation::new_task(id, input, &terms, key, if starts(body) { "start" } else { "" })
}

/// Whether a create starts its task as well: a time to run at would be of no use without a start.
fn starts(body: &CreateBody) -> bool {
    body.start.unwrap_or(body.run_at.is_some())
}

/// Creates, and starts where that was asked for. A task that was there and is finished stays so: whoever repeats a `PUT`
/// wants nothing to happen twice.
async fn created(
    coordinator: &Coordinator,
    new: NewTask,
    body: &CreateBody,
    start: StartOptions,
    location: impl Fn(&Key) -> String,
) -> Result<Response, Problem> {
    let (created, start) = if starts(body) {
        let created = coordinator.create_and_start(new, start).await?;
        (created.create, created.start)
    } else {
        (coordinator.create(new).await?, None)
    };
    let (made, mut task) = creation::made(created)?;
    let location = location(&task.key);
    if let Some(start) = start {
        task = started(coordinator, task, start)
            .await
            .map_err(|problem| Problem { location: Some(location.clone()), ..problem })?;
    }
    let status = if made == Made::New { StatusCode::CREATED } else { StatusCode::OK };
    let location = HeaderValue::try_from(location).expect("a path is a header value");
    let answer = (status, [(header::LOCATION, location)], Json(convert::task(task))).into_response();
    Ok(if made == Made::Replayed { idempotency::replayed(answer) } else { answer })
}

/// The record after the start of what was created by the same request.
async fn started(
    coordinator: &Coordinator,
    task: Task,
    start: soloist::Result<Start>,
) -> Result<Task, Problem> {
    let start = start.map_err(|error| creation::not_started(&task.key, error))?;
    // Where both were one step its run is on the record; a place in the queue never is.
    if start == (Start::Started { run: task.run }) && task.status == Status::Running {
        return Ok(task);
    }
    coordinator.task(&task.key).await.map_err(|error| creation::not_started(&task.key, error))
}

/// `GET /tasks/{app}/{model}/{id}`
pub(crate) async fn show(
    State(coordinator): State<Coordinator>,
    KeyPath(key): KeyPath,
) -> Result<Response, Problem> {
    Ok(Json(convert::task(coordinator.task(&key).await?)).into_response())
}

/// The query of a delete.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct DeleteQuery {
    run: Option<String>,
}

fn run_of(text: &str) -> Result<Run, Problem> {
    let run = text.parse().ok().filter(|run| i64::try_from(*run).is_ok());
    run.ok_or_else(|| Problem::new(problem::INVALID_QUERY, "run is the number of a run"))
}

/// `DELETE /tasks/{app}/{model}/{id}`
pub(crate) async fn delete(
    State(coordinator): State<Coordinator>,
    KeyPath(key): KeyPath,
    QueryOf(query): QueryOf<DeleteQuery>,
) -> Result<StatusCode, Problem> {
    let run = query.run.as_deref().map(run_of).transpose()?;
    match coordinator.delete(&key, run).await? {
        Delete::Deleted => Ok(StatusCode::NO_CONTENT),
        Delete::Active(status) => Err(Problem::new(
            problem::TASK_ACTIVE,
            format!("the task {key} is {status}; cancel it, then delete it"),
        )),
        Delete::OtherRun => Err(Problem::new(
            problem::OTHER_RUN,
            format!("the run that was named is not the last one of the task {key}; nothing was deleted"),
        )),
        Delete::Missing => Err(Problem::new(problem::UNKNOWN_TASK, format!("there is no task {key}"))),
    }
}

/// The query of a list.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ListQuery {
    app: Option<String>,
    model: Option<String>,
    status: Option<String>,
    owner: Option<String>,
    limit: Option<String>,
    cursor: Option<String>,
}

/// `GET /tasks`
pub(crate) async fn list(
    State(coordinator): State<Coordinator>,
    QueryOf(query): QueryOf<ListQuery>,
) -> Result<Response, Problem> {
    let status = |word: &str| {
        Status::parse(word).ok_or_else(|| {
            let all = Status::ALL.map(Status::as_str).join(", ");
            Problem::new(problem::INVALID_QUERY, format!("status is one of {all}"))
        })
    };
    let filter = TaskFilter {
        app: query.app,
        model: query.model,
        status: query.status.as_deref().map(status).transpose()?,
        owner: query.owner,
        limit: query::limit(query.limit.as_deref(), limits::LIST_DEFAULT_TASKS, limits::LIST_MAX_TASKS)?,
        before: query.cursor.as_deref().map(|text| query::position("cursor", text)).transpose()?,
    };
    Ok(Json(convert::tasks(coordinator.list(filter).await?)).into_response())
}
