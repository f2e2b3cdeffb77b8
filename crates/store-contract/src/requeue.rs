//! A run whose attempt was lost goes on with the next one: queued again, fenced off from the one before.

use soloist::{
    Data, Status, StoreError,
    store::{Applied, Change, Transition, Writer},
};

use crate::{
    Harness,
    stage::{Stage, append, committed, completed, events, finish, json, sent},
};

/// Queued, attempt + 1, epoch + 1, one `retry` event, no node.
pub async fn s2_a_takeover_with_retries_left_queues_the_run_again<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let lease = stage.won(&stage.retried("1", 3).await).await;
    stage.append(&lease, 0, 2).await;
    let before = stage.task(lease.key()).await;
    let requeue = stage.requeued(&lease);
    let Writer::Outsider { event: Some(event), .. } = requeue.writer.clone() else { unreachable!() };
    assert_eq!(committed(&stage.apply(requeue.clone()).await), 3);
    let task = stage.task(lease.key()).await;
    assert_eq!((task.status, task.node, task.run), (Status::Queued, None, 1));
    assert_eq!((task.attempt, task.retry_count, task.max_retries), (2, 1, 3));
    assert_eq!((task.epoch, task.updated_at), (lease.epoch().next(), requeue.at));
    assert_eq!((task.started_at, task.run_start_seq), (before.started_at, 0));
    assert_eq!(stage.log(lease.key()).await[2..], [event.at(3, 1, lease.epoch().next())]);
    assert!(stage.store.orphans(10).await.expect("the store works").is_empty());
    assert!(matches!(stage.apply(requeue).await, Applied::Fenced(Some(_))), "one takeover of many");
}

/// While the run waits, and once another attempt runs: neither an event, nor an ending, nor another requeue.
pub async fn s6_the_holder_of_a_lost_attempt_is_fenced<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let zombie = stage.won(&stage.retried("1", 1).await).await;
    stage.append(&zombie, 0, 2).await;
    let (late, give_back) = (stage.another().await, stage.requeued(&zombie));
    stage.apply(give_back.clone()).await;
    for successor in [false, true] {
        if successor {
            stage.next_queued().await.expect("it waits");
        }
        let before = (stage.task(zombie.key()).await, stage.log(zombie.key()).await);
        let end = finish(&zombie, 3, Status::Running, completed("1"), stage.now());
        let write = append(&zombie, 3, events(&zombie, 3, 1, stage.now()));
        let requeue = Transition { writer: write.writer.clone(), ..give_back.clone() };
        for late_write in [write, end, requeue] {
            let answer = late.apply(late_write).await;
            assert!(matches!(answer, Ok(Applied::Fenced(Some(_)))), "{answer:?}");
        }
        assert!(matches!(stage.cancel(&zombie, "late").await, Applied::Fenced(Some(_))));
        let after = (stage.task(zombie.key()).await, stage.log(zombie.key()).await);
        assert_eq!(format!("{before:?}"), format!("{after:?}"));
    }
}

/// Run, its start and its input stay; attempt and epoch are new, and the log goes on.
pub async fn s2_s3_the_next_attempt_goes_on_with_the_run<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let key = stage.retried("1", 3).await;
    let lease = stage.won(&key).await;
    stage.finish(&lease, 0, completed("1")).await;
    let mut lease = stage.won(&key).await;
    let since = lease.since();
    let mut last = 1;
    for attempt in 2..=4 {
        stage.append(&lease, last, 2).await;
        last = committed(&stage.apply(stage.requeued(&lease)).await);
        let (next, won) = stage.next_queued().await.expect("it waits");
        assert_eq!(
            (won.run, won.attempt, won.retry_count, won.terms.max_retries),
            (2, attempt, attempt - 1, 3)
        );
        assert_eq!((won.last_seq, won.started_at, won.input), (last, since, json("{}")));
        assert_eq!(won.epoch, lease.epoch().next().next(), "one by the takeover, one by the claim");
        let task = stage.task(&key).await;
        assert_eq!((task.status, task.node.as_ref()), (Status::Running, Some(&stage.node)));
        assert_eq!((task.run_start_seq, task.started_at), (1, Some(since)));
        lease = next;
    }
    committed(&stage.finish(&lease, last, completed("2")).await);
    let task = stage.task(&key).await;
    assert_eq!((task.status, task.run, task.attempt, task.retry_count), (Status::Completed, 2, 4, 3));
    let runs: Vec<_> = stage.log(&key).await.iter().map(|event| event.run).collect();
    assert_eq!(runs, [1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2]);
}

