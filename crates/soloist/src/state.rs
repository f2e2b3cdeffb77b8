//! The state machine of a task: every state, every command, every answer, in one `match`.
//!
//! Decides: what moves a task from one status to another, whether its epoch rises with that, and what the system
//! writes to the log. Pure: no I/O, no clock, no wildcard arm. Stores compare and set what this table said and hold no
//! rule of their own but the claim, which is this table's `Start` row written as one conditional statement.
//!
//! The whole table, printed from this code, stands in `crates/soloist/tests/it/golden/state-table.md`; a changed rule
//! is a changed cell there.

use std::fmt;

/// Where a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Status {
    /// Created, never started (or not since it was created anew).
    Pending,
    /// A start has won, and no node runs it yet.
    Queued,
    /// A node runs it.
    Running,
    /// A node runs it and was asked to stop.
    Cancelling,
    /// The work returned.
    Completed,
    /// The work failed, or its node died, and no retry is left.
    Failed,
    /// It was cancelled before it ended by itself.
    Cancelled,
}

impl Status {
    /// All of them, in the order of a task's life.
    pub const ALL: [Self; 7] = [
        Self::Pending,
        Self::Queued,
        Self::Running,
        Self::Cancelling,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
    ];

    /// The word used on record and on every wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Cancelling => "cancelling",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// The status of that word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.as_str() == word)
    }

    /// Queued, running or cancelling.
    #[must_use]
    pub const fn is_active(self) -> bool {
        match self {
            Self::Queued | Self::Running | Self::Cancelling => true,
            Self::Pending | Self::Completed | Self::Failed | Self::Cancelled => false,
        }
    }

    /// Running or cancelling: a node holds it and may write for it.
    #[must_use]
    pub const fn is_held(self) -> bool {
        match self {
            Self::Running | Self::Cancelling => true,
            Self::Pending | Self::Queued | Self::Completed | Self::Failed | Self::Cancelled => false,
        }
    }

    /// Completed, failed or cancelled.
    #[must_use]
    pub const fn is_finished(self) -> bool {
        match self {
            Self::Completed | Self::Failed | Self::Cancelled => true,
            Self::Pending | Self::Queued | Self::Running | Self::Cancelling => false,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a start does where the task was started before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Policy {
    /// A finished task is started again; an active one is left alone.
    #[default]
    Restart,
    /// A finished task stays finished; an active one is left alone.
    Once,
    /// A finished task is started again. Of an active one exactly one more run begins when this one ends, however many ask
    /// for it.
    Rerun,
    /// A finished task is started again. Of an active one the run is cancelled, and the next one begins when it has ended;
    /// of many that ask for it one has done it.
    Replace,
}

impl Policy {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Restart, Self::Once, Self::Rerun, Self::Replace];

    /// The word used on every wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Restart => "restart",
            Self::Once => "once",
            Self::Rerun => "rerun",
            Self::Replace => "replace",
        }
    }

    /// Whether a start of an active task asks for one more run after it.
    #[must_use]
    pub const fn asks_for_more(self) -> bool {
        match self {
            Self::Rerun | Self::Replace => true,
            Self::Restart | Self::Once => false,
        }
    }

    /// Whether a finished task is started again.
    #[must_use]
    pub const fn restarts(self) -> bool {
        match self {
            Self::Restart | Self::Rerun | Self::Replace => true,
            Self::Once => false,
        }
    }
}

/// Where a won start goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// A slot is free on the node that asks: it runs there at once.
    Here,
    /// It waits for a node.
    Queue,
}

/// Whether the run's retry policy allows another attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Retries {
    /// At least one retry is left.
    Left,
    /// None is left.
    Spent,
}

/// What somebody wants of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Command {
    /// Begin a new run.
    Start(Policy, Place),
    /// Take a queued run over to this node.
    Claim,
    /// The work returned a value.
    Complete,
    /// The attempt failed, or stopped because it was asked to.
    Fail(Retries),
    /// The node that held the run died, or gave the run up when it shut down.
    NodeLost(Retries),
    /// Somebody wants it to stop.
    Cancel,
    /// Its time is over.
    TimeOut,
    /// Its node is shutting down, and the work has really stopped: another node goes on, where it may be tried again.
    Drain(Retries),
    /// The work did not stop within its grace and was dropped.
    Drop,
}

