//! Requests whose answers were lost, sent again with their keys, to the same server and to another one.

use serde_json::{Value, json};

use super::{
    http::{Answer, call, send, until},
    program::Server,
    several::Beside,
};

/// Two servers on one file, and the one task that they get.
struct Pair {
    server: Server,
    beside: Beside,
}

impl Pair {
    fn new() -> Self {
        let server = Server::new();
        let beside = Beside::new(&server, "10");
        Self { server, beside }
    }

    fn urls(&self) -> [&str; 2] {
        [&self.server.url, &self.beside.url]
    }

    /// Sends a request whose answer nobody reads, and cuts the connection once what it asks for is on record.
    fn lose(
        &self,
        method: &str,
        path: &str,
        key: &str,
        body: &str,
        watched: &str,
        done: impl Fn(&Value) -> bool,
    ) {
        let cut = send(&self.server.url, method, path, Some(key), body);
        until(&self.server.url, watched, done);
        drop(cut);
    }

    /// The same request once more, at both servers: each gives the answer of its first use.
    fn again(&self, method: &str, path: &str, key: &str, body: &str) -> [Answer; 2] {
        self.urls().map(|url| {
            let answer = call(url, method, path, Some(key), body);
            assert_eq!((answer.status, answer.is_replayed()), (200, true), "{answer:?}");
            answer
        })
    }

    /// Lets the run of a task come to its end.
    fn finish(&self, task: &str, run: u64) {
        call(&self.server.url, "POST", &format!("{task}/signals/continue"), None, "null");
        let over = |record: &Value| record["status"] == "completed" && record["run"] == run;
        until(&self.server.url, task, over);
    }
}

#[test]
fn s1_a_create_that_is_sent_again_before_during_and_after_its_run_makes_one_task_and_one_run() {
    let pair = Pair::new();
    let path = "/tasks/demo/ContinueTask";
    let body = r#"{"input":{"message":"m"}}"#;
    let list = "/tasks?model=ContinueTask";
    let tasks = |list: &Value| list["tasks"].as_array().unwrap().len();
    pair.lose("POST", path, "create-1", body, list, |list| tasks(list) == 1);
    let [first, second] = pair.again("POST", path, "create-1", body);
    assert_eq!(first.body["status"], "pending");
    assert_eq!(first.body["id"], second.body["id"]);
    let task = format!("{path}/{}", first.body["id"].as_str().unwrap());

    call(&pair.beside.url, "POST", &format!("{task}/start"), None, "");
    for answer in pair.again("POST", path, "create-1", body) {
        assert_eq!((&answer.body["id"], &answer.body["run"]), (&first.body["id"], &json!(1)));
    }
    pair.finish(&task, 1);
    for answer in pair.again("POST", path, "create-1", body) {
        assert_eq!((&answer.body["status"], &answer.body["run"]), (&json!("completed"), &json!(1)));
    }
    for url in pair.urls() {
        let other = call(url, "POST", path, Some("create-1"), r#"{"input":{"message":"n"}}"#);
        assert_eq!((other.status, &other.body["code"]), (422, &json!("idempotency_key_reused")));
        assert_eq!(tasks(&call(url, "GET", list, None, "").body), 1, "one task");
    }
}

#[test]
fn s1_a_create_that_also_starts_is_one_run_however_often_it_is_sent() {
    let pair = Pair::new();
    let path = "/tasks/demo/ContinueTask/c";
    let body = r#"{"input":{"message":"m"},"start":true}"#;
    let runs = |record: &Value| record["status"] == "running";
    pair.lose("PUT", path, "put-1", body, path, runs);
    for answer in pair.again("PUT", path, "put-1", body) {
        assert_eq!((&answer.body["status"], &answer.body["run"]), (&json!("running"), &json!(1)));
    }
    pair.finish(path, 1);
    for answer in pair.again("PUT", path, "put-1", body) {
        assert_eq!((&answer.body["status"], &answer.body["run"]), (&json!("completed"), &json!(1)));
    }
    assert_eq!(call(&pair.server.url, "GET", path, None, "").body["run"], 1, "nothing was started again");
}

#[test]
fn s1_a_start_that_is_sent_again_during_and_after_its_run_is_one_run() {
    let pair = Pair::new();
    let path = "/tasks/demo/ContinueTask/c";
    let start = format!("{path}/start");
    call(&pair.server.url, "PUT", path, None, r#"{"input":{"message":"m"}}"#);
    for run in [1, 2] {
        let key = format!("start-{run}");
        let runs = |record: &Value| record["status"] == "running" && record["run"] == run;
        pair.lose("POST", &start, &key, "{}", path, runs);
        // Somebody else is told that it runs already, and is told so for ever.
        let late = format!("late-{run}");
        let answer = call(&pair.beside.url, "POST", &start, Some(&late), "{}");
        assert_eq!((answer.status, &answer.body["started"]), (200, &json!(false)));
        let told = |status: &str| {
            for answer in pair.again("POST", &start, &key, "{}") {
                assert_eq!(answer.body["started"], true);
                assert_eq!((&answer.body["run"], &answer.body["status"]), (&json!(run), &json!(status)));
            }
            for answer in pair.again("POST", &start, &late, "{}") {
                assert_eq!((&answer.body["started"], &answer.body["run"]), (&json!(false), &json!(run)));
            }
        };
        told("running");
        pair.finish(path, run);
        told("completed");
        assert_eq!(
            call(&pair.server.url, "GET", path, None, "").body["run"],
            run,
            "nothing was started again"
        );
    }
    let other = call(&pair.server.url, "POST", &start, Some("start-1"), r#"{"policy":"once"}"#);
    assert_eq!((other.status, &other.body["code"]), (422, &json!("idempotency_key_reused")));
}
