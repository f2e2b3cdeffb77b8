//! Why a measurement has no figures.

use std::io;

/// What went wrong, with what to do next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It cannot be measured as it was asked for.
    #[error("{0}")]
    Invalid(String),
    /// Nobody answers there.
    #[error("cannot reach the server at {address}: {source}")]
    Unreachable {
        /// Where it was looked for.
        address: String,
        /// Why not.
        source: io::Error,
    },
    /// The server that was to be measured did not come up, or ended.
    #[error("{0}")]
    Server(String),
    /// An answer that must not be: it breaks a promise, or the server refuses what is to be measured.
    #[error("wrong answer: {0}")]
    Wrong(String),
    /// The system refused.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
}

/// What everything here returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// That nobody can be reached at an address; where this process may open nothing more, that is why.
    pub(crate) fn unreachable(address: impl ToString, source: io::Error) -> Self {
        if source.raw_os_error() == Some(rustix::io::Errno::MFILE.raw_os_error()) {
            let why =
                "this process may open no more connections: ask for fewer, or raise the limit (ulimit -n)";
            return Self::Invalid(why.into());
        }
        Self::Unreachable { address: address.to_string(), source }
    }

    /// For `map_err`.
    pub(crate) fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, source }
    }
}
