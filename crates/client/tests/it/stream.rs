//! Every event exactly once and in order, however the stream is cut.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use soloist_client::{Client, Cursor, Error, EventStream, Update, WatchOptions};
use tokio::sync::Notify;

use super::cutting::{Server, frames, no_content, problem, stream_head, stream_of, stream_under_epoch};

/// Far more than any of these takes.
const DEADLINE: Duration = Duration::from_secs(60);

fn watch(server: &Server, after: Option<u64>) -> EventStream {
    let after = after.map(Cursor::from);
    Client::new(&server.url).unwrap().watch("a/B/1", WatchOptions { after, follow: false }).unwrap()
}

/// The seqs of all events until the stream is over, and how often it was cut.
async fn all(stream: &mut EventStream) -> Result<(Vec<u64>, usize), Error> {
    let (mut seqs, mut cuts) = (Vec::new(), 0);
    let read = async {
        while let Some(update) = stream.next().await? {
            match update {
                Update::Event(event) => {
                    assert!(
                        event.data.get().starts_with(&format!("{{\"i\":{},", event.seq)),
                        "data belong to their event"
                    );
                    seqs.push(event.seq);
                }
                Update::Cut { wait, .. } => {
                    assert!(wait < Duration::from_secs(16));
                    cuts += 1;
                }
                Update::Gap(gap) => panic!("a gap that nobody sent: {gap:?}"),
            }
        }
        Ok(())
    };
    tokio::time::timeout(DEADLINE, read).await.expect("the stream ends in time")?;
    Ok((seqs, cuts))
}

#[tokio::test]
async fn s5_a_stream_that_is_cut_at_random_bytes_brings_every_event_once() {
    const EVENTS: u64 = 60;
    for seed in 0..30 {
        let mut random = StdRng::seed_from_u64(seed);
        let server =
            Server::new(Box::new(move |request| match (request.last_event_id, random.random_range(0..8)) {
                (Some(EVENTS), _) => no_content(),
                (_, 0) => problem(503, "full"),
                (_, 1) => [stream_head(), b"retry: 1\n\n: come back\n\n".to_vec()].concat(),
                (after, _) => {
                    let mut answer = stream_of(after.unwrap_or(0) + 1..=EVENTS, EVENTS);
                    // Sometimes in the head, often within a few events, at times not at all.
                    let cut = random.random_range(1..=answer.len().min(4_000) + 200);
                    answer.truncate(cut);
                    answer
                }
            }))
            .await;
        let mut stream = watch(&server, None);
        // A cut in the head of the very first answer is told as an error; whoever watches asks again.
        let (seqs, cuts) = loop {
            match all(&mut stream).await {
                Err(Error::Broke { .. } | Error::Unexpected { .. }) if stream.cursor().is_none() => {}
                done => break done.unwrap_or_else(|e| panic!("seed {seed}: {e}")),
            }
        };
        assert_eq!(seqs, (1..=EVENTS).collect::<Vec<_>>(), "seed {seed}");
        assert_eq!(stream.cursor(), Some(EVENTS.into()));
        assert!(
            cuts + 1 >= server.seen().iter().filter(|r| r.last_event_id.is_some()).count(),
            "seed {seed}"
        );
    }
}

#[tokio::test]
async fn it_comes_back_after_the_last_event_that_it_handed_out() {
    let cut = stream_of(1..=3, 5);
    let server = Server::in_turn(vec![cut[..cut.len() - 1].to_vec(), stream_of(3..=5, 5)]).await;
    let (seqs, cuts) = all(&mut watch(&server, None)).await.unwrap();
    assert_eq!((seqs, cuts), ((1..=5).collect(), 1));
    let asked: Vec<_> = server.seen().into_iter().map(|request| request.last_event_id).collect();
    assert_eq!(asked, [None, Some(2)], "the third frame lacked its blank line");
}

#[tokio::test]
async fn s5_a_cursor_that_was_stored_names_the_event_as_exactly_as_the_server_did() {
    let server =
        Server::in_turn(vec![stream_under_epoch(3, 1..=2, 9), stream_under_epoch(4, 3..=3, 9)]).await;
    let mut stream = watch(&server, None);
    for seq in 1..=2 {
        assert!(matches!(stream.next().await.unwrap(), Some(Update::Event(event)) if event.seq == seq));
    }
    let stored = stream.cursor().unwrap().to_string();
    assert_eq!(stored, "2-3");
    // Another program, later.
    let options = WatchOptions { after: Some(stored.parse().unwrap()), follow: false };
    let mut stream = Client::new(&server.url).unwrap().watch("a/B/1", options).unwrap();
    assert_eq!(stream.cursor().unwrap().to_string(), "2-3");
    let Some(Update::Event(event)) = stream.next().await.unwrap() else { panic!("an event") };
    assert_eq!(event.cursor().to_string(), "3-4");
    assert_eq!(server.seen()[1].last_event_id_sent.as_deref(), Some("2-3"));
}

