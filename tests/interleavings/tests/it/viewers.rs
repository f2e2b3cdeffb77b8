//! The seam from what is on record to what is shown live.

use std::sync::Arc;

use soloist::{Delivery, From, Policy};
use tokio::task::spawn;

use crate::{
    schedules::explore,
    world::{Then, World, one_in, start, subscribe, with},
};

#[test]
fn s5_a_viewer_that_comes_at_any_moment_sees_every_event_once_and_the_end() {
    explore("viewers of a run", 2_000, || async {
        let (world, node) = World::with_task(3, Then::Return).await;
        let world = Arc::new(world);
        let viewers: Vec<_> = [From::RunStart, From::After(0.into()), From::Tail, From::Latest]
            .into_iter()
            .map(|from| {
                let (node, key, world) = (node.clone(), world.key.clone(), world.clone());
                spawn(async move {
                    let viewer = subscribe(&node, &key, from, false).await.unwrap();
                    (viewer.cursor(), world.read(viewer).await)
                })
            })
            .collect();
        start(&node, &world, with(Policy::Restart)).await.unwrap().unwrap();
        for viewer in viewers {
            let (cursor, events) = viewer.await.unwrap();
            assert_eq!(events.len() as u64, 4 - cursor, "to the end");
            assert!(cursor == 4 || events.last().unwrap().event_type.is_terminal());
        }
        assert_eq!(node.stats().viewers, 0);
        world.check().await;
    });
}

#[test]
fn what_a_run_that_goes_on_has_sent_is_seen_without_waiting_for_more() {
    explore("viewers of a run that goes on", 1_500, || async {
        let (world, node) = World::with_task(3, Then::Wait).await;
        let viewers: Vec<_> = (0..2)
            .map(|_| {
                let (node, key) = (node.clone(), world.key.clone());
                spawn(async move {
                    let mut viewer = subscribe(&node, &key, From::RunStart, false).await.unwrap();
                    while viewer.cursor() < 3 {
                        // No time passes: a wake-up that is lost is a viewer that hangs.
                        viewer.next().await.unwrap().unwrap();
                    }
                })
            })
            .collect();
        start(&node, &world, with(Policy::Restart)).await.unwrap().unwrap();
        for viewer in viewers {
            viewer.await.unwrap();
        }
        world.check().await;
    });
}

#[test]
fn s5_a_viewer_that_is_cut_off_at_any_event_goes_on_at_its_cursor() {
    explore("viewers that come back", 2_000, || async {
        let (world, node) = World::with_task(4, Then::Return).await;
        let call = start(&node, &world, with(Policy::Restart));
        let (mut cursor, mut is_over) = (0, false);
        while !is_over {
            let Some(mut viewer) = subscribe(&node, &world, From::After(cursor.into()), false).await else {
                break;
            };
            while let Some(delivery) = viewer.next().await.unwrap() {
                let Delivery::Events(slice) = delivery else { panic!("a gap") };
                for event in slice.events() {
                    assert_eq!(event.seq, cursor + 1, "every event once, in order");
                    cursor = event.seq;
                    is_over = event.event_type.is_terminal();
                }
                if one_in(2) {
                    break;
                }
            }
        }
        assert_eq!(cursor, 5);
        call.await.unwrap().unwrap();
        world.check().await;
    });
}

#[test]
fn s5_a_viewer_that_follows_sees_run_after_run_without_a_hole() {
    explore("viewers that follow", 1_000, || async {
        let (world, node) = World::with_task(1, Then::Return).await;
        let viewer = subscribe(&node, &world, From::RunStart, true).await.unwrap();
        let reading = spawn(async move {
            let (mut viewer, mut seen) = (viewer, 0);
            while seen < 6 {
                let Some(Delivery::Events(slice)) = viewer.next().await.unwrap() else {
                    panic!("it goes on")
                };
                for event in slice.events() {
                    assert_eq!(event.seq, seen + 1);
                    seen = event.seq;
                }
            }
        });
        for run in 1..=3 {
            start(&node, &world, with(Policy::Restart)).await.unwrap().unwrap();
            assert_eq!(node.ended(&world, run).await.unwrap().run, run);
        }
        reading.await.unwrap();
        world.check().await;
    });
}
