//! Two nodes on one store.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use soloist::{CancelOptions, Coordinator, Error, From, Key, ModelOptions, Policy, RunTerms, Start, Status};
use tokio::task::spawn;

use crate::{
    schedules::explore,
    world::{Boot, Then, World, let_time_pass, let_time_pass_while_idle, start, subscribe, until, with},
};

async fn two(boot: Boot, then: Then, options: ModelOptions) -> (Arc<World>, [Coordinator; 2]) {
    let world = World::new(boot);
    let nodes = [world.node(1, then, options).await, world.node(1, then, options).await];
    world.create(&nodes[0]).await;
    (Arc::new(world), nodes)
}

#[test]
fn s1_s5_starts_at_two_nodes_have_one_winner_and_viewers_of_both_see_its_run() {
    explore("starts at two nodes", 1_000, || async {
        let (world, nodes) = two(Boot::Stands, Then::Return, ModelOptions::default()).await;
        let viewers: Vec<_> = nodes
            .iter()
            .map(|node| {
                let (node, world) = (node.clone(), world.clone());
                spawn(async move {
                    let viewer = subscribe(&node, &world, From::After(0.into()), false).await.unwrap();
                    world.read(viewer).await.len()
                })
            })
            .collect();
        let calls: Vec<_> = nodes.iter().map(|node| start(node, &world, with(Policy::Once))).collect();
        // What the other one writes is seen at a look.
        let_time_pass_while_idle();
        let mut started = 0;
        for call in calls {
            match call.await.unwrap().unwrap() {
                Start::Started { run: 1 } => started += 1,
                Start::AlreadyActive { run: 1, .. } | Start::AlreadyFinished { run: 1, .. } => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(started, 1);
        for viewer in viewers {
            assert_eq!(viewer.await.unwrap(), 2);
        }
        assert_eq!(world.seen.begun.load(Ordering::SeqCst), 1);
        world.check().await;
    });
}

#[test]
fn a_cancel_at_another_node_reaches_the_work() {
    explore("cancels at another node", 1_000, || async {
        let (world, [one, other]) = two(Boot::Stands, Then::Wait, ModelOptions::default()).await;
        let call = start(&one, &world, with(Policy::Once));
        let cancel = {
            let (other, world) = (other.clone(), world.clone());
            spawn(async move { other.cancel(&world, CancelOptions::default()).await })
        };
        let_time_pass_while_idle();
        cancel.await.unwrap().unwrap();
        call.await.unwrap().unwrap();
        until(async || world.task().await.status == Status::Cancelled).await;
        world.check().await;
    });
}

#[test]
fn a_node_that_leaves_while_another_starts_leaves_every_run_to_somebody() {
    explore("leaving beside another node", 700, || async {
        let terms = RunTerms { max_retries: 1, ..RunTerms::default() };
        let options = ModelOptions { terms, ..ModelOptions::default() };
        let (world, [one, other]) = two(Boot::Stands, Then::Wait, options).await;
        let id = one.node();
        let calls: Vec<_> =
            [&one, &other, &one].map(|node| start(node, &world, with(Policy::Restart))).into();
        let leaves = {
            let one = one.clone();
            spawn(async move { one.shutdown(Duration::from_secs(1)).await })
        };
        let_time_pass_while_idle();
        leaves.await.unwrap();
        let mut is_started = false;
        for call in calls {
            is_started |= call.await.unwrap().is_ok();
        }
        assert!(is_started, "the other one is there");
        // Work that was asked to stop has failed, and is tried again by the one that stays; or it was there all the time.
        until(async || {
            let task = world.task().await;
            task.status == Status::Running && task.node != Some(id.clone()) || task.status.is_finished()
        })
        .await;
        world.check().await;
    });
}

#[test]
fn s4_s6_s7_whatever_leases_run_out_the_record_is_whole() {
    explore("leases that run out", 700, || async {
        let terms = RunTerms { max_retries: 20, ..RunTerms::default() };
        let options =
            ModelOptions { terms, retry_delay: Duration::from_millis(10), ..ModelOptions::default() };
        let (world, nodes) = two(Boot::Passes, Then::Return, options).await;
        // Time passes at any moment: to the nodes it looks as if they had been stopped for so long.
        let_time_pass(60);
        let calls: Vec<_> = nodes.iter().map(|node| start(node, &world, with(Policy::Once))).collect();
        let mut answers = Vec::new();
        for call in calls {
            answers.push(call.await.unwrap());
        }
        let_time_pass_while_idle();
        let is_started = answers.iter().any(|answer| answer.is_ok());
        until(async || !is_started || world.task().await.status.is_finished()).await;
        world.check_record().await;
    });
}

#[test]
fn s1_what_waits_for_a_slot_is_taken_once_also_where_a_node_leaves_meanwhile() {
    explore("queued beside a node that leaves", 700, || async {
        let terms = RunTerms { max_retries: 1, ..RunTerms::default() };
        let options = ModelOptions { terms, max_concurrent: 1, ..ModelOptions::default() };
        let (world, [one, other]) = two(Boot::Stands, Then::Return, options).await;
        let keys: Vec<Key> = (1..=3).map(|id| format!("t/Work/{id}").parse().unwrap()).collect();
        for key in &keys[1..] {
            world.create_key(&other, key).await;
        }
        let calls: Vec<_> = keys.iter().map(|key| start(&one, key, with(Policy::Once))).collect();
        let_time_pass_while_idle();
        let leaves = {
            let one = one.clone();
            spawn(async move { one.shutdown(Duration::from_secs(1)).await })
        };
        let mut started = 0;
        for call in calls {
            match call.await.unwrap() {
                Ok(Start::Started { run: 1 }) => started += 1,
                Err(Error::Closed | Error::Unavailable { .. }) => {}
                told => panic!("{told:?}"),
            }
        }
        leaves.await.unwrap();
        // Whatever was told to have started comes to its end, here or there.
        until(async || {
            let ended = world.tasks().await.iter().filter(|task| task.status == Status::Completed).count();
            ended >= started && world.tasks().await.iter().all(|task| !task.status.is_active())
        })
        .await;
        world.check().await;
    });
}
