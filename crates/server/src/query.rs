//! What stands in the path and the query.
//!
//! Decides: that a key is valid before a handler sees it, and that a parameter which is not known is an error.

use std::time::Duration;

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

/// A time that a caller waits, in whole seconds up to `max`.
pub(crate) fn wait(text: &str, max: Duration) -> Result<Duration, Problem> {
    let max = max.as_secs();
    let seconds = text.parse().ok().filter(|seconds| *seconds <= max);
    seconds.map(Duration::from_secs).ok_or_else(|| {
        Problem::new(problem::INVALID_QUERY, format!("wait is a number of seconds from 0 to {max}"))
    })
}

#[cfg(test)]
mod tests {
    use axum::{Router, body::Body, http::Request, routing::get};
    use proptest::prelude::*;
    use tower::ServiceExt as _;

    use super::*;

    fn config() -> ProptestConfig {
        ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }
    }

    /// A text as a segment of a path: what need not be escaped is, or is not, as `escaped` says.
    fn segment(text: &str, escaped: &[bool]) -> String {
        let bytes = text.bytes().zip(escaped.iter().cycle()).map(|(byte, is_escaped)| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'~' | b'.' if !is_escaped => {
                char::from(byte).to_string()
            }
            byte if *is_escaped => format!("%{byte:02x}"),
            byte => format!("%{byte:02X}"),
        });
        bytes.collect()
    }

    proptest! {
        #![proptest_config(config())]

        #[test]
        fn a_key_in_a_path_is_the_key_that_was_named_however_it_is_escaped(
            parts in prop::array::uniform3(prop_oneof![4 => "[A-Za-z][A-Za-z0-9._-]{0,5}", 1 => "[./%~0-9 \r\n\u{e9}]{1,4}"]),
            escaped in prop::collection::vec(any::<bool>(), 1..5),
        ) {
            let path: Vec<_> = parts.iter().map(|part| segment(part, &escaped)).collect();
            let read = |Path((app, model, id)): Path<(String, String, String)>| async move {
                match Key::new(&app, &model, &id) {
                    Ok(key) => key.to_string(),
                    Err(error) => error.code().to_owned(),
                }
            };
            let router = Router::new().route("/tasks/{app}/{model}/{id}", get(read));
            let request = Request::get(format!("/tasks/{}", path.join("/"))).body(Body::empty()).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let answer = runtime.block_on(async {
                let answer = router.oneshot(request).await.unwrap();
                axum::body::to_bytes(answer.into_body(), 10_000).await.unwrap()
            });
            let expected = Key::new(&parts[0], &parts[1], &parts[2])
                .map_or_else(|error| error.code().to_owned(), |key| key.to_string());
            prop_assert_eq!(String::from_utf8_lossy(&answer), expected);
        }

        #[test]
        fn every_id_of_an_event_is_a_cursor_and_any_other_text_is_refused(
            seq in 0..=i64::MAX as u64, token in prop::option::of(0..=i64::MAX as u64),
            text in prop_oneof!["[0-9]{0,3}-?[0-9]{0,3}", "[0-9]{18,20}(-[0-9]{18,20})?", "[-+0-9 .x]{0,6}", "\\PC{0,6}"],
        ) {
            let id = token.map_or_else(|| seq.to_string(), |token| format!("{seq}-{token}"));
            let read = cursor(&id).ok();
            prop_assert_eq!(read, Some(Cursor { seq, epoch: token.map(Epoch) }));
            // The number of a page in a list stands alone.
            prop_assert_eq!(super::position("cursor", &id).ok(), Some(seq).filter(|_| token.is_none()));
            let is_number = |text: &str| {
                let digits = text.trim_start_matches('0');
                let fits = digits.len() < 19 || (digits.len() == 19 && digits <= "9223372036854775807");
                !text.is_empty() && text.chars().all(|c| c.is_ascii_digit()) && fits
            };
            let parts: Vec<_> = text.split('-').collect();
            let is_cursor = parts.len() <= 2 && parts.iter().all(|part| is_number(part));
            prop_assert_eq!(cursor(&text).is_ok(), is_cursor, "{:?}", text);
            prop_assert_eq!(super::position("cursor", &text).is_ok(), is_number(&text), "{:?}", text);
        }

        #[test]
        fn a_limit_and_a_wait_stay_within_their_bounds(text in "[-+0-9a. ]{0,6}|\\PC{0,4}", max in 1..5_000_usize) {
            let number = text.trim_start_matches('+').parse::<u64>().ok().filter(|_| !text.starts_with("++"));
            let limit = limit(Some(&text), 7, max);
            prop_assert_eq!(limit.ok(), number.and_then(|n| usize::try_from(n).ok()).filter(|n| (1..=max).contains(n)));
            let wait = wait(&text, Duration::from_secs(max as u64));
            prop_assert_eq!(wait.ok(), number.filter(|n| *n <= max as u64).map(Duration::from_secs));
        }
    }
}
