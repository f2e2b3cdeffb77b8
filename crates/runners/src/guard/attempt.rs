//! An attempt process: executes one command, and ends all that is below it.
//!
//! Decides: when the tree of one command is ended. It ends when the command has exited, when the node says so or is
//! gone, and when the guard is gone. A command that was asked to stop has stopped once nobody of its process group is
//! alive. The exit is reported after the tree is gone, so whoever knows of it knows that nothing acts any more. Never
//! reads what the command writes.

use std::{
    collections::HashSet,
    io::{self, Stdin, Stdout},
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::Command,
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    process::{
        Pid, Resource, Rlimit, Signal, WaitOptions, getpid, getrlimit, kill_process_group, setrlimit, wait,
    },
};
use soloist::limits;

use super::{
    message::{self, Answer, KILL, Request, TERM},
    sys::{self, Signals},
    tree::{self, Pace},
};

/// The life of an attempt process. Its stdin is the control socket, its stdout the lifeline that the guard holds.
pub(super) fn main() -> ! {
    let control = io::stdin();
    let ended = match begin(&control) {
        Ok(Some(attempt)) => attempt.watch(),
        Ok(None) => Ok(()),
        Err(error) => {
            Answer::refused(&error).send(control.as_fd());
            Ok(())
        }
    };
    // Anything but 0 has the guard look for what was left.
    std::process::exit(i32::from(ended.is_err()));
}

/// Executes the command that it is told; none where the node is gone.
fn begin(control: &Stdin) -> io::Result<Option<Running>> {
    let signals = sys::begin(c"exec-attempt")?;
    let Some((request, stdio)) = read_request(control)? else { return Ok(None) };
    if sys::is_closed(control.as_fd(), Duration::ZERO) {
        // It came late, and its node may have been replaced.
        return Ok(None);
    }
    let command = spawn(&request, stdio)?;
    Answer::Began(getpid()).send(control.as_fd());
    Ok(Some(Running { signals, command, status: None, is_asked: false }))
}

fn read_request(control: &Stdin) -> io::Result<Option<(Request, [OwnedFd; 3])>> {
    let mut length = [0; 4];
    let (bytes, stdio) = message::receive(control, &mut length)?;
    let Ok(stdio) = <[OwnedFd; 3]>::try_from(stdio) else { return Ok(None) };
    let mut request = vec![0; if bytes == length.len() { u32::from_le_bytes(length) as usize } else { 0 }];
    let mut read = 0;
    while read < request.len() {
        match rustix::io::read(control, &mut request[read..]) {
            Ok(0) => return Ok(None),
            Ok(bytes) => read += bytes,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Request::decode(&request).map(|request| (request, stdio)))
}

fn spawn(request: &Request, [stdin, stdout, stderr]: [OwnedFd; 3]) -> io::Result<Pid> {
    usual_descriptor_limit()?;
    let mut command = Command::new(&request.program);
    command.args(&request.arguments).env_clear();
    command.envs(request.env.iter().map(|(name, value)| (name, value)));
    command.stdin(stdin).stdout(stdout).stderr(stderr).process_group(0);
    if let Some(dir) = &request.dir {
        command.current_dir(dir);
    }
    sys::begin_as_child(&mut command);
    let pid = i32::try_from(command.spawn()?.id()).ok().and_then(Pid::from_raw);
    Ok(pid.expect("a child has a pid"))
}

/// A server raises its own limit for its viewers. A command gets the usual soft limit back (more of them breaks
/// programs that use `select`), and may raise it again itself.
fn usual_descriptor_limit() -> io::Result<()> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let usual = current.map_or(limits::EXEC_DESCRIPTORS, |now| now.min(limits::EXEC_DESCRIPTORS));
    Ok(setrlimit(Resource::Nofile, Rlimit { current: Some(usual), maximum })?)
}

/// A command and all that is below it.
struct Running {
    signals: Signals,
    /// The command, which leads a process group of this number. Until it is reaped the number is taken; only then is
    /// the group signalled.
    command: Pid,
    /// How it exited, once it is reaped.
    status: Option<i32>,
    is_asked: bool,
}

impl Running {
    fn watch(mut self) -> io::Result<()> {
        let (control, lifeline) = (io::stdin(), io::stdout());
        let has_listener = self.until_it_is_over(&control, &lifeline)?;
        let mut is_told = !has_listener;
        let mut pace = Pace::new();
        loop {
            let is_gone = self.end(&mut pace)?;
            if !is_told && let Some(status) = self.status {
                if !is_gone {
                    Answer::Remains.send(control.as_fd());
                }
                Answer::Exited(status).send(control.as_fd());
                is_told = true;
            }
            if is_gone {
                return Ok(());
            }
        }
    }

    /// Waits until the tree is to be ended. Whether the end is of interest to anybody: where the guard is gone, it is
    /// not the command's own.
    fn until_it_is_over(&mut self, control: &Stdin, lifeline: &Stdout) -> io::Result<bool> {
        loop {
            self.reap();
            let has_exited = self.status.is_some();
            if has_exited && !(self.is_asked && tree::has_living(getpid(), self.command)) {
                return Ok(true);
            }
            let again = has_exited.then_some(limits::EXEC_GROUP_POLL);
            let (told, is_cut) = self.signals.wait(control.as_fd(), Some(lifeline.as_fd()), again)?;
            if is_cut {
                return Ok(false);
            }
            if told && self.is_over_as_told(control)? {
                return Ok(true);
            }
        }
    }

    fn is_over_as_told(&mut self, control: &Stdin) -> io::Result<bool> {
        let mut told = [0; 16];
        let told = match rustix::io::read(control, &mut told) {
            Ok(bytes) => &told[..bytes],
            Err(Errno::INTR) => return Ok(false),
            // A node that was killed with answers unread.
            Err(Errno::CONNRESET) => return Ok(true),
            Err(error) => return Err(error.into()),
        };
        if told.contains(&TERM) {
            self.is_asked = true;
            self.signal_group(Signal::TERM);
        }
        Ok(told.is_empty() || told.contains(&KILL))
    }

    fn signal_group(&self, signal: Signal) {
        if self.status.is_none() {
            // It fails where all of the group are gone or have become another user's, which nothing here can change.
            let _ = kill_process_group(self.command, signal);
        }
    }

    /// Sends SIGKILL to all that is below, until nothing is, or that has taken too long. Whether nothing is.
    fn end(&mut self, pace: &mut Pace) -> io::Result<bool> {
        let until = Instant::now() + limits::EXEC_KILL_WAIT;
        // The group at once first, where that is possible: none of it can start another between two looks.
        self.signal_group(Signal::KILL);
        while self.reap() == Below::Some {
            tree::kill_below(getpid(), &HashSet::new());
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            self.signals.wait_alone(pace.next().min(left))?;
        }
        Ok(true)
    }

    /// Reaps those who have exited. Also what the command has left, if it has ended since.
    fn reap(&mut self) -> Below {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid == self.command => self.status = Some(status.as_raw()),
                Ok(Some(_)) | Err(Errno::INTR) => {}
                Ok(None) => return Below::Some,
                Err(_) => return Below::None,
            }
        }
    }
}

/// Whether there is any process below.
#[derive(PartialEq, Eq)]
enum Below {
    Some,
    None,
}
