//! Exec: a command that does the work of an attempt.
//!
//! Decides: how an attempt runs from the spawn to its end, and what its exit means: exit code 0 is the command's final
//! value, anything else a [`Failure`] of the type `ExitCode` or `Signal` with the end of stderr as its traceback. It is
//! final where the options name the exit code as final, and where the input does not fit the command's arguments.
//!
//! - Its input is on stdin, unless it runs for this process itself (and in `SOLOIST_TASK_INPUT` where it is small). A command need not read it.
//!   Where the options say so, signals of its run follow it there; the module `feed` says how.
//! - Its output becomes events as it comes; the module `output` says which.
//! - It is asked to stop by SIGTERM to its process group, and ended by SIGKILL after a grace. A command that was asked
//!   counts as stopped however it exits, unless it exits with 0 and has sent a `result` event: then it has finished.
//! - What is left of its process tree when it exits is ended, whatever group or session it has moved to; what was
//!   written until then is still read. The module [`guard`](crate::guard) sees to it.
//! - A dropped attempt ends with its whole process tree, and so does one whose node is killed, or is stopped for longer
//!   than its lease.
//!
//! Never runs a shell unless the model says so, and never buffers output: a command that is faster than the store is
//! slowed down by its pipe.

mod argument;
mod feed;
mod lines;
mod options;
mod output;
mod spawn;

use std::{
    io::{self, ErrorKind},
    os::fd::AsFd,
    process::ExitStatus,
    time::Duration,
};

use async_trait::async_trait;
use soloist::{Context, Error, Failure, Json, Result, Runner, limits};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    net::unix::pipe,
};
use tokio_util::sync::CancellationToken;

use self::{
    lines::Lines,
    options::Checked,
    output::{Final, Tail},
    spawn::Spawned,
};
use crate::{
    OptionError,
    guard::{Attempt, Guard},
};

pub use self::options::{Caller, ExecOptions, Signals};

/// Runs a command for each attempt.
#[derive(Clone)]
pub struct ExecRunner {
    options: Checked,
    guard: Guard,
}

impl ExecRunner {
    /// Checks the options. The commands are the guard's.
    ///
    /// # Errors
    /// The first key that is not allowed, and why.
    pub fn new(options: ExecOptions, guard: &Guard) -> Result<Self, OptionError> {
        Ok(Self { options: options.check()?, guard: guard.clone() })
    }
}

impl std::fmt::Debug for ExecRunner {
    /// Only the program: arguments and variables may hold secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ExecRunner").field(&self.options.program).finish()
    }
}

#[async_trait]
impl Runner for ExecRunner {
    fn kind(&self) -> &'static str {
        "exec"
    }

    fn check(&self, input: &Json) -> Result<()> {
        spawn::arguments(&self.options, input)
            .map(drop)
            .map_err(|message| Error::invalid("invalid_input", message))
    }

    fn lease_renewed(&self, work_ends_at: Duration) {
        self.guard.lease_renewed(work_ends_at);
    }

    async fn run(&self, input: Json, context: Context) -> Result<Json, Failure> {
        let Spawned { mut attempt, stdin, stdout, stderr } =
            spawn::spawn(&self.options, &self.guard, &input, &context).await?;
        let exited = CancellationToken::new();
        let mut so_far = Final::default();
        let mut tail = Tail::default();

        let (status, (), (), ()) = tokio::try_join!(
            supervise(&mut attempt, &context, &exited),
            feed::feed(stdin, &input, self.options.signals, &context, &exited),
            read_stdout(stdout, &context, &exited, &mut so_far),
            read_stderr(stderr, &context, &exited, &mut tail),
        )?;
        match status {
            Exit::Stopped(status) if !(status.success() && so_far.is_named()) => {
                Err(Failure::new("Cancelled", "the command stopped as it was asked to"))
            }
            Exit::ByItself(status) | Exit::Stopped(status) if status.success() => Ok(so_far.value()),
            Exit::ByItself(status) | Exit::Stopped(status) => {
                Err(failure(status, tail, &self.options.final_exit_codes))
            }
        }
    }
}

/// How the command came to its end.
enum Exit {
    ByItself(ExitStatus),
    /// It was asked to stop before.
    Stopped(ExitStatus),
}

