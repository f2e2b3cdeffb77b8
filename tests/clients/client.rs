//! The three clients, each a process of its own that ends with the test.
//!
//! `./scripts/test` installs them: the npm package under `SOLOIST_TEST_NODE_MODULES`, the Python packages for
//! `SOLOIST_TEST_PYTHON`, the browser as `SOLOIST_TEST_CHROMIUM`. One that is missing is a failure.

use std::{path::PathBuf, process::Stdio};

use system_tests::{
    browser::Browser,
    installed,
    proxy::{self, Proxy},
};
use tokio::process::Command;

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
        status = browser.ended() => panic!("the browser ended: {status}"),
    }
}
