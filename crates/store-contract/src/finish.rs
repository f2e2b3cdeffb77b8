//! A run ends exactly once: status, result and terminal event in one step, and nothing after it.

use futures_util::future::join_all;
use soloist::{
    Ending, Failure, Status,
    event::terminal,
    store::{Applied, EventRange},
};

use crate::{
    Harness,
    stage::{ALL, Stage, append, committed, completed, events, finish, json},
};

/// Whoever sees the terminal event sees the finished record; whoever sees the finished record sees the event.
pub async fn s7_the_ending_is_one_step<H: Harness>() {
    let stage = Stage::<H>::new().await;
    for round in 0..20 {
        let lease = stage.running(&round.to_string()).await;
        stage.append(&lease, 0, 1).await;
        let end = stage.finish(&lease, 1, completed("1"));
        let by_event = async {
            let range = EventRange { after: 1, ..ALL };
            while stage.store.events(lease.key(), range).await.expect("the store works").is_empty() {
                tokio::task::yield_now().await;
            }
            stage.task(lease.key()).await.status
        };
        let by_record = async {
            while !stage.task(lease.key()).await.status.is_finished() {
                tokio::task::yield_now().await;
            }
            stage.log(lease.key()).await.len()
        };
        let (end, status, events) = futures_util::join!(end, by_event, by_record);
        assert_eq!((committed(&end), status, events), (2, Status::Completed, 2));
    }
}

/// A batch of events and the terminal one go together; each status has its own time and fields.
pub async fn s7_each_ending_is_on_record_with_its_own_fields<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let failure = Failure::new("Boom", "it \u{2028} broke\0").with_traceback("line 1\nline 2");
    let bare = Failure::new("Boom", "");
    let endings = [
        completed(r#"{"digits": 12345678901234567890.50}"#),
        Ending::Failed { failure },
        Ending::Failed { failure: bare },
        Ending::Cancelled { reason: "enough".into() },
    ];
    for (n, ending) in endings.into_iter().enumerate() {
        let lease = stage.running(&n.to_string()).await;
        let at = stage.now();
        let mut batch = events(&lease, 0, 3, at);
        batch.push(terminal(&ending, None, at).at(4, 1, lease.epoch()));
        let mut end = finish(&lease, 0, Status::Running, ending.clone(), at);
        end.writer = append(&lease, 0, batch.clone()).writer;
        assert_eq!(committed(&stage.apply(end).await), 4);
        assert_eq!(stage.log(lease.key()).await, batch);

        let task = stage.task(lease.key()).await;
        assert_eq!((task.status, task.node, task.epoch), (ending.status(), None, lease.epoch()));
        assert_eq!((task.updated_at, task.started_at), (at, Some(lease.since())));
        let time = |status| (ending.status() == status).then_some(at);
        assert_eq!(task.completed_at, time(Status::Completed));
        assert_eq!(task.failed_at, time(Status::Failed));
        assert_eq!(task.cancelled_at, time(Status::Cancelled));
        let (value, failure, reason) = match ending {
            Ending::Completed { final_value } => (Some(final_value), None, None),
            Ending::Failed { failure } => (None, Some(failure), None),
            Ending::Cancelled { reason } => (None, None, Some(reason)),
        };
        assert_eq!((task.final_value, task.failure, task.cancellation_reason), (value, failure, reason));
    }
}

/// Its holder and others want to end it, each in another way, at once.
pub async fn s7_of_many_endings_of_one_run_one_is_committed<H: Harness>() {
    let stage = Stage::<H>::new().await;
    for round in 0..20 {
        let lease = stage.running(&round.to_string()).await;
        let mut ends: Vec<_> = (0..8).map(|_| stage.lost(&lease)).collect();
        ends.insert(round % 8, finish(&lease, 0, Status::Running, completed("1"), stage.now()));
        let answers = join_all(ends.into_iter().map(|end| stage.apply(end))).await;
        let committed = answers.iter().filter(|a| matches!(a, Applied::Committed { .. })).count();
        assert_eq!(committed, 1, "{answers:?}");
        let (task, log) = (stage.task(lease.key()).await, stage.log(lease.key()).await);
        assert_eq!(log.len(), 1);
        match task.status {
            Status::Completed => assert_eq!((log[0].event_type.as_str(), task.failure), ("complete", None)),
            Status::Failed => assert_eq!((log[0].event_type.as_str(), task.final_value), ("error", None)),
            other => panic!("it ended as {other}"),
        }
    }
}

/// Neither an event nor a second ending, by its holder.
pub async fn s4_nothing_is_written_after_the_end_of_a_run<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let lease = stage.running("1").await;
    stage.append(&lease, 0, 1).await;
    stage.finish(&lease, 1, completed("1")).await;
    assert!(matches!(stage.append(&lease, 2, 1).await, Applied::Fenced(Some(_))));
    let second = Ending::Failed { failure: Failure::new("Boom", "late") };
    assert!(matches!(stage.finish(&lease, 2, second).await, Applied::Fenced(Some(_))));
    let task = stage.task(lease.key()).await;
    assert_eq!((task.status, task.failure, task.last_seq), (Status::Completed, None, 2));
    assert_eq!(
        stage.log(lease.key()).await.last().map(|e| e.event_type.as_str().to_owned()),
        Some("complete".into())
    );
}

/// After a lost answer; also once the task runs again.
pub async fn an_ending_sent_again_is_already_there<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let lease = stage.running("1").await;
    stage.append(&lease, 0, 1).await;
    let end = finish(&lease, 1, Status::Running, completed("1"), stage.now());
    assert_eq!(committed(&stage.apply(end.clone()).await), 2);
    assert_eq!(stage.apply(end.clone()).await, Applied::AlreadyThere);
    stage.won(lease.key()).await;
    assert_eq!(stage.apply(end).await, Applied::AlreadyThere);
    assert_eq!(stage.task(lease.key()).await.status, Status::Running);
    assert_eq!(stage.log(lease.key()).await.len(), 2);
}

/// Work that finished counts, and its record says nothing of a cancel.
pub async fn work_that_finishes_while_it_is_cancelled_is_completed<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let lease = stage.running("1").await;
    stage.cancel(&lease, "stop").await;
    let end = finish(&lease, 0, Status::Cancelling, completed("5"), stage.now());
    assert_eq!(committed(&stage.apply(end).await), 1);
    let task = stage.task(lease.key()).await;
    assert_eq!((task.status, task.final_value), (Status::Completed, Some(json("5"))));
    assert_eq!((task.cancellation_reason, task.cancelled_at), (None, None));
}

/// A cancel came in between: its holder computes the ending anew.
pub async fn an_ending_that_saw_another_status_is_told_that_it_moved<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let lease = stage.running("1").await;
    stage.cancel(&lease, "stop").await;
    let failed = Ending::Failed { failure: Failure::new("Boom", "it broke") };
    let Applied::Moved(row) = stage.finish(&lease, 0, failed).await else { panic!("it is cancelling") };
    assert_eq!((row.status, row.cancellation_reason.as_deref()), (Status::Cancelling, Some("stop")));
    assert!(stage.log(lease.key()).await.is_empty());
}
