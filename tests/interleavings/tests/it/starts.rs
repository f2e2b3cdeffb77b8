//! The start gate.

use std::sync::atomic::Ordering;

use soloist::{Error, From, IdempotencyKey, Policy, Start, StartOptions, Status};

use crate::{
    schedules::explore,
    world::{Then, World, let_time_pass_while_idle, one_in, start, start_later, subscribe, until, with},
};

#[test]
fn s1_of_all_concurrent_starts_one_is_told_that_it_has_started_the_run() {
    explore("starts", 1_500, || async {
        let (world, node) = World::with_task(1, Then::Wait).await;
        let idempotent =
            StartOptions { idempotency: Some(IdempotencyKey::new("k").unwrap()), ..with(Policy::Restart) };
        let calls = [
            with(Policy::Restart),
            with(Policy::Restart),
            with(Policy::Once),
            idempotent.clone(),
            idempotent,
        ];
        let calls: Vec<_> = calls.into_iter().map(|options| start(&node, &world, options)).collect();
        let mut started = 0;
        for call in calls {
            match call.await.unwrap().unwrap() {
                Start::Started { run: 1 } => started += 1,
                Start::AlreadyActive { run: 1, status: Status::Running, .. }
                | Start::Replayed { run: 1, status: Status::Running, .. } => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(started, 1, "one has started it");
        assert_eq!(world.task().await.run, 1);
        world.check().await;
    });
}

#[test]
fn a_start_whose_caller_goes_away_is_carried_out_and_takes_nothing_of_the_others() {
    explore("callers that go away", 1_500, || async {
        let (world, node) = World::with_task(1, Then::Wait).await;
        let mut stay = Vec::new();
        for _ in 0..4 {
            let call = start(&node, &world, with(Policy::Restart));
            if one_in(2) { call.abort() } else { stay.push(call) }
        }
        // One that comes after all of them finds the run, or has begun it.
        stay.push(start(&node, &world, with(Policy::Restart)));
        let mut started = 0;
        for call in stay {
            match call.await.unwrap().unwrap() {
                Start::Started { run: 1 } => started += 1,
                Start::AlreadyActive { run: 1, .. } => {}
                other => panic!("{other:?}"),
            }
        }
        assert!(started <= 1);
        let task = world.task().await;
        assert_eq!((task.run, task.status), (1, Status::Running));
        let_time_pass_while_idle();
        until(async || world.seen.begun.load(Ordering::SeqCst) == 1).await;
        world.check().await;
    });
}

#[test]
fn whoever_has_seen_the_end_of_a_run_is_never_answered_with_that_run() {
    explore("starts after the end", 2_500, || async {
        let (world, node) = World::with_task(0, Then::Return).await;
        // The one is answered from memory where it can be, the other always by the store.
        let policy = if one_in(2) { Policy::Restart } else { Policy::Rerun };
        let started = start(&node, &world, with(policy)).await.unwrap();
        assert!(matches!(started, Ok(Start::Started { run: 1 })));
        let viewer = subscribe(&node, &world, From::After(0.into()), false).await.unwrap();
        // Others, on their way while the run comes to its end.
        let others: Vec<_> = (0..3).map(|_| start_later(&node, &world, with(policy))).collect();
        if one_in(2) {
            assert!(world.read(viewer).await.last().unwrap().event_type.is_terminal());
        } else {
            // The record says so before any viewer is told.
            while !node.task(&world).await.unwrap().status.is_finished() {
                tokio::task::yield_now().await;
            }
        }
        match start(&node, &world, with(policy)).await.unwrap().unwrap() {
            Start::Started { run } | Start::AlreadyActive { run, .. } => assert!(run >= 2, "of run {run}"),
            // It has ended, and the next one is owed by now.
            Start::Next { active, status, .. } => {
                assert!(active >= 2 || status.is_finished(), "after {active}")
            }
            other => panic!("{other:?}"),
        }
        for other in others {
            other.await.unwrap().unwrap();
        }
        world.check().await;
    });
}

#[test]
fn under_all_policies_every_start_is_answered_and_every_run_is_begun_once() {
    explore("starts of all policies", 1_000, || async {
        let (world, node) = World::with_task(1, Then::Return).await;
        let calls: Vec<_> =
            Policy::ALL.into_iter().map(|policy| start(&node, &world, with(policy))).collect();
        let (mut started, mut promised) = (Vec::new(), Vec::new());
        for call in calls {
            match call.await.unwrap() {
                Ok(Start::Started { run }) => started.push(run),
                Ok(Start::Next { run, is_first: true, .. }) => promised.push(run),
                Ok(_) => {}
                Err(error @ (Error::Unavailable { .. } | Error::Closed)) => panic!("{error}"),
                Err(error) => panic!("{error:?}"),
            }
        }
        // What was promised is kept: by now, or when the active run has ended.
        let last = promised.iter().chain(&started).copied().max().unwrap();
        let_time_pass_while_idle();
        until(async || {
            let task = world.task().await;
            task.run >= last && task.status.is_finished()
        })
        .await;
        for told in [&mut started, &mut promised] {
            told.sort_unstable();
            let all = told.len();
            told.dedup();
            assert_eq!(told.len(), all, "a run is told once: {told:?}");
        }
        world.check().await;
    });
}
