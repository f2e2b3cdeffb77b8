//! The node's handle on its guard process.
//!
//! Decides: when a guard process is started: once at the beginning, and again for the next attempt after one was lost.
//! An attempt whose guard is lost is never begun a second time here: its command may have acted. Never waits without
//! a deadline: a guard that hangs fails attempts and holds up nothing else. Where several coordinators share a guard,
//! commands may run until the latest of the moments that these have named.

use std::{
    io::{self, Read},
    net::Shutdown,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{net::UnixStream, process::CommandExt},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::Duration,
};

use rustix::{
    io::Errno,
    process::{Pid, WaitOptions, waitpid},
};
use soloist::limits;
use tokio::time::{sleep, timeout};

use super::{
    ASKED, Attempt, GUARD, Request,
    message::{self, HERE},
    sys,
};

/// The guard of a node: the process that owns all commands, so that none outlives the node.
///
/// Cheap to clone; one for each process is enough. When the last clone is dropped (and when the process ends in any
/// way), all commands are ended. A guard process that is killed is replaced with the next attempt; see [the
/// module](super) for what ends what.
///
/// A process that forks itself into the background does so before it starts a guard.
#[derive(Debug, Clone)]
pub struct Guard {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    program: PathBuf,
    /// Held for moments only, because tasks of a runtime wait for it.
    process: Mutex<Process>,
    /// Held while another process is started, so that there are not two.
    replacing: Mutex<()>,
}

/// Why an attempt has not begun.
pub(crate) enum NotBegun {
    /// The command could not be executed.
    Refused(io::Error),
    /// There was no answer in time.
    Silent,
    /// The guard process, or the attempt process, ended on the way.
    Lost,
    /// Something else that an attempt needs could not be had.
    Failed(io::Error),
}

impl Guard {
    /// Starts the guard process, which is this very program executed anew. Best called before the program has threads
    /// and large memory.
    ///
    /// # Errors
    /// The program has not called [`enter_if_asked`](super::enter_if_asked), or cannot be executed.
    pub fn start() -> io::Result<Self> {
        if !ASKED.load(Ordering::Relaxed) {
            // Executed anew, it would do its own work instead, and start another, and so on.
            return Err(io::Error::other(
                "this program cannot be a guard process; call soloist_runners::guard::enter_if_asked() first in main",
            ));
        }
        Self::start_from("/proc/self/exe")
    }

    /// Starts the guard process from another program that calls [`enter_if_asked`](super::enter_if_asked) first in its
    /// `main`, such as this crate's `exec-guard`. For programs whose `main` is not their own, such as tests.
    ///
    /// # Errors
    /// The program cannot be executed, or is none of that kind.
    pub fn start_from(program: impl AsRef<Path>) -> io::Result<Self> {
        let program = program.as_ref().to_owned();
        let process = Mutex::new(Process::start(&program)?);
        Ok(Self { inner: Arc::new(Inner { program, process, replacing: Mutex::new(()) }) })
    }

    /// The pid of the guard process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.inner.process().child.id()
    }

    /// Commands may run until that moment of the boot clock, or a later one that is named until then; then the guard
    /// process ends them, and itself. Until the first call they may run for ever.
    pub(crate) fn lease_renewed(&self, until: Duration) {
        let mut process = self.inner.process();
        if process.until.is_none_or(|before| before < until) {
            process.may_run_until(until);
        }
    }

    /// Begins an attempt with these ends of the command's stdin, stdout and stderr.
    pub(crate) async fn begin(&self, request: &Request, stdio: [OwnedFd; 3]) -> Result<Attempt, NotBegun> {
        let (ours, theirs) = UnixStream::pair().map_err(NotBegun::Failed)?;
        let mut attempt = Attempt::on(ours).map_err(NotBegun::Failed)?;
        let begun = timeout(limits::EXEC_ANSWER_WAIT, async {
            self.hand_over(theirs).await.map_err(NotBegun::Failed)?;
            attempt.begin(request, stdio).await
        });
        match begun.await {
            Ok(begun) => begun.map(|()| attempt),
            Err(_) => {
                attempt.give_up();
                Err(NotBegun::Silent)
            }
        }
    }

    async fn hand_over(&self, control: UnixStream) -> io::Result<()> {
        loop {
            let handed = message::send(&self.inner.process().socket, &[HERE], &[control.as_fd()]);
            let Err(error) = handed else { return Ok(()) };
            match Errno::from_io_error(&error) {
                // More attempts begin at once than the guard has come to.
                Some(Errno::AGAIN | Errno::TOOMANYREFS) => sleep(limits::EXEC_GROUP_POLL).await,
                Some(Errno::PIPE | Errno::CONNRESET) => self.replace().await?,
                _ => return Err(error),
            }
        }
    }

    /// Starts another guard process where the last one is lost.
    async fn replace(&self) -> io::Result<()> {
        let inner = self.inner.clone();
        let replaced = tokio::task::spawn_blocking(move || {
            let _turn = inner.replacing.lock().unwrap_or_else(PoisonError::into_inner);
            if inner.process().is_lost() {
                tracing::warn!("the guard process was killed, or ended with a lease; another one is started");
                let mut next = Process::start(&inner.program)?;
                let mut process = inner.process();
                // Where that is over, whoever asked for this one has no right to it any more.
                if let Some(until) = process.until {
                    next.may_run_until(until);
                }
                *process = next;
            }
            Ok(())
        });
        replaced.await.map_err(io::Error::other)?
    }
}

impl Inner {
    fn process(&self) -> MutexGuard<'_, Process> {
        // A start that panics leaves the old one in its place.
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Process {
    child: Child,
    /// Its end is the end of all that the guard process has started.
    socket: UnixStream,
    /// The last moment that it was told.
    until: Option<Duration>,
}

impl Process {
    fn start(program: &Path) -> io::Result<Self> {
        let (socket, theirs) = UnixStream::pair()?;
        let child = Command::new(program)
            .arg0(GUARD)
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            // What a terminal sends to the node's group is the node's to decide on.
            .process_group(0)
            .spawn()
            .map_err(|error| not_up(program, &error))?;
        let process = Self { child, socket, until: None };
        process.socket.set_read_timeout(Some(limits::EXEC_ANSWER_WAIT))?;
        let mut here = [0];
        match (&process.socket).read_exact(&mut here) {
            Ok(()) if here == [HERE] => {}
            Ok(()) => return Err(not_up(program, &"it is another program")),
            Err(error) => return Err(not_up(program, &error)),
        }
        process.socket.set_nonblocking(true)?;
        Ok(process)
    }

    /// A process that is gone runs nothing, and one that takes nothing up (somebody has stopped it) is told the next
    /// time.
    fn may_run_until(&mut self, until: Duration) {
        self.until = Some(until);
        let _ = message::send(&self.socket, &message::lease(until), &[]);
    }

    fn is_lost(&self) -> bool {
        sys::is_closed(self.socket.as_fd(), Duration::ZERO)
    }
}

fn not_up(program: &Path, why: &dyn std::fmt::Display) -> io::Error {
    let program = program.display();
    io::Error::other(format!(
        "the guard process ({program}) did not come up: {why}; its main must begin with enter_if_asked()"
    ))
}

impl Drop for Process {
    /// Has it end all that it has started, which it does by itself.
    fn drop(&mut self) {
        let _ = self.socket.shutdown(Shutdown::Both);
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        // Reaped beside everything else, and by init where there is no thread to be had.
        let _ = std::thread::Builder::new().spawn(move || waitpid(pid, WaitOptions::empty()));
    }
}
