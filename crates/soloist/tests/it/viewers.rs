//! Every viewer sees a gapless run of the log, and costs the run nothing.

use rand::{RngExt, SeedableRng, rngs::StdRng};
use soloist::{Cursor, Delivery, Epoch, From, GapReason, SubscribeOptions, Subscribed};

use crate::models::{create, drain, open, start, until, watch};

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
