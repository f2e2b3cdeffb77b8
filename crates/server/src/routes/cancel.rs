//! Cancel, and how it ended.

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use soloist::{
    Cancel, CancelOptions, Coordinator, Delivery, From, Key, Result, Run, Status, SubscribeOptions,
    Subscribed, Subscription, event, limits,
};
use soloist_wire::{CancelAnswer, CancelBody, CancelledAnswer, problem};

use crate::{
    body::BodyOf,
    convert,
    problem::Problem,
    query::{self, KeyPath, QueryOf},
};

/// The query of a cancel.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct CancelQuery {
    wait: Option<String>,
}

/// `POST /tasks/{app}/{model}/{id}/cancel`
pub(crate) async fn cancel(
    State(coordinator): State<Coordinator>,
    KeyPath(key): KeyPath,
    QueryOf(query): QueryOf<CancelQuery>,
    BodyOf(body): BodyOf<CancelBody>,
) -> Result<Response, Problem> {
    let wait = query.wait.as_deref().map(|text| query::wait(text, limits::CANCEL_WAIT_MAX)).transpose()?;
    let viewer = match wait {
        Some(_) => Some(at_tail(&coordinator, &key).await?),
        None => None,
    };
    let options = CancelOptions { reason: body.reason, run: body.run };
    let (code, cancelled, status, run) = match coordinator.cancel(&key, options).await? {
        Cancel::Cancelled { run } => (StatusCode::ACCEPTED, true, Status::Cancelled, run),
        Cancel::Cancelling { run } => match ended(viewer, run, wait.unwrap_or_default()).await? {
            Some(status) => (StatusCode::OK, status == Status::Cancelled, status, run),
            None => (StatusCode::ACCEPTED, false, Status::Cancelling, run),
        },
        Cancel::NotRunning { status } => return Err(not_running(&key, status)),
        Cancel::OtherRun { active } => return Err(other_run(&key, active)),
    };
    let answer = CancelAnswer { cancelled, status: status.to_string(), run: (run > 0).then_some(run) };
    Ok((code, Json(answer)).into_response())
}

/// `POST /cancel/{app}/{model}/{id}`: waits for the end, and says only whether it is cancelled.
pub(crate) async fn cancel_and_wait(
    State(coordinator): State<Coordinator>,
    KeyPath(key): KeyPath,
    BodyOf(body): BodyOf<CancelBody>,
) -> Result<Response, Problem> {
    let viewer = at_tail(&coordinator, &key).await?;
    let options = CancelOptions { reason: body.reason, run: body.run };
    let (code, status) = match coordinator.cancel(&key, options).await? {
        Cancel::Cancelled { .. } => (StatusCode::OK, "cancelled"),
        Cancel::Cancelling { run } => match ended(Some(viewer), run, limits::CANCEL_WAIT_MAX).await? {
            Some(Status::Cancelled) => (StatusCode::OK, "cancelled"),
            Some(_) => (StatusCode::NOT_FOUND, "not_running"),
            None => (StatusCode::ACCEPTED, "cancelling"),
        },
        Cancel::NotRunning { .. } => (StatusCode::NOT_FOUND, "not_running"),
        Cancel::OtherRun { active } => return Err(other_run(&key, active)),
    };
    let reason = match code {
        StatusCode::NOT_FOUND => None,
        _ => coordinator.task(&key).await?.cancellation_reason,
    };
    let answer = CancelledAnswer { status: status.to_owned(), task_id: convert::task_id(&key), reason };
    Ok((code, Json(answer)).into_response())
}

/// A viewer from before the cancel: it cannot miss the end, and sees that of the right run even if the task is
/// started again at once.
async fn at_tail(coordinator: &Coordinator, key: &Key) -> Result<Subscription, Problem> {
    let options = SubscribeOptions { from: From::Tail, follow: true, autostart: false };
    match coordinator.subscribe(key, options).await? {
        Subscribed::Stream(subscription) => Ok(subscription),
        Subscribed::Ended => unreachable!("only a cursor can name an ending"),
    }
}

/// How `run` ended; none where it has not within the wait, or where this process shuts down first.
async fn ended(viewer: Option<Subscription>, run: Run, wait: std::time::Duration) -> Result<Option<Status>> {
    let Some(mut viewer) = viewer else { return Ok(None) };
    let ending = async {
        while let Some(delivery) = viewer.next().await? {
            let Delivery::Events(events) = delivery else { continue };
            let terminal = events.events().iter().find(|e| e.run == run && e.event_type.is_terminal());
            if let Some(terminal) = terminal {
                return Ok(Some(match terminal.event_type.as_str() {
                    event::COMPLETE => Status::Completed,
                    event::ERROR => Status::Failed,
                    _ => Status::Cancelled,
                }));
            }
        }
        Ok(None)
    };
    tokio::time::timeout(wait, ending).await.unwrap_or(Ok(None))
}

fn not_running(key: &Key, status: Status) -> Problem {
    Problem::new(problem::NOT_RUNNING, format!("the task {key} is {status}; there is nothing to cancel"))
}

fn other_run(key: &Key, active: Run) -> Problem {
    Problem::new(
        problem::OTHER_RUN,
        format!("the active run of the task {key} is {active}; it was left alone"),
    )
}
