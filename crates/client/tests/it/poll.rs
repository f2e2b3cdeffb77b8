//! The log by long poll.

use std::time::Duration;

use soloist_client::{Client, Error};

use super::cutting::{Server, json, problem};

/// A page of the log of a task that has one event.
fn page(has_event: bool, status: &str) -> Vec<u8> {
    let event =
        r#"{"seq":1,"run":1,"type":"step","data":{"n": 1.0},"timestamp":"2026-11-23T12:00:00.000000Z"}"#;
    let events = if has_event { event } else { "" };
    json(200, "", &format!(r#"{{"events":[{events}],"last_seq":1,"status":"{status}"}}"#))
}

#[tokio::test]
async fn a_client_reads_on_until_an_empty_page_of_a_finished_task() {
    let pages = vec![page(false, "running"), page(true, "completed"), page(false, "completed")];
    let server = Server::in_turn(pages).await;
    let client = Client::new(&server.url).unwrap();
    let (mut seen, mut data) = (0, Vec::new());
    loop {
        let page = client.next_events("a/B/1", seen, Some(7), Duration::from_secs(30)).await.unwrap();
        if page.events.is_empty() && page.status == "completed" {
            break;
        }
        for event in page.events {
            seen = event.seq;
            data.push(event.data.get().to_owned());
        }
    }
    assert_eq!(data, [r#"{"n": 1.0}"#], "the text that came");
    let asked: Vec<_> = server.seen().into_iter().map(|request| request.line).collect();
    let line = |after: u64| format!("GET /tasks/a/B/1/events?after={after}&limit=7&wait=30 HTTP/1.1");
    assert_eq!(asked, [line(0), line(0), line(1)]);
}

#[tokio::test]
async fn a_poll_that_is_refused_or_cut_off_is_an_error_and_is_not_sent_again() {
    let cut = page(true, "running");
    let server = Server::in_turn(vec![problem(404, "unknown_task"), cut[..cut.len() - 3].to_vec()]).await;
    let client = Client::new(&server.url).unwrap();
    let poll = || client.next_events("a/B/1", 0, None, Duration::from_secs(1));
    assert_eq!(poll().await.unwrap_err().code(), Some("unknown_task"));
    assert!(matches!(poll().await.unwrap_err(), Error::Broke { .. }));
    assert_eq!(server.seen().len(), 2);
    assert_eq!(server.seen()[0].line, "GET /tasks/a/B/1/events?after=0&wait=1 HTTP/1.1");
}
