//! The log, page by page.
//!
//! Decides: what a caller may ask of a page, and that one who waits does not hold up a server that stops. Never decides
//! when there is something to read; [`Coordinator::next_events`] does.

use std::time::Duration;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use soloist::limits;

use crate::{
    convert,
    problem::Problem,
    query::{self, KeyPath, QueryOf},
    state::AppState,
};

/// The query of a page.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct EventsQuery {
    after: Option<String>,
    limit: Option<String>,
    wait: Option<String>,
}

/// `GET /tasks/{app}/{model}/{id}/events`
pub(crate) async fn events(
    State(AppState { coordinator, options }): State<AppState>,
    KeyPath(key): KeyPath,
    QueryOf(query): QueryOf<EventsQuery>,
) -> Result<Response, Problem> {
    let after = query.after.as_deref().map_or(Ok(0), |text| query::position("after", text))?;
    let limit = query::limit(query.limit.as_deref(), limits::PAGE_DEFAULT_EVENTS, limits::PAGE_MAX_EVENTS)?;
    let wait = query
        .wait
        .as_deref()
        .map_or(Ok(Duration::ZERO), |text| query::wait(text, limits::EVENTS_WAIT_MAX))?;
    let page = if wait.is_zero() {
        coordinator.events(&key, after, limit).await?
    } else {
        tokio::select! {
            page = coordinator.next_events(&key, after, limit, wait) => page?,
            () = options.stop.cancelled() => coordinator.events(&key, after, limit).await?,
        }
    };
    Ok(Json(convert::events(page)).into_response())
}
