//! The node's end of one attempt.
//!
//! Decides: how the node asks for an end and for how long it waits. An attempt that is dropped is over: its tree is
//! ended before the drop returns, as long as the attempt process answers. Never decides what an exit means.

use std::{
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::ExitStatusExt,
    },
    process::ExitStatus,
    time::Duration,
};

use rustix::{
    net::SendFlags,
    process::{Pid, Signal, kill_process},
};
use soloist::limits;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    time::timeout,
};

use super::{
    NotBegun, Request,
    message::{self, Answer, KILL, TERM},
    sys,
};

/// A command that runs, and all that it has started.
#[derive(Debug)]
pub(crate) struct Attempt {
    control: UnixStream,
    /// Bytes of an answer that has not fully come.
    read: Vec<u8>,
    /// The attempt process. Nobody else has its number as long as the socket is open at its other end.
    process: Option<Pid>,
    is_over: bool,
}

impl Attempt {
    pub(super) fn on(control: std::os::unix::net::UnixStream) -> io::Result<Self> {
        control.set_nonblocking(true)?;
        let control = UnixStream::from_std(control)?;
        Ok(Self { control, read: Vec::new(), process: None, is_over: false })
    }

    /// Sends the request and waits until the command has begun.
    pub(super) async fn begin(&mut self, request: &Request, stdio: [OwnedFd; 3]) -> Result<(), NotBegun> {
        let request = request.encode();
        let head = message::length(request.len());
        message::send(&self.control, &head, &stdio.each_ref().map(AsFd::as_fd)).map_err(NotBegun::Failed)?;
        drop(stdio);
        // Where it cannot be written to its end, an answer says why.
        let _ = self.control.write_all(&request).await;
        match self.answer().await {
            Ok(Answer::Began(process)) => {
                self.process = Some(process);
                Ok(())
            }
            Ok(Answer::Refused(errno)) => {
                self.is_over = true;
                Err(NotBegun::Refused(io::Error::from_raw_os_error(errno)))
            }
            Ok(_) | Err(_) => Err(NotBegun::Lost),
        }
    }

    /// Waits until the command has exited and all that it has started is gone. Safe to drop and to call again.
    ///
    /// # Errors
    /// The attempt process ended without telling: it was killed, or its guard was.
    pub(crate) async fn exited(&mut self) -> io::Result<ExitStatus> {
        loop {
            match self.answer().await? {
                Answer::Exited(status) => {
                    self.is_over = true;
                    return Ok(ExitStatus::from_raw(status));
                }
                Answer::Remains => {
                    tracing::warn!(guard.attempt = ?self.process, "processes of a command outlive SIGKILL");
                }
                Answer::Began(_) | Answer::Refused(_) => {}
            }
        }
    }

    /// Asks the command's process group to stop; ends all that is left after `grace`.
    pub(crate) async fn stop(&mut self, grace: Duration) -> io::Result<ExitStatus> {
        self.say(TERM);
        if let Ok(exited) = timeout(grace, self.exited()).await {
            return exited;
        }
        self.say(KILL);
        match timeout(limits::EXEC_ANSWER_WAIT, self.exited()).await {
            Ok(exited) => exited,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Lets go of an attempt that nobody answers for: whoever comes to it later finds nobody who wants it.
    pub(super) fn give_up(&mut self) {
        self.is_over = true;
    }

    async fn answer(&mut self) -> io::Result<Answer> {
        loop {
            if let Some((answer, rest)) = self.read.split_first_chunk::<{ Answer::BYTES }>() {
                let answer = Answer::decode(*answer);
                self.read = rest.to_vec();
                return answer.ok_or_else(|| io::ErrorKind::InvalidData.into());
            }
            if self.control.read_buf(&mut self.read).await? == 0 {
                self.is_over = true;
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    fn say(&self, what: u8) {
        // Only a few bytes ever go this way, so there is room. An attempt process that is gone has nothing to end.
        let _ = rustix::net::send(&self.control, &[what], SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
    }
}

impl Drop for Attempt {
    /// Waits, because whatever is put on record next must be true: that this attempt acts no more. That takes a few
    /// milliseconds.
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        self.say(KILL);
        if !sys::is_closed(self.control.as_fd(), limits::EXEC_KILL_WAIT)
            && let Some(process) = self.process
        {
            // It hangs (somebody has stopped it). The guard ends what it leaves.
            let _ = kill_process(process, Signal::KILL);
        }
    }
}
