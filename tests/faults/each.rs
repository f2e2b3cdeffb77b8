//! Every place once: a server dies there, another one starts, and nothing is lost or doubled.

use std::{sync::Arc, time::Instant};

use crate::{
    field::{Field, Kind, Scene},
    program,
};

/// So many stores, each with servers of its own, side by side: where leases have to run out most of the time is waited for.
fn lanes(kind: Kind) -> usize {
    match kind {
        Kind::Sqlite => 3,
        Kind::Postgres => 5,
    }
}

async fn each_is_survived(kind: Kind) {
    let program = Arc::new(program());
    let points: Vec<&'static str> = kind.points().collect();
    let lanes: Vec<_> = (0..lanes(kind))
        .map(|lane| {
            let points: Vec<_> = points.iter().copied().skip(lane).step_by(lanes(kind)).collect();
            let program = program.clone();
            tokio::spawn(async move {
                let mut field = Field::new(kind).await;
                for point in points {
                    let begun = Instant::now();
                    // Another server may do it first where this one was slow.
                    let mut tries = 0..3;
                    while !field.round(&program, point, 1, Scene::of(point)).await {
                        assert!(tries.next().is_some(), "{kind:?}: no server has passed {point}");
                    }
                    println!("{kind:?}: {point} after {} ms", begun.elapsed().as_millis());
                }
                field.judge().await
            })
        })
        .collect();
    for lane in lanes {
        let summary = lane.await.unwrap();
        println!("{kind:?}: {summary:?}");
        assert!(summary.node_lost > 0 && summary.viewers > 0, "{summary:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_fault_point_is_survived_on_sqlite() {
    each_is_survived(Kind::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_fault_point_is_survived_on_postgres() {
    each_is_survived(Kind::Postgres).await;
}
