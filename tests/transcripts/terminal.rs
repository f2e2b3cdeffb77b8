//! A terminal of a reader: runs one command after the other and remembers what the present one has printed.

use std::{
    io::{BufRead, BufReader, PipeReader},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Condvar, Mutex},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::compare::{Compared, compare};

/// Longest wait for anything; the first command may have to compile everything.
const PATIENCE: Duration = Duration::from_secs(1200);
/// How long a process that was asked to stop may take before it is killed.
const STOP: Duration = Duration::from_secs(10);

/// A command that was typed.
pub(crate) struct Terminal {
    typed: String,
    group: Pid,
    screen: Arc<Screen>,
    /// What the document has shown of its output so far.
    shown: Vec<String>,
}

#[derive(Default)]
struct Screen {
    printed: Mutex<Printed>,
    changed: Condvar,
}

#[derive(Default)]
struct Printed {
    lines: Vec<String>,
    ended: bool,
}

impl Terminal {
    /// Types a command, as `bash` would be given it.
    pub(crate) fn type_in(command: &str, dir: &Path) -> Self {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut bash = Command::new("bash");
        // What is set for tests (SOLOIST_BIN, what cargo tells its tests) is not there in a reader's terminal.
        for (name, _) in std::env::vars_os().filter(|(name, _)| only_here(&name.to_string_lossy())) {
            bash.env_remove(name);
        }
        // In a terminal `curl` shows no progress meter; `.curlrc` beside this file says so here.
        let child = bash
            .env("CURL_HOME", Path::new(env!("CARGO_MANIFEST_DIR")).join("transcripts"))
            .args(["-c", command])
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(writer.try_clone().unwrap())
            .stderr(writer)
            .process_group(0)
            .spawn()
            .unwrap();
        let group = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        let screen = Arc::new(Screen::default());
        let read = screen.clone();
        std::thread::spawn(move || read.follow(reader, child));
        Self { typed: command.to_owned(), group, screen, shown: Vec::new() }
    }

    /// Ctrl-C.
    pub(crate) fn interrupt(&self) {
        kill_process_group(self.group, Signal::INT).unwrap();
    }

    /// Waits until these lines, too, are there.
    pub(crate) fn expect(&mut self, lines: &[String]) {
        self.shown.extend_from_slice(lines);
        self.wait("what the document shows", |shown, printed| {
            compare(shown, &printed.lines) != Compared::Differs
        });
    }

    /// Waits for the end of the command; it must have printed what was shown and nothing else.
    pub(crate) fn end(&self) {
        self.wait("its end", |_, printed| printed.ended);
        self.wait("exactly what the document shows", |shown, printed| {
            compare(shown, &printed.lines) == Compared::Whole
        });
        println!("$ {}\n{}", self.typed, self.screen.printed.lock().unwrap().lines.join("\n"));
    }

    fn wait(&self, what: &str, done: impl Fn(&[String], &Printed) -> bool) {
        let since = Instant::now();
        let mut printed = self.screen.printed.lock().unwrap();
        while !done(&self.shown, &printed) {
            assert!(
                !printed.ended && since.elapsed() < PATIENCE,
                "`{}` {}, and {what} has not come.\n--- shown in the document:\n{}\n--- printed:\n{}\n",
                self.typed,
                if printed.ended { "has ended" } else { "still runs" },
                self.shown.join("\n"),
                printed.lines.join("\n"),
            );
            printed = self.screen.changed.wait_timeout(printed, Duration::from_secs(1)).unwrap().0;
        }
    }
}

fn only_here(variable: &str) -> bool {
    let set_by_cargo = ["CARGO_MANIFEST", "CARGO_PKG", "CARGO_CRATE", "CARGO_BIN"];
    variable.starts_with("SOLOIST_") || set_by_cargo.iter().any(|name| variable.starts_with(name))
}

impl Screen {
    fn follow(&self, reader: PipeReader, mut child: Child) {
        for line in BufReader::new(reader).split(b'\n') {
            let line = String::from_utf8_lossy(&line.unwrap()).into_owned();
            self.printed.lock().unwrap().lines.push(line);
            self.changed.notify_all();
        }
        child.wait().unwrap();
        self.printed.lock().unwrap().ended = true;
        self.changed.notify_all();
    }
}

impl Drop for Terminal {
    /// What still runs (after a failure) is asked to stop, so that it stops what it has started, and then killed.
    fn drop(&mut self) {
        let Ok(printed) = self.screen.printed.lock() else { return };
        if printed.ended {
            return;
        }
        let _ = kill_process_group(self.group, Signal::TERM);
        let (printed, _) =
            self.screen.changed.wait_timeout_while(printed, STOP, |printed| !printed.ended).unwrap();
        if !printed.ended {
            let _ = kill_process_group(self.group, Signal::KILL);
        }
    }
}
