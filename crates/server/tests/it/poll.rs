//! The log by long poll: for readers whose network breaks streams.

use std::sync::Arc;

use serde_json::{Value, json};
use soloist::MemoryStore;
use soloist_server::ServerOptions;
use tokio::task::JoinHandle;

use crate::{
    client::{Answer, JSON},
    server::{DEADLINE, Server, coordinator_on},
};

/// A poll that goes on while the test does something else.
fn poll(server: &Arc<Server>, path: String) -> JoinHandle<Answer> {
    let server = server.clone();
    tokio::spawn(async move { server.get(&path).await })
}

async fn answered(poll: JoinHandle<Answer>) -> Answer {
    tokio::time::timeout(DEADLINE, poll).await.expect("an answer in time").unwrap()
}

fn seqs(page: &Value) -> Vec<u64> {
    page["events"].as_array().unwrap().iter().map(|event| event["seq"].as_u64().unwrap()).collect()
}

async fn say(server: &Server, key: &str, word: &str) {
    assert_eq!(
        server.call("POST", &format!("/tasks/{key}/signals/say"), &[JSON], word.to_owned()).await.status,
        202
    );
}

/// Far longer than any test takes: a poll that is answered was woken.
const LONG: u64 = 60;

#[tokio::test]
async fn an_event_that_is_there_is_answered_at_once_and_one_that_comes_later_wakes_the_poll() {
    let server = Arc::new(Server::start().await);
    let key = server.started("Talks", "x", "{}").await;
    let path = |after: u64| format!("/tasks/{key}/events?after={after}&wait={LONG}");
    let waiting = poll(&server, path(0));
    server.until_viewers(1).await;
    say(&server, &key, r#"{"n": 1.0}"#).await;
    let page = answered(waiting).await;
    assert!(page.body.contains(r#""type":"said","data":{"n": 1.0},"#), "{page:?}");
    assert_eq!((seqs(&page.json()), &page.json()["status"]), (vec![1], &json!("running")));
    server.until_viewers(0).await;
    // It is there now.
    assert_eq!(server.get(&path(0)).await.json(), page.json());
    let waiting = poll(&server, path(1));
    server.until_viewers(1).await;
    say(&server, &key, "null").await;
    let page = answered(waiting).await.json();
    assert_eq!((seqs(&page), &page["status"]), (vec![2], &json!("completed")));
    // Nothing more comes: at once.
    for wait in ["&wait=60", "&wait=0", ""] {
        let page = server.get(&format!("/tasks/{key}/events?after=2{wait}")).await.json();
        assert_eq!(page, json!({"events": [], "last_seq": 2, "status": "completed"}));
    }
    server.until_viewers(0).await;
}

#[tokio::test]
async fn a_wait_that_is_over_is_an_empty_page_and_says_how_the_task_stands() {
    let server = Server::start().await;
    let key = server.started("Talks", "x", "{}").await;
    let page = server.get(&format!("/tasks/{key}/events?wait=1")).await;
    assert_eq!(page.status, 200);
    assert_eq!(page.json(), json!({"events": [], "last_seq": 0, "status": "running"}));
    server.call("PUT", "/tasks/demo/Talks/y", &[], "").await;
    let page = server.get("/tasks/demo/Talks/y/events?wait=1").await.json();
    assert_eq!(page, json!({"events": [], "last_seq": 0, "status": "pending"}), "a poll starts nothing");
    server.until_viewers(0).await;
}

#[tokio::test]
async fn a_poll_of_a_pending_task_is_woken_by_what_its_run_sends() {
    let server = Arc::new(Server::start().await);
    server.call("PUT", "/tasks/demo/Steps/x", &[], "").await;
    let waiting = poll(&server, format!("/tasks/demo/Steps/x/events?wait={LONG}"));
    server.until_viewers(1).await;
    server.post("/tasks/demo/Steps/x/start", "").await;
    assert_eq!(seqs(&answered(waiting).await.json()), [1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_client_that_polls_until_an_empty_page_of_a_finished_task_has_seen_each_event_once() {
    const EVENTS: u64 = 2_000;
    let server = Server::start().await;
    for (round, limit) in [1_000, 7, 100].into_iter().enumerate() {
        let key = server.started("Steps", &round.to_string(), &format!(r#"{{"count":{EVENTS}}}"#)).await;
        let mut seen = Vec::new();
        loop {
            let after = seen.last().copied().unwrap_or(0);
            let path = format!("/tasks/{key}/events?after={after}&limit={limit}&wait={LONG}");
            let page = server.get(&path).await.json();
            let new = seqs(&page);
            assert!(new.len() <= limit);
            if new.is_empty() {
                assert_eq!((&page["status"], &page["last_seq"]), (&json!("completed"), &json!(EVENTS + 1)));
                break;
            }
            seen.extend(new);
        }
        assert_eq!(seen, (1..=EVENTS + 1).collect::<Vec<_>>());
    }
    server.until_viewers(0).await;
}

#[tokio::test]
async fn a_wait_is_whole_seconds_up_to_a_minute() {
    let server = Server::start().await;
    server.call("PUT", "/tasks/demo/Steps/x", &[], "").await;
    for wait in ["61", "-1", "1.5", "", "1s", "99999999999999999999"] {
        let refused = server.get(&format!("/tasks/demo/Steps/x/events?wait={wait}")).await;
        assert_eq!((refused.status, &*refused.code()), (400, "invalid_query"), "{wait:?}");
    }
    let unknown = server.get("/tasks/demo/Steps/nobody/events?wait=60").await;
    assert_eq!((unknown.status, &*unknown.code()), (404, "unknown_task"));
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_nothing_behind() {
    let server = Arc::new(Server::start().await);
    let key = server.started("Talks", "x", "{}").await;
    let polls: Vec<_> = (0..10).map(|_| poll(&server, format!("/tasks/{key}/events?wait={LONG}"))).collect();
    server.until_viewers(10).await;
    assert_eq!(server.get("/stats").await.json()["viewers"], 10);
    for poll in polls {
        poll.abort();
    }
    server.until_viewers(0).await;
    assert_eq!(server.get("/stats").await.json()["viewers"], 0);
}

#[tokio::test]
async fn a_poll_does_not_hold_up_a_server_that_stops() {
    let server = Arc::new(Server::start().await);
    let key = server.started("Talks", "x", "{}").await;
    let waiting = poll(&server, format!("/tasks/{key}/events?wait={LONG}"));
    server.until_viewers(1).await;
    server.stop.cancel();
    let page = answered(waiting).await.json();
    assert_eq!(page, json!({"events": [], "last_seq": 0, "status": "running"}));
}

#[tokio::test]
async fn a_shutdown_answers_who_waits_and_lets_others_wait_for_the_end_of_the_work() {
    let server = Arc::new(Server::start().await);
    let key = server.started("Talks", "x", "{}").await;
    let path = format!("/tasks/{key}/events?wait={LONG}");
    let waiting = poll(&server, path.clone());
    server.until_viewers(1).await;
    let shutdown = tokio::spawn({
        let coordinator = server.coordinator.clone();
        async move { coordinator.shutdown(DEADLINE).await }
    });
    let page = answered(waiting).await.json();
    assert_eq!(page, json!({"events": [], "last_seq": 0, "status": "running"}));
    // No other server is there: who comes now waits here for what the work still sends.
    server.until_viewers(0).await;
    let late = poll(&server, path);
    server.until_viewers(1).await;
    say(&server, &key, "null").await;
    assert_eq!(seqs(&answered(late).await.json()), [1]);
    tokio::time::timeout(DEADLINE, shutdown).await.expect("shut down in time").unwrap();
}

#[tokio::test]
async fn a_poll_of_a_task_that_is_deleted_meanwhile_is_told_so() {
    let server = Arc::new(Server::start().await);
    server.call("PUT", "/tasks/demo/Talks/x", &[], "").await;
    let waiting = poll(&server, format!("/tasks/demo/Talks/x/events?wait={LONG}"));
    server.until_viewers(1).await;
    assert_eq!(server.call("DELETE", "/tasks/demo/Talks/x", &[], "").await.status, 204);
    let gone = answered(waiting).await;
    assert_eq!((gone.status, &*gone.code()), (404, "unknown_task"));
    server.until_viewers(0).await;
}

#[tokio::test]
async fn what_another_server_writes_wakes_the_poll() {
    let store = Arc::new(MemoryStore::new());
    let works = Server::on(coordinator_on(store.clone()).await, ServerOptions::default()).await;
    let answers = Arc::new(Server::on(coordinator_on(store).await, ServerOptions::default()).await);
    let key = works.started("Talks", "x", "{}").await;
    assert_eq!((works.coordinator.stats().running, answers.coordinator.stats().running), (1, 0));
    for (after, word) in [(0, "1"), (1, "2"), (2, "null")] {
        let waiting = poll(&answers, format!("/tasks/{key}/events?after={after}&wait={LONG}"));
        answers.until_viewers(1).await;
        say(&works, &key, word).await;
        assert_eq!(seqs(&answered(waiting).await.json()), [after + 1]);
        answers.until_viewers(0).await;
    }
    let over = answers.get(&format!("/tasks/{key}/events?after=3&wait={LONG}")).await.json();
    assert_eq!(over, json!({"events": [], "last_seq": 3, "status": "completed"}));
}
