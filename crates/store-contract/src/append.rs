//! The log grows only by its holder, only at its end, and only under the newest epoch.

use futures_util::future::join_all;
use soloist::{
    Data, NodeId, Status, limits,
    store::{Applied, StoreError, Writer},
};

use crate::{
    Harness,
    stage::{Stage, append, committed, completed, events, sent},
};

/// All of an event: seq, run, epoch, type, data, time.
pub async fn events_are_read_back_as_they_were_appended<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let lease = stage.running("1").await;
    let before = stage.task(lease.key()).await.updated_at;
    let batch = events(&lease, 0, 10, stage.now());
    assert_eq!(committed(&stage.apply(append(&lease, 0, batch.clone())).await), 10);
    assert_eq!(stage.log(lease.key()).await, batch);
    let task = stage.task(lease.key()).await;
    assert_eq!((task.last_seq, task.status, task.updated_at), (10, Status::Running, before));
}

/// One that would leave a hole, or come late with a place that nobody wrote under its epoch, is told to look again.
pub async fn s3_a_batch_is_taken_only_right_after_the_end_of_the_log<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let first = stage.running("1").await;
    stage.append(&first, 0, 3).await;
    stage.finish(&first, 3, completed("1")).await;
    let lease = stage.won(first.key()).await;
    for after in [0, 2, 5, 100] {
        let Applied::Moved(row) = stage.append(&lease, after, 1).await else {
            panic!("after {after} is no end")
        };
        assert_eq!((row.last_seq, row.epoch), (4, lease.epoch()));
    }
    assert_eq!(committed(&stage.append(&lease, 4, 1).await), 5);
    assert_eq!(stage.log(lease.key()).await.len(), 5);
}

/// 32 writers of one run that believe in one place.
pub async fn s3_of_many_batches_for_one_place_one_is_written<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let lease = stage.running("1").await;
    let batches: Vec<_> = (0..32).map(|_| events(&lease, 0, 3, stage.now())).collect();
    let answers = join_all(batches.iter().map(|b| stage.apply(append(&lease, 0, b.clone())))).await;
    let written: Vec<_> =
        batches.iter().zip(&answers).filter(|(_, a)| matches!(a, Applied::Committed { .. })).collect();
    assert_eq!(written.len(), 1);
    assert_eq!(answers.iter().filter(|a| **a == Applied::AlreadyThere).count(), 31);
    assert_eq!(&stage.log(lease.key()).await, written[0].0);
}

/// After a lost answer the same batch is sent again, also when others came after it.
pub async fn a_batch_sent_again_is_already_there<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let lease = stage.running("1").await;
    let batch = events(&lease, 0, 3, stage.now());
    stage.apply(append(&lease, 0, batch.clone())).await;
    assert_eq!(stage.apply(append(&lease, 0, batch.clone())).await, Applied::AlreadyThere);
    stage.append(&lease, 3, 2).await;
    assert_eq!(stage.apply(append(&lease, 0, batch.clone())).await, Applied::AlreadyThere);
    stage.finish(&lease, 5, completed("1")).await;
    assert_eq!(stage.apply(append(&lease, 0, batch.clone())).await, Applied::AlreadyThere);
    let log = stage.log(lease.key()).await;
    assert_eq!((&log[..3], log.len()), (&*batch, 6));
}

/// The epoch alone is no right to write.
pub async fn s6_a_node_that_does_not_hold_the_run_is_fenced<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let lease = stage.running("1").await;
    let mut other = append(&lease, 0, events(&lease, 0, 1, stage.now()));
    if let Writer::Holder { node, .. } = &mut other.writer {
        *node = NodeId::random();
    }
    let Applied::Fenced(Some(row)) = stage.apply(other).await else { panic!("another node holds it") };
    assert_eq!(row.node.as_ref(), Some(lease.node()));
    assert!(stage.log(lease.key()).await.is_empty());
}

/// A node that was thought dead writes late, through a handle of its own: before and after the task runs again.
pub async fn s6_a_zombie_is_fenced_once_its_run_was_ended_for_it<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let zombie = stage.running("1").await;
    let late = stage.another().await;
    stage.append(&zombie, 0, 2).await;
    stage.apply(stage.lost(&zombie)).await;
    let write = || append(&zombie, 3, events(&zombie, 3, 1, zombie.since()));
    let Ok(Applied::Fenced(Some(row))) = late.apply(write()).await else { panic!("its run is over") };
    assert_eq!((row.status, row.epoch, row.node), (Status::Failed, zombie.epoch().next(), None));

    let successor = stage.won(zombie.key()).await;
    let Ok(Applied::Fenced(Some(row))) = late.apply(write()).await else { panic!("another run is active") };
    assert_eq!((row.status, row.epoch), (Status::Running, successor.epoch()));
    let end = crate::stage::finish(&zombie, 3, Status::Running, completed("1"), stage.now());
    assert!(matches!(late.apply(end).await, Ok(Applied::Fenced(Some(_)))));
    assert_eq!(committed(&stage.append(&successor, 3, 1).await), 4);
}

