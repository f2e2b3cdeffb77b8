//! Guard: nothing that a command has started outlives its attempt, nor the process that runs it.
//!
//! Decides: who owns the processes of commands, and what ends them, whoever dies and in whichever order.
//!
//! ```text
//!  node ─────────────── socket ──────────────► guard process            one for each node
//!   │                                            │ starts, and holds the lifeline of
//!   └── control socket, one for each attempt ──► attempt process        one for each attempt
//!                                                │ starts, and ends all of
//!                                                command ── whatever it starts, `setsid` and double forks included
//! ```
//!
//! The guard process and the attempt processes are the node's own program, executed anew with another name
//! ([`enter_if_asked`]). Both are *child subreapers*: a process below them whose parent ends becomes their child, not
//! one of init, so nothing gets away from them by losing its parent, its group or its session. Both have one thread.
//!
//! | who ends | who notices | what happens |
//! | --- | --- | --- |
//! | the command | its attempt process | ends the rest of the tree, then reports the exit |
//! | the attempt (it was dropped) | its attempt process, by the control socket | ends the tree at once |
//! | the node | the guard and every attempt process, by their sockets | each ends all that is below it |
//! | the lease (the node is stopped, or its host was suspended) | the guard, by the boot clock | it ends all, and itself; the attempts fail as `GuardLost`, if the node still may say so |
//! | the guard process | every attempt process, by the lifeline | each ends its tree; the attempts fail as `GuardLost`, and the next one gets a new guard |
//! | an attempt process | the guard, whose children the orphans become; the node, by the control socket | the guard ends them; the attempt fails as `GuardLost` |
//! | guard and node, attempt process and node | those that are left | as above |
//!
//! What is ended gets SIGKILL, which also ends what is stopped or ignores other signals, until no child is left. The
//! guard and the attempt processes hold off SIGTERM, SIGINT, SIGHUP and SIGQUIT, which terminals and init systems send
//! to everybody: when to stop is the node's decision. Their names do not hold the program's, so that a `pkill` of the
//! program leaves them to do their work.
//!
//! Beyond reach: work that a command hands to a service outside of its tree (`systemd-run`, `docker run`, `at`); and,
//! where somebody kills the guard and an attempt process in the same instant, what is below the command (the command
//! itself ends with its parent). The node does not adopt that as well: it may be a program with children of its own,
//! and would be given orphans of theirs that nobody waits for.
//!
//! Never reads what a command writes, and never decides what an exit means.

#[cfg(not(target_os = "linux"))]
compile_error!("exec work needs child subreapers and pidfds, which only Linux has");

#[forbid(unsafe_code)]
mod attempt;
#[forbid(unsafe_code)]
mod control;
#[forbid(unsafe_code)]
mod handle;
#[forbid(unsafe_code)]
mod message;
#[forbid(unsafe_code)]
mod process;
mod sys;
#[forbid(unsafe_code)]
mod tree;

use std::sync::atomic::{AtomicBool, Ordering};

pub use self::handle::Guard;
pub(crate) use self::{control::Attempt, handle::NotBegun, message::Request};

/// What the guard process is called by, in place of the program's name.
const GUARD: &str = "exec-guard";
/// What an attempt process is called by.
const ATTEMPT: &str = "exec-attempt";

/// Whether this program has been asked what it is, so that it can be executed as something else.
static ASKED: AtomicBool = AtomicBool::new(false);

/// Turns this process into a guard or an attempt process where it was started as one, and does not come back then.
///
/// A program that runs commands calls it first thing in `main`, before it reads its arguments and before it has any
/// thread, because [`Guard::start`] executes the program anew:
///
/// ```no_run
/// use soloist_runners::{exec::{ExecOptions, ExecRunner}, guard::{self, Guard}};
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     guard::enter_if_asked();
///     let guard = Guard::start()?;
///     let options = ExecOptions { command: vec!["true".into()], ..ExecOptions::default() };
///     let runner = ExecRunner::new(options, &guard)?;
///     // ... a tokio runtime, a coordinator with this runner
/// #   drop(runner);
///     Ok(())
/// }
/// ```
pub fn enter_if_asked() {
    let mut arguments = std::env::args_os();
    match (arguments.next(), arguments.next()) {
        (Some(name), None) if name == GUARD => process::main(),
        (Some(name), None) if name == ATTEMPT => attempt::main(),
        _ => ASKED.store(true, Ordering::Relaxed),
    }
}
