//! The log, page by page.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use soloist::{Coordinator, limits};

use crate::{
    convert,
    problem::Problem,
    query::{self, KeyPath, QueryOf},
};

/// The query of a page.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct EventsQuery {
    after: Option<String>,
    limit: Option<String>,
}

/// `GET /tasks/{app}/{model}/{id}/events`
pub(crate) async fn events(
    State(coordinator): State<Coordinator>,
    KeyPath(key): KeyPath,
    QueryOf(query): QueryOf<EventsQuery>,
) -> Result<Response, Problem> {
    let after = query.after.as_deref().map_or(Ok(0), |text| query::position("after", text))?;
    let limit = query::limit(query.limit.as_deref(), limits::PAGE_DEFAULT_EVENTS, limits::PAGE_MAX_EVENTS)?;
    Ok(Json(convert::events(coordinator.events(&key, after, limit).await?)).into_response())
}
