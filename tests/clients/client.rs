//! The three clients, each a process of its own that ends with the test.
//!
//! `./scripts/test` installs them: the npm package under `SOLOIST_TEST_NODE_MODULES`, the Python packages for
//! `SOLOIST_TEST_PYTHON`, the browser as `SOLOIST_TEST_CHROMIUM`. One that is missing is a failure.

use std::{
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use system_tests::proxy::{self, Proxy};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::log::{self, Event};

/// What the proxy serves to the browser.
pub(crate) const PAGE: &str = include_str!("page.html");

/// A client that people use.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Client {
    Chromium,
    NpmEventsource,
    PythonHttpxSse,
}

impl Client {
    /// Watches a task through the proxy until the client itself says that it is done; what it has seen.
    pub(crate) async fn watch(self, proxy: &Proxy, key: &str) -> Vec<Event> {
        let stream = format!("http://{}/stream/{key}", proxy.address);
        let told = match self {
            Self::Chromium => browse(proxy, key).await,
            Self::NpmEventsource => {
                let modules = installed("SOLOIST_TEST_NODE_MODULES", "node/node_modules");
                printed(
                    Command::new("node")
                        .arg(script("eventsource.mjs"))
                        .arg(stream)
                        .env("SOLOIST_TEST_NODE_MODULES", modules),
                )
                .await
            }
            Self::PythonHttpxSse => {
                let python = installed("SOLOIST_TEST_PYTHON", "python/bin/python");
                printed(Command::new(python).arg("-B").arg(script("httpx_client.py")).arg(stream)).await
            }
        };
        log::seen(&told)
    }
}

/// Something that `./scripts/test` has installed, by default below `target/test-env`.
fn installed(variable: &str, default: &str) -> PathBuf {
    let path = std::env::var_os(variable).map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/test-env")).join(default),
        PathBuf::from,
    );
    assert!(path.exists(), "{variable}: {} is not there; run `./scripts/test clients`", path.display());
    path
}

fn script(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/clients")).join(name)
}

/// What a process prints until it ends by itself.
async fn printed(command: &mut Command) -> String {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let output = child.spawn().unwrap().wait_with_output().await.unwrap();
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What the page posts, once its `EventSource` is closed.
async fn browse(proxy: &Proxy, key: &str) -> String {
    let url = format!("http://{}{}?stream=/stream/{key}", proxy.address, proxy::PAGE);
    let mut browser = Browser::open(&url);
    tokio::select! {
        result = proxy.result() => result,
        status = browser.child.wait() => panic!("the browser ended: {}", status.unwrap()),
    }
}

/// A headless browser with a profile of its own. Dropping it ends all of its processes.
struct Browser {
    child: Child,
    group: Pid,
    _profile: TempDir,
}

impl Browser {
    fn open(url: &str) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let quiet =
            if std::env::var_os("SOLOIST_TEST_LOG").is_some() { Stdio::inherit() } else { Stdio::null() };
        let child = Command::new(installed("SOLOIST_TEST_CHROMIUM", "chromium"))
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .args(["--disable-dev-shm-usage", "--disable-breakpad"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg(url)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(quiet)
            .process_group(0)
            .spawn()
            .unwrap();
        let group = Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
        Self { child, group, _profile: profile }
    }
}

impl Drop for Browser {
    /// The profile goes afterwards; nothing may still write there.
    fn drop(&mut self) {
        let _ = kill_process_group(self.group, Signal::KILL);
        let since = Instant::now();
        while test_kill_process_group(self.group).is_ok() && since.elapsed() < Duration::from_secs(10) {
            let _ = self.child.try_wait();
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
