//! What can go wrong for a caller, by meaning.
//!
//! Decides: the kinds of errors and their stable codes. Never an error: losing a race, a fenced write, nothing new
//! (those are outcome enums, see [`crate::Start`], [`crate::store::Applied`]), and the failure of the work itself
//! (that is data, see [`Failure`]).

use std::time::Duration;

use crate::limits;

/// A result whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call was not carried out. Each kind carries a stable `code` for machines and a message for people.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What was named does not exist.
    #[error("{message}")]
    NotFound {
        /// Stable slug, such as `unknown_task`.
        code: &'static str,
        /// What was not found.
        message: String,
    },
    /// What was given cannot be read or is not allowed; nothing was done.
    #[error("{message}")]
    Invalid {
        /// Stable slug, such as `invalid_key`.
        code: &'static str,
        /// What is wrong and what is allowed.
        message: String,
    },
    /// Understood, and not done: the present state does not allow it.
    #[error("{message}")]
    Refused {
        /// Stable slug, such as `task_active`.
        code: &'static str,
        /// Why, and what to do next.
        message: String,
    },
    /// The caller wrote for a run that it no longer holds.
    #[error("{message}")]
    Fenced {
        /// Which run, and who holds the task now.
        message: String,
    },
    /// Larger than a limit in [`limits`].
    #[error("{message}")]
    LimitReached {
        /// Stable slug, such as `too_large`.
        code: &'static str,
        /// Which limit, and its value.
        message: String,
    },
    /// This process is shutting down and takes no new work.
    #[error("this process is shutting down; try again elsewhere or later")]
    Closed,
    /// The store could not be asked; nothing is known to have been done.
    #[error("the store is unavailable: {message}")]
    Unavailable {
        /// Why; for the log of the operator.
        message: String,
    },
    /// The store has no room: its disk is full. Nothing was done; make room, and ask again.
    #[error("the store is full: {message}")]
    Full {
        /// What it says; for the log of the operator.
        message: String,
    },
    /// What the store holds breaks an invariant.
    #[error("the store is corrupt: {message}")]
    Corrupt {
        /// Which invariant.
        message: String,
    },
}

impl Error {
    /// An [`Error::NotFound`].
    pub fn not_found(code: &'static str, message: impl Into<String>) -> Self {
        Self::NotFound { code, message: message.into() }
    }

    /// An [`Error::Invalid`].
    pub fn invalid(code: &'static str, message: impl Into<String>) -> Self {
        Self::Invalid { code, message: message.into() }
    }

    /// An [`Error::Refused`].
    pub fn refused(code: &'static str, message: impl Into<String>) -> Self {
        Self::Refused { code, message: message.into() }
    }

    /// An [`Error::LimitReached`] with the code `too_large`.
    #[must_use]
    pub fn too_large(what: &str, bytes: usize, max: usize) -> Self {
        Self::LimitReached {
            code: "too_large",
            message: format!("{what} has {bytes} bytes; at most {max} are allowed"),
        }
    }

    /// The stable slug of this error, for machines.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotFound { code, .. }
            | Self::Invalid { code, .. }
            | Self::Refused { code, .. }
            | Self::LimitReached { code, .. } => code,
            Self::Fenced { .. } => "fenced",
            Self::Closed => "shutting_down",
            Self::Unavailable { .. } => "store_unavailable",
            Self::Full { .. } => "store_full",
            Self::Corrupt { .. } => "store_corrupt",
        }
    }
}

impl From<crate::store::StoreError> for Error {
    fn from(error: crate::store::StoreError) -> Self {
        use crate::store::StoreError;
        match error {
            StoreError::Unavailable(message) => Self::Unavailable { message },
            StoreError::Full(message) => Self::Full { message },
            StoreError::Corrupt(message) => Self::Corrupt { message },
        }
    }
}

/// Why the work of an attempt failed: data on record, not an error of the caller.
///
/// Deliberately not a `std::error::Error`, so that `?` turns any error of the work into one:
///
/// ```
/// fn work() -> Result<u32, soloist::Failure> {
///     Ok("12".parse::<u32>()?)
/// }
/// assert_eq!(work().unwrap(), 12);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Short name of the kind of failure, such as `ParseIntError`, `ExitCode`, `Panic`.
    pub error_type: String,
    /// What happened, for people.
    pub message: String,
    /// Where it happened, where that is known: causes, a backtrace, the tail of stderr.
    pub traceback: Option<String>,
    /// Whether another attempt may help; not on record. True unless [`Failure::is_final`] was said.
    pub retryable: bool,
    /// How long the next attempt waits at least; not on record. Nothing unless [`Failure::retry_after`] was said.
    pub retry_after: Option<Duration>,
}

impl Failure {
    /// A failure of the given kind. Over-long texts are cut by [`limits`].
    pub fn new(error_type: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            error_type: limits::cut(&error_type.into(), limits::EVENT_TYPE_MAX_BYTES),
            message: limits::cut(&message.into(), limits::MESSAGE_MAX_BYTES),
            traceback: None,
            retryable: true,
            retry_after: None,
        }
    }

    /// The same, and no retry: another attempt would fail as well.
    ///
    /// ```
    /// use soloist::Failure;
    /// let failure = Failure::new("NoSuchFile", "in.mp4 is not there").is_final();
    /// assert!(!failure.retryable);
    /// ```
    #[must_use]
    pub fn is_final(mut self) -> Self {
        self.retryable = false;
        self
    }

    /// The same, and a retry makes sense only after a wait, as a server says that answers 429 with `Retry-After`. The next
    /// attempt waits so long, or as long as it would have anyway where that is longer; [`limits::RETRY_AFTER_MAX`] at the
    /// most. Whether there is a next attempt does not depend on it, but for the deadline of the run: where that comes first,
    /// there is none.
    ///
    /// ```
    /// use std::time::Duration;
    /// use soloist::Failure;
    /// let failure = Failure::new("TooManyRequests", "429 Too Many Requests").retry_after(Duration::from_secs(30));
    /// assert_eq!(failure.retry_after, Some(Duration::from_secs(30)));
    /// ```
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// The same with a traceback, cut by [`limits::TRACEBACK_MAX_BYTES`].
    #[must_use]
    pub fn with_traceback(mut self, traceback: impl Into<String>) -> Self {
        self.traceback = Some(limits::cut(&traceback.into(), limits::TRACEBACK_MAX_BYTES));
        self
    }
}

impl<E: std::error::Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        let full = std::any::type_name::<E>();
        let name = full.split('<').next().unwrap_or(full).rsplit("::").next().unwrap_or(full);
        let mut traceback = format!("{full}: {error}");
        let mut source = error.source();
        while let Some(cause) = source {
            traceback.push_str(&format!("\ncaused by: {cause}"));
            source = cause.source();
        }
        Self::new(name, error.to_string()).with_traceback(traceback)
    }
}
