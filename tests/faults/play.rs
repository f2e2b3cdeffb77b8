//! What a server is given to do before it kills itself, and what the outside world was told.
//!
//! Decides: nothing about when it dies. Every request goes to the doomed server first; where that has no answer it is sent
//! again to the one that lives on, until that answers.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use serde_json::Value;
use system_tests::{
    checker::{Told, Watched},
    viewer::{Connection, End, Seen},
};
use tokio::task::JoinSet;

/// What the outside world was told, by task.
#[derive(Default)]
pub(crate) struct Record(Mutex<BTreeMap<String, Told>>);

impl Record {
    fn of(&self, key: &str, tell: impl FnOnce(&mut Told)) {
        tell(self.0.lock().unwrap().entry(key.to_owned()).or_default());
    }

    pub(crate) fn told(&self) -> BTreeMap<String, Told> {
        self.0.lock().unwrap().clone()
    }
}

/// The way to a server, which may be gone.
#[derive(Clone)]
pub(crate) struct Line {
    pub(crate) address: String,
    pub(crate) http: reqwest::Client,
}

/// A request: method, path, body, and an idempotency key where it has one.
type Request<'a> = (&'a str, &'a str, &'a str, Option<&'a str>);

impl Line {
    /// The answer, if there is one. That it cannot be done now is none.
    async fn ask(&self, (method, path, body, key): Request<'_>) -> Option<(u16, Value)> {
        let request = self
            .http
            .request(method.parse().unwrap(), format!("http://{}{path}", self.address))
            .header("content-type", "application/json")
            .body(body.to_owned());
        let request = key.into_iter().fold(request, |request, key| request.header("idempotency-key", key));
        let answer = request.send().await.ok()?;
        let status = answer.status().as_u16();
        let bytes = answer.bytes().await.ok()?;
        (status < 500).then(|| (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null)))
    }

    /// The same, asked until it has one.
    pub(crate) async fn insist(&self, request: Request<'_>) -> (u16, Value) {
        let since = Instant::now();
        loop {
            if let Some(answer) = self.ask(request).await {
                return answer;
            }
            let (method, path, ..) = request;
            assert!(since.elapsed() < Duration::from_secs(90), "nobody answers {method} {path}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// A doomed server, the one that lives on, and what both have told.
#[derive(Clone)]
pub(crate) struct Players {
    pub(crate) doomed: Line,
    pub(crate) other: Line,
    pub(crate) record: Arc<Record>,
    /// In every id, so that no two rounds meet.
    pub(crate) round: String,
}

impl Players {
    /// Asks the doomed one, and where that has no answer the other one.
    async fn ask(&self, request: Request<'_>) -> (u16, Value) {
        match self.doomed.ask(request).await {
            Some(answer) => answer,
            None => self.other.insist(request).await,
        }
    }

    /// The same, answered with one of these statuses.
    async fn tell(&self, request: Request<'_>, expected: &[u16]) -> Value {
        let (status, answer) = self.ask(request).await;
        let (method, path, ..) = request;
        assert!(expected.contains(&status), "{method} {path}: {status} {answer}");
        answer
    }

    async fn create(&self, key: &str, input: &str) {
        let body = format!(r#"{{"input":{input}}}"#);
        self.tell(("PUT", &format!("/tasks/{key}"), &body, None), &[200, 201]).await;
    }

    async fn start(&self, key: &str, policy: &str) -> Value {
        let body = format!(r#"{{"policy":"{policy}"}}"#);
        self.tell(("POST", &format!("/tasks/{key}/start"), &body, None), &[200, 202]).await
    }

    /// All that a server can be asked to do, side by side.
    pub(crate) fn play(&self, playing: &mut JoinSet<()>) {
        let watched = [
            ("BurstTask", r#"{"events":100,"bytes":50,"rate":0}"#),
            ("BurstTask", r#"{"events":150,"bytes":10,"rate":500}"#),
            ("ExampleTask", r#"{"message":"m","delay_ms":200}"#),
            ("FailTask", r#"{"message":"m"}"#),
        ];
        for (n, (model, input)) in watched.into_iter().enumerate() {
            let (players, key) = (self.clone(), format!("demo/{model}/{}-{n}", self.round));
            playing.spawn(async move { players.start_and_watch(key, input).await });
        }
        let players = self.clone();
        playing.spawn(async move { players.wait_in_line().await });
        let players = self.clone();
        playing.spawn(async move { players.cancel_and_replace().await });
        let players = self.clone();
        playing.spawn(async move { players.delete().await });
        let players = self.clone();
        playing.spawn(async move { players.create_under_keys().await });
        let players = self.clone();
        playing.spawn(async move { players.create_and_start().await });
    }

    /// Runs that will be there when the server that lives on does not.
    pub(crate) async fn leave_runs(&self) {
        for (model, n) in [("Long", 0), ("Long", 1), ("Line", 2)] {
            let key = format!("own/{model}/{}-left-{n}", self.round);
            self.other.insist(("PUT", &format!("/tasks/{key}"), "{}", None)).await;
            self.other.insist(("POST", &format!("/tasks/{key}/start"), "", None)).await;
        }
    }

    /// Waits until the doomed server runs what takes long, or is gone.
    pub(crate) async fn slow_runs_begin(&self) {
        for n in [0, 1] {
            let path = format!("/tasks/own/Slow/{}-{n}", self.round);
            while let Some((status, task)) = self.doomed.ask(("GET", &path, "", None)).await
                && (status == 404 || matches!(task["status"].as_str(), Some("pending" | "queued")))
            {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }

    /// Creates a task and starts it under a key, for itself and for somebody else, and watches it to its end.
    /// Tasks that are created and started by one request, which is sent again where it had no answer.
    async fn create_and_start(self) {
        for n in 0..4 {
            let key = format!("demo/ExampleTask/{}-at-once-{n}", self.round);
            let body = r#"{"input":{"message":"m","delay_ms":20},"start":true}"#;
            let task = self.tell(("PUT", &format!("/tasks/{key}"), body, None), &[200, 201]).await;
            assert_eq!(task["run"], 1, "{key}: {task}");
            self.record.of(&key, |told| told.won.push(1));
            tokio::join!(self.watch(&self.doomed, &key), self.watch(&self.other, &key));
        }
    }

    async fn start_and_watch(self, key: String, input: &str) {
        self.create(&key, input).await;
        let path = format!("/tasks/{key}/start");
        let mine = ("POST", &*path, "", Some("mine"));
        let theirs = ("POST", &*path, r#"{"policy":"once"}"#, Some("theirs"));
        let mine = async { (self.doomed.ask(mine).await, self.other.insist(mine).await) };
        let ((first, again), theirs) = tokio::join!(mine, self.other.insist(theirs));
        let told = |(status, answer): &(u16, Value)| {
            assert!(matches!(status, 200 | 202), "{key}: {status} {answer}");
            (answer["started"].as_bool().unwrap(), answer["run"].as_u64().unwrap())
        };
        if let Some(first) = first {
            assert_eq!(told(&first), told(&again), "{key}: a repeat was told something else");
        }
        for (started, run) in [told(&again), told(&theirs)] {
            self.record.of(&key, |told| if started { told.won.push(run) } else { told.lost.push(run) });
        }
        tokio::join!(self.watch(&self.doomed, &key), self.watch(&self.other, &key));
    }

    /// Watches the first run of a task to its end, at `first` as long as that lives.
    async fn watch(&self, first: &Line, key: &str) {
        let (mut seen, mut at, since) = (Seen::default(), first, Instant::now());
        while seen.endings.is_empty() {
            let read = async {
                let mut viewer = Connection::open_raw(&at.address, key, &seen).await?;
                // What was read before a connection breaks counts as well.
                loop {
                    match viewer.read(&mut seen, 4096).await {
                        Ok(End::Cut) => {}
                        end => break end,
                    }
                }
            };
            let read = tokio::time::timeout(Duration::from_secs(60), read).await;
            if matches!(read.unwrap_or_else(|_| panic!("{key} neither ends nor breaks")), Ok(End::NoContent))
            {
                break;
            }
            assert!(since.elapsed() < Duration::from_secs(90), "{key} does not end");
            at = &self.other;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(seen.gaps, 0, "{key}: nothing was lost, so there is no gap");
        let watched = Watched { after: None, ids: seen.ids, shown: seen.shown };
        self.record.of(key, |told| told.viewers.push(watched));
    }

    /// Runs that wait for a slot, and one that fails, waits for its time and is tried again.
    async fn wait_in_line(self) {
        for (model, n) in [("Flaky", 0), ("Line", 1), ("Line", 2), ("Line", 3)] {
            let key = format!("own/{model}/{}-{n}", self.round);
            self.create(&key, "{}").await;
            self.start(&key, "restart").await;
        }
    }

    /// A run that is asked for once more, signalled and cancelled, and one that is replaced and left until its time is over.
    async fn cancel_and_replace(self) {
        let [first, second] = [0, 1].map(|n| format!("own/Slow/{}-{n}", self.round));
        for key in [&first, &second] {
            self.create(key, "{}").await;
            self.start(key, "restart").await;
        }
        // It may be over by then, or even gone.
        self.ask(("POST", &format!("/tasks/{first}/start"), r#"{"policy":"rerun"}"#, None)).await;
        self.ask(("POST", &format!("/tasks/{first}/signals/go"), "1", None)).await;
        self.ask(("POST", &format!("/tasks/{first}/cancel"), "", None)).await;
        self.ask(("POST", &format!("/tasks/{second}/start"), r#"{"policy":"replace"}"#, None)).await;
    }

    async fn delete(self) {
        let key = format!("demo/BurstTask/{}-gone", self.round);
        self.create(&key, r#"{"events":20,"bytes":50,"rate":0}"#).await;
        self.start(&key, "once").await;
        self.remove(&key).await;
        // Another task under the same key goes on from the numbers of the first, and so its log begins in the middle: it is
        // gone again before the log is judged.
        let body = r#"{"input":{"events":1,"bytes":50,"rate":0}}"#;
        let task = self.tell(("PUT", &format!("/tasks/{key}"), body, None), &[200, 201]).await;
        assert_eq!(task["status"], "pending", "{task}");
        assert!(task["run"].as_u64() >= Some(1) && task["last_seq"].as_u64() >= Some(1), "S2, S3: {task}");
        self.remove(&key).await;
    }

    async fn remove(&self, key: &str) {
        loop {
            match self.ask(("DELETE", &format!("/tasks/{key}"), "", None)).await.0 {
                // Gone, perhaps by a delete whose answer was lost.
                204 | 404 => return,
                409 => tokio::time::sleep(Duration::from_millis(10)).await,
                status => panic!("{key} is not deleted: {status}"),
            }
        }
    }

    /// Creates that bring a key: sent again, they are told of the same task.
    async fn create_under_keys(self) {
        let input = r#"{"input":{"events":1,"bytes":50,"rate":0}}"#;
        let post = ("POST", "/tasks/demo/BurstTask", input, Some(&*self.round));
        let first = self.doomed.ask(post).await;
        let (_, again) = self.other.insist(post).await;
        if let Some((_, first)) = first {
            assert_eq!(first["id"], again["id"], "a create that was repeated made another task");
        }
        let path = format!("/tasks/demo/BurstTask/{}-keyed", self.round);
        for key in ["one", "one", "other"] {
            self.tell(("PUT", &path, input, Some(key)), &[200, 201]).await;
        }
    }
}
