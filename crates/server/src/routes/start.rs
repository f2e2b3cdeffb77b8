//! Start.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use soloist::{Coordinator, Start, StartOptions, idempotency::Call};
use soloist_wire::StartBody;

use crate::{body::BodyOf, convert, idempotency, problem::Problem, query::KeyPath, trace};

/// `POST /tasks/{app}/{model}/{id}/start`
pub(crate) async fn start(
    State(coordinator): State<Coordinator>,
    KeyPath(key): KeyPath,
    headers: HeaderMap,
    BodyOf(body): BodyOf<StartBody>,
) -> Result<Response, Problem> {
    let policy = convert::policy(body.policy.unwrap_or_default());
    let idempotency = idempotency::key(&headers)?;
    let options = StartOptions { policy, idempotency, call: Call::Start, trace: trace::context(&headers) };
    let start = coordinator.start(&key, options).await?;
    let status = match start {
        Start::Started { .. } | Start::Next { .. } => StatusCode::ACCEPTED,
        Start::AlreadyActive { .. } | Start::AlreadyFinished { .. } | Start::Replayed { .. } => {
            StatusCode::OK
        }
    };
    let replayed = matches!(start, Start::Replayed { .. });
    let status_of_task = match &start {
        // Where it waits for a node it is not running yet. It has won, whether or not that can be read now.
        Start::Started { .. } => coordinator.task(&key).await.ok().map(|task| task.status),
        _ => None,
    };
    let answer = (status, Json(convert::start(start, status_of_task))).into_response();
    Ok(if replayed { idempotency::replayed(answer) } else { answer })
}
