//! A server process of the built program, in a folder of its own.

use std::{
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::{Child, Command},
    sync::oneshot,
};

/// A running server. Dropping it kills the process and removes its folder.
pub struct Server {
    dir: Arc<TempDir>,
    child: Child,
    /// `127.0.0.1:PORT`
    pub address: String,
    http: reqwest::Client,
}

impl Server {
    /// Starts one with the demo models, in a fresh folder, on a free port.
    pub async fn start() -> Self {
        Self::start_with("", "127.0.0.1:0").await
    }

    /// The same with a configuration file. Where that names no store, it is a file, or a fresh database of the kind that
    /// `SOLOIST_TEST_STORE` names.
    pub async fn start_with(config: &str, listen: &str) -> Self {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        let mut config = config.to_owned();
        if !config.contains("store = ") {
            match std::env::var("SOLOIST_TEST_STORE").as_deref() {
                Err(_) | Ok("sqlite") => {}
                Ok("memory") => config = format!("store = \"memory:\"\n{config}"),
                Ok("postgres") => {
                    let database = soloist_test_postgres::Cluster::shared().database("server");
                    config = format!("store = \"{}\"\n{config}", database.url());
                    // It goes with the cluster.
                    std::mem::forget(database);
                }
                Ok(other) => panic!("SOLOIST_TEST_STORE is memory, sqlite or postgres, and not {other}"),
            }
        }
        std::fs::write(dir.path().join("soloist.toml"), config).unwrap();
        Self::start_in(dir, listen).await
    }

    /// Another one on the same database.
    pub async fn beside(&self) -> Self {
        Self::start_in(self.dir.clone(), "127.0.0.1:0").await
    }

    /// Starts one in a folder that holds what it is to find.
    pub async fn start_in(dir: Arc<TempDir>, listen: &str) -> Self {
        Self::launch(Command::new(crate::binary()), dir, listen).await.expect("the server starts")
    }

    /// One of a binary with fault points, in a folder that holds what it is to find; it is killed at the n-th pass of
    /// `point`, which is `name:n`. None where that was before it listened.
    pub async fn doomed_in(dir: Arc<TempDir>, binary: &Path, point: &str) -> Option<Self> {
        let mut command = Command::new(binary);
        command.env("FAULT_POINT", point);
        Self::launch(command, dir, "127.0.0.1:0").await
    }

    /// One whose database is on a disk of so many MiB, which only it sees, at [`Server::small_disk`].
    pub async fn on_small_disk(mebibytes: u32, lease_seconds: u32) -> Self {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        std::fs::create_dir(dir.path().join("disk")).unwrap();
        let config = format!("store = \"sqlite://disk/soloist.db\"\nlease_seconds = {lease_seconds}\n");
        std::fs::write(dir.path().join("soloist.toml"), config).unwrap();
        // A namespace of its own lets anybody mount; each of these programs becomes the next one.
        let mount = format!("mount -t tmpfs -o size={mebibytes}m none disk && exec \"$0\" \"$@\"");
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", &mount]).arg(crate::binary());
        Self::launch(command, dir, "127.0.0.1:0").await.expect("the server starts")
    }

    /// The way to the disk of [`Server::on_small_disk`] from here.
    #[must_use]
    pub fn small_disk(&self) -> PathBuf {
        let dir = self.dir().join("disk");
        Path::new(&format!("/proc/{}/root", self.process().as_raw_nonzero()))
            .join(dir.strip_prefix("/").unwrap())
    }

    /// Starts what `command` runs as `soloist` with the arguments behind it. None where it was killed before it listened.
    pub async fn launch(mut command: Command, dir: Arc<TempDir>, listen: &str) -> Option<Self> {
        crate::forget_ours(command.as_std_mut());
        let mut child = command
            .args(["serve", "--demo", "--listen", listen])
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let (told, address) = oneshot::channel();
        let told = Arc::new(std::sync::Mutex::new(Some(told)));
        tokio::spawn(find_address(child.stdout.take().unwrap(), told.clone()));
        tokio::spawn(find_address(child.stderr.take().unwrap(), told));
        let address = tokio::time::timeout(Duration::from_secs(60), address)
            .await
            .expect("the server says where it listens, or ends");
        let Ok(address) = address else {
            let status = child.wait().await.unwrap();
            assert_eq!(status.signal(), Some(9), "it ended by itself: SOLOIST_TEST_LOG=1 shows what it said");
            return None;
        };
        let _ = rustls::crypto::ring::default_provider().install_default();
        // A request whose server dies in the same moment may wait for an answer that nobody gives.
        let http = reqwest::Client::builder().timeout(Duration::from_secs(60)).build().unwrap();
        Some(Self { dir, child, address, http })
    }

