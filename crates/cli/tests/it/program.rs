//! Runs `soloist` the way a shell would, and ends what it started.

use std::{
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// Far more than anything here takes, also on a slow machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// `soloist` in a directory, with nothing of the tester's own configuration.
pub(crate) fn soloist(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_soloist"));
    let ours = std::env::vars_os()
        .map(|(name, _)| name)
        .filter(|name| name.to_string_lossy().starts_with("SOLOIST_"));
    ours.for_each(|name| {
        command.env_remove(name);
    });
    command.current_dir(dir).stdin(Stdio::null());
    command
}

/// What a command printed and how it ended.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) exit: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Done {
    pub(crate) fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { exit: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
    }

    /// Fails the test where it ended otherwise.
    #[track_caller]
    pub(crate) fn exits(self, exit: i32) -> Self {
        assert_eq!(self.exit, exit, "{self:?}");
        self
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

/// A program that runs; it is ended when this is dropped.
pub(crate) struct Running {
    child: Child,
    lines: Receiver<String>,
    err: Option<std::thread::JoinHandle<String>>,
}

impl Running {
    pub(crate) fn new(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (send, lines) = channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
        let mut stderr = child.stderr.take().unwrap();
        let err = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = stderr.read_to_string(&mut text);
            text
        });
        Self { child, lines, err: Some(err) }
    }

    /// The next line of its output.
    #[track_caller]
    pub(crate) fn line(&mut self) -> String {
        match self.lines.recv_timeout(DEADLINE) {
            Ok(line) => line,
            Err(e) => {
                let _ = self.child.kill();
                panic!("no line came: {e}; it said: {}", self.err.take().unwrap().join().unwrap())
            }
        }
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn ended(mut self) -> (ExitStatus, String) {
        let begun = Instant::now();
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None => assert!(begun.elapsed() < DEADLINE, "it still runs"),
            }
            // Nothing tells of a child's end but asking.
            std::thread::sleep(Duration::from_millis(5));
        };
        (status, self.err.take().unwrap().join().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server on a free port with the demo models, its file in a directory that goes with it.
pub(crate) struct Server {
    pub(crate) dir: TempDir,
    pub(crate) url: String,
    running: Option<Running>,
}

impl Server {
    pub(crate) fn new() -> Self {
        Self::listening("127.0.0.1:0")
    }

    pub(crate) fn listening(address: &str) -> Self {
        let mut server = Self { dir: tempfile::tempdir().unwrap(), url: String::new(), running: None };
        server.up(address);
        server
    }

    /// One with this configuration file.
    pub(crate) fn configured(file: &str) -> Self {
        let mut server = Self { dir: tempfile::tempdir().unwrap(), url: String::new(), running: None };
        std::fs::write(server.dir.path().join("soloist.toml"), file).unwrap();
        server.up("127.0.0.1:0");
        server
    }

    /// Starts the program; returns once it answers.
    pub(crate) fn up(&mut self, address: &str) {
        let mut running =
            Running::new(soloist(self.dir.path()).args(["serve", "--demo", "--listen", address]));
        let line = running.line();
        let url = line.strip_prefix("listening on ").and_then(|rest| rest.split(' ').next());
        self.url = url.unwrap_or_else(|| panic!("{line}")).to_owned();
        self.running = Some(running);
    }

    /// The address that it listens on.
    pub(crate) fn address(&self) -> String {
        self.url.trim_start_matches("http://").to_owned()
    }

    /// The program, to be ended by the test.
    pub(crate) fn take(&mut self) -> Running {
        self.running.take().unwrap()
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = soloist(self.dir.path());
        command.env("SOLOIST_URL", &self.url).args(args);
        command
    }

    /// Runs a command against this server.
    pub(crate) fn run(&self, args: &[&str]) -> Done {
        Done::of(self.command(args).output().unwrap())
    }
}
