//! Every viewer sees a gapless run of the log, and costs the run nothing.

use std::{sync::Arc, time::Duration};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use soloist::{
    Coordinator, Cursor, Delivery, Epoch, From, GapReason, Json, MemoryStore, Status, SubscribeOptions,
    Subscribed,
};

use crate::models::{Count, Wait, create, drain, open, start, until, watch};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s5_viewers_that_join_and_leave_at_random_see_every_event_once_in_order() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let coordinator = open().await;
    let key = create(&coordinator, "t/Count/1", r#"{"events":20000,"bytes":100}"#).await;
    start(&coordinator, &key).await;
    let viewers: Vec<_> = (0..100)
        .map(|n| {
            let (coordinator, key) = (coordinator.clone(), key.clone());
            tokio::spawn(async move {
                let mut rng = StdRng::seed_from_u64(seed ^ n);
                for _ in 0..rng.random_range(0..2000) {
                    tokio::task::yield_now().await;
                }
                let mut seqs = Vec::new();
                'connection: loop {
                    let from = seqs.last().map_or(From::RunStart, |seq: &u64| From::After((*seq).into()));
                    let mut viewer = match coordinator
                        .subscribe(&key, SubscribeOptions { from, ..Default::default() })
                        .await
                        .unwrap()
                    {
                        Subscribed::Stream(viewer) => viewer,
                        Subscribed::Ended => return seqs,
                    };
                    while let Some(delivery) = viewer.next().await.unwrap() {
                        let Delivery::Events(slice) = delivery else { panic!("gap") };
                        for event in slice.events() {
                            seqs.push(event.seq);
                            // Cut in the middle of what was written in one go.
                            if rng.random_bool(0.0005) {
                                continue 'connection;
                            }
                        }
                    }
                }
            })
        })
        .collect();
    for viewer in viewers {
        let seqs = viewer.await.unwrap();
        assert!(seqs.iter().copied().eq(1..=20001), "seed {seed}: {} events", seqs.len());
    }
    assert_eq!(coordinator.stats().viewers, 0);
}

