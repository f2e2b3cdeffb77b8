//! Spawn: what a command is given when it begins.
//!
//! Decides: its arguments, its environment, its descriptors and its process group. The environment is clean: nothing
//! of the server's own (its keys, its tokens) reaches a command unless the model names it. Never hands over
//! a descriptor but stdin, stdout and stderr.

use std::{io, path::Path, process::Stdio};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use soloist::{Context, Failure, Json, limits};
use tokio::process::Command;

use super::{group::Group, options::Checked};

/// Variables of the server that every command gets, where they are set.
const PASSED: [&str; 4] = ["PATH", "HOME", "LANG", "TZ"];

/// The arguments for an input, or what does not fit.
pub(super) fn arguments(options: &Checked, input: &Json) -> Result<Vec<String>, String> {
    options.arguments.iter().map(|argument| argument.fill(input, options.dash)).collect()
}

/// Begins the command for one attempt.
pub(super) fn spawn(options: &Checked, input: &Json, context: &Context) -> Result<Group, Failure> {
    let arguments = arguments(options, input).map_err(|message| Failure::new("InvalidInput", message))?;
    let mut command = Command::new(&options.program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.process_group(0);
    environment(&mut command, options, input, context);
    if let Some(dir) = &options.dir {
        command.current_dir(dir);
    }
    keep_descriptors(&mut command);
    match command.spawn() {
        Ok(leader) => Ok(Group::led_by(leader)),
        Err(error) => Err(Failure::new("SpawnFailed", reason(options, &error))),
    }
}

fn environment(command: &mut Command, options: &Checked, input: &Json, context: &Context) {
    command.env_clear().env("PYTHONUNBUFFERED", "1");
    let passed = PASSED.into_iter().chain(options.pass_env.iter().map(String::as_str));
    command.envs(passed.filter_map(|name| Some((name, std::env::var_os(name)?))));
    command.envs(&options.env);

    let key = context.key();
    command
        .env("SOLOIST_TASK_APP", key.app())
        .env("SOLOIST_TASK_MODEL", key.model())
        .env("SOLOIST_TASK_ID", key.id())
        .env("SOLOIST_TASK_RUN", context.run().to_string())
        .env("SOLOIST_TASK_ATTEMPT", context.attempt().to_string())
        .env("SOLOIST_TASK_EPOCH", context.epoch().to_string());
    if input.as_str().len() <= limits::EXEC_ENV_INPUT_MAX_BYTES {
        command.env("SOLOIST_TASK_INPUT", input.as_str());
    }
}

/// Has every descriptor but 0 to 2 closed when the command begins, also those that this process was itself started
/// with and that nobody marked.
fn keep_descriptors(command: &mut Command) {
    // SAFETY: the closure runs between fork and exec and makes nothing but system calls: it takes no lock, allocates
    // nothing and touches no memory of the parent.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(close_others_on_exec);
        command.pre_exec(usual_descriptor_limit);
    }
}

/// A server raises its own limit for its viewers. A command gets the usual soft limit back (more of them breaks
/// programs that use `select`), and may raise it again itself.
fn usual_descriptor_limit() -> io::Result<()> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let usual = current.map_or(limits::EXEC_DESCRIPTORS, |now| now.min(limits::EXEC_DESCRIPTORS));
    Ok(setrlimit(Resource::Nofile, Rlimit { current: Some(usual), maximum })?)
}

#[allow(unsafe_code)]
fn close_others_on_exec() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: a system call that takes numbers. Descriptors are only marked: the one by which this child tells
        // its parent that the exec has failed is still needed.
        let marked = unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
        if marked == 0 {
            return Ok(());
        }
    }
    // An older kernel: one by one. `fcntl` on a number that is no descriptor does nothing.
    // SAFETY: two system calls; `limit` is a plain structure that the first one fills.
    unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) != 0 {
            return Err(io::Error::last_os_error());
        }
        let end = i32::try_from(limit.rlim_cur).unwrap_or(i32::MAX);
        for descriptor in 3..end {
            libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC);
        }
    }
    Ok(())
}

/// Why a command could not begin, and what to do about it.
fn reason(options: &Checked, error: &io::Error) -> String {
    let program = &options.program;
    if let Some(dir) = options.dir.as_deref().filter(|dir| !dir.is_dir()) {
        return format!(
            "cannot run {program:?} in {dir:?}: that is no directory; create it, or change dir of the model"
        );
    }
    let why = match error.kind() {
        io::ErrorKind::NotFound if !program.contains('/') => {
            "it was not found in the PATH of the server; install it, or name it by its full path in the model's command"
        }
        io::ErrorKind::NotFound if Path::new(program).exists() => {
            "the interpreter that its first line names was not found; install it, or correct that line"
        }
        io::ErrorKind::NotFound => "there is no such file; correct the model's command",
        io::ErrorKind::PermissionDenied => {
            "it is not allowed; make the file executable for the server's user"
        }
        io::ErrorKind::ArgumentListTooLong => {
            "its arguments and environment are too large for the system; let it read the input from its stdin"
        }
        _ => return format!("cannot run {program:?}: {error}"),
    };
    format!("cannot run {program:?}: {why}")
}
