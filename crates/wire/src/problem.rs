//! Problems: what a call that was not carried out is answered (RFC 9457).
//!
//! Decides: every stable code and the HTTP status that it always has. A code is for machines and never changes its
//! meaning; `detail` is for people and may.

use serde::{Deserialize, Serialize};

/// The media type of a [`Problem`].
pub const MEDIA_TYPE: &str = "application/problem+json";

/// An answer of the media type `application/problem+json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Always `about:blank`: `code` says which problem it is.
    #[serde(rename = "type", default = "about_blank")]
    pub problem_type: String,
    /// The words of the HTTP status.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong and what to do next, for people.
    #[serde(default)]
    pub detail: String,
    /// The stable slug, one of [`codes`](ALL).
    #[serde(default)]
    pub code: String,
    /// The path that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
}

impl Problem {
    /// A problem with this code.
    #[must_use]
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            problem_type: about_blank(),
            title: code.title().to_owned(),
            status: code.status,
            detail: detail.into(),
            code: code.slug.to_owned(),
            instance: None,
        }
    }
}

fn about_blank() -> String {
    "about:blank".into()
}

/// A stable code and the HTTP status that it always has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code {
    /// The slug in `code`.
    pub slug: &'static str,
    /// The HTTP status.
    pub status: u16,
}

impl Code {
    /// The code of that slug.
    #[must_use]
    pub fn of(slug: &str) -> Option<Self> {
        ALL.iter().copied().find(|code| code.slug == slug)
    }

    /// The words of its HTTP status.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self.status {
            400 => "Bad Request",
            403 => "Forbidden",
            404 => "Not Found",
            405 => "Method Not Allowed",
            408 => "Request Timeout",
            409 => "Conflict",
            413 => "Content Too Large",
            415 => "Unsupported Media Type",
            421 => "Misdirected Request",
            422 => "Unprocessable Content",
            503 => "Service Unavailable",
            _ => "Internal Server Error",
        }
    }
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $status:literal $slug:literal;)*) => {
        $($(#[$doc])* pub const $name: Code = Code { slug: $slug, status: $status };)*

        /// All of them.
        pub const ALL: &[Code] = &[$($name),*];
    };
}

codes! {
    /// An app, a model or an id that is not allowed, or a path that encodes a slash.
    INVALID_KEY = 400 "invalid_key";
    /// A body that is no JSON.
    INVALID_JSON = 400 "invalid_json";
    /// A body of the wrong shape: a field that is not known, or of the wrong type.
    INVALID_BODY = 400 "invalid_body";
    /// A parameter in the query that is not known or not allowed.
    INVALID_QUERY = 400 "invalid_query";
    /// A position in a log or a list that is no position.
    INVALID_CURSOR = 400 "invalid_cursor";
    /// The name of a signal that is not allowed.
    INVALID_SIGNAL = 400 "invalid_signal";
    /// An event type that is not allowed.
    INVALID_EVENT_TYPE = 400 "invalid_event_type";
    /// A time that is no RFC 3339.
    INVALID_TIME = 400 "invalid_time";
    /// An `Idempotency-Key` that is none, or more than one.
    INVALID_IDEMPOTENCY_KEY = 400 "invalid_idempotency_key";
    /// Any other value that is not allowed.
    INVALID = 400 "invalid";
    /// A web page of another site may not do this.
    CROSS_SITE = 403 "cross_site";
    /// There is no such call.
    UNKNOWN_ROUTE = 404 "unknown_route";
    /// There is no such task.
    UNKNOWN_TASK = 404 "unknown_task";
    /// No living node serves this model.
    UNKNOWN_MODEL = 404 "unknown_model";
    /// Anything else that does not exist.
    NOT_FOUND = 404 "not_found";
    /// The call has other methods; they stand in `Allow`.
    METHOD_NOT_ALLOWED = 405 "method_not_allowed";
    /// The body did not come in time.
    TOO_SLOW = 408 "too_slow";
    /// The task is finished: there is nothing to cancel or to signal.
    NOT_RUNNING = 409 "not_running";
    /// The run that was named is not the active one.
    OTHER_RUN = 409 "other_run";
    /// Only the process that runs such a task starts it, as `soloist run` does.
    NOT_SERVED = 409 "not_served";
    /// The task is active; cancel it first.
    TASK_ACTIVE = 409 "task_active";
    /// A task of that key is there, with another input.
    INPUT_DIFFERS = 409 "input_differs";
    /// The run keeps as many unread signals as it may.
    SIGNALS_FULL = 409 "signals_full";
    /// The run is held by somebody else by now.
    FENCED = 409 "fenced";
    /// The present state does not allow it.
    REFUSED = 409 "refused";
    /// Larger than a limit.
    TOO_LARGE = 413 "too_large";
    /// A body that is not `application/json`.
    UNSUPPORTED_MEDIA_TYPE = 415 "unsupported_media_type";
    /// The `Host` is none of this server's names.
    FOREIGN_HOST = 421 "foreign_host";
    /// The model cannot read this input; nothing was created.
    INVALID_INPUT = 422 "invalid_input";
    /// The `Idempotency-Key` was used before, for another request.
    IDEMPOTENCY_KEY_REUSED = 422 "idempotency_key_reused";
    /// An invariant was found broken.
    INTERNAL = 500 "internal";
    /// What the store holds breaks an invariant.
    STORE_CORRUPT = 500 "store_corrupt";
    /// The process shuts down; try again.
    SHUTTING_DOWN = 503 "shutting_down";
    /// The store cannot be asked; try again.
    STORE_UNAVAILABLE = 503 "store_unavailable";
    /// The store's disk is full: nothing can be written until there is room.
    STORE_FULL = 503 "store_full";
    /// A prefetch starts nothing.
    PREFETCH = 503 "prefetch";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_stands_once_and_has_the_words_of_its_status() {
        for (i, code) in ALL.iter().enumerate() {
            assert_eq!(Code::of(code.slug), Some(*code));
            assert!(!ALL[..i].iter().any(|other| other.slug == code.slug), "{}", code.slug);
            assert_eq!(code.status == 500, code.title() == "Internal Server Error", "{}", code.slug);
        }
    }

    #[test]
    fn a_problem_is_read_back() {
        let problem = Problem::new(UNKNOWN_TASK, "there is no task a/B/1");
        let text = serde_json::to_string(&problem).unwrap();
        assert_eq!(
            text,
            r#"{"type":"about:blank","title":"Not Found","status":404,"detail":"there is no task a/B/1","code":"unknown_task"}"#
        );
        assert_eq!(serde_json::from_str::<Problem>(&text).unwrap(), problem);
    }
}
