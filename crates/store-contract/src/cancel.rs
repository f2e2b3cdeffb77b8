//! Moves by somebody who does not hold the run: compared by epoch and status, numbered by the store.

use futures_util::future::join_all;
use soloist::{
    Ending, Epoch, Status,
    event::terminal,
    store::{Applied, Change, Transition},
};

use crate::{
    Harness,
    stage::{Stage, change, committed, completed, finish, outsider},
};

/// It never ran: run 0, one event, the epoch as it was.
pub async fn a_pending_task_is_cancelled_at_once<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let key = stage.pending("1").await;
    let at = stage.now();
    let cancelled = Ending::Cancelled { reason: "never mind".into() };
    let event = terminal(&cancelled, None, at);
    let cancel = outsider(&key, (Epoch(0), 0), Status::Pending, change(cancelled), Some(event.clone()), at);
    assert_eq!(committed(&stage.apply(cancel).await), 1);
    let task = stage.task(&key).await;
    assert_eq!((task.status, task.run, task.epoch, task.last_seq), (Status::Cancelled, 0, Epoch(0), 1));
    assert_eq!((task.cancelled_at, task.cancellation_reason.as_deref()), (Some(at), Some("never mind")));
    assert_eq!(stage.log(&key).await, [event.at(1, 0, Epoch(0))]);
}

/// A cancel of a running task writes no event and takes nothing from its holder.
pub async fn a_running_task_is_asked_to_stop_and_its_holder_still_writes<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let lease = stage.running("1").await;
    stage.append(&lease, 0, 2).await;
    assert_eq!(committed(&stage.cancel(&lease, "stop").await), 2);
    let task = stage.task(lease.key()).await;
    assert_eq!(
        (task.status, task.epoch, task.node),
        (Status::Cancelling, lease.epoch(), Some(stage.node.clone()))
    );
    assert_eq!(task.cancellation_reason.as_deref(), Some("stop"));
    assert_eq!(committed(&stage.append(&lease, 2, 1).await), 3);
    let ending = Ending::Cancelled { reason: "stop".into() };
    let end = finish(&lease, 3, Status::Cancelling, ending, stage.now());
    assert_eq!(committed(&stage.apply(end).await), 4);
    assert_eq!(stage.task(lease.key()).await.status, Status::Cancelled);
}

/// A late stop never stops a newer run.
pub async fn a_cancel_that_saw_an_old_epoch_is_fenced<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let first = stage.running("1").await;
    stage.finish(&first, 0, completed("1")).await;
    stage.won(first.key()).await;
    let Applied::Fenced(Some(row)) = stage.cancel(&first, "late").await else {
        panic!("a newer run is active")
    };
    assert_eq!((row.status, row.run), (Status::Running, 2));
    let task = stage.task(first.key()).await;
    assert_eq!((task.status, task.cancellation_reason), (Status::Running, None));
}

/// The epoch is right, the status is not: the caller computes anew.
pub async fn a_cancel_that_saw_another_status_is_told_that_it_moved<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let lease = stage.running("1").await;
    stage.finish(&lease, 0, completed("1")).await;
    let Applied::Moved(row) = stage.cancel(&lease, "late").await else { panic!("it is over") };
    assert_eq!((row.status, row.last_seq), (Status::Completed, 1));
    assert_eq!(stage.task(lease.key()).await.cancellation_reason, None);
}

/// 32 cancels of one pending task: one ends it, with one event.
pub async fn s7_of_many_cancels_of_one_task_one_is_committed<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let key = stage.pending("1").await;
    let cancels = (0..32).map(|n| {
        let cancelled = Ending::Cancelled { reason: format!("cancel {n}") };
        let event = terminal(&cancelled, None, stage.now());
        outsider(&key, (Epoch(0), 0), Status::Pending, change(cancelled), Some(event), stage.now())
    });
    let answers = join_all(cancels.map(|cancel| stage.apply(cancel))).await;
    let winner =
        answers.iter().position(|a| matches!(a, Applied::Committed { .. })).expect("one is committed");
    for (n, answer) in answers.iter().enumerate().filter(|(n, _)| *n != winner) {
        assert!(matches!(answer, Applied::Moved(row) if row.status == Status::Cancelled), "{n}: {answer:?}");
    }
    assert_eq!(stage.task(&key).await.cancellation_reason, Some(format!("cancel {winner}")));
    assert_eq!(stage.log(&key).await.len(), 1);
}

/// Work that did not let go is dropped: from then on its holder is fenced.
pub async fn s2_s6_an_ending_by_another_raises_the_epoch_and_fences_the_holder<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let lease = stage.running("1").await;
    stage.cancel(&lease, "stop").await;
    let dropped = Ending::Cancelled { reason: "stop".into() };
    let event = terminal(&dropped, None, stage.now());
    let risen = lease.epoch().next();
    let drop = Transition {
        epoch_after: risen,
        ..outsider(
            lease.key(),
            (lease.epoch(), lease.run()),
            Status::Cancelling,
            Change::Cancelled { reason: "stop".into(), rerun: soloist::store::Rerun::Keep },
            Some(event.clone()),
            stage.now(),
        )
    };
    assert_eq!(committed(&stage.apply(drop).await), 1);
    let task = stage.task(lease.key()).await;
    assert_eq!((task.status, task.epoch, task.node), (Status::Cancelled, risen, None));
    assert!(matches!(stage.append(&lease, 1, 1).await, Applied::Fenced(Some(_))));
    assert_eq!(stage.log(lease.key()).await, [event.at(1, 1, risen)]);
    assert_eq!(stage.won(lease.key()).await.epoch(), risen.next());
}
