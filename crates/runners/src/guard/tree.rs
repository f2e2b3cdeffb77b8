//! The tree of processes below one: who is in it, and its end.
//!
//! Decides: which processes are signalled. A process is found by its parent, in `/proc`, and signalled through a pidfd
//! that is known to be its own: a number that was given to somebody else meanwhile is left alone. Never waits.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use soloist::limits;

/// How long to wait before each look at what is to end, unless a signal comes first: short, and longer for what does
/// not end (another user's, or one that waits in the kernel).
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace(Duration);

impl Pace {
    pub(super) fn new() -> Self {
        Self(limits::EXEC_GROUP_POLL)
    }

    pub(super) fn next(&mut self) -> Duration {
        let wait = self.0;
        self.0 = (2 * wait).min(limits::EXEC_KILL_WAIT);
        wait
    }
}

/// A process as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Process {
    pid: Pid,
    parent: i32,
    group: i32,
    /// Its state; `Z` and `X` are dead.
    state: u8,
    /// When it began, in ticks since the boot. Together with the number it is never given twice.
    began: u64,
}

/// Sends SIGKILL to all processes below `root`, but not to those of `spared` and what is below them. Returns how many
/// there were; what they had started meanwhile is found by the next look.
pub(super) fn kill_below(root: Pid, spared: &HashSet<Pid>) -> usize {
    let found = below(root, spared);
    found.iter().for_each(Process::kill);
    found.len()
}

/// Sends SIGKILL to all processes below `root`; to those of `last`, which end what is below them by themselves, only once
/// nobody else is alive. So whoever does this may be killed in the middle of it, and they go on.
pub(super) fn kill_below_first(root: Pid, last: &HashSet<Pid>) {
    let (last, first): (Vec<_>, Vec<_>) =
        below(root, &HashSet::new()).into_iter().partition(|process| last.contains(&process.pid));
    first.iter().for_each(Process::kill);
    if !first.iter().any(Process::is_alive) {
        last.iter().for_each(Process::kill);
    }
}

/// Whether anybody below `root` is alive in a process group.
pub(super) fn has_living(root: Pid, group: Pid) -> bool {
    let in_group = |process: &Process| process.group == group.as_raw_pid();
    below(root, &HashSet::new()).iter().any(|process| in_group(process) && process.is_alive())
}

fn below(root: Pid, spared: &HashSet<Pid>) -> Vec<Process> {
    let mut children: HashMap<i32, Vec<Process>> = HashMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        if let Some(pid) = entry.file_name().to_str().and_then(number)
            && let Some(process) = Process::read(pid)
        {
            children.entry(process.parent).or_default().push(process);
        }
    }
    let mut found = children.remove(&root.as_raw_pid()).unwrap_or_default();
    found.retain(|process| !spared.contains(&process.pid));
    let mut next = 0;
    while let Some(process) = found.get(next) {
        let more = children.remove(&process.pid.as_raw_pid()).unwrap_or_default();
        found.extend(more);
        next += 1;
    }
    found
}

fn number(text: &str) -> Option<Pid> {
    Pid::from_raw(text.parse().ok()?)
}

impl Process {
    fn read(pid: Pid) -> Option<Self> {
        // As bytes: its name may hold anything.
        Self::parse(&std::fs::read(format!("/proc/{}/stat", pid.as_raw_pid())).ok()?)
    }

    /// Reads a line of `/proc/PID/stat`: `pid (name) state ppid pgrp ...`.
    fn parse(stat: &[u8]) -> Option<Self> {
        let text = |bytes| str::from_utf8(bytes).ok();
        let name = memchr::memchr(b'(', stat)?;
        let pid = number(text(&stat[..name])?.trim())?;
        let end = memchr::memrchr(b')', stat)?;
        let mut fields = text(&stat[end + 1..])?.split_ascii_whitespace();
        Some(Self {
            pid,
            state: *fields.next()?.as_bytes().first()?,
            parent: fields.next()?.parse().ok()?,
            group: fields.next()?.parse().ok()?,
            began: fields.nth(16)?.parse().ok()?,
        })
    }

    /// When it was seen.
    fn is_alive(&self) -> bool {
        !matches!(self.state, b'Z' | b'X')
    }

    fn kill(&self) {
        let Ok(process) = pidfd_open(self.pid, PidfdFlags::empty()) else { return };
        if Self::read(self.pid).is_some_and(|now| now.began == self.began) {
            // It fails where the process is gone, or has become another user's, which nothing here can change.
            let _ = pidfd_send_signal(process, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_whatever_its_name() {
        let rest = "S 7 34 35 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 99 98";
        for name in [&b"sh"[..], b"a) b) (c", b"\xff) Z 1 1", b""] {
            let line = [b"12 (", name, b") ", rest.as_bytes()].concat();
            let process = Process::parse(&line).unwrap();
            assert_eq!((process.pid.as_raw_pid(), process.parent, process.group), (12, 7, 34));
            assert_eq!((process.state, process.began), (b'S', 4711));
        }
        assert_eq!(Process::parse(b""), None);
        assert_eq!(Process::parse(b"12 (sh) S 7"), None);
    }

    #[test]
    fn this_process_reads_itself_as_the_system_does() {
        let own = Process::read(rustix::process::getpid()).unwrap();
        assert_eq!(Some(own.parent), rustix::process::getppid().map(Pid::as_raw_pid));
        assert_eq!(own.group, rustix::process::getpgrp().as_raw_pid());
    }
}
