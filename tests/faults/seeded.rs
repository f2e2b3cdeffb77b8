//! Places and passes that a seed has chosen, again and again on one store.

use std::collections::BTreeMap;

use rand::{RngExt, SeedableRng, rngs::StdRng};
use system_tests::seed;

use crate::{
    field::{Field, Kind, Scene},
    program,
};

/// A place, the pass of it that kills, and what it is met with. What comes often may be passed often.
fn choose(rng: &mut StdRng, points: &[&'static str]) -> (&'static str, u32, Scene) {
    let point = points[rng.random_range(0..points.len())];
    let is_frequent = ["commit-", "ask-", "append-", "claim-", "finish-", "create-", "group-", "notify-"]
        .iter()
        .any(|verb| point.split_once(':').is_some_and(|(_, name)| name.starts_with(verb)));
    let most = if is_frequent { 8 } else { 1 };
    let scene = match Scene::of(point) {
        Scene::Beside if rng.random_ratio(1, 6) => Scene::Alone,
        scene => scene,
    };
    (point, rng.random_range(1..=most), scene)
}

/// Kills so many servers.
async fn hold(kind: Kind, usual: u32) {
    let wanted: u32 = std::env::var("SOLOIST_TEST_KILLS").map_or(usual, |kills| kills.parse().unwrap());
    let mut rng = StdRng::seed_from_u64(seed());
    let (program, points) = (program(), kind.points().collect::<Vec<_>>());
    let mut field = Field::new(kind).await;
    let mut killed = BTreeMap::<&str, u32>::new();
    while killed.values().sum::<u32>() < wanted {
        let (point, pass, scene) = choose(&mut rng, &points);
        println!("{point}:{pass}, {scene:?}");
        if field.round(&program, point, pass, scene).await {
            *killed.entry(point).or_default() += 1;
        }
    }
    let summary = field.judge().await;
    println!("killed at: {killed:?}; {summary:?}");
    assert!(summary.node_lost > 0, "no kill has hit a run: the places are not passed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s1_to_s8_hold_over_kills_at_places_that_a_seed_has_chosen_on_sqlite() {
    hold(Kind::Sqlite, 25).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s1_to_s8_hold_over_kills_at_places_that_a_seed_has_chosen_on_postgres() {
    hold(Kind::Postgres, 15).await;
}