/// A caller that also does something else at each tick, and so cancels what it waited for.
async fn at_the_tick(stream: &mut EventStream, tick: Duration) -> Option<Result<Option<Update>, Error>> {
    tokio::time::timeout(tick, stream.next()).await.ok()
}

#[tokio::test]
async fn a_caller_that_cancels_at_every_tick_comes_back_after_the_wait() {
    let cut = [b"retry: 400\n\n".to_vec(), frames(1..=2, 3)].concat();
    let cut = String::from_utf8(cut).unwrap().replace("retry: 1\n", "");
    let server = Server::in_turn(vec![[stream_head(), cut.into_bytes()].concat(), stream_of(3..=3, 3)]).await;
    let mut stream = watch(&server, None);
    let (begun, mut seqs) = (Instant::now(), Vec::new());
    while begun.elapsed() < DEADLINE {
        match at_the_tick(&mut stream, Duration::from_millis(20)).await {
            Some(Ok(Some(Update::Event(event)))) => seqs.push(event.seq),
            Some(Ok(Some(Update::Cut { wait, .. }))) => assert!(wait >= Duration::from_millis(200)),
            Some(Ok(None)) => break,
            Some(other) => panic!("{other:?}"),
            None => {}
        }
    }
    assert_eq!(seqs, [1, 2, 3]);
}

#[tokio::test]
async fn a_caller_that_cancels_at_every_tick_gets_an_answer_that_takes_longer() {
    let told = Arc::new(Notify::new());
    let server = Server::told(vec![stream_of(1..=1, 1)], told.clone()).await;
    let mut stream = watch(&server, None);
    for _ in 0..5 {
        assert!(at_the_tick(&mut stream, Duration::from_millis(20)).await.is_none());
    }
    told.notify_one();
    assert_eq!(all(&mut stream).await.unwrap().0, [1]);
    assert_eq!(server.seen().len(), 1, "it asked once");
}

#[tokio::test]
async fn a_caller_that_cancels_at_every_tick_is_told_of_silence() {
    let told = Arc::new(Notify::new());
    told.notify_one();
    let server = Server::told(vec![stream_of(1..=1, 2)], told).await;
    let mut stream = watch(&server, None);
    assert!(matches!(stream.next().await, Ok(Some(Update::Event(_)))));
    tokio::time::pause();
    let begun = tokio::time::Instant::now();
    let cause = loop {
        match at_the_tick(&mut stream, Duration::from_secs(1)).await {
            Some(Ok(Some(Update::Cut { cause, .. }))) => break cause,
            Some(other) => panic!("{other:?}"),
            None => assert!(begun.elapsed() < Duration::from_secs(60), "it waits for a server that is gone"),
        }
    };
    assert_eq!(cause, "nothing came for 45 s");
}

#[tokio::test]
async fn a_caller_that_was_away_finds_what_came_meanwhile() {
    let told = Arc::new(Notify::new());
    told.notify_one();
    let server = Server::told(vec![stream_of(1..=1, 2), frames(2..=2, 2)], told.clone()).await;
    let mut stream = watch(&server, None);
    assert!(matches!(stream.next().await, Ok(Some(Update::Event(_)))));
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(600)).await;
    tokio::time::resume();
    told.notify_one();
    assert_eq!(all(&mut stream).await.unwrap(), (vec![2], 0));
}

#[tokio::test]
async fn it_begins_after_the_event_that_was_named_and_204_ends_it() {
    let server = Server::in_turn(vec![stream_of(8..=9, 9)]).await;
    assert_eq!(all(&mut watch(&server, Some(7))).await.unwrap().0, [8, 9]);
    assert_eq!(server.seen()[0].line, "GET /stream/a/B/1 HTTP/1.1");
    assert_eq!(server.seen()[0].last_event_id, Some(7));
    let server = Server::in_turn(vec![no_content()]).await;
    assert_eq!(all(&mut watch(&server, Some(9))).await.unwrap().0, [0; 0]);
}

