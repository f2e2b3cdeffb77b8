//! The body of a request.
//!
//! Decides: that a body is JSON of at most [`limits::BODY_MAX_BYTES`] that came in time, and what is said where it is
//! not. An empty body means `{}`, whatever its type.

use axum::{
    body::Body,
    extract::{FromRequest, Request},
    http::{HeaderMap, header},
};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use serde::de::{DeserializeOwned, Error as _, IgnoredAny};
use serde_json::error::Category;
use soloist::{Json, limits};
use soloist_wire::{RawJson, problem};

use crate::{problem::Problem, state::AppState};

/// A body of a known shape.
pub(crate) struct BodyOf<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<AppState> for BodyOf<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &AppState) -> Result<Self, Problem> {
        let text = text(request).await?;
        read_object(&text).map(Self).map_err(|e| match e.classify() {
            Category::Data => Problem::new(problem::INVALID_BODY, format!("the body does not fit: {e}")),
            Category::Io | Category::Syntax | Category::Eof => {
                Problem::new(problem::INVALID_JSON, format!("the body is not JSON: {e}"))
            }
        })
    }
}

/// Reads an object. An array would be read as its fields in order, which nobody means.
fn read_object<T: DeserializeOwned>(text: &str) -> serde_json::Result<T> {
    if text.trim_start().starts_with('{') {
        return serde_json::from_str(text);
    }
    serde_json::from_str::<IgnoredAny>(text)?;
    Err(serde_json::Error::custom("it is not an object"))
}

/// A body that is any JSON.
pub(crate) struct AnyJson(pub(crate) Json);

impl FromRequest<AppState> for AnyJson {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &AppState) -> Result<Self, Problem> {
        Ok(Self(Json::parse(&text(request).await?)?))
    }
}

/// Part of a body that was sent as JSON of any shape.
pub(crate) fn json(raw: &RawJson) -> Result<Json, Problem> {
    Ok(Json::parse(raw.get())?)
}

async fn text(request: Request) -> Result<String, Problem> {
    let (parts, body) = request.into_parts();
    let read = tokio::time::timeout(limits::REQUEST_READ_MAX, read(body));
    let bytes = read.await.unwrap_or_else(|_| {
        Err(Problem::new(
            problem::TOO_SLOW,
            format!("the body did not come within {} s", limits::REQUEST_READ_MAX.as_secs()),
        ))
    })?;
    if bytes.is_empty() {
        return Ok("{}".into());
    }
    if !is_json(&parts.headers) {
        return Err(Problem::new(
            problem::UNSUPPORTED_MEDIA_TYPE,
            "the body is not declared as JSON; send Content-Type: application/json",
        ));
    }
    String::from_utf8(bytes.into())
        .map_err(|_| Problem::new(problem::INVALID_JSON, "the body is not JSON: it is not UTF-8"))
}

/// Reads the whole body. What is too long is read on for a while and dropped, since most clients read no answer
/// before they have sent their body.
async fn read(mut body: Body) -> Result<Bytes, Problem> {
    let (mut kept, mut total) = (BytesMut::new(), 0);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Problem::new(problem::INVALID_BODY, "the body was cut off"))?;
        let Ok(data) = frame.into_data() else { continue };
        total += data.len();
        if total <= limits::BODY_MAX_BYTES {
            kept.extend_from_slice(&data);
        } else if total > limits::BODY_DISCARD_MAX_BYTES {
            break;
        }
    }
    if total > limits::BODY_MAX_BYTES {
        return Err(Problem::new(
            problem::TOO_LARGE,
            format!("the body has more than {} bytes", limits::BODY_MAX_BYTES),
        ));
    }
    Ok(kept.freeze())
}

fn is_json(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let essence = content_type.split(';').next().unwrap_or("").trim();
    essence.eq_ignore_ascii_case("application/json")
}