impl Command {
    /// All of them, for the printed table and for tests that walk it.
    pub const ALL: [Self; 19] = [
        Self::Start(Policy::Restart, Place::Here),
        Self::Start(Policy::Restart, Place::Queue),
        Self::Start(Policy::Once, Place::Here),
        Self::Start(Policy::Once, Place::Queue),
        Self::Start(Policy::Rerun, Place::Here),
        Self::Start(Policy::Rerun, Place::Queue),
        Self::Start(Policy::Replace, Place::Here),
        Self::Start(Policy::Replace, Place::Queue),
        Self::Claim,
        Self::Complete,
        Self::Fail(Retries::Left),
        Self::Fail(Retries::Spent),
        Self::NodeLost(Retries::Left),
        Self::NodeLost(Retries::Spent),
        Self::Cancel,
        Self::TimeOut,
        Self::Drain(Retries::Left),
        Self::Drain(Retries::Spent),
        Self::Drop,
    ];
}

/// What happens to the epoch with a move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EpochChange {
    /// It stays: nobody gains the task, or its holder let go by its own act.
    Keep,
    /// It rises by one: somebody claims the task, or its holder loses it other than by its own act.
    Rise,
}

/// What the system itself writes to the log with a move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Logged {
    /// Nothing.
    Nothing,
    /// A `retry` event: the run goes on with another attempt.
    Retry,
    /// A `timeout` event.
    Timeout,
    /// The one terminal event of the run: `complete`, `error` or `cancelled`.
    Terminal,
}

/// An allowed move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Move {
    /// The status after it.
    pub to: Status,
    /// What becomes of the epoch.
    pub epoch: EpochChange,
    /// What is logged in the same atomic step.
    pub logged: Logged,
}

/// Why a command does not apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// A run is active already; attach to it.
    AlreadyActive,
    /// It is finished, and the policy is `once`.
    AlreadyFinished,
    /// No run is active.
    NotActive,
    /// Nobody holds it: it waits in the queue.
    NotHeld,
    /// It does not wait in the queue.
    NotQueued,
    /// It was asked to stop already.
    AlreadyCancelling,
    /// Nobody asked it to stop, so it cannot be dropped for not stopping.
    NotCancelling,
}

impl Refusal {
    /// The reason in words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AlreadyActive => "already active",
            Self::AlreadyFinished => "already finished",
            Self::NotActive => "not active",
            Self::NotHeld => "not held",
            Self::NotQueued => "not queued",
            Self::AlreadyCancelling => "already cancelling",
            Self::NotCancelling => "not cancelling",
        }
    }
}

/// The table: what `command` does to a task in `state`.
///
/// # Errors
/// The [`Refusal`] that says why it does nothing.
///
/// ```
/// use soloist::state::{Command, EpochChange, Logged, Status, next};
/// let m = next(Status::Cancelling, Command::Complete).unwrap();
/// assert_eq!((m.to, m.logged), (Status::Completed, Logged::Terminal)); // work that finished counts
/// ```
pub const fn next(state: Status, command: Command) -> Result<Move, Refusal> {
    use Command as C;
    use EpochChange::{Keep, Rise};
    use Logged::{Nothing, Retry, Terminal, Timeout};
    use Status::{Cancelled, Cancelling, Completed, Failed, Pending, Queued, Running};

    match (state, command) {
        // A start.
        (
            Pending,
            C::Start(Policy::Restart | Policy::Once | Policy::Rerun | Policy::Replace, Place::Here),
        ) => go(Running, Rise, Nothing),
        (
            Pending,
            C::Start(Policy::Restart | Policy::Once | Policy::Rerun | Policy::Replace, Place::Queue),
        ) => go(Queued, Keep, Nothing),
        (
            Completed | Failed | Cancelled,
            C::Start(Policy::Restart | Policy::Rerun | Policy::Replace, Place::Here),
        ) => go(Running, Rise, Nothing),
        (
            Completed | Failed | Cancelled,
            C::Start(Policy::Restart | Policy::Rerun | Policy::Replace, Place::Queue),
        ) => go(Queued, Keep, Nothing),
        (Completed | Failed | Cancelled, C::Start(Policy::Once, Place::Here | Place::Queue)) => {
            Err(Refusal::AlreadyFinished)
        }
        (
            Queued | Running | Cancelling,
            C::Start(Policy::Restart | Policy::Once, Place::Here | Place::Queue),
        ) => Err(Refusal::AlreadyActive),
        // Nothing of the run changes; that one more is wanted is noted on the row.
        (
            Queued | Running | Cancelling,
            C::Start(Policy::Rerun | Policy::Replace, Place::Here | Place::Queue),
        ) => go(state, Keep, Nothing),

        // A node takes a queued run.
        (Queued, C::Claim) => go(Running, Rise, Nothing),
        (Pending | Running | Cancelling | Completed | Failed | Cancelled, C::Claim) => {
            Err(Refusal::NotQueued)
        }

        // The attempt ends by itself. Work that finished counts, even if a cancel was on its way.
        (Running | Cancelling, C::Complete) => go(Completed, Keep, Terminal),
        (Running, C::Fail(Retries::Left)) => go(Queued, Keep, Retry),
        (Running, C::Fail(Retries::Spent)) => go(Failed, Keep, Terminal),
        (Cancelling, C::Fail(Retries::Left | Retries::Spent)) => go(Cancelled, Keep, Terminal),
        (Queued, C::Complete | C::Fail(Retries::Left | Retries::Spent)) => Err(Refusal::NotHeld),
        (Pending | Completed | Failed | Cancelled, C::Complete | C::Fail(Retries::Left | Retries::Spent)) => {
            Err(Refusal::NotActive)
        }

        // Its node is gone.
        (Running, C::NodeLost(Retries::Left)) => go(Queued, Rise, Retry),
        (Running, C::NodeLost(Retries::Spent)) => go(Failed, Rise, Terminal),
        (Cancelling, C::NodeLost(Retries::Left | Retries::Spent)) => go(Cancelled, Rise, Terminal),
        (Queued, C::NodeLost(Retries::Left | Retries::Spent)) => Err(Refusal::NotHeld),
        (Pending | Completed | Failed | Cancelled, C::NodeLost(Retries::Left | Retries::Spent)) => {
            Err(Refusal::NotActive)
        }

        // A cancel, a timeout.
        (Pending | Queued, C::Cancel) => go(Cancelled, Keep, Terminal),
        (Running, C::Cancel) => go(Cancelling, Keep, Nothing),
        (Running, C::TimeOut) => go(Cancelling, Keep, Timeout),
        (Cancelling, C::Cancel | C::TimeOut) => Err(Refusal::AlreadyCancelling),
        (Queued, C::TimeOut) => Err(Refusal::NotHeld),
        (Completed | Failed | Cancelled, C::Cancel | C::TimeOut) | (Pending, C::TimeOut) => {
            Err(Refusal::NotActive)
        }

        // Its node lets go.
        (Running, C::Drain(Retries::Left)) => go(Queued, Rise, Retry),
        (Running, C::Drain(Retries::Spent)) => go(Failed, Rise, Terminal),
        (Cancelling, C::Drain(Retries::Left | Retries::Spent) | C::Drop) => go(Cancelled, Rise, Terminal),
        (Running, C::Drop) => Err(Refusal::NotCancelling),
        (Queued, C::Drain(Retries::Left | Retries::Spent) | C::Drop) => Err(Refusal::NotHeld),
        (Pending | Completed | Failed | Cancelled, C::Drain(Retries::Left | Retries::Spent) | C::Drop) => {
            Err(Refusal::NotActive)
        }
    }
}

