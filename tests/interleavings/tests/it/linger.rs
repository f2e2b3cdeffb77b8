//! What is kept of a finished run, against the next one.

use std::{sync::Arc, time::Duration};

use interleaved::time;
use soloist::{From, Policy};
use tokio::task::spawn;

use crate::{
    schedules::explore,
    world::{LINGER, Then, World, let_time_pass_while_idle, start, subscribe, until, with},
};

#[test]
fn a_run_that_begins_while_the_last_one_lingers_is_seen_whole_and_all_is_let_go_in_the_end() {
    explore("linger against restart", 1_500, || async {
        let (world, node) = World::with_task(1, Then::Return).await;
        let world = Arc::new(world);
        start(&node, &world, with(Policy::Restart)).await.unwrap().unwrap();
        let again = {
            let (node, key) = (node.clone(), world.key.clone());
            spawn(async move {
                node.ended(&key, 1).await.unwrap();
                start(&node, &key, with(Policy::Restart)).await.unwrap().unwrap();
            })
        };
        let lingers = spawn(async {
            for _ in 0..3 {
                time::pass(LINGER / 2 + Duration::from_millis(1));
                tokio::task::yield_now().await;
            }
        });
        let viewers: Vec<_> = (0..2)
            .map(|_| {
                let (node, key, world) = (node.clone(), world.key.clone(), world.clone());
                spawn(async move {
                    let viewer = subscribe(&node, &key, From::RunStart, false).await.unwrap();
                    let (first, events) = (viewer.cursor() + 1, world.read(viewer).await);
                    let seqs: Vec<_> = events.iter().map(|event| event.seq).collect();
                    assert!(first == 1 && seqs == [1, 2] || first == 3 && seqs == [3, 4], "{first} {seqs:?}");
                })
            })
            .collect();
        again.await.unwrap();
        for viewer in viewers {
            viewer.await.unwrap();
        }
        node.ended(&world, 2).await.unwrap();
        lingers.await.unwrap();
        let_time_pass_while_idle();
        until(async || node.stats().kept == 0).await;
        world.check().await;
    });
}
