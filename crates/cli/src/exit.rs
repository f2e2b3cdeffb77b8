//! How the program ends.
//!
//! Decides: the one exit code of everything that can happen, and the line that is printed for it.

use soloist_client::Error;

/// The exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Completed = 0,
    Failed = 1,
    Usage = 2,
    NotFound = 3,
    Cancelled = 4,
    Unreachable = 5,
    Refused = 6,
    NotAllowed = 7,
}

/// Shown at the end of `--help`.
pub(crate) const HELP: &str = "\
Exit codes:
  0  completed, or done as asked    4  the task was cancelled
  1  the task failed                5  cannot reach the server or the store
  2  wrong usage or configuration   6  refused; the answer says why
  3  not found                      7  not allowed";

impl Exit {
    /// What a terminal event means for whoever waited for it.
    pub(crate) fn of_ending(event_type: &str) -> Option<Self> {
        match event_type {
            "complete" => Some(Self::Completed),
            "error" => Some(Self::Failed),
            "cancelled" => Some(Self::Cancelled),
            _ => None,
        }
    }

    /// What the status of a task means for whoever waited for its end; none where it has not ended.
    pub(crate) fn of_status(status: &str) -> Option<Self> {
        match status {
            "completed" => Some(Self::Completed),
            "failed" => Some(Self::Failed),
            "cancelled" => Some(Self::Cancelled),
            _ => None,
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command went no further.
#[derive(Debug)]
pub(crate) struct Stop {
    pub(crate) exit: Exit,
    /// Empty where there is nothing to say.
    pub(crate) message: String,
    /// The stable slug, where a server gave one.
    pub(crate) code: Option<String>,
}

impl Stop {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), code: None }
    }
}

impl From<crate::config::ConfigError> for Stop {
    fn from(error: crate::config::ConfigError) -> Self {
        Self::new(Exit::Usage, error.0)
    }
}

impl From<soloist::Error> for Stop {
    fn from(error: soloist::Error) -> Self {
        use soloist::Error;
        let exit = match &error {
            Error::NotFound { .. } => Exit::NotFound,
            Error::Invalid { .. } => Exit::Usage,
            Error::Unavailable { .. } | Error::Full { .. } | Error::Corrupt { .. } => Exit::Unreachable,
            _ => Exit::Refused,
        };
        Self { exit, message: error.to_string(), code: Some(error.code().to_owned()) }
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        let exit = match &error {
            Error::Invalid(_) => Exit::Usage,
            Error::Problem(problem) => match problem.status {
                401 | 403 | 421 => Exit::NotAllowed,
                404 => Exit::NotFound,
                500 | 502 | 504 => Exit::Unreachable,
                503 if problem.code.starts_with("store_") => Exit::Unreachable,
                _ => Exit::Refused,
            },
            _ => Exit::Unreachable,
        };
        let message = match &error {
            Error::Unreachable { .. } => {
                format!("{error}\nis `soloist serve` running? (--url or SOLOIST_URL names another server)")
            }
            _ => error.to_string(),
        };
        Self { exit, message, code: error.code().map(str::to_owned) }
    }
}

impl From<soloist_bench::Error> for Stop {
    fn from(error: soloist_bench::Error) -> Self {
        use soloist_bench::Error;
        let (exit, next) = match &error {
            Error::Invalid(_) => (Exit::Usage, ""),
            Error::Unreachable { .. } => (
                Exit::Unreachable,
                "\nis `soloist serve` running there? without --url a server is started for the measurement",
            ),
            _ => (Exit::Failed, ""),
        };
        Self::new(exit, format!("{error}{next}"))
    }
}

#[cfg(test)]
mod tests {
    use soloist_wire::{Problem, problem};

    use super::*;

    #[test]
    fn every_problem_has_the_exit_code_that_the_help_names() {
        let exit = |code| Stop::from(Error::Problem(Box::new(Problem::new(code, "x")))).exit;
        assert_eq!(exit(problem::UNKNOWN_TASK), Exit::NotFound);
        assert_eq!(exit(problem::UNKNOWN_MODEL), Exit::NotFound);
        assert_eq!(exit(problem::INVALID_INPUT), Exit::Refused);
        assert_eq!(exit(problem::NOT_RUNNING), Exit::Refused);
        assert_eq!(exit(problem::CROSS_SITE), Exit::NotAllowed);
        assert_eq!(exit(problem::STORE_UNAVAILABLE), Exit::Unreachable);
        assert_eq!(exit(problem::STORE_FULL), Exit::Unreachable);
        for code in 0..=7 {
            assert!(HELP.contains(&format!("  {code}  ")), "{code}");
        }
    }
}
