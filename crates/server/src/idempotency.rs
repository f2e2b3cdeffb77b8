//! Requests that are sent again: the header `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header).
//!
//! Decides: whose a key is and how a repeated answer is marked. Never decides what was answered first; the store does.

use axum::{
    http::{HeaderMap, HeaderValue},
    response::Response,
};
use soloist::IdempotencyKey;
use soloist_wire::problem;

use crate::problem::Problem;

/// The key of a request, if it has one. Callers are not told apart yet: all are one subject.
pub(crate) fn key(headers: &HeaderMap) -> Result<Option<IdempotencyKey>, Problem> {
    let mut keys = headers.get_all("idempotency-key").iter();
    let (Some(first), None) = (keys.next(), keys.next()) else {
        return match headers.contains_key("idempotency-key") {
            true => Err(Problem::new(
                problem::INVALID_IDEMPOTENCY_KEY,
                "more than one Idempotency-Key was sent; send one",
            )),
            false => Ok(None),
        };
    };
    Ok(Some(IdempotencyKey::new(first.to_str().unwrap_or_default())?))
}

/// Marks an answer as that of an earlier request.
pub(crate) fn replayed(mut answer: Response) -> Response {
    answer.headers_mut().insert("idempotent-replayed", HeaderValue::from_static("true"));
    answer
}
