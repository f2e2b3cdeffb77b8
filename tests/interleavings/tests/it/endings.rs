//! A cancel against an end.

use soloist::{Cancel, CancelOptions, Coordinator, From, Key, Policy, Start, Status};
use tokio::task::{JoinHandle, spawn};

use crate::{
    schedules::explore,
    world::{Then, World, start, subscribe, with},
};

fn cancel(node: &Coordinator, key: &Key) -> JoinHandle<soloist::Result<Cancel>> {
    let (node, key) = (node.clone(), key.clone());
    spawn(async move { node.cancel(&key, CancelOptions::default()).await })
}

#[test]
fn s7_a_cancel_and_an_end_of_one_moment_leave_one_ending_and_the_answer_says_which() {
    explore("cancels against the end", 2_000, || async {
        let (world, node) = World::with_task(1, Then::Return).await;
        let call = start(&node, &world, with(Policy::Once));
        let viewer = subscribe(&node, &world, From::RunStart, false).await.unwrap();
        let cancels = [cancel(&node, &world), cancel(&node, &world)];
        let mut answers = Vec::new();
        for cancel in cancels {
            answers.push(cancel.await.unwrap().unwrap());
        }
        let started = matches!(call.await.unwrap().unwrap(), Start::Started { run: 1 });
        let events = world.read(viewer).await;
        assert_eq!(events.iter().filter(|event| event.event_type.is_terminal()).count(), 1);
        let task = world.task().await;
        for answer in answers {
            match answer {
                Cancel::Cancelled { run } => {
                    assert_eq!((run, started, task.status), (0, false, Status::Cancelled))
                }
                // Work that was as good as done may say so.
                Cancel::Cancelling { run } => {
                    assert!(run == 1 && matches!(task.status, Status::Cancelled | Status::Completed));
                }
                Cancel::NotRunning { status } => assert_eq!(status, task.status),
                Cancel::OtherRun { .. } => panic!("no run was named"),
            }
        }
        world.check().await;
    });
}

#[test]
fn a_cancel_reaches_the_work_also_where_it_overtakes_the_news_of_the_claim() {
    explore("cancels against the start", 2_000, || async {
        let (world, node) = World::with_task(1, Then::Wait).await;
        let call = start(&node, &world, with(Policy::Once));
        let answer = cancel(&node, &world).await.unwrap().unwrap();
        // No time passes: work that is not told would wait for ever.
        let task = match (answer, call.await.unwrap().unwrap()) {
            (Cancel::Cancelled { run: 0 }, Start::AlreadyFinished { .. }) => world.task().await,
            (Cancel::Cancelling { run: 1 }, Start::Started { run: 1 }) => {
                node.ended(&world, 1).await.unwrap()
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(task.status, Status::Cancelled);
        world.check().await;
    });
}
