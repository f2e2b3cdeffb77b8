//! What stands in the path and the query.
//!
//! Decides: that a key is valid before a handler sees it, and that a parameter which is not known is an error.

use axum::{
    extract::{FromRequestParts, Path, Query, rejection::PathRejection},
    http::request::Parts,
};
use serde::de::DeserializeOwned;
use soloist::{Cursor, Epoch, Key, ModelKey};
use soloist_wire::problem;

use crate::{problem::Problem, state::AppState};

/// `{app}/{model}/{id}` of the path.
pub(crate) struct KeyPath(pub(crate) Key);

impl FromRequestParts<AppState> for KeyPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let Path((app, model, id)) = path::<(String, String, String)>(parts, state).await?;
        Ok(Self(Key::new(&app, &model, &id)?))
    }
}

/// `{app}/{model}` of the path.
pub(crate) struct ModelPath(pub(crate) ModelKey);

impl FromRequestParts<AppState> for ModelPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let Path((app, model)) = path::<(String, String)>(parts, state).await?;
        Ok(Self(ModelKey::new(&app, &model)?))
    }
}

/// `{app}/{model}/{id}` and `{name}` of the path.
pub(crate) struct SignalPath(pub(crate) Key, pub(crate) String);

impl FromRequestParts<AppState> for SignalPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let Path((app, model, id, name)) = path::<(String, String, String, String)>(parts, state).await?;
        Ok(Self(Key::new(&app, &model, &id)?, name))
    }
}

async fn path<T>(parts: &mut Parts, state: &AppState) -> Result<Path<T>, Problem>
where
    T: DeserializeOwned + Send,
{
    let rejected =
        |r: PathRejection| Problem::new(problem::INVALID_KEY, format!("the path is not valid: {r}"));
    Path::from_request_parts(parts, state).await.map_err(rejected)
}

/// The query, as `T`, which refuses parameters that it does not know.
pub(crate) struct QueryOf<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequestParts<AppState> for QueryOf<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, Problem> {
        Query::<T>::try_from_uri(&parts.uri).map(|Query(query)| Self(query)).map_err(|r| {
            Problem::new(problem::INVALID_QUERY, format!("the query is not valid: {}", r.body_text()))
        })
    }
}

/// A position in a log or a list: a decimal number that every store can hold.
pub(crate) fn position(name: &str, text: &str) -> Result<u64, Problem> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let number = if digits { text.parse::<u64>().ok() } else { None };
    number.filter(|n| i64::try_from(*n).is_ok()).ok_or_else(|| {
        Problem::new(
            problem::INVALID_CURSOR,
            format!("{name} is no position: send a number that this server gave out"),
        )
    })
}

/// The `id` of an event: `seq`, or `seq-epoch`.
pub(crate) fn cursor(text: &str) -> Result<Cursor, Problem> {
    let (seq, epoch) = text.split_once('-').map_or((text, None), |(seq, epoch)| (seq, Some(epoch)));
    let position = |text| position("Last-Event-ID", text);
    Ok(Cursor { seq: position(seq)?, epoch: epoch.map(position).transpose()?.map(Epoch) })
}

/// A limit of a page, from 1 to `max`.
pub(crate) fn limit(given: Option<&str>, default: usize, max: usize) -> Result<usize, Problem> {
    let Some(text) = given else { return Ok(default) };
    text.parse()
        .ok()
        .filter(|n| (1..=max).contains(n))
        .ok_or_else(|| Problem::new(problem::INVALID_QUERY, format!("limit is a number from 1 to {max}")))
}