#[tokio::test]
async fn a_cursor_at_the_end_of_a_run_has_seen_it_all_unless_it_follows() {
    let coordinator = open().await;
    let key = create(&coordinator, "t/Count/1", r#"{"events":1}"#).await;
    start(&coordinator, &key).await;
    coordinator.ended(&key, 1).await.unwrap();
    let at_end = SubscribeOptions { from: From::After(2.into()), ..Default::default() };
    assert!(matches!(coordinator.subscribe(&key, at_end).await.unwrap(), Subscribed::Ended));
    let follow = SubscribeOptions { follow: true, ..at_end };
    let Subscribed::Stream(mut viewer) = coordinator.subscribe(&key, follow).await.unwrap() else { panic!() };
    start(&coordinator, &key).await;
    until(&mut viewer, "complete").await;
    assert_eq!(viewer.cursor(), 4);
}

#[tokio::test]
async fn a_cursor_beyond_the_log_is_told_of_the_gap_and_begins_with_the_current_run() {
    let coordinator = open().await;
    let key = create(&coordinator, "t/Count/1", r#"{"events":1}"#).await;
    for run in 1..=2 {
        start(&coordinator, &key).await;
        coordinator.ended(&key, run).await.unwrap();
    }
    // Beyond its end; or an event of another epoch than the one that stands there, also where that one ended a run.
    let lost = |seq, epoch| Cursor { seq, epoch: Some(Epoch(epoch)) };
    for cursor in [99.into(), lost(99, 1), lost(1, 2), lost(2, 7), lost(3, 1), lost(4, 1)] {
        let mut viewer = watch(&coordinator, &key, From::After(cursor)).await;
        let gap = viewer.next().await.unwrap();
        let Some(Delivery::Gap { reason, first_seq }) = gap else { panic!("{cursor:?}: {gap:?}") };
        assert_eq!((reason, first_seq), (GapReason::UnknownCursor, 3), "{cursor:?}");
        assert_eq!(drain(&mut viewer).await.iter().map(|e| e.seq).collect::<Vec<_>>(), [3, 4]);
    }
    let mut viewer = watch(&coordinator, &key, From::After(lost(3, 2))).await;
    assert_eq!(drain(&mut viewer).await.iter().map(|e| e.seq).collect::<Vec<_>>(), [4]);
    let ended = SubscribeOptions { from: From::After(lost(4, 2)), ..Default::default() };
    assert!(matches!(coordinator.subscribe(&key, ended).await.unwrap(), Subscribed::Ended));
}

#[tokio::test]
async fn where_no_cursor_is_given_the_replay_begins_where_it_is_told() {
    let coordinator = open().await;
    let key = create(&coordinator, "t/Count/1", r#"{"events":3}"#).await;
    start(&coordinator, &key).await;
    coordinator.ended(&key, 1).await.unwrap();
    for (from, expected) in [
        (From::RunStart, vec![1, 2, 3, 4]),
        (From::Latest, vec![4]),
        (From::Tail, vec![]),
        (From::After(0.into()), vec![1, 2, 3, 4]),
        (From::After(2.into()), vec![3, 4]),
    ] {
        let seqs: Vec<_> =
            drain(&mut watch(&coordinator, &key, from).await).await.iter().map(|e| e.seq).collect();
        assert_eq!(seqs, expected, "{from:?}");
    }
}

#[tokio::test]
async fn a_pending_task_is_started_by_its_first_viewer_and_a_finished_one_by_none() {
    let coordinator = open().await;
    let key = create(&coordinator, "t/Count/1", r#"{"events":1}"#).await;
    let autostart = SubscribeOptions { autostart: true, ..Default::default() };
    for _ in 0..2 {
        let Subscribed::Stream(mut viewer) = coordinator.subscribe(&key, autostart).await.unwrap() else {
            panic!()
        };
        assert_eq!(drain(&mut viewer).await.len(), 2);
    }
    assert_eq!(coordinator.task(&key).await.unwrap().run, 1);
}

#[tokio::test]
async fn viewers_of_a_deleted_task_are_told_that_the_stream_is_over() {
    let coordinator = open().await;
    let key = create(&coordinator, "t/Wait/1", "{}").await;
    let mut viewer = watch(&coordinator, &key, From::RunStart).await;
    assert_eq!(coordinator.delete(&key, None).await.unwrap(), soloist::Delete::Deleted);
    assert_eq!(drain(&mut viewer).await.len(), 0);
    let key = create(&coordinator, "t/Wait/1", "{}").await;
    start(&coordinator, &key).await;
    until(&mut watch(&coordinator, &key, From::RunStart).await, "waiting").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn next_events_waits_for_what_is_written_and_leaves_no_viewer_behind() {
    const LONG: Duration = Duration::from_secs(60);
    let coordinator = open().await;
    let key = create(&coordinator, "t/Wait/1", "{}").await;
    let next = |after, wait| coordinator.next_events(&key, after, 10, wait);
    let page = next(0, Duration::ZERO).await.unwrap();
    assert_eq!((page.events.len(), page.last_seq, page.status), (0, 0, Status::Pending));
    // One that is dropped while it waits.
    let waits = async {
        while coordinator.stats().viewers == 0 {
            tokio::task::yield_now().await
        }
    };
    tokio::select! {
        page = next(0, LONG) => panic!("{page:?}"),
        () = waits => {}
    }
    assert_eq!(coordinator.stats().viewers, 0);
    let (page, _) = tokio::join!(next(0, LONG), start(&coordinator, &key));
    assert_eq!(page.unwrap().events[0].event_type.as_str(), "waiting");
    let (page, sent) = tokio::join!(next(1, LONG), coordinator.signal(&key, "go", Json::null()));
    sent.unwrap();
    let page = page.unwrap();
    assert_eq!((page.events.len(), page.last_seq, page.status), (1, 2, Status::Completed));
    let page = next(2, LONG).await.unwrap();
    assert_eq!((page.events.len(), page.status), (0, Status::Completed));
    coordinator.delete(&key, None).await.unwrap();
    assert_eq!(next(2, LONG).await.unwrap_err().code(), "unknown_task");
    assert_eq!(coordinator.stats().viewers, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn readers_of_pages_on_two_nodes_see_every_event_once_in_order() {
    let store = Arc::new(MemoryStore::new());
    let a = Coordinator::builder(store.clone()).register::<Count>("t").open().await.unwrap();
    let b = Coordinator::builder(store).register::<Wait>("t").open().await.unwrap();
    let key = create(&a, "t/Count/1", r#"{"events":2000}"#).await;
    let readers: Vec<_> = (0..20)
        .map(|n| {
            let (reader, key) = (if n % 2 == 0 { a.clone() } else { b.clone() }, key.clone());
            tokio::spawn(async move {
                let mut seqs: Vec<u64> = Vec::new();
                loop {
                    let after = seqs.last().copied().unwrap_or(0);
                    let limit = 1 + n * 7;
                    let page = reader.next_events(&key, after, limit, Duration::from_secs(60)).await.unwrap();
                    if page.events.is_empty() && page.status.is_finished() {
                        return seqs;
                    }
                    seqs.extend(page.events.iter().map(|event| event.seq));
                }
            })
        })
        .collect();
    start(&a, &key).await;
    for reader in readers {
        let seqs = tokio::time::timeout(Duration::from_secs(60), reader).await.unwrap().unwrap();
        assert!(seqs.iter().copied().eq(1..=2001), "{} events", seqs.len());
    }
    assert_eq!((a.stats().viewers, b.stats().viewers), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_page_at_a_node_that_leaves_is_sent_to_the_one_beside_it() {
    const LONG: Duration = Duration::from_secs(60);
    let store = Arc::new(MemoryStore::new());
    let node = async || Coordinator::builder(store.clone()).register::<Wait>("t").open().await.unwrap();
    let (a, b) = (node().await, node().await);
    let key = create(&a, "t/Wait/1", "{}").await;
    start(&a, &key).await;
    assert_eq!(a.next_events(&key, 0, 10, LONG).await.unwrap().events.len(), 1);
    let leaves = a.clone();
    let leaves = tokio::spawn(async move { leaves.shutdown(LONG).await });
    a.leaving().cancelled().await;
    // What is there is handed out, and nobody is kept waiting for more.
    assert_eq!(a.next_events(&key, 0, 10, LONG).await.unwrap().events.len(), 1);
    assert_eq!(a.next_events(&key, 1, 10, LONG).await.unwrap_err().code(), "shutting_down");
    let (page, sent) = tokio::join!(b.next_events(&key, 1, 10, LONG), b.signal(&key, "go", Json::null()));
    sent.unwrap();
    assert_eq!(page.unwrap().events[0].event_type.as_str(), "complete");
    leaves.await.unwrap();
}
