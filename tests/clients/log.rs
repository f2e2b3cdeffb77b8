//! What a client has seen, held against the log of the task.

use serde_json::Value;
use system_tests::server::Server;

/// An event, as a client got it or as it is on record.
#[derive(Debug)]
pub(crate) struct Event {
    pub seq: u64,
    pub kind: String,
    pub data: Value,
}

/// What a client printed or posted: `[[id, type, data], ...]`.
pub(crate) fn seen(text: &str) -> Vec<Event> {
    let events: Vec<[String; 3]> = serde_json::from_str::<Vec<Value>>(text)
        .unwrap_or_else(|error| panic!("{error}: {text:.200}"))
        .into_iter()
        .map(|event| [0, 1, 2].map(|at| event[at].as_str().expect("an event is three texts").to_owned()))
        .collect();
    let read = |[id, kind, data]: [String; 3]| Event {
        seq: id.parse().unwrap_or_else(|_| panic!("{kind} came with the id {id:?}")),
        kind,
        data: serde_json::from_str(&data).expect("data are JSON"),
    };
    events.into_iter().map(read).collect()
}

/// The whole log of a task.
pub(crate) async fn log_of(server: &Server, key: &str) -> Vec<Event> {
    let mut log: Vec<Event> = Vec::new();
    loop {
        let after = log.len();
        let (status, page) = server.call("GET", &format!("/tasks/{key}/events?after={after}"), "").await;
        assert_eq!(status, 200, "{page}");
        for event in page["events"].as_array().unwrap() {
            let (seq, kind) = (event["seq"].as_u64().unwrap(), event["type"].as_str().unwrap().to_owned());
            assert_eq!(seq, log.len() as u64 + 1, "the log is dense");
            log.push(Event { seq, kind, data: event["data"].clone() });
        }
        if log.len() as u64 == page["last_seq"].as_u64().unwrap() {
            return log;
        }
        assert!(log.len() > after, "a page moves on: {page}");
    }
}

/// The client has got the log: every event once, in order, with its data, and one terminal event at the end.
pub(crate) fn assert_same(seen: &[Event], log: &[Event]) {
    let seqs = |events: &[Event]| events.iter().map(|event| event.seq).collect::<Vec<_>>();
    assert_eq!(seqs(seen), seqs(log));
    for (seen, logged) in seen.iter().zip(log) {
        assert_eq!(seen.kind, logged.kind, "event {}", logged.seq);
        assert_eq!(seen.data["_run"], 1, "event {}", logged.seq);
        for (name, value) in logged.data.as_object().expect("the data are an object") {
            assert_eq!(&seen.data[name], value, "`{name}` of event {}", logged.seq);
        }
    }
    let terminal = |event: &Event| matches!(event.kind.as_str(), "complete" | "error" | "cancelled");
    assert_eq!(seen.iter().position(terminal), Some(seen.len() - 1), "one terminal event, the last one");
}
