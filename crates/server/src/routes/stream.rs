//! Watching a task.
//!
//! Decides: what kind of answer a viewer gets: a stream, the record of the end, 204 for one that has seen it all, or a
//! request to come back. What stands in the stream is made in `frames.rs`.

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use soloist::{From, Key, Status, SubscribeOptions, Subscribed, Subscription};
use soloist_wire::{
    problem,
    sse::{self, Format},
};

use crate::{
    convert,
    frames::{self, Frames, Handover},
    guard,
    problem::Problem,
    query::{self, KeyPath, QueryOf},
    state::{AppState, Autostart},
};

/// The query of a stream.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct StreamQuery {
    pub(super) format: Option<String>,
    pub(super) replay: Option<String>,
    pub(super) last_event_id: Option<String>,
    pub(super) follow: Option<String>,
}

/// What a viewer asked for.
pub(super) struct Wish {
    pub(super) format: Format,
    pub(super) from: From,
    pub(super) follow: bool,
}

impl Wish {
    pub(super) fn read(query: &StreamQuery, headers: &HeaderMap) -> Result<Self, Problem> {
        let invalid = |what: &str| Err(Problem::new(problem::INVALID_QUERY, what));
        let format = match query.format.as_deref() {
            None => Format::default(),
            Some(word) => match Format::parse(word) {
                Some(format) => format,
                None => return invalid("format is full, raw or message"),
            },
        };
        let replay = match query.replay.as_deref() {
            None | Some("all") => From::RunStart,
            Some("latest") => From::Latest,
            Some("none") => From::Tail,
            Some(_) => return invalid("replay is all, latest or none"),
        };
        let follow = match query.follow.as_deref() {
            None | Some("false") => false,
            Some("true") => true,
            Some(_) => return invalid("follow is true or false"),
        };
        // The header wins: a client that comes back still has the query that it began with.
        let header = headers.get("last-event-id").map(|value| value.to_str().unwrap_or_default());
        let cursor = header.or(query.last_event_id.as_deref());
        let from = match cursor {
            Some(text) => From::After(query::cursor(text)?),
            None => replay,
        };
        Ok(Self { format, from, follow })
    }
}

/// `GET /stream/{app}/{model}/{id}`
pub(crate) async fn watch(
    State(state): State<AppState>,
    KeyPath(key): KeyPath,
    headers: HeaderMap,
    QueryOf(query): QueryOf<StreamQuery>,
) -> Result<Response, Problem> {
    let wish = Wish::read(&query, &headers)?;
    let autostart = state.options.autostart;
    match open(&state, &key, &headers, &wish, autostart).await {
        Err(problem) if problem.is_passing() && reads_streams(&headers) => Ok(come_back(&problem)),
        answer => answer,
    }
}

/// `HEAD /stream/{app}/{model}/{id}`: the same head, and nothing is started.
pub(crate) async fn look(
    State(state): State<AppState>,
    KeyPath(key): KeyPath,
    headers: HeaderMap,
    QueryOf(query): QueryOf<StreamQuery>,
) -> Result<Response, Problem> {
    let wish = Wish::read(&query, &headers)?;
    let response = open(&state, &key, &headers, &wish, Autostart::Off).await?;
    Ok(response.map(|_| Body::empty()))
}

async fn open(
    state: &AppState,
    key: &Key,
    headers: &HeaderMap,
    wish: &Wish,
    autostart: Autostart,
) -> Result<Response, Problem> {
    if state.coordinator.leaving().is_cancelled() {
        // Another server goes on with it.
        return Err(soloist::Error::Closed.into());
    }
    let may_start = guard::may_change(headers, &state.options);
    let options = SubscribeOptions {
        from: wish.from,
        follow: wish.follow,
        autostart: autostart == Autostart::On && may_start.is_ok(),
    };
    let Subscribed::Stream(subscription) = state.coordinator.subscribe(key, options).await? else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    let task = subscription.task();
    if let (Autostart::On, Status::Pending, Err(problem)) = (autostart, task.status, may_start) {
        return Err(problem);
    }
    if task.status.is_finished() && !wish.follow && !reads_streams(headers) {
        return Ok(Json(convert::finished(task)).into_response());
    }
    Ok(streamed(state, subscription, wish))
}

/// The stream of a viewer that was let in; 204 where nothing will come on it.
pub(super) fn streamed(state: &AppState, subscription: Subscription, wish: &Wish) -> Response {
    let task = subscription.task();
    if task.status.is_finished() && !wish.follow && subscription.cursor() >= task.last_seq {
        // An empty stream would make an EventSource come back for ever.
        return StatusCode::NO_CONTENT.into_response();
    }
    let frames = Frames::new(subscription, wish.format, &state.coordinator, &state.options);
    let handover = Handover::new(frames);
    let mut response = stream(handover.body());
    response.extensions_mut().insert(handover);
    response
}

/// A viewer that cannot be served now, and would give up for good on any status but 200.
pub(super) fn come_back(problem: &Problem) -> Response {
    stream(Body::from(frames::farewell(&problem.detail)))
}

fn stream(body: Body) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(sse::MEDIA_TYPE)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store, no-transform")),
        (header::HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    (headers, body).into_response()
}

/// Whether the client names `text/event-stream` in `Accept`, as every `EventSource` does.
pub(super) fn reads_streams(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|v| v.split(','))
        .any(|range| {
            let mut parts = range.split(';').map(str::trim);
            let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(sse::MEDIA_TYPE));
            let refused = parts.any(|p| p.strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0)));
            named && !refused
        })
}