/// A new run is a new attempt 1, with all its retries.
pub async fn a_new_run_has_all_its_retries_again<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let lease = stage.won(&stage.retried("1", 2).await).await;
    stage.apply(stage.requeued(&lease)).await;
    let (lease, won) = stage.next_queued().await.expect("it waits");
    committed(&stage.finish(&lease, won.last_seq, completed("1")).await);
    let lease = stage.won(lease.key()).await;
    let task = stage.task(lease.key()).await;
    assert_eq!((task.run, task.attempt, task.retry_count, task.max_retries), (2, 1, 0, 2));
}

/// It let go by its own act, with what it still had to say; the epoch is what the table says: kept after a failure,
/// raised by a drain.
pub async fn a_holder_gives_its_own_run_back<H: Harness>() {
    let stage = Stage::<H>::new().await;
    for (id, rises) in [("failed", false), ("drained", true)] {
        let lease = stage.won(&stage.retried(id, 1).await).await;
        stage.append(&lease, 0, 1).await;
        let mut batch = events(&lease, 1, 2, stage.now());
        let retry = sent("retry", Data::Json(json("{}")), stage.now());
        batch.push(retry.at(4, 1, lease.epoch()));
        let epoch_after = if rises { lease.epoch().next() } else { lease.epoch() };
        let change = Change::Requeued {
            attempt: 2,
            retry_count: u32::from(!rises),
            losses: soloist::Losses::default(),
            due_at: None,
        };
        let give_back = Transition { change, epoch_after, ..append(&lease, 1, batch.clone()) };
        assert_eq!(committed(&stage.apply(give_back.clone()).await), 4);
        let task = stage.task(lease.key()).await;
        assert_eq!((task.status, task.node, task.epoch), (Status::Queued, None, epoch_after));
        assert_eq!((task.attempt, task.retry_count), (2, u32::from(!rises)));
        assert_eq!(stage.log(lease.key()).await[1..], batch);
        assert_eq!(stage.apply(give_back).await, Applied::AlreadyThere);
        assert!(matches!(stage.append(&lease, 4, 1).await, Applied::Fenced(Some(_))));
        let (next, _) = stage.next_queued().await.expect("it waits");
        assert_eq!((next.key(), next.epoch()), (lease.key(), epoch_after.next()));
    }
}

/// A run that was asked to stop does not go on, and one that nobody holds is not given back.
pub async fn a_run_is_requeued_only_while_it_is_running<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let lease = stage.won(&stage.retried("1", 1).await).await;
    let requeue = stage.requeued(&lease);
    stage.cancel(&lease, "stop").await;
    let Applied::Moved(row) = stage.apply(requeue).await else { panic!("it is cancelling") };
    assert_eq!(row.status, Status::Cancelling);
    for from in Status::ALL.into_iter().filter(|status| *status != Status::Running) {
        let refused = stage.store.apply(Transition { from, ..stage.requeued(&lease) }).await;
        assert!(matches!(refused, Err(StoreError::Corrupt(_))), "{from}: {refused:?}");
    }
    assert!(stage.next_queued().await.is_none());
}

/// Each attempt reads all signals of its run from the first.
pub async fn signals_of_a_run_outlive_its_attempts<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let lease = stage.won(&stage.retried("1", 1).await).await;
    let key = lease.key();
    let signal = async |data: &str| {
        stage.store.signal(key, "go", json(data), stage.now()).await.expect("the store works");
        let signals = stage.store.signals(key, 1, 0, 10).await.expect("the store works");
        signals.iter().map(|signal| (signal.number, signal.data.as_str().to_owned())).collect::<Vec<_>>()
    };
    assert_eq!(signal("1").await.len(), 1);
    stage.apply(stage.requeued(&lease)).await;
    assert_eq!(signal("2").await.len(), 2);
    stage.next_queued().await.expect("it waits");
    assert_eq!(signal("3").await, [(1, "1".into()), (2, "2".into()), (3, "3".into())]);
}
