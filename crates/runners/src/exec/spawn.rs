//! Spawn: what a command is given when it begins.
//!
//! Decides: its arguments, its environment and its pipes. The environment is clean: nothing of the server's own (its
//! keys, its tokens) reaches a command unless the model names it. Never executes anything: that is the guard's.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, IsTerminal},
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use soloist::{Context, Failure, Json, limits};
use tokio::net::unix::pipe;

use super::options::{Caller, Checked};
use crate::guard::{Attempt, Guard, NotBegun, Request};

/// Variables of the server that every command gets, where they are set.
const PASSED: [&str; 4] = ["PATH", "HOME", "LANG", "TZ"];

/// The arguments for an input, or what does not fit.
pub(super) fn arguments(options: &Checked, input: &Json) -> Result<Vec<String>, String> {
    options.arguments.iter().map(|argument| argument.fill(input, options.dash)).collect()
}

/// A command that has begun, and this end of its pipes.
pub(super) struct Spawned {
    pub(super) attempt: Attempt,
    /// None where the command reads this process's own.
    pub(super) stdin: Option<pipe::Sender>,
    pub(super) stdout: pipe::Receiver,
    pub(super) stderr: pipe::Receiver,
}

/// Begins the command for one attempt.
pub(super) async fn spawn(
    options: &Checked,
    guard: &Guard,
    input: &Json,
    context: &Context,
) -> Result<Spawned, Failure> {
    // The input and the template are the same at every attempt.
    let arguments =
        arguments(options, input).map_err(|message| Failure::new("InvalidInput", message).is_final())?;
    let request = Request {
        program: options.program.clone().into(),
        arguments: arguments.into_iter().map(OsString::from).collect(),
        env: environment(options, input, context),
        dir: options.dir.as_ref().map(|dir| dir.clone().into_os_string()),
    };
    let begun = async {
        let (stdin, stdin_of_command) = match options.caller {
            Caller::Server => to_command().map(|(ours, theirs)| (Some(ours), theirs)),
            Caller::Itself => own_stdin().map(|theirs| (None, theirs)),
        }
        .map_err(NotBegun::Failed)?;
        let (stdout, stdout_of_command) = from_command().map_err(NotBegun::Failed)?;
        let (stderr, stderr_of_command) = from_command().map_err(NotBegun::Failed)?;
        let theirs = [stdin_of_command, stdout_of_command, stderr_of_command];
        let attempt = guard.begin(&request, theirs).await?;
        Ok(Spawned { attempt, stdin, stdout, stderr })
    };
    begun.await.map_err(|error| not_begun(options, guard, &error))
}

fn to_command() -> io::Result<(pipe::Sender, OwnedFd)> {
    let (theirs, ours) = io::pipe()?;
    Ok((pipe::Sender::from_owned_fd(ours.into())?, theirs.into()))
}

fn own_stdin() -> io::Result<OwnedFd> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        return Ok(File::open("/dev/null")?.into());
    }
    stdin.as_fd().try_clone_to_owned()
}

fn from_command() -> io::Result<(pipe::Receiver, OwnedFd)> {
    let (ours, theirs) = io::pipe()?;
    Ok((pipe::Receiver::from_owned_fd(ours.into())?, theirs.into()))
}

fn environment(options: &Checked, input: &Json, context: &Context) -> Vec<(OsString, OsString)> {
    let mut env = vec![("PYTHONUNBUFFERED".into(), "1".into())];
    if options.caller == Caller::Itself {
        env.extend(std::env::vars_os());
    }
    let passed = PASSED.into_iter().chain(options.pass_env.iter().map(String::as_str));
    env.extend(passed.filter_map(|name| Some((name.into(), std::env::var_os(name)?))));
    // Of two with one name the later one counts.
    env.extend(options.env.iter().map(|(name, value)| (name.into(), value.into())));

    let key = context.key();
    let mut set = |name: &str, value: &str| env.push((name.into(), value.into()));
    set("SOLOIST_TASK_APP", key.app());
    set("SOLOIST_TASK_MODEL", key.model());
    set("SOLOIST_TASK_ID", key.id());
    set("SOLOIST_TASK_RUN", &context.run().to_string());
    set("SOLOIST_TASK_ATTEMPT", &context.attempt().to_string());
    set("SOLOIST_TASK_EPOCH", &context.epoch().to_string());
    if input.as_str().len() <= limits::EXEC_ENV_INPUT_MAX_BYTES {
        set("SOLOIST_TASK_INPUT", input.as_str());
    }
    env
}

/// Why there is no attempt, and what to do about it.
fn not_begun(options: &Checked, guard: &Guard, error: &NotBegun) -> Failure {
    let program = &options.program;
    match error {
        NotBegun::Refused(error) => Failure::new("SpawnFailed", reason(options, error)),
        NotBegun::Silent => Failure::new(
            "SpawnFailed",
            format!(
                "cannot run {program:?}: the guard process (pid {}) has not answered for {} s; resume it if somebody \
                 has stopped it, or kill it, and the next start gets a new one",
                guard.pid(),
                limits::EXEC_ANSWER_WAIT.as_secs()
            ),
        ),
        NotBegun::Lost => super::guard_lost(),
        NotBegun::Failed(error) => Failure::new("SpawnFailed", format!("cannot run {program:?}: {error}")),
    }
}

/// Why a command could not be executed.
fn reason(options: &Checked, error: &io::Error) -> String {
    let program = &options.program;
    if let Some(dir) = options.dir.as_deref().filter(|dir| !dir.is_dir()) {
        return format!(
            "cannot run {program:?} in {dir:?}: that is no directory; create it, or change dir of the model"
        );
    }
    let why = match error.kind() {
        io::ErrorKind::NotFound if !program.contains('/') => {
            "it was not found in the PATH; install it, or name it by its full path"
        }
        io::ErrorKind::NotFound if Path::new(program).exists() => {
            "the interpreter that its first line names was not found; install it, or correct that line"
        }
        io::ErrorKind::NotFound => "there is no such file; correct the command",
        io::ErrorKind::PermissionDenied => {
            "it is not allowed; make the file executable for the user that runs it"
        }
        io::ErrorKind::ArgumentListTooLong => {
            "its arguments and environment are too large for the system; let it read the input from its stdin"
        }
        _ => return format!("cannot run {program:?}: {error}"),
    };
    format!("cannot run {program:?}: {why}")
}
