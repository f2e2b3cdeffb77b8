//! The log is read in pages, gapless, bounded, and byte for byte as it was written.

use soloist::{Data, Event, store::EventRange};

use crate::{
    Harness,
    stage::{ALL, Stage, append, json, key, sent},
};

/// Seqs of a page.
async fn page<H: Harness>(stage: &Stage<H>, id: &str, range: EventRange) -> Vec<u64> {
    let events = stage.store.events(&key(id), range).await.expect("the store works");
    events.iter().map(|event| event.seq).collect()
}

/// And begins after the one named.
pub async fn s8_a_page_ends_at_its_number_of_events<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let lease = stage.running("1").await;
    stage.append(&lease, 0, 10).await;
    assert_eq!(page(&stage, "1", EventRange { max_events: 4, ..ALL }).await, [1, 2, 3, 4]);
    assert_eq!(page(&stage, "1", EventRange { after: 8, max_events: 4, ..ALL }).await, [9, 10]);
    assert_eq!(page(&stage, "1", EventRange { after: 10, ..ALL }).await, [0; 0]);
    assert_eq!(page(&stage, "1", EventRange { after: u64::MAX, ..ALL }).await, [0; 0]);
    assert_eq!(page(&stage, "1", EventRange { max_events: 0, ..ALL }).await, [1]);
}

/// It stops once it has them, and one event that is larger than a page is a page.
pub async fn s8_a_page_ends_at_its_bytes_and_holds_at_least_one_event<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let lease = stage.running("1").await;
    let sizes = [10, 10, 10, 500, 0, 0, 10];
    let log = (1..).zip(sizes).map(|(seq, size)| {
        sent("text", Data::Text("x".repeat(size).into()), stage.now()).at(seq, 1, lease.epoch())
    });
    stage.apply(append(&lease, 0, log.collect())).await;
    let bytes = |after, max_bytes| page(&stage, "1", EventRange { after, max_bytes, ..ALL });
    assert_eq!(bytes(0, 20).await, [1, 2]);
    assert_eq!(bytes(0, 21).await, [1, 2, 3]);
    assert_eq!(bytes(3, 100).await, [4]);
    assert_eq!(bytes(4, 1).await, [5, 6, 7]);
    assert_eq!(bytes(3, 0).await, [4], "a page holds at least one event");
}

/// Inclusive.
pub async fn a_page_ends_at_the_last_seq_asked_for<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let lease = stage.running("1").await;
    stage.append(&lease, 0, 10).await;
    assert_eq!(page(&stage, "1", EventRange { after: 3, until: 5, ..ALL }).await, [4, 5]);
    assert_eq!(page(&stage, "1", EventRange { after: 5, until: 5, ..ALL }).await, [0; 0]);
    assert_eq!(page(&stage, "1", EventRange { after: 9, until: 99, ..ALL }).await, [10]);
}

/// Pages of any size, while the log grows.
pub async fn s5_pages_read_one_after_the_other_are_the_log<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let lease = stage.running("1").await;
    let grow = async {
        for n in 0..40 {
            stage.append(&lease, n * 5, 5).await;
        }
    };
    let read = async {
        let (mut read, mut size) = (Vec::<Event>::new(), 0);
        while read.len() < 200 {
            size = size % 7 + 1;
            let after = read.last().map_or(0, |event| event.seq);
            let range = EventRange { after, max_events: size, ..ALL };
            read.extend(stage.store.events(lease.key(), range).await.expect("the store works"));
            tokio::task::yield_now().await;
        }
        read
    };
    let ((), read) = futures_util::join!(grow, read);
    assert_eq!(read, stage.log(lease.key()).await);
}

/// Nor has one that is not there.
pub async fn a_task_without_events_has_none<H: Harness>() {
    let stage = Stage::<H>::new().await;
    stage.pending("1").await;
    assert_eq!(page(&stage, "1", ALL).await, [0; 0]);
    assert_eq!(page(&stage, "none", ALL).await, [0; 0]);
}

/// JSON keeps its text, and stays apart from text that looks like JSON.
pub async fn json_and_text_come_back_byte_for_byte<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let lease = stage.running("1").await;
    let json = [
        r#"{ "b" : 1 ,"a":2, "a":3}"#,
        "123456789012345678901234567890.10",
        "18446744073709551615",
        r#""\u0000 \u2028 \ud800\udc00 \/""#,
        "\"\u{2028}\u{2029}\u{7f}\u{e9}\u{1f600}\"",
        "null",
    ]
    .map(|text| Data::Json(json(text)));
    let text = [
        "",
        "{}",
        "null",
        "a\0b\0",
        "\0",
        "a\r\nb\rc\n",
        "\u{2028}\u{feff}\u{10ffff}",
        " ",
        "1e400",
        "NaN",
        "x'00'",
    ]
    .map(|text| Data::Text(text.into()));
    let log: Vec<Event> = (1..)
        .zip(json.into_iter().chain(text))
        .map(|(seq, data)| sent("data", data, stage.now()).at(seq, 1, lease.epoch()))
        .collect();
    stage.apply(append(&lease, 0, log.clone())).await;
    assert_eq!(stage.log(lease.key()).await, log);
}

/// Any text without a line break.
pub async fn event_types_come_back_as_they_were_sent<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let lease = stage.running("1").await;
    let longest = "t".repeat(soloist::limits::EVENT_TYPE_MAX_BYTES);
    let types = ["message", "a b", "\u{2028}", "it's", "Ünï", " ", &longest];
    let log: Vec<Event> = (1..)
        .zip(types)
        .map(|(seq, event_type)| {
            sent(event_type, Data::Json(json("1")), stage.now()).at(seq, 1, lease.epoch())
        })
        .collect();
    stage.apply(append(&lease, 0, log.clone())).await;
    assert_eq!(stage.log(lease.key()).await, log);
}

/// A reader that asks after the answer sees the write, also through another handle.
pub async fn what_was_answered_is_there_for_every_reader_at_once<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let other = stage.another().await;
    let lease = stage.running("1").await;
    for n in 0..200 {
        stage.append(&lease, n, 1).await;
        for store in [&stage.store, &other] {
            let range = EventRange { after: n, ..ALL };
            let seen = store.events(lease.key(), range).await.expect("the store works");
            assert_eq!(seen.iter().map(|event| event.seq).collect::<Vec<_>>(), [n + 1]);
        }
    }
}
