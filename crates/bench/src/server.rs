//! The server that is measured: one that runs already, or a process of our own.
//!
//! Decides: how that process is started, and that it and its files are gone when this one ends, however it ends: a shell
//! waits on a pipe that this process alone holds open.

use std::{
    ffi::OsString,
    fs,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, ToSocketAddrs},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use serde::Deserialize;
use tempfile::TempDir;

use crate::{
    error::{Error, Result},
    http::Connection,
};

/// Where a server that is started here keeps everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Store {
    /// A file in a folder that goes with it.
    Sqlite,
    /// Its memory.
    Memory,
    /// The database of that URL. What is written there stays.
    Postgres(String),
}

impl std::str::FromStr for Store {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "sqlite" => Ok(Self::Sqlite),
            "memory" => Ok(Self::Memory),
            url if url.starts_with("postgres://") || url.starts_with("postgresql://") => {
                Ok(Self::Postgres(url.to_owned()))
            }
            _ => Err("a store is sqlite, memory or postgres://USER:PASSWORD@HOST:PORT/DATABASE"),
        }
    }
}

impl Store {
    /// Its kind, which holds no password.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Memory => "memory",
            Self::Postgres(_) => "postgres",
        }
    }
}

/// How a server is started.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The executable.
    pub program: PathBuf,
    /// Where it keeps everything.
    pub store: Store,
    /// The directory in which its folder is made.
    pub dir: PathBuf,
    /// More arguments of `serve`, such as `--durability relaxed`.
    pub args: Vec<OsString>,
}

/// A server. Dropping one that was started here kills it and removes its folder.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    pids: Vec<u32>,
    own: Option<Own>,
}

#[derive(Debug)]
struct Own {
    child: Child,
    folder: Arc<TempDir>,
    launch: Launch,
    /// Ends the server where this process is gone.
    remover: Child,
    held_open: ChildStdin,
}

/// What `serve --json` says once it answers.
#[derive(Deserialize)]
struct Listening {
    listening: String,
}

impl Server {
    /// Starts one with the demo models on a free port, in a fresh folder.
    pub fn start(launch: &Launch) -> Result<Self> {
        fs::create_dir_all(&launch.dir).map_err(Error::io("cannot make the directory of the store"))?;
        let folder = tempfile::Builder::new().prefix("soloist-bench-").tempdir_in(&launch.dir);
        Self::start_in(Arc::new(folder.map_err(Error::io("cannot make a folder for the server"))?), launch)
    }

    /// Another one on the same store.
    pub fn beside(&self) -> Result<Self> {
        match &self.own {
            Some(own) => Self::start_in(own.folder.clone(), &own.launch),
            None => Err(Error::Invalid("only beside a server that bench has started another can be".into())),
        }
    }

    /// One that was started in the same way, with a store of its own; none where this one was not started here or its
    /// store is a database that others use.
    pub fn fresh(&self) -> Result<Option<Self>> {
        match &self.own {
            Some(own) if !matches!(own.launch.store, Store::Postgres(_)) => {
                Self::start(&own.launch).map(Some)
            }
            _ => Ok(None),
        }
    }

    fn start_in(folder: Arc<TempDir>, launch: &Launch) -> Result<Self> {
        let cannot = |e| Error::Server(format!("cannot start {}: {e}", launch.program.display()));
        let log = folder.path().join("server.log");
        let store = match &launch.store {
            Store::Sqlite => "sqlite://soloist.db",
            Store::Memory => "memory:",
            Store::Postgres(url) => url,
        };
        let mut command = Command::new(&launch.program);
        // What is configured for the servers of this host is no business of one that is measured.
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SOLOIST_"))
        {
            command.env_remove(name);
        }
        let mut child = command
            .args(["serve", "--demo", "--json", "--listen", "127.0.0.1:0", "--store", store])
            .args(&launch.args)
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(fs::OpenOptions::new().create(true).append(true).open(&log).map_err(cannot)?)
            // An interrupt at the terminal is for this process; the remover sees to that one.
            .process_group(0)
            .spawn()
            .map_err(cannot)?;
        let remover = remover(child.id(), folder.path());
        let (remover, held_open) = match remover {
            Ok(remover) => remover,
            Err(e) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(Error::io("cannot start sh, which removes what is left")(e));
            }
        };
        let mut line = String::new();
        let read = child.stdout.take().map(|stdout| BufReader::new(stdout).read_line(&mut line));
        let pids = vec![child.id()];
        let own = Own { child, folder, launch: launch.clone(), remover, held_open };
        let listening = serde_json::from_str::<Listening>(&line).ok();
        let address = listening.and_then(|said| said.listening.strip_prefix("http://")?.parse().ok());
        match (read, address) {
            (Some(Ok(_)), Some(address)) => Ok(Self { address, pids, own: Some(own) }),
            _ => {
                let said = fs::read_to_string(&log).unwrap_or_default();
                drop(own);
                Err(Error::Server(format!("the server did not come up: {}", why(&said))))
            }
        }
    }

    /// One that runs already, at `http://HOST:PORT`; its CPU and memory are measured where its process is named.
    pub fn attach(url: &str, pid: Option<u32>) -> Result<Self> {
        let Some(authority) = url.strip_prefix("http://") else {
            return Err(Error::Invalid(format!(
                "bench speaks plain HTTP, to http://HOST:PORT, and not to {url}"
            )));
        };
        let authority = authority.trim_end_matches('/');
        let unreachable = |source| Error::Unreachable { address: url.to_owned(), source };
        let with_port =
            if authority.contains(':') { authority.to_owned() } else { format!("{authority}:80") };
        let mut addresses = with_port.to_socket_addrs().map_err(unreachable)?;
        let address =
            addresses.next().ok_or_else(|| Error::Invalid(format!("no address is known of {url}")))?;
        if let Some(pid) = pid {
            Usage::of(&[pid])?;
        }
        let server = Self { address, pids: pid.into_iter().collect(), own: None };
        server.connect().map_err(|_| {
            let source = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
            Error::Unreachable { address: url.to_owned(), source }
        })?;
        Ok(server)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its processes, as far as they are known.
    #[must_use]
    pub fn pids(&self) -> &[u32] {
        &self.pids
    }

    /// The folder that a server of ours keeps its store in.
    #[must_use]
    pub fn folder(&self) -> Option<&Path> {
        self.own.as_ref().map(|own| own.folder.path())
    }

    /// A connection to it.
    pub fn connect(&self) -> Result<Connection> {
        Connection::open(self.address)
    }

    /// What it has used so far; none where its process is not known.
    pub fn usage(&self) -> Result<Option<Usage>> {
        if self.pids.is_empty() { Ok(None) } else { Usage::of(&self.pids).map(Some) }
    }

    /// Has the most that it has held counted anew. Where that is refused, the peak is that of its whole life.
    pub fn forget_peak(&self) {
        for pid in &self.pids {
            let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
        }
    }

    /// Kills a server of ours with SIGKILL, and waits until it has gone.
    pub fn kill(&mut self) {
        if let Some(own) = &mut self.own {
            let _ = own.child.kill();
            let _ = own.child.wait();
        }
    }
}

