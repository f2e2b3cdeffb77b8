//! Which HTTP status an error becomes.
//!
//! Decides: the code (and with it the status) of everything that goes wrong, in one `From`. What only the operator
//! should know is logged here, once, and never sent.

use axum::{
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use soloist::{Error, limits};
use soloist_wire::problem::{self, Code};

/// A call that was not carried out, on its way to the caller.
#[derive(Debug, Clone)]
pub struct Problem {
    pub(crate) code: Code,
    pub(crate) detail: String,
    pub(crate) location: Option<String>,
}

impl Problem {
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), location: None }
    }

    /// Whether the same call may be carried out a little later, whatever the caller does.
    pub(crate) fn is_passing(&self) -> bool {
        [problem::SHUTTING_DOWN, problem::STORE_UNAVAILABLE, problem::STORE_FULL].contains(&self.code)
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let (code, detail) = match error {
            Error::NotFound { code, message } => (code_of(code, problem::NOT_FOUND), message),
            Error::Invalid { code, message } => (code_of(code, problem::INVALID), message),
            Error::Refused { code, message } => (code_of(code, problem::REFUSED), message),
            Error::LimitReached { code, message } => (code_of(code, problem::TOO_LARGE), message),
            Error::Fenced { message } => (problem::FENCED, message),
            Error::Closed => {
                (problem::SHUTTING_DOWN, "this server is shutting down; try again in a moment".into())
            }
            Error::Unavailable { message } => {
                tracing::error!(error = message, "the store is unavailable");
                (problem::STORE_UNAVAILABLE, "the store cannot be asked now; try again in a moment".into())
            }
            Error::Full { message } => {
                tracing::error!(error = message, "the store is full; make room on its disk");
                let detail = "the disk of the store is full; what runs waits, and nothing is started until there is room";
                (problem::STORE_FULL, detail.into())
            }
            Error::Corrupt { message } => {
                tracing::error!(error = message, "the store is corrupt");
                (problem::STORE_CORRUPT, "the record of this task is damaged; ask the operator".into())
            }
            // The library may grow kinds of errors; until one has its arm here, it is ours to look at.
            other => {
                tracing::error!(error = %other, code = other.code(), "an error without a status of its own");
                (problem::INTERNAL, "something went wrong here; ask the operator".into())
            }
        };
        Self::new(code, detail)
    }
}

fn code_of(slug: &str, otherwise: Code) -> Code {
    Code::of(slug).unwrap_or(otherwise)
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.code.status).expect("codes have valid statuses");
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(problem::MEDIA_TYPE));
        if self.is_passing() {
            headers.insert(header::RETRY_AFTER, limits::RETRY_AFTER_SECONDS.into());
        }
        if let Some(location) = self.location.and_then(|l| HeaderValue::try_from(l).ok()) {
            headers.insert(header::LOCATION, location);
        }
        let body = serde_json::to_vec(&soloist_wire::Problem::new(self.code, self.detail))
            .expect("a problem is made of strings and numbers");
        (status, headers, body).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(error: Error) -> (u16, &'static str) {
        let problem = Problem::from(error);
        (problem.code.status, problem.code.slug)
    }

    #[test]
    fn every_kind_of_error_has_a_status_and_a_code() {
        assert_eq!(status(Error::not_found("unknown_task", "")), (404, "unknown_task"));
        assert_eq!(status(Error::not_found("brand_new", "")), (404, "not_found"));
        assert_eq!(status(Error::invalid("invalid_key", "")), (400, "invalid_key"));
        assert_eq!(status(Error::invalid("invalid_input", "")), (422, "invalid_input"));
        assert_eq!(status(Error::invalid("brand_new", "")), (400, "invalid"));
        assert_eq!(status(Error::refused("brand_new", "")), (409, "refused"));
        assert_eq!(status(Error::too_large("it", 2, 1)), (413, "too_large"));
        let full = Error::LimitReached { code: "signals_full", message: String::new() };
        assert_eq!(status(full), (409, "signals_full"));
        assert_eq!(status(Error::Fenced { message: String::new() }), (409, "fenced"));
        assert_eq!(status(Error::Closed), (503, "shutting_down"));
        assert_eq!(status(Error::Full { message: String::new() }), (503, "store_full"));
    }

    #[test]
    fn what_only_the_operator_should_know_is_not_sent() {
        for error in [
            Error::Unavailable { message: "password=hunter2".into() },
            Error::Full { message: "password=hunter2".into() },
            Error::Corrupt { message: "password=hunter2".into() },
        ] {
            assert!(!Problem::from(error).detail.contains("hunter2"));
        }
    }

    #[test]
    fn every_code_stands_in_the_reference_with_its_status() {
        let reference = include_str!("../../../docs/http-api.md");
        for code in problem::ALL {
            let (status, slug) = (format!("| {} |", code.status), format!("`{}`", code.slug));
            assert!(
                reference.lines().any(|line| line.starts_with(&status) && line.contains(&slug)),
                "{slug} is missing in docs/http-api.md"
            );
        }
    }
}
