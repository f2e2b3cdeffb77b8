//! Signals: durable, in order, of one run.

use futures_util::{StreamExt, future::join_all, stream};
use soloist::{
    Key, Status, limits,
    store::{Signal, Signalled},
};

use crate::{
    Harness,
    stage::{Stage, completed, finish, json, key},
};

async fn send<H: Harness>(stage: &Stage<H>, key: &Key, data: &str) -> Signalled {
    stage.store.signal(key, "go", json(data), stage.now()).await.expect("the store works")
}

async fn read<H: Harness>(stage: &Stage<H>, key: &Key, run: u64, after: u64, limit: usize) -> Vec<Signal> {
    stage.store.signals(key, run, after, limit).await.expect("the store works")
}

/// From 1, after any of them, in pages; their data byte for byte.
pub async fn signals_are_numbered_and_read_in_order<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let lease = stage.running("1").await;
    let data = ["1", r#"{ "a" : 1.0 }"#, r#""\u0000""#, "null", "[]"];
    for (number, data) in (1..).zip(data) {
        assert_eq!(send(&stage, lease.key(), data).await, Signalled::Recorded { run: 1, number });
    }
    let all = read(&stage, lease.key(), 1, 0, 10).await;
    let expected: Vec<Signal> = (1..)
        .zip(data)
        .map(|(number, data)| Signal { number, name: "go".into(), data: json(data) })
        .collect();
    assert_eq!(all, expected);
    assert_eq!(read(&stage, lease.key(), 1, 0, 2).await, expected[..2]);
    assert_eq!(read(&stage, lease.key(), 1, 3, 10).await, expected[3..]);
    assert!(read(&stage, lease.key(), 1, 5, 10).await.is_empty());
    stage.cancel(&lease, "stop").await;
    assert_eq!(send(&stage, lease.key(), "6").await, Signalled::Recorded { run: 1, number: 6 });
}

/// They wait for work that is not there yet.
pub async fn signals_of_a_pending_task_are_its_next_runs<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let key = stage.pending("1").await;
    assert_eq!(send(&stage, &key, "1").await, Signalled::Recorded { run: 1, number: 1 });
    let lease = stage.won(&key).await;
    assert_eq!(send(&stage, &key, "2").await, Signalled::Recorded { run: 1, number: 2 });
    let data: Vec<_> = read(&stage, &key, lease.run(), 0, 10).await.into_iter().map(|s| s.data).collect();
    assert_eq!(data, [json("1"), json("2")]);
    assert!(read(&stage, &key, 2, 0, 10).await.is_empty());
}

/// Whoever reads one run's waits for no number that another's has taken.
pub async fn signals_of_two_tasks_are_counted_apart<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let (first, second) = (stage.running("1").await, stage.running("2").await);
    for number in 1..=3 {
        for lease in [&first, &second] {
            assert_eq!(send(&stage, lease.key(), "1").await, Signalled::Recorded { run: 1, number });
        }
    }
    for lease in [&first, &second] {
        let numbers: Vec<_> = read(&stage, lease.key(), 1, 0, 10).await.iter().map(|s| s.number).collect();
        assert_eq!(numbers, [1, 2, 3]);
    }
}

/// 64 at once get the numbers 1 to 64.
pub async fn concurrent_signals_lose_no_number<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let lease = stage.running("1").await;
    let texts: Vec<String> = (0..64).map(|n| n.to_string()).collect();
    let answers = join_all(texts.iter().map(|text| send(&stage, lease.key(), text))).await;
    let signals = read(&stage, lease.key(), 1, 0, 100).await;
    assert_eq!(signals.iter().map(|s| s.number).collect::<Vec<_>>(), (1..=64).collect::<Vec<_>>());
    for (text, answer) in texts.iter().zip(answers) {
        let Signalled::Recorded { run: 1, number } = answer else { panic!("{answer:?}") };
        let at = usize::try_from(number).expect("small") - 1;
        assert_eq!(signals[at].data.as_str(), text);
    }
}

/// Nobody would read it; nor for a task that is not there.
pub async fn a_finished_task_takes_no_signal<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let lease = stage.running("1").await;
    stage.finish(&lease, 0, completed("1")).await;
    assert_eq!(send(&stage, lease.key(), "1").await, Signalled::NotRunning(Status::Completed));
    assert_eq!(send(&stage, &key("none"), "1").await, Signalled::Missing);
    assert!(read(&stage, lease.key(), 1, 0, 10).await.is_empty());
}

/// However it ends; the next run counts from 1.
pub async fn signals_go_with_their_run<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let lease = stage.running("1").await;
    send(&stage, lease.key(), "1").await;
    send(&stage, lease.key(), "2").await;
    stage.cancel(&lease, "stop").await;
    let ending = soloist::Ending::Cancelled { reason: "stop".into() };
    stage.apply(finish(&lease, 0, Status::Cancelling, ending, stage.now())).await;
    assert!(read(&stage, lease.key(), 1, 0, 10).await.is_empty());
    stage.won(lease.key()).await;
    assert!(read(&stage, lease.key(), 2, 0, 10).await.is_empty());
    assert_eq!(send(&stage, lease.key(), "3").await, Signalled::Recorded { run: 2, number: 1 });
}

/// One more is refused, and a new run has room again.
pub async fn s8_a_run_keeps_a_bounded_number_of_signals<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let lease = stage.running("1").await;
    let max = limits::SIGNALS_MAX_PER_RUN;
    let sends = stream::iter(0..max).map(|_| send(&stage, lease.key(), "1"));
    let answers: Vec<_> = sends.buffer_unordered(256).collect().await;
    assert!(answers.iter().all(|answer| matches!(answer, Signalled::Recorded { .. })));
    assert_eq!(send(&stage, lease.key(), "1").await, Signalled::Full);
    assert_eq!(read(&stage, lease.key(), 1, max - 1, 10).await.len(), 1);
    stage.finish(&lease, 0, completed("1")).await;
    stage.won(lease.key()).await;
    assert_eq!(send(&stage, lease.key(), "1").await, Signalled::Recorded { run: 2, number: 1 });
}
