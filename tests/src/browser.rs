//! A headless Chromium with a profile of its own: it opens a page that reports by itself, or is driven.
//!
//! It is driven through two pipes (`--remote-debugging-pipe`): messages of the DevTools protocol, a zero byte behind each.
//! So neither a driver nor a port is needed. `SOLOIST_TEST_CHROMIUM` names another browser.

use std::{
    process::{ExitStatus, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
};

/// A browser. Dropping it ends all of its processes.
pub struct Browser {
    child: Child,
    group: Pid,
    _profile: TempDir,
}

impl Browser {
    /// One that shows a page.
    #[must_use]
    pub fn open(url: &str) -> Self {
        Self::launch("exec \"$0\" \"$@\" >/dev/null", &[url])
    }

    fn launch(script: &str, more: &[&str]) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let quiet =
            if std::env::var_os("SOLOIST_TEST_LOG").is_some() { Stdio::inherit() } else { Stdio::null() };
        let child = Command::new("sh")
            .args(["-c", script])
            .arg(crate::installed("SOLOIST_TEST_CHROMIUM", "/usr/bin/chromium"))
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .args(["--disable-dev-shm-usage", "--disable-breakpad"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(quiet)
            .process_group(0)
            .spawn()
            .unwrap();
        let group = Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
        Self { child, group, _profile: profile }
    }

    /// Waits until it has ended by itself.
    pub async fn ended(&mut self) -> ExitStatus {
        self.child.wait().await.unwrap()
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

/// A tab in a browser of its own that does as it is told.
pub struct Tab {
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    session: Option<String>,
    sent: u64,
    _browser: Browser,
}

impl Tab {
    /// One that shows a page.
    pub async fn open(url: &str) -> Self {
        // The browser reads messages from 3 and writes them to 4.
        let script = "exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >/dev/null";
        let mut browser = Browser::launch(script, &["--remote-debugging-pipe"]);
        let (to, from) = (browser.child.stdin.take().unwrap(), browser.child.stdout.take().unwrap());
        let mut tab = Self { to, from: BufReader::new(from), session: None, sent: 0, _browser: browser };
        let target = tab.call("Target.createTarget", json!({"url": "about:blank"})).await;
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = tab.call("Target.attachToTarget", attach).await;
        tab.session = Some(attached["sessionId"].as_str().unwrap().to_owned());
        tab.call("Page.navigate", json!({"url": url})).await;
        tab
    }

    /// Loads the page again.
    pub async fn reload(&mut self) {
        self.call("Page.reload", json!({})).await;
    }

    /// What an expression in the page comes to; null where it throws, as it does while a page loads.
    pub async fn evaluate(&mut self, expression: &str) -> Value {
        let asked = json!({"expression": expression, "returnByValue": true});
        self.call("Runtime.evaluate", asked).await["result"]["value"].take()
    }

    /// Waits until an expression in the page is true.
    pub async fn until(&mut self, expression: &str) {
        let since = Instant::now();
        while self.evaluate(expression).await != json!(true) {
            let shown = self.evaluate("document.body.innerText").await;
            assert!(since.elapsed() < Duration::from_secs(120), "waited in vain: {expression}; {shown}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn call(&mut self, method: &str, params: Value) -> Value {
        self.sent += 1;
        let mut message = json!({"id": self.sent, "method": method, "params": params});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        let message = format!("{message}\0");
        self.to.write_all(message.as_bytes()).await.unwrap();
        let answer = tokio::time::timeout(Duration::from_secs(120), self.answer()).await;
        let mut answer = answer.unwrap_or_else(|_| panic!("the browser does not answer to {method}"));
        // A page that is left in the middle of a call answers with an error.
        assert!(method == "Runtime.evaluate" || answer["error"].is_null(), "{method}: {answer}");
        answer["result"].take()
    }

    /// The answer to the last call. Events that come in between are passed over.
    async fn answer(&mut self) -> Value {
        loop {
            let mut message = Vec::new();
            let read = self.from.read_until(0, &mut message).await.unwrap();
            assert!(read > 0, "the browser has ended");
            let message = message.strip_suffix(b"\0").expect("the browser has not ended within a message");
            let message: Value = serde_json::from_slice(message).unwrap();
            if message["id"] == self.sent {
                return message;
            }
        }
    }
}
