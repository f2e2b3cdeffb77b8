//! A tree of processes that do what they can to outlive the command that has started them.
//!
//! All of them are known by a mark that no other process has, in their environment or their arguments.

use std::{
    fs,
    time::{Duration, Instant, SystemTime},
};

/// Far more than anything here takes, also on a slow machine.
const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) struct Zoo {
    mark: String,
}

/// The kinds, by what their command lines hold.
const KINDS: [&str; 7] = ["zoo: keeper", "61001", "61002", "61003", "zoo: deaf", "zoo: busy", "/dev/null"];

impl Zoo {
    pub(crate) fn new() -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        Self { mark: format!("zoo-{}-{}", std::process::id(), now.as_nanos()) }
    }

    /// What a shell runs to start them all. It never ends by itself.
    pub(crate) fn script(&self) -> String {
        let mark = &self.mark;
        // In this order: one with a session of its own; a daemon, by two forks; one that is stopped; one that ignores
        // what it can; one that starts others without a pause; one with an empty environment; and the command itself.
        format!(
            r#"export ZOO={mark}
               setsid sleep 61001 &
               (setsid sh -c 'sleep 61002 & exit' &)
               setsid sh -c 'kill -STOP $$; exec sleep 61003' &
               setsid sh -c ': zoo: deaf; trap "" TERM INT HUP QUIT USR1; while :; do sleep 1; done' &
               setsid sh -c ': zoo: busy; while :; do /bin/true; done' &
               env -i setsid tail -q -f /dev/null {mark} 2> /dev/null &
               : zoo: keeper; trap '' TERM; while :; do sleep 1; done"#
        )
    }

    /// The command lines of those that are alive.
    pub(crate) fn living(&self) -> Vec<String> {
        let holds = |file: &[u8]| memchr::memmem::find(file, self.mark.as_bytes()).is_some();
        let processes = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
        processes
            .filter_map(|process| {
                // The dead have neither.
                let arguments = fs::read(process.join("cmdline")).unwrap_or_default();
                let environment = fs::read(process.join("environ")).unwrap_or_default();
                let line = String::from_utf8_lossy(&arguments).replace('\0', " ");
                (holds(&arguments) || holds(&environment)).then_some(line)
            })
            .collect()
    }

    /// Waits until one of each kind is there.
    pub(crate) fn is_full(&self) {
        self.until("not all of them are there", |living| {
            KINDS.iter().all(|kind| living.iter().any(|line| line.contains(kind)))
        });
    }

    /// Waits until none is left, however it was ended.
    pub(crate) fn is_empty(&self) {
        let begun = Instant::now();
        self.until("some have survived", |living| living.is_empty());
        println!("all were gone within {} ms", begun.elapsed().as_millis());
    }

    #[track_caller]
    fn until(&self, or: &str, is_so: impl Fn(&[String]) -> bool) {
        let begun = Instant::now();
        loop {
            let living = self.living();
            if is_so(&living) {
                return;
            }
            assert!(begun.elapsed() < DEADLINE, "{or}: {living:#?}");
            // Nothing tells of a stranger's end but looking.
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The processes that a process has started and that are alive, with the names by which they were started.
pub(crate) fn children(parent: u32) -> Vec<(u32, String)> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let stat = String::from_utf8_lossy(&fs::read(entry.path().join("stat")).ok()?).into_owned();
            let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
            let (state, ppid) = (fields.next()?, fields.next()?);
            let name = fs::read(entry.path().join("cmdline")).ok()?;
            let name = String::from_utf8_lossy(name.split(|byte| *byte == 0).next()?).into_owned();
            (ppid.parse() == Ok(parent) && state != "Z").then_some((pid, name))
        })
        .collect()
}
