//! What can go wrong between a client and a server.

use soloist_wire::Problem;

/// Why a call has no answer of its kind.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What was given cannot be asked: the URL of the server, a key, the name of a signal. Nothing was sent.
    #[error("{0}")]
    Invalid(String),
    /// No connection could be made. Nothing was sent.
    #[error("cannot reach {server}: {cause}")]
    Unreachable {
        /// The server's URL.
        server: String,
        /// Why.
        cause: String,
    },
    /// The connection broke before the answer was complete. Whether the call was carried out is not known; under a key
    /// (see [`Client::keyed`](crate::Client::keyed)) it can be asked again.
    #[error(
        "the connection to {server} broke before it had answered, so whether it was done is not known: {cause}"
    )]
    Broke {
        /// The server's URL.
        server: String,
        /// Why.
        cause: String,
    },
    /// The server says why it did not do it.
    #[error("{}", .0.detail)]
    Problem(Box<Problem>),
    /// The answer is none that a Soloist server gives.
    #[error("{server} does not answer like a Soloist server: {what}")]
    Unexpected {
        /// The server's URL.
        server: String,
        /// What it answered.
        what: String,
    },
    /// A stream broke its promise: an event is missing or came twice. This is a defect of the server or of something
    /// between it and the client.
    #[error("the stream is broken: {0}")]
    Broken(String),
}

impl Error {
    /// The stable code of a [`Error::Problem`].
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Problem(problem) => Some(&problem.code),
            _ => None,
        }
    }
}
