//! An example of `examples/` as people start it: its run script, with the ports and folders that it can be told.
//!
//! The script puts each of its processes into a group of its own, but all of them share the session that is made here.
//! So all of them are found, also where a test fails in the middle.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::{Duration, Instant},
};

use rand::RngExt;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use system_tests::{binary, eventually, forget_ours, installed};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

/// How long anything may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);

/// A running example. Dropping it kills all of its processes.
pub(crate) struct Example {
    /// `127.0.0.1:PORT`
    pub(crate) endpoint: String,
    /// `127.0.0.1:PORT`
    pub(crate) soloist: String,
    /// The line that it prints for people to try.
    pub(crate) curl: String,
    /// Where it makes temporary files.
    pub(crate) scratch: TempDir,
    script: Child,
    session: Pid,
    _data: Option<TempDir>,
}

/// Where the record of an example goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Record {
    /// Into a folder that it is told.
    Kept,
    /// It is not told any.
    Temporary,
}

impl Example {
    /// Runs `examples/NAME/run` until both the endpoint and Soloist answer.
    pub(crate) async fn start(name: &str, record: Record) -> Self {
        let [endpoint, soloist] = free_ports();
        let scratch = tempfile::tempdir().unwrap();
        let data = (record == Record::Kept).then(|| tempfile::tempdir().unwrap());
        // It becomes the script: the process has no group of its own yet, so setsid does not fork.
        let mut command = Command::new("setsid");
        command.arg(root().join(name).join("run"));
        forget_ours(command.as_std_mut());
        command
            .env("ENDPOINT_PORT", endpoint.to_string())
            .env("SOLOIST_PORT", soloist.to_string())
            .env("SOLOIST_BIN", binary())
            .env("EXAMPLE_ENV", environment(name))
            .env("TMPDIR", scratch.path())
            .env_remove("EXAMPLE_DATA");
        if let Some(data) = &data {
            command.env("EXAMPLE_DATA", data.path());
        }
        let quiet =
            if std::env::var_os("SOLOIST_TEST_LOG").is_some() { Stdio::inherit() } else { Stdio::null() };
        let mut script = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(quiet).spawn().unwrap();
        let session = Pid::from_raw(i32::try_from(script.id().unwrap()).unwrap()).unwrap();
        let mut lines = BufReader::new(script.stdout.take().unwrap()).lines();
        let mut example = Self {
            endpoint: format!("127.0.0.1:{endpoint}"),
            soloist: format!("127.0.0.1:{soloist}"),
            curl: String::new(),
            scratch,
            script,
            session,
            _data: data,
        };
        let curl = async {
            loop {
                let line = lines.next_line().await.unwrap().expect("it says where to look before it ends");
                if let Some((_, curl)) = line.split_once("or   curl ") {
                    break format!("curl {curl}");
                }
            }
        };
        example.curl = tokio::time::timeout(DEADLINE, curl).await.expect("it says where to look");
        // Read to the end, so that nothing there ever waits for a reader.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        example
    }

    /// What the endpoint says of its calls.
    pub(crate) async fn calls(&self) -> Value {
        calls(&self.endpoint).await
    }

    /// Ends it as Ctrl-C or a service manager does; how the script ended.
    pub(crate) async fn stop(mut self) -> ExitStatus {
        kill_process(self.session, Signal::TERM).unwrap();
        let status = tokio::time::timeout(DEADLINE, self.script.wait()).await.expect("it ends").unwrap();
        let left = members(self.session);
        assert!(left.is_empty(), "the script has ended, and left {left:?}");
        for address in [&self.endpoint, &self.soloist] {
            assert!(TcpListener::bind(address).is_ok(), "{address} is still in use");
        }
        let left: Vec<_> =
            std::fs::read_dir(self.scratch.path()).unwrap().map(|e| e.unwrap().path()).collect();
        assert!(left.is_empty(), "temporary files are left: {left:?}");
        status
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let since = Instant::now();
        while since.elapsed() < Duration::from_secs(10) {
            let left = members(self.session);
            if left.is_empty() {
                break;
            }
            for process in left {
                let _ = kill_process(process, Signal::KILL);
            }
            let _ = self.script.try_wait();
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The endpoint of the FastAPI example alone. Dropping it kills it.
pub(crate) struct Endpoint {
    pub(crate) address: String,
    child: Child,
}

impl Endpoint {
    pub(crate) async fn start() -> Self {
        let [port] = free_ports();
        Self::start_at(format!("127.0.0.1:{port}")).await
    }

    pub(crate) async fn start_at(address: String) -> Self {
        let (_, port) = address.split_once(':').unwrap();
        let mut command = Command::new(environment("fastapi").join(".venv/bin/python"));
        forget_ours(command.as_std_mut());
        let child = command
            .args(["-B", "-m", "uvicorn", "app:app", "--log-level", "warning", "--port", port, "--app-dir"])
            .arg(root().join("fastapi"))
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let endpoint = Self { address, child };
        let url = format!("http://{}/calls", endpoint.address);
        eventually("the endpoint answers", async || client().get(&url).send().await.is_ok()).await;
        endpoint
    }

    pub(crate) async fn calls(&self) -> Value {
        calls(&self.address).await
    }

    /// Kills it with SIGKILL; where it was.
    pub(crate) async fn kill(mut self) -> String {
        self.child.kill().await.unwrap();
        self.address.clone()
    }
}

/// For calls that are as any other.
pub(crate) fn client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}

async fn calls(endpoint: &str) -> Value {
    let answer = client().get(format!("http://{endpoint}/calls")).send().await.unwrap();
    serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
}

fn root() -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples")).canonicalize().unwrap()
}

/// Where `./scripts/test` has installed what an example needs.
fn environment(name: &str) -> PathBuf {
    let env = installed("SOLOIST_TEST_EXAMPLE_ENV", "").join(format!("example-{name}"));
    assert!(env.exists(), "{} is not there; run `./scripts/test client-env`", env.display());
    env
}

/// Ports that nobody listens on. They lie below those that the system gives to outgoing connections, which could take
/// one of them in the meantime.
fn free_ports<const N: usize>() -> [u16; N] {
    // All at once, so that they differ.
    let free = [(); N].map(|()| {
        loop {
            let port = rand::rng().random_range(15_000..32_000);
            if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
                break listener;
            }
        }
    });
    free.map(|listener| listener.local_addr().unwrap().port())
}

/// The living processes of a session.
fn members(session: Pid) -> Vec<Pid> {
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let id: i32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        // `ID (NAME) STATE PARENT GROUP SESSION ...`, and a name may hold anything.
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
        let belongs = fields[0] != "Z" && fields[3] == session.as_raw_nonzero().to_string();
        if belongs { Pid::from_raw(id) } else { None }
    });
    processes.collect()
}
