//! A node that leaves, against all that is under way.

use std::time::Duration;

use soloist::{Error, From, ModelOptions, Policy, RunTerms, Start, Status, Store};
use tokio::task::spawn;

use crate::{
    schedules::explore,
    world::{Boot, Then, World, let_time_pass_while_idle, start, subscribe, with},
};

/// One node, which leaves while starts are on their way.
fn leaving(name: &'static str, schedules: usize, then: Then, max_retries: u32) {
    explore(name, schedules, move || async move {
        let world = World::new(Boot::Stands);
        let terms = RunTerms { max_retries, ..RunTerms::default() };
        let node = world.node(1, then, ModelOptions { terms, ..ModelOptions::default() }).await;
        world.create(&node).await;
        let id = node.node();
        let calls: Vec<_> = (0..2).map(|_| start(&node, &world, with(Policy::Restart))).collect();
        let viewer = subscribe(&node, &world, From::RunStart, false).await.unwrap();
        let reading = spawn(world.read(viewer));
        let leaves = {
            let node = node.clone();
            spawn(async move { node.shutdown(Duration::from_secs(1)).await })
        };
        let_time_pass_while_idle();
        for call in calls {
            match call.await.unwrap() {
                Ok(Start::Started { .. } | Start::AlreadyActive { .. } | Start::AlreadyFinished { .. }) => {}
                Err(Error::Closed | Error::Unavailable { .. }) => {}
                other => panic!("{other:?}"),
            }
        }
        leaves.await.unwrap();
        for status in [Status::Running, Status::Cancelling] {
            assert!(
                world.memory.held(&id, status).await.unwrap().is_empty(),
                "a node that has left holds nothing"
            );
        }
        // Whatever it has seen, it is let go.
        reading.await.unwrap();
        assert_eq!((node.stats().running, node.stats().starting, node.stats().viewers), (0, 0, 0));
        world.check().await;
    });
}

#[test]
fn a_node_that_leaves_waits_for_work_that_ends() {
    leaving("leaving with work that ends", 1_000, Then::Return, 0);
}

#[test]
fn a_node_that_leaves_hands_over_work_that_does_not_end() {
    leaving("leaving with work that stays", 1_000, Then::Stay, 1);
}

#[test]
fn a_node_that_leaves_ends_work_that_does_not_end_and_may_not_be_tried_again() {
    leaving("leaving with work that stays and may not", 1_000, Then::Stay, 0);
}