/// The very same node, one run later.
pub async fn s6_an_earlier_run_of_the_same_node_is_fenced<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let first = stage.running("1").await;
    stage.finish(&first, 0, completed("1")).await;
    let second = stage.won(first.key()).await;
    assert!(matches!(stage.append(&first, 1, 1).await, Applied::Fenced(Some(_))));
    assert_eq!(committed(&stage.append(&second, 1, 1).await), 2);
}

/// "No such task" would be the wrong answer: the writer must stop.
pub async fn s6_a_write_to_a_deleted_task_is_fenced<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let lease = stage.running("1").await;
    stage.finish(&lease, 0, completed("1")).await;
    stage.delete(lease.key()).await;
    assert_eq!(stage.append(&lease, 1, 1).await, Applied::Fenced(None));
    assert!(stage.log(lease.key()).await.is_empty());
}

/// 64 runs write at once; every other one has been lost.
pub async fn a_fenced_writer_does_not_fail_those_beside_it<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let leases = join_all((0..64).map(|n| {
        let (stage, id) = (&stage, n.to_string());
        async move { stage.running(&id).await }
    }))
    .await;
    join_all(leases.iter().step_by(2).map(|lease| stage.apply(stage.lost(lease)))).await;
    let answers = join_all(leases.iter().enumerate().map(|(n, lease)| {
        let after = u64::from(n % 2 == 0);
        stage.append(lease, after, 5)
    }))
    .await;
    for (n, answer) in answers.into_iter().enumerate() {
        match answer {
            Applied::Fenced(Some(_)) => assert_eq!(n % 2, 0),
            other => assert_eq!((n % 2, committed(&other)), (1, 5)),
        }
    }
}

/// A batch with a hole, a double or another epoch would break the log; those beside it are committed.
pub async fn s3_a_batch_that_is_not_dense_is_refused_alone<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let (lease, beside) = (stage.running("1").await, stage.running("2").await);
    let good = events(&lease, 0, 3, stage.now());
    let (mut hole, mut double, mut epoch) = (good.clone(), good.clone(), good.clone());
    hole.remove(1);
    double[2].seq = 2;
    epoch[1].epoch = epoch[1].epoch.next();
    let batches = [hole, double, epoch];
    let bad = join_all(batches.map(|batch| stage.store.apply(append(&lease, 0, batch))));
    let (bad, answer) = futures_util::join!(bad, stage.append(&beside, 0, 3));
    assert!(bad.iter().all(|answer| matches!(answer, Err(StoreError::Corrupt(_)))), "{bad:?}");
    assert_eq!(committed(&answer), 3);
    assert!(stage.log(lease.key()).await.is_empty());
    assert_eq!(committed(&stage.apply(append(&lease, 0, good)).await), 3);
}

/// Seq is the task's, not the run's.
pub async fn s3_the_log_goes_on_across_runs<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let key = stage.pending("1").await;
    for run in 1..=4_u64 {
        let lease = stage.won(&key).await;
        let start = (run - 1) * 3;
        assert_eq!(lease.start_seq(), start);
        stage.append(&lease, start, 2).await;
        stage.finish(&lease, start + 2, completed("1")).await;
    }
    let log = stage.log(&key).await;
    assert_eq!(log.iter().map(|e| e.run).collect::<Vec<_>>(), [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]);
    assert!(log.iter().all(|e| e.epoch.0 == e.run));
}

/// As many events as may wait for a store, and one as large as may be.
pub async fn a_large_batch_is_taken_whole<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let lease = stage.running("1").await;
    let many = limits::PIPELINE_MAX_EVENTS as u64;
    assert_eq!(committed(&stage.append(&lease, 0, many).await), many);
    let text = "\u{e9}".repeat(limits::EVENT_DATA_MAX_BYTES / 2);
    let large = sent("large", Data::Text(text.into()), stage.now()).at(many + 1, 1, lease.epoch());
    assert_eq!(committed(&stage.apply(append(&lease, many, vec![large.clone()])).await), many + 1);
    assert_eq!(stage.log(lease.key()).await.last(), Some(&large));
}