/// Waits for the command, and asks it to stop when the attempt is. Nothing of its tree is left then.
async fn supervise(
    attempt: &mut Attempt,
    context: &Context,
    exited: &CancellationToken,
) -> Result<Exit, Failure> {
    let by_itself = tokio::select! {
        biased;
        ended = attempt.exited() => Some(ended),
        () = context.cancelled() => None,
    };
    let exit = match by_itself {
        Some(ended) => ended.map(Exit::ByItself),
        None => attempt.stop(limits::EXEC_TERM_GRACE).await.map(Exit::Stopped),
    };
    exited.cancel();
    exit.map_err(|error| match error.kind() {
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset => guard_lost(),
        _ => Failure::new("ExitUnknown", format!("how the command exited is not known: {error}")),
    })
}

/// Why an attempt is over whose command nobody watches any more.
fn guard_lost() -> Failure {
    Failure::new(
        "GuardLost",
        "the process that watched over the command is gone, and the command was ended with it: it was killed, or the node was stopped or suspended for longer than its lease allows; start the task again",
    )
}

async fn read_stdout(
    mut pipe: pipe::Receiver,
    context: &Context,
    exited: &CancellationToken,
    so_far: &mut Final,
) -> Result<(), Failure> {
    let mut lines = Lines::default();
    let mut chunks = Chunks::new(exited);
    while let Some(mut chunk) = chunks.next(&mut pipe).await? {
        while let Some(line) = lines.next(&mut chunk) {
            output::send_stdout(line, context, so_far).await?;
        }
    }
    match lines.last() {
        Some(line) => output::send_stdout(line, context, so_far).await,
        None => Ok(()),
    }
}

async fn read_stderr(
    mut pipe: pipe::Receiver,
    context: &Context,
    exited: &CancellationToken,
    tail: &mut Tail,
) -> Result<(), Failure> {
    let mut lines = Lines::default();
    let mut chunks = Chunks::new(exited);
    while let Some(mut chunk) = chunks.next(&mut pipe).await? {
        tail.push(chunk);
        while let Some(line) = lines.next(&mut chunk) {
            output::send_stderr(line, context).await?;
        }
    }
    match lines.last() {
        Some(line) => output::send_stderr(line, context).await,
        None => Ok(()),
    }
}

/// What a pipe holds, until everybody has closed it; once the command has exited, only what it held then.
struct Chunks<'a> {
    buffer: Vec<u8>,
    exited: &'a CancellationToken,
    /// Bytes that were there when the command had exited and are still to be read.
    left: Option<usize>,
}

impl<'a> Chunks<'a> {
    fn new(exited: &'a CancellationToken) -> Self {
        Self { buffer: vec![0; limits::EXEC_READ_BYTES], exited, left: None }
    }

    async fn next(&mut self, pipe: &mut (impl AsyncRead + AsFd + Unpin)) -> io::Result<Option<&[u8]>> {
        if self.left.is_none() {
            tokio::select! {
                biased;
                () = self.exited.cancelled() => {
                    let held = rustix::io::ioctl_fionread(&*pipe)?;
                    self.left = Some(usize::try_from(held).unwrap_or(usize::MAX));
                }
                read = pipe.read(&mut self.buffer) => {
                    let bytes = read?;
                    return Ok((bytes > 0).then(|| &self.buffer[..bytes]));
                }
            }
        }
        let left = self.left.unwrap_or_default();
        let most = left.min(self.buffer.len());
        if most == 0 {
            return Ok(None);
        }
        let bytes = pipe.read(&mut self.buffer[..most]).await?;
        self.left = Some(left - bytes);
        Ok((bytes > 0).then(|| &self.buffer[..bytes]))
    }
}

/// Why an exit is a failure.
fn failure(status: ExitStatus, tail: Tail, final_codes: &[u8]) -> Failure {
    let failure = match status.code() {
        Some(code) if u8::try_from(code).is_ok_and(|code| final_codes.contains(&code)) => {
            Failure::new("ExitCode", format!("exit code {code}")).is_final()
        }
        Some(code) => Failure::new("ExitCode", format!("exit code {code}")),
        None => {
            let shown = status.to_string(); // such as "signal: 11 (SIGSEGV) (core dumped)"
            let signal = shown.trim_start_matches("signal: ").trim_end_matches(" (core dumped)");
            Failure::new("Signal", format!("killed by signal {signal}"))
        }
    };
    match tail.text() {
        Some(text) => failure.with_traceback(text),
        None => failure,
    }
}
