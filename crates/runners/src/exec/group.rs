//! The process group of a command: how it is begun, asked to stop and ended.
//!
//! Decides: who is signalled, and when. The command leads a process group of its own, and signals go to the group, so
//! that what the command has started ends with it.
//!
//! A group is only signalled while its leader has not been reaped. Until then its number is taken and cannot be given
//! to a process of somebody else; so the exit is first seen without reaping, then the rest of the group gets SIGKILL,
//! then the leader is reaped. Whatever happens to the attempt, dropping a [`Group`] ends it: SIGKILL to all of it.
//!
//! Never touches a process that has left the group (a daemon with a session of its own).

use std::{io, process::ExitStatus, time::Duration};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use soloist::limits;
use tokio::{
    process::Child,
    signal::unix::{SignalKind, signal},
    time::{Instant, sleep, timeout, timeout_at},
};

/// A running command and all that it has started within its group.
#[derive(Debug)]
pub(super) struct Group {
    leader: Child,
    /// The pid of the leader and the number of the group. None once the leader is reaped: from then on the number may
    /// be somebody else's.
    id: Option<Pid>,
}

impl Group {
    /// Takes a command that was spawned as the leader of a new group.
    pub(super) fn led_by(leader: Child) -> Self {
        let id = leader.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        Self { leader, id }
    }

    /// The leader's ends of its pipes.
    pub(super) fn leader(&mut self) -> &mut Child {
        &mut self.leader
    }

    /// Waits until the leader has exited, without reaping it. Safe to drop and to call again.
    pub(super) async fn exited(&self) -> io::Result<()> {
        // Listening begins before the first look, so that no exit falls between them.
        let mut children = signal(SignalKind::child())?;
        while !self.has_exited()? {
            // A signal is a hint, and may be one that this process was started with a block on; the look is the truth.
            let _ = timeout(limits::EXEC_EXIT_POLL, children.recv()).await;
        }
        Ok(())
    }

    /// Whether the leader has exited.
    pub(super) fn has_exited(&self) -> io::Result<bool> {
        let Some(id) = self.id else { return Ok(true) };
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        Ok(rustix::process::waitid(WaitId::Pid(id), look)?.is_some())
    }

    /// Asks the whole group to stop and waits until all of it has, at most `grace`.
    pub(super) async fn ask_to_stop(&self, grace: Duration) -> io::Result<()> {
        let until = Instant::now() + grace;
        self.signal(Signal::TERM);
        let Ok(exited) = timeout_at(until, self.exited()).await else { return Ok(()) };
        exited?;
        while self.id.is_some_and(has_living) && Instant::now() < until {
            sleep(limits::EXEC_GROUP_POLL).await;
        }
        Ok(())
    }

    /// Ends what is left of the group, waits for the leader and reaps it.
    pub(super) async fn end(&mut self) -> io::Result<ExitStatus> {
        self.signal(Signal::KILL);
        self.exited().await?;
        let id = self.id.take();
        let status = self.leader.wait().await?;
        if let Some(id) = id {
            gone(id).await;
        }
        Ok(status)
    }

    fn signal(&self, signal: Signal) {
        if let Some(id) = self.id
            // An error here means that somebody else in this process has reaped the leader.
            && self.has_exited().is_ok()
        {
            // It can only fail where nobody is left (no error for us) or where all of the group have become another
            // user's, which nothing here can change.
            let _ = rustix::process::kill_process_group(id, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The leader is reaped by tokio, once this field's owner is gone.
        self.signal(Signal::KILL);
    }
}

/// Waits until nobody is left in a group that was sent SIGKILL and whose leader is reaped. Only asks, so it does no
/// harm should the number be taken again meanwhile.
async fn gone(group: Pid) {
    let until = Instant::now() + limits::EXEC_KILL_WAIT;
    // The first question is cheap and mostly the last one. The dead whom nobody has reaped yet pass it, so a second.
    while rustix::process::test_kill_process_group(group).is_ok() && has_living(group) {
        if Instant::now() >= until {
            tracing::warn!(process.group = group.as_raw_pid(), "processes of a command outlive SIGKILL");
            return;
        }
        sleep(limits::EXEC_GROUP_POLL).await;
    }
}

/// Whether anybody in a group is alive, as far as this system shows it.
fn has_living(group: Pid) -> bool {
    let Ok(processes) = std::fs::read_dir("/proc") else { return false };
    processes.flatten().any(|entry| {
        entry.file_name().as_encoded_bytes()[0].is_ascii_digit()
            && std::fs::read_to_string(entry.path().join("stat"))
                .is_ok_and(|stat| is_alive_in(&stat, group.as_raw_pid()))
    })
}

/// Reads a line of `/proc/PID/stat`: `pid (name) state ppid pgrp ...`, where the name may hold anything.
fn is_alive_in(stat: &str, group: i32) -> bool {
    let mut fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_ascii_whitespace();
    let state = fields.next();
    let pgrp = fields.nth(1).and_then(|pgrp| pgrp.parse::<i32>().ok());
    pgrp == Some(group) && !matches!(state, Some("Z" | "X"))
}

#[cfg(test)]
mod tests {
    use super::is_alive_in;

    #[test]
    fn a_process_is_known_by_its_group_whatever_its_name() {
        assert!(is_alive_in("12 (a) b) (c) S 1 34 34 0", 34));
        assert!(!is_alive_in("12 (a) S 1 35 34 0", 34));
        assert!(!is_alive_in("12 (a) Z 1 34 34 0", 34));
        assert!(!is_alive_in("", 34));
    }
}
