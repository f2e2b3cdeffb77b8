//! The window of a topic: one writes, others read.

use std::sync::{Arc, LazyLock, Mutex};

use interleaved::pause;
use tokio::{sync::watch, task::spawn};

use crate::{
    Event, Timestamp,
    event::{Batch, Data, NewEvent, Slice},
    hub::{For, Hub, Look, TopicUse},
    limits,
    task::{Epoch, Seq},
};

/// So much that the window holds two or three of them.
static DATA: LazyLock<Arc<str>> = LazyLock::new(|| "x".repeat(limits::WINDOW_MAX_BYTES / 10).into());

fn event(seq: Seq, is_last: bool) -> Event {
    let event = NewEvent {
        event_type: crate::EventType::from_store(if is_last { "complete" } else { "tick" }),
        data: Data::Text(DATA.clone()),
        timestamp: Timestamp::from_micros(0),
    };
    event.at(seq, 1, Epoch(1))
}

/// What stands in for the store: what was committed.
type Log = Arc<Mutex<Vec<Event>>>;

async fn write(topic: TopicUse, log: Log, events: Seq) {
    topic.run_begins(Epoch(1), 0);
    for seq in 1..=events {
        let is_last = seq == events;
        let written = event(seq, is_last);
        log.lock().expect("nobody panics with it").push(written.clone());
        pause().await;
        let batch = Arc::new(Batch::new(vec![written]));
        let bytes = batch.held_bytes();
        if is_last {
            topic.run_ends(Epoch(1), Some(batch));
        } else {
            topic.show(batch);
        }
        assert!(topic.bytes() <= limits::WINDOW_MAX_BYTES.max(bytes), "S8: the window is bounded");
    }
}

async fn read(topic: TopicUse, mut versions: watch::Receiver<u64>, log: Log) {
    let (mut cursor, mut held) = (0, Vec::<(Slice, Seq)>::new());
    loop {
        versions.mark_unchanged();
        let events = match topic.look(cursor) {
            Look::Here(slice) => {
                held.push((slice.clone(), cursor + 1));
                slice.events().to_vec()
            }
            Look::InStore(until) => {
                let log = log.lock().expect("nobody panics with it");
                let events: Vec<_> =
                    log.iter().filter(|event| (cursor + 1..=until).contains(&event.seq)).cloned().collect();
                assert_eq!(
                    events.len() as u64,
                    until - cursor,
                    "nobody is sent to the store for what is not there"
                );
                events
            }
            Look::Nothing => {
                versions.changed().await.expect("the topic is used here");
                continue;
            }
            Look::Deleted => panic!("nobody has deleted it"),
        };
        for event in &events {
            assert_eq!(event.seq, cursor + 1, "S5: no hole, no double");
            cursor = event.seq;
        }
        // Whatever is trimmed meanwhile: who holds a slice still has it.
        pause().await;
        for (slice, first) in &held {
            let seqs: Vec<_> = slice.events().iter().map(|event| event.seq).collect();
            assert_eq!(seqs, (*first..=slice.last_seq()).collect::<Vec<_>>());
        }
        if events.last().is_some_and(|event| event.event_type.is_terminal()) {
            return;
        }
    }
}

/// One writes so many events, so many read.
pub async fn written_and_read(events: u64, readers: usize) {
    let (hub, log) = (Arc::new(Hub::default()), Log::default());
    let key = "t/Work/1".parse().expect("a key");
    let topic = hub.topic(&key, For::Run);
    let reading: Vec<_> = (0..readers)
        .map(|_| {
            let topic = hub.topic(&key, For::Viewer);
            let versions = topic.versions();
            spawn(read(topic, versions, log.clone()))
        })
        .collect();
    let writing = spawn(write(topic, log, events));
    for task in reading.into_iter().chain([writing]) {
        task.await.expect("nobody aborts it");
    }
    assert_eq!(hub.kept(), 0, "a topic goes with its last use");
}