const fn go(to: Status, epoch: EpochChange, logged: Logged) -> Result<Move, Refusal> {
    Ok(Move { to, epoch, logged })
}

/// The whole table as Markdown, a row a command and a column a status; made by the same [`next`] that decides.
#[must_use]
pub fn table() -> String {
    let mut out = String::from("| command |");
    for s in Status::ALL {
        out.push_str(&format!(" {s} |"));
    }
    out.push_str("\n| --- |");
    out.push_str(&" --- |".repeat(Status::ALL.len()));
    for command in Command::ALL {
        out.push_str(&format!("\n| `{command:?}` |"));
        for s in Status::ALL {
            let cell = match next(s, command) {
                Err(refusal) => format!("({})", refusal.as_str()),
                Ok(Move { to, epoch, logged }) => {
                    let epoch = match epoch {
                        EpochChange::Keep => "",
                        EpochChange::Rise => ", epoch + 1",
                    };
                    let logged = match logged {
                        Logged::Nothing => "",
                        Logged::Retry => ", logs `retry`",
                        Logged::Timeout => ", logs `timeout`",
                        Logged::Terminal => ", logs the ending",
                    };
                    format!("**{to}**{epoch}{logged}")
                }
            };
            out.push_str(&format!(" {cell} |"));
        }
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_back() {
        for s in Status::ALL {
            assert_eq!(Status::parse(s.as_str()), Some(s));
        }
        assert_eq!(Status::parse("Running"), None);
    }

    #[test]
    fn s7_every_move_into_a_finished_state_logs_the_ending_and_no_other_does() {
        for s in Status::ALL {
            for c in Command::ALL {
                if let Ok(m) = next(s, c) {
                    assert_eq!(m.to.is_finished(), m.logged == Logged::Terminal, "{s} {c:?}");
                }
            }
        }
    }

    #[test]
    fn s2_every_move_into_running_raises_the_epoch() {
        for s in Status::ALL {
            for c in Command::ALL {
                if let Ok(Move { to: Status::Running, epoch, .. }) = next(s, c)
                    && s != Status::Running
                {
                    assert_eq!(epoch, EpochChange::Rise, "{s} {c:?}");
                }
            }
        }
    }
}
