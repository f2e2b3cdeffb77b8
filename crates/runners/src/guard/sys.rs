//! What a guard or attempt process asks of the system.
//!
//! Decides: the state in which such a process begins (its name, its descriptors, its signals), and how it waits.
//! Never decides about another process.
//!
//! # Unsafe code
//!
//! This is the one module of the project that has any; everywhere else it is forbidden. There are five uses of it,
//! for what neither the standard library nor rustix has a safe form of: closing descriptors that nobody owns (one call
//! for all, or one by one), the set of blocked signals and the descriptor that tells of them, the same set given back, and
//! code between fork and exec. No pointer outlives the call that it is given to, and no memory is shared.
//!
//! `scripts/sanitize` runs the tests of this package under AddressSanitizer. There is nothing here for a checker of
//! interleavings such as loom: a guard and an attempt process have one thread each, share no memory with anybody, and speak
//! to the node over sockets; and nothing here is an atomic.

use std::{
    ffi::CStr,
    io,
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::Command,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec},
    io::Errno,
    process::{Signal, getpid, getppid, set_child_subreaper, set_parent_process_death_signal},
    time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime},
};

/// What this process is told of by [`Signals`] and not by dying: the end of a child, and what terminals and init
/// systems send to everybody.
const HELD: [i32; 5] = [libc::SIGCHLD, libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT];

/// Makes this process what the module says: nothing inherited, a subreaper, no end but SIGKILL and its own.
pub(super) fn begin(name: &CStr) -> io::Result<Signals> {
    close_all_but_the_first_three();
    rustix::thread::set_name(name)?;
    set_child_subreaper(Some(getpid()))?;
    Signals::hold()
}

/// Closes what the program's own starter, or a node that marks nothing, has left open. It would hold files, locks and
/// pipes of others open for as long as this process lives.
#[allow(unsafe_code)]
fn close_all_but_the_first_three() {
    // SAFETY: this process has one thread and has opened nothing so far: no value owns a descriptor from 3 on.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) };
    if closed == 0 {
        return;
    }
    // A kernel before 5.9: one by one. A number that is no descriptor does no harm.
    let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    for descriptor in 3..i32::try_from(most).unwrap_or(i32::MAX) {
        // SAFETY: as above.
        unsafe { libc::close(descriptor) };
    }
}

/// The signals that came, as a descriptor to wait on.
pub(super) struct Signals(OwnedFd);

impl Signals {
    #[allow(unsafe_code)]
    fn hold() -> io::Result<Self> {
        // SAFETY: plain system calls on a set that `sigemptyset` has filled; the descriptor is new and owned by nobody
        // else. A SIGCHLD that is ignored (that is inherited) would have the system throw exit codes away.
        unsafe {
            let mut set = MaybeUninit::uninit();
            libc::sigemptyset(set.as_mut_ptr());
            let mut set: libc::sigset_t = set.assume_init();
            for signal in HELD {
                libc::sigaddset(&raw mut set, signal);
            }
            libc::signal(libc::SIGCHLD, libc::SIG_DFL);
            let blocked = libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
            let descriptor = libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
            if blocked != 0 || descriptor < 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(Self(OwnedFd::from_raw_fd(descriptor)))
        }
    }

    /// Takes those that came. Which they are does not matter: the looks that follow are the truth.
    fn take(&self) {
        let mut some = [0; 1024];
        while rustix::io::read(&self.0, &mut some).is_ok_and(|bytes| bytes == some.len()) {}
    }

    /// Waits for a signal, for one of two descriptors to have something or to have been closed at its other end, or for
    /// the time to be over. Says which descriptors do.
    pub(super) fn wait(
        &self,
        one: BorrowedFd<'_>,
        other: Option<BorrowedFd<'_>>,
        at_most: Option<Duration>,
    ) -> io::Result<(bool, bool)> {
        let mut fds = vec![PollFd::from_borrowed_fd(self.0.as_fd(), PollFlags::IN)];
        fds.extend(
            [Some(one), other].into_iter().flatten().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)),
        );
        poll(&mut fds, at_most)?;
        self.take();
        let is_ready = |at: usize| fds.get(at).is_some_and(|fd| !fd.revents().is_empty());
        Ok((is_ready(1), is_ready(2)))
    }

    /// Waits for a signal or for the time to be over.
    pub(super) fn wait_alone(&self, at_most: Duration) -> io::Result<()> {
        poll(&mut [PollFd::from_borrowed_fd(self.0.as_fd(), PollFlags::IN)], Some(at_most))?;
        self.take();
        Ok(())
    }
}

/// A moment of the boot clock to wait for, also through a suspension of the host.
pub(super) struct Alarm(OwnedFd);

impl Alarm {
    /// One that is not set.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?))
    }

    /// Sets it, in place of what it was set to.
    pub(super) fn set(&self, at: Duration) -> io::Result<()> {
        let it_value = Timespec::try_from(at).map_err(io::Error::other)?;
        let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
        timerfd_settime(&self.0, TimerfdTimerFlags::ABSTIME, &Itimerspec { it_interval, it_value })?;
        Ok(())
    }
}

impl AsFd for Alarm {
    /// Can be read from once the moment is there.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Whether whoever held the other end of a socket or pipe has closed it, waiting for that at the most as long.
pub(super) fn is_closed(socket: BorrowedFd<'_>, at_most: Duration) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(socket, PollFlags::empty())];
    poll(&mut fds, Some(at_most)).is_ok() && !fds[0].revents().is_empty()
}

fn poll(fds: &mut [PollFd<'_>], at_most: Option<Duration>) -> io::Result<()> {
    let at_most = at_most.map(|time| Timespec::try_from(time).expect("a bound is short"));
    match rustix::event::poll(fds, at_most.as_ref()) {
        // Nothing has happened then that the next look would miss.
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Has a command begin as every program expects to, with all signals let through, and end with this process.
#[allow(unsafe_code)]
pub(super) fn begin_as_child(command: &mut Command) {
    let parent = getpid();
    let in_child = move || {
        release_signals()?;
        // One more net: should this process be killed, the command ends before the guard has looked. (It is sent when
        // the thread ends that has forked, and this process has only one.)
        set_parent_process_death_signal(Some(Signal::KILL))?;
        if getppid() == Some(parent) { Ok(()) } else { Err(io::Error::from(Errno::SRCH)) }
    };
    // SAFETY: the closure runs between fork and exec and makes nothing but system calls: it takes no lock, allocates
    // nothing and touches no memory of the parent.
    unsafe {
        command.pre_exec(in_child);
    }
}

/// Lets all signals through again. Between fork and exec: makes nothing but system calls.
#[allow(unsafe_code)]
fn release_signals() -> io::Result<()> {
    // SAFETY: two calls on a set that the first one fills.
    unsafe {
        let mut none = MaybeUninit::uninit();
        libc::sigemptyset(none.as_mut_ptr());
        match libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut()) {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}
