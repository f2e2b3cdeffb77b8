//! A proxy of `examples/`, started by its own `run`, in front of a server and of an app that does nothing.

use std::{
    fs::File,
    io::{Read, Seek},
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use soloist_test_postgres::free_port;
use system_tests::forget_ours;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
    process::ChildStdout,
    task::AbortHandle,
};

/// What the app answers to everything.
pub(crate) const APP: &str = "the app";

/// Which example.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Nginx,
    Caddy,
}

impl Kind {
    fn folder(self) -> PathBuf {
        let examples = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples"));
        examples.join(if let Self::Nginx = self { "nginx" } else { "caddy" })
    }

    /// Its configuration, as it stands in the example.
    pub(crate) fn config(self) -> String {
        let name = if let Self::Nginx = self { "nginx.conf" } else { "Caddyfile" };
        std::fs::read_to_string(self.folder().join(name)).unwrap()
    }
}

/// A running proxy. Dropping it ends it, and removes its files; so does the end of this process.
pub(crate) struct Front {
    guard: Child,
    log: File,
    app: AbortHandle,
    /// `127.0.0.1:PORT`
    pub(crate) address: String,
    pub(crate) http: reqwest::Client,
}

impl Front {
    /// Starts one in front of the server at that address.
    pub(crate) async fn start(kind: Kind, server: &str) -> Self {
        let app = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let app_port = app.local_addr().unwrap().port();
        let app = tokio::spawn(answer_everything(app)).abort_handle();
        let port = free_port();
        let log = tempfile::tempfile().unwrap();
        let mut guard = Command::new("sh");
        forget_ours(&mut guard);
        // `run` cleans up when it is told to end: that is when this pipe is closed, by whatever end of the test.
        guard
            .args(["-c", r#""$0" & cat >/dev/null; kill -TERM $!; wait $!"#])
            .arg(kind.folder().join("run"))
            .env("PROXY_PORT", port.to_string())
            .env("ENDPOINT_PORT", app_port.to_string())
            .env("SOLOIST_PORT", server.rsplit(':').next().unwrap())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log.try_clone().unwrap())
            .process_group(0);
        let mut guard = guard.spawn().unwrap();
        let output = ChildStdout::from_std(guard.stdout.take().unwrap()).unwrap();
        let address = format!("127.0.0.1:{port}");
        let mut front = Self { guard, log, app, address, http: reqwest::Client::new() };
        let told = tokio::time::timeout(Duration::from_secs(60), async {
            let mut lines = BufReader::new(output).lines();
            while let Some(line) = lines.next_line().await.unwrap() {
                if line.starts_with("open http") {
                    return;
                }
            }
            panic!("{kind:?} has ended");
        });
        assert!(told.await.is_ok(), "{kind:?} does not start: {}", front.said());
        front
    }

    /// What the proxy has printed.
    fn said(&mut self) -> String {
        let mut said = String::new();
        self.log.rewind().unwrap();
        self.log.read_to_string(&mut said).unwrap();
        said
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// A call with a JSON body; its status and what was answered.
    pub(crate) async fn call(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        self.call_from(None, method, path, body).await
    }

    /// The same from a page of that origin.
    pub(crate) async fn call_from(
        &self,
        origin: Option<&str>,
        method: &str,
        path: &str,
        body: &str,
    ) -> (u16, String) {
        let request = self
            .http
            .request(method.parse().unwrap(), self.url(path))
            .header("content-type", "application/json")
            .body(body.to_owned());
        let request = origin.into_iter().fold(request, |request, origin| request.header("origin", origin));
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
        self.app.abort();
    }
}

async fn answer_everything(listener: TcpListener) {
    loop {
        let (mut client, _) = listener.accept().await.unwrap();
        tokio::spawn(async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") && client.read_buf(&mut head).await.is_ok_and(|n| n > 0) {}
            let length = APP.len();
            let answer =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{APP}");
            let _ = client.write_all(answer.as_bytes()).await;
            let _ = client.shutdown().await;
        });
    }
}