/// What a server said before it ended: the error of its last line, which is JSON, or all of it.
fn why(log: &str) -> String {
    #[derive(Deserialize)]
    struct Said {
        error: String,
    }
    let last = log.lines().next_back().and_then(|line| serde_json::from_str::<Said>(line).ok());
    last.map_or_else(|| log.trim().to_owned(), |said| said.error)
}

impl Drop for Own {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // A line says that the server is gone and its number may be somebody else's.
        let _ = self.held_open.write_all(b"gone\n");
        let _ = self.remover.wait();
    }
}

/// A shell that ends the server and removes its folder where the pipe ends without a line.
fn remover(pid: u32, folder: &Path) -> std::io::Result<(Child, ChildStdin)> {
    let script = r#"read -r _ || { kill -KILL "$1"; rm -rf -- "$2"; }"#;
    let mut child = Command::new("sh")
        .args(["-c", script, "sh", &pid.to_string()])
        .arg(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()?;
    let stdin = child.stdin.take().ok_or(std::io::ErrorKind::BrokenPipe)?;
    Ok((child, stdin))
}

/// What processes have used since they began, and hold now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// CPU time in their own code, in steps of the system's clock (10 ms).
    pub user: Duration,
    /// CPU time in the kernel on their behalf.
    pub system: Duration,
    /// Resident memory.
    pub resident_bytes: u64,
    /// The most that was resident at a time.
    pub peak_bytes: u64,
    /// Resident memory that is theirs alone: neither shared nor of files.
    pub private_bytes: u64,
    /// What was handed to the disk.
    pub written_bytes: u64,
}

impl Usage {
    /// Of these processes together.
    pub fn of(pids: &[u32]) -> Result<Self> {
        let mut all = Self::default();
        for pid in pids {
            let one = Self::read(*pid).ok_or_else(|| {
                Error::Server(format!("cannot read /proc/{pid}: the server has ended, or is somebody else's"))
            })?;
            all.user += one.user;
            all.system += one.system;
            all.resident_bytes += one.resident_bytes;
            all.peak_bytes += one.peak_bytes;
            all.private_bytes += one.private_bytes;
            all.written_bytes += one.written_bytes;
        }
        Ok(all)
    }

    /// CPU time of both kinds.
    #[must_use]
    pub fn cpu(&self) -> Duration {
        self.user + self.system
    }

    /// CPU time since an earlier look.
    #[must_use]
    pub fn cpu_since(&self, before: &Self) -> Duration {
        self.cpu().saturating_sub(before.cpu())
    }

    fn read(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name of the program stands in brackets, and may hold anything.
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
        let per_second = rustix::param::clock_ticks_per_second();
        let mut ticks = || fields.next()?.parse::<u64>().ok();
        let time = |ticks: u64| Duration::from_nanos(ticks * 1_000_000_000 / per_second);
        let (user, system) = (time(ticks()?), time(ticks()?));
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
        let written = io.lines().find_map(|line| line.strip_prefix("write_bytes:")?.trim().parse().ok());
        Some(Self {
            user,
            system,
            resident_bytes: kilobytes(&status, "VmRSS:")?,
            peak_bytes: kilobytes(&status, "VmHWM:")?,
            private_bytes: kilobytes(&rollup, "Anonymous:").unwrap_or(0),
            written_bytes: written.unwrap_or(0),
        })
    }
}

/// The line `name   123 kB`, in bytes.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kb| kb * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::unwrap_used)]
    fn what_a_process_uses_is_seen() {
        let ours = [std::process::id()];
        let before = Usage::of(&ours).unwrap();
        let begun = std::time::Instant::now();
        let mut n = 0_u64;
        while Usage::of(&ours).unwrap().cpu_since(&before) < Duration::from_millis(20) {
            n = n.wrapping_mul(31).wrapping_add(7);
            assert!(begun.elapsed() < Duration::from_secs(60), "{n}");
        }
        assert!(before.resident_bytes > 100_000 && before.peak_bytes >= before.resident_bytes, "{before:?}");
        assert!(before.private_bytes > 0 && before.private_bytes <= before.peak_bytes, "{before:?}");
    }

    #[test]
    fn a_process_that_is_not_there_is_told() {
        assert!(matches!(Usage::of(&[u32::MAX]), Err(Error::Server(_))));
    }
}
