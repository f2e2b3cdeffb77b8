//! Signals: messages for the work.

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use soloist::{Coordinator, limits, store::Signalled};
use soloist_wire::{SignalAnswer, problem};

use crate::{body::AnyJson, problem::Problem, query::SignalPath};

/// `POST /tasks/{app}/{model}/{id}/signals/{name}`
pub(crate) async fn signal(
    State(coordinator): State<Coordinator>,
    SignalPath(key, name): SignalPath,
    AnyJson(data): AnyJson,
) -> Result<Response, Problem> {
    match coordinator.signal(&key, &name, data).await? {
        Signalled::Recorded { run, number } => {
            Ok((StatusCode::ACCEPTED, Json(SignalAnswer { run, number })).into_response())
        }
        Signalled::NotRunning(status) => Err(Problem::new(
            problem::NOT_RUNNING,
            format!("the task {key} is {status}; nobody would read the signal"),
        )),
        Signalled::Full => Err(Problem::new(
            problem::SIGNALS_FULL,
            format!("the run keeps {} signals already", limits::SIGNALS_MAX_PER_RUN),
        )),
        Signalled::Missing => Err(Problem::new(problem::UNKNOWN_TASK, format!("there is no task {key}"))),
    }
}
