//! Viewers anywhere: the same frames at every node, a little later where they cross from one to another.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use soloist_test_postgres::Cluster;
use system_tests::viewer::{Connection, Seen};

use crate::{futures::join_all, nodes};

const EVENTS: u64 = 10_000;

fn now_ns() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap()
}

/// What one viewer saw, and how long each event took from the work to it.
async fn watch(address: String, key: &'static str) -> (Seen, Vec<u64>) {
    let (mut seen, mut delays) = (Seen::default(), Vec::new());
    let mut viewer = Connection::open_raw(&address, key, &seen).await.unwrap();
    loop {
        let before = seen.ids.len();
        let read = viewer.read_once(&mut seen, usize::MAX).await.unwrap();
        let now = now_ns();
        for id in &seen.ids[before..] {
            let data: HashMap<String, serde_json::Value> = serde_json::from_str(&seen.shown[id].1).unwrap();
            if let Some(sent) = data.get("t_ns").and_then(serde_json::Value::as_u64) {
                delays.push(now.saturating_sub(sent));
            }
        }
        if read.is_err() {
            return (seen, delays);
        }
    }
}

fn percentile(delays: &mut [u64], percent: usize) -> Duration {
    delays.sort_unstable();
    Duration::from_nanos(delays[(delays.len() * percent / 100).min(delays.len() - 1)])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s5_20_viewers_at_each_of_3_nodes_see_the_same_10000_events() {
    let database = Cluster::shared().database("crossing");
    let nodes = nodes(3, &database.url(), "").await;
    let key = "demo/BurstTask/b";
    nodes[0].create(key, &format!(r#"{{"events":{EVENTS},"bytes":50,"rate":1000}}"#)).await;
    nodes[0].begin(key).await;
    let viewers = nodes.iter().flat_map(|node| std::iter::repeat_n(node.address.clone(), 20));
    let watched = join_all(viewers.map(|address| watch(address, key))).await;
    let (mut here, mut there) = (Vec::new(), Vec::new());
    for (n, (seen, delays)) in watched.iter().enumerate() {
        assert!(seen.ids.iter().copied().eq(1..=EVENTS + 1), "viewer {n}: {} events", seen.ids.len());
        assert_eq!((seen.gaps, &seen.endings[0].event_type[..]), (0, "complete"), "viewer {n}");
        assert_eq!(seen.shown, watched[0].0.shown, "viewer {n}");
        if n < 20 { here.extend(delays) } else { there.extend(delays) }
    }
    let row = |delays: &mut Vec<u64>| (percentile(delays, 50), percentile(delays, 99));
    let ((here_50, here_99), (there_50, there_99)) = (row(&mut here), row(&mut there));
    println!(
        "from the work to a viewer, 1,000 events/s, 60 viewers: at its own node p50 {here_50:?}, p99 {here_99:?}; at others \
         p50 {there_50:?}, p99 {there_99:?}; crossing adds p50 {:?}, p99 {:?}",
        there_50.saturating_sub(here_50),
        there_99.saturating_sub(here_99)
    );
}
