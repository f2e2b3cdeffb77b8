//! Start.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use soloist::{Coordinator, Start, StartOptions};
use soloist_wire::StartBody;

use crate::{body::BodyOf, convert, problem::Problem, query::KeyPath};

/// `POST /tasks/{app}/{model}/{id}/start`
pub(crate) async fn start(
    State(coordinator): State<Coordinator>,
    KeyPath(key): KeyPath,
    headers: HeaderMap,
    BodyOf(body): BodyOf<StartBody>,
) -> Result<Response, Problem> {
    refuse_idempotency_key(&headers)?;
    let options = StartOptions { policy: convert::policy(body.policy.unwrap_or_default()) };
    let start = coordinator.start(&key, options).await?;
    let status = match start {
        Start::Started { .. } => StatusCode::ACCEPTED,
        Start::AlreadyActive { .. } | Start::AlreadyFinished { .. } => StatusCode::OK,
    };
    Ok((status, Json(convert::start(start))).into_response())
}

/// A promise that is not kept yet is refused, not passed over.
pub(super) fn refuse_idempotency_key(headers: &HeaderMap) -> Result<(), Problem> {
    if headers.contains_key("idempotency-key") {
        return Err(Problem::not_supported("Idempotency-Key"));
    }
    Ok(())
}