#[tokio::test]
async fn s5_a_missing_or_doubled_event_is_told_and_never_passed_on() {
    for (wrong, said) in [
        (vec![1, 2, 4], "event 4 came after event 2; 3 was to come"),
        (vec![1, 2, 2], "event 2 came after event 2; 3 was to come"),
        (vec![1, 2, 1], "event 1 came after event 2; 3 was to come"),
    ] {
        let server = Server::in_turn(vec![stream_of(wrong, 9)]).await;
        let mut stream = watch(&server, None);
        for seq in 1..=2 {
            assert!(matches!(stream.next().await.unwrap(), Some(Update::Event(event)) if event.seq == seq));
        }
        let error = stream.next().await.unwrap_err();
        assert!(matches!(&error, Error::Broken(what) if what == said), "{error}");
    }
    let server = Server::in_turn(vec![stream_of([9], 10)]).await;
    assert!(matches!(watch(&server, Some(7)).next().await, Err(Error::Broken(_))), "8 was asked for");
}

#[tokio::test]
async fn a_gap_is_handed_out_and_the_stream_goes_on_from_there() {
    let gap = b"event: gap\ndata: {\"reason\":\"pruned\",\"first_seq\":5,\"_app\":\"a\"}\n\n".to_vec();
    let server = Server::in_turn(vec![[stream_head(), gap, frames(5..=6, 6)].concat()]).await;
    let mut stream = watch(&server, Some(2));
    let Some(Update::Gap(gap)) = stream.next().await.unwrap() else { panic!("the gap comes first") };
    assert_eq!((gap.reason.as_str(), gap.first_seq), ("pruned", 5));
    assert_eq!(all(&mut stream).await.unwrap().0, [5, 6]);
}

#[tokio::test]
async fn s5_a_stream_that_is_cut_right_after_a_gap_goes_on_with_what_the_gap_announced() {
    for (reason, cursor) in [("unknown_cursor", None), ("pruned", Some(Cursor { seq: 50, epoch: None }))] {
        let gap = format!("retry: 1\n\nevent: gap\ndata: {{\"reason\":\"{reason}\",\"first_seq\":61}}\n\n");
        let cut = [stream_head(), gap.into_bytes()].concat();
        // What stands there by now would be taken for the next event of the old cursor.
        let server = Server::new(Box::new(move |request| {
            match (request.last_event_id, request.line.contains("follow=true")) {
                (Some(50), _) => cut.clone(),
                // It ended the run before.
                (Some(60), false) => no_content(),
                (after, _) => stream_of(after.unwrap() + 1..=63, 63),
            }
        }))
        .await;
        let mut stream = watch(&server, Some(50));
        assert!(matches!(stream.next().await.unwrap(), Some(Update::Gap(gap)) if gap.first_seq == 61));
        assert_eq!(stream.cursor(), cursor, "{reason}");
        assert_eq!(all(&mut stream).await.unwrap(), (vec![61, 62, 63], 1), "{reason}");
        assert_eq!(stream.cursor(), Some(63.into()));
    }
}

#[tokio::test]
async fn a_refusal_for_good_is_an_error_and_a_passing_one_is_waited_out() {
    let server = Server::in_turn(vec![problem(404, "unknown_task")]).await;
    assert_eq!(watch(&server, None).next().await.unwrap_err().code(), Some("unknown_task"));
    let first = [stream_head(), b"retry: 1\n\n: this server stops\n\n".to_vec()].concat();
    let server = Server::in_turn(vec![first, problem(503, "shutting_down"), stream_of(1..=2, 2)]).await;
    let mut stream = watch(&server, None);
    let Some(Update::Cut { cause, .. }) = stream.next().await.unwrap() else { panic!("it was sent away") };
    assert!(cause.contains("this server stops"), "{cause}");
    assert_eq!(all(&mut stream).await.unwrap(), (vec![1, 2], 1));
}

#[tokio::test]
async fn what_never_answered_is_unreachable_and_what_answers_oddly_is_told() {
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let client = Client::new(&format!("http://{address}")).unwrap();
    let error = client.watch("a/B/1", WatchOptions::default()).unwrap().next().await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    assert!(matches!(client.health().await, Err(Error::Unreachable { .. })));
    let page =
        b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi"
            .to_vec();
    let server = Server::in_turn(vec![page]).await;
    assert!(matches!(watch(&server, None).next().await, Err(Error::Unexpected { .. })));
    assert!(matches!(Client::new(&server.url).unwrap().health().await, Err(Error::Unexpected { .. })));
    for url in ["", "localhost:8888", "ftp://x", "http://", "unix:", "http://x/?q"] {
        assert!(matches!(Client::new(url), Err(Error::Invalid(_))), "{url}");
    }
    assert!(Client::new("https://example.com/soloist/").is_ok());
}
