//! The guard process: starts attempt processes, and ends what they leave when they are killed.
//!
//! Decides: which of its children are strays. Each child that it has not started itself has lost all its parents down
//! from an attempt process, so its attempt is over. And when the node's right is over: when it is gone, and when the last
//! lease that it has told of ends without another one, because a node that is stopped cannot end its commands, and
//! somebody else may start the same task. Never reads what an attempt is to execute, and never waits for an
//! attempt process: one that hangs holds up no other.

use std::{
    collections::HashSet,
    io::{self, PipeReader},
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::{Command, Stdio},
    time::Duration,
};

use rustix::{
    io::Errno,
    net::SendFlags,
    process::{Pid, WaitOptions, getpid, wait},
};

use super::{
    ATTEMPT,
    message::{self, Answer, HERE, Order},
    sys::{self, Alarm, Signals},
    tree::{self, Pace},
};

/// The life of a guard process. Its stdin is the socket from its node.
pub(super) fn main() -> ! {
    let ended = guard();
    if let Err(error) = &ended {
        eprintln!("the guard process ends, and all commands with it: {error}");
    }
    std::process::exit(i32::from(ended.is_err()));
}

fn guard() -> io::Result<()> {
    let signals = sys::begin(c"exec-guard")?;
    // Nobody else holds the end that is written to, so whoever reads is told when this process ends, however it does.
    let (lifeline, _held) = io::pipe()?;
    let node = io::stdin();
    rustix::net::send(&node, &[HERE], SendFlags::NOSIGNAL)?;

    let mut children = Children { attempts: HashSet::new(), strays: None };
    let alarm = Alarm::new()?;
    loop {
        children.reap();
        let again = children.end_strays();
        let (told, is_over) = signals.wait(node.as_fd(), Some(alarm.as_fd()), again)?;
        if told {
            // Before the alarm is heard: a guard that was stopped itself finds what it was told meanwhile.
            match message::from_node(&node)? {
                Some(Order::Attempt(control)) => children.begin_attempt(control, &lifeline),
                Some(Order::Lease(until)) => alarm.set(until)?,
                None => break,
            }
        } else if is_over {
            if !children.attempts.is_empty() {
                eprintln!("the lease of the node is over, and it has not ended its commands; they are ended");
            }
            break;
        }
    }
    // The node is gone or has lost its right, and with it all that is left. Attempt processes see it as well, unless
    // they were stopped, when the node is gone or this process ends; here nothing is spared.
    end_all(&signals, &children.attempts)
}

fn end_all(signals: &Signals, attempts: &HashSet<Pid>) -> io::Result<()> {
    let mut pace = Pace::new();
    loop {
        // The attempt processes last: should this process be killed now, they still end what is below them.
        tree::kill_below_first(getpid(), attempts);
        match wait(WaitOptions::NOHANG) {
            Err(Errno::CHILD) => return Ok(()),
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => signals.wait_alone(pace.next())?,
        }
    }
}

struct Children {
    /// Those that were started here and have not been reaped, so that their numbers are theirs.
    attempts: HashSet<Pid>,
    /// Set while there may be children that were not started here.
    strays: Option<Pace>,
}

impl Children {
    fn begin_attempt(&mut self, control: OwnedFd, lifeline: &PipeReader) {
        let begun = control.try_clone().and_then(|control| {
            Command::new("/proc/self/exe")
                .arg0(ATTEMPT)
                .stdin(control)
                .stdout(lifeline.try_clone()?)
                .stderr(Stdio::inherit())
                .process_group(0)
                .spawn()
        });
        match begun {
            Ok(child) => {
                let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
                self.attempts.insert(pid.expect("a child has a pid"));
            }
            Err(error) => Answer::refused(&error).send(control.as_fd()),
        }
    }

    fn reap(&mut self) {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            // One that ends by itself leaves nothing.
            if self.attempts.remove(&pid) && status.exit_status() != Some(0) {
                self.strays = Some(Pace::new());
            }
        }
    }

    /// Sends SIGKILL to strays, and says when to look again.
    fn end_strays(&mut self) -> Option<Duration> {
        let mut pace = self.strays.take()?;
        if tree::kill_below(getpid(), &self.attempts) == 0 {
            return None;
        }
        let again = pace.next();
        self.strays = Some(pace);
        Some(again)
    }
}