    /// Waits until the process has ended by itself, for as long; whether it has.
    pub async fn ends_within(&mut self, most: Duration) -> bool {
        tokio::time::timeout(most, self.child.wait()).await.is_ok()
    }

    /// Waits until the process has ended, for as long; whether it has, and by SIGKILL.
    pub async fn is_killed_within(&mut self, most: Duration) -> bool {
        match tokio::time::timeout(most, self.child.wait()).await {
            Ok(status) => status.unwrap().signal() == Some(9),
            Err(_) => false,
        }
    }

    /// Kills it with SIGKILL and starts another on the same folder and port.
    pub async fn kill_and_restart(mut self) -> Self {
        self.signal(Signal::KILL);
        self.child.wait().await.unwrap();
        let (dir, address) = (self.dir.clone(), self.address.clone());
        drop(self);
        Self::start_in(dir, &address).await
    }

    /// Stops it with SIGTERM and waits until it has gone.
    pub async fn stop(mut self) -> std::process::ExitStatus {
        self.signal(Signal::TERM);
        self.child.wait().await.unwrap()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.process(), signal).unwrap();
    }

    fn process(&self) -> Pid {
        let id = self.child.id().expect("the process was not waited for");
        Pid::from_raw(i32::try_from(id).unwrap()).unwrap()
    }

    /// The folder that it runs in.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Its database.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.dir().join("soloist.db")
    }

    /// Resident memory in bytes.
    #[must_use]
    pub fn resident(&self) -> u64 {
        let status = format!("/proc/{}/status", self.process().as_raw_nonzero());
        let status = std::fs::read_to_string(status).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() * 1024
    }

    /// A call with a JSON body; its status and JSON answer.
    pub async fn call(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        self.try_call(method, path, body, None).await.unwrap()
    }

    /// The same, perhaps under an idempotency key, at a server that may be gone.
    pub async fn try_call(
        &self,
        method: &str,
        path: &str,
        body: &str,
        key: Option<&str>,
    ) -> reqwest::Result<(u16, Value)> {
        let request = self
            .http
            .request(method.parse().unwrap(), format!("http://{}{path}", self.address))
            .header("content-type", "application/json")
            .body(body.to_owned());
        let request = key.into_iter().fold(request, |request, key| request.header("idempotency-key", key));
        let answer = request.send().await?;
        let status = answer.status().as_u16();
        let bytes = answer.bytes().await?;
        Ok((status, serde_json::from_slice(&bytes).unwrap_or(Value::Null)))
    }

    /// Creates a task with that id.
    pub async fn create(&self, key: &str, input: &str) {
        let (status, answer) =
            self.call("PUT", &format!("/tasks/{key}"), &format!(r#"{{"input":{input}}}"#)).await;
        assert!(status == 201 || status == 200, "{status} {answer}");
    }

    /// Starts a task; whether this start won, and the run.
    pub async fn begin(&self, key: &str) -> (bool, u64) {
        let (status, answer) = self.call("POST", &format!("/tasks/{key}/start"), "").await;
        assert!(status == 200 || status == 202, "{status} {answer}");
        (answer["started"].as_bool().unwrap(), answer["run"].as_u64().unwrap())
    }

    /// A task's record.
    pub async fn task(&self, key: &str) -> Value {
        let (status, answer) = self.call("GET", &format!("/tasks/{key}"), "").await;
        assert_eq!(status, 200, "{answer}");
        answer
    }

    /// The live counts.
    pub async fn stats(&self) -> Value {
        self.call("GET", "/stats", "").await.1
    }
}

/// Reads what the process prints, to its end, so that it never waits for a reader.
async fn find_address(
    output: impl AsyncRead + Unpin,
    told: Arc<std::sync::Mutex<Option<oneshot::Sender<String>>>>,
) {
    let mut lines = BufReader::new(output).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some((_, rest)) = line.split_once("http://127.0.0.1:") {
            let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
            if let Some(told) = told.lock().unwrap().take() {
                let _ = told.send(format!("127.0.0.1:{port}"));
            }
        }
        if std::env::var_os("SOLOIST_TEST_LOG").is_some() {
            eprintln!("server: {line}");
        }
    }
}
