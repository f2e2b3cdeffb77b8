//! Viewers that come, are cut, stall and come back.

use std::{sync::Arc, time::Duration};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use system_tests::{
    seed,
    server::Server,
    viewer::{Connection, End, Seen},
};

const EVENTS: u64 = 5_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s5_200_viewers_that_join_are_cut_and_stall_at_random_all_see_every_event_once() {
    let seed = seed();
    let server = Arc::new(Server::start().await);
    let key = "demo/BurstTask/1";
    server.create(key, &format!(r#"{{"events":{EVENTS},"bytes":200,"rate":1000}}"#)).await;
    server.begin(key).await;
    let viewers: Vec<_> = (0..200)
        .map(|n| {
            let server = server.clone();
            tokio::spawn(async move {
                let mut rng = StdRng::seed_from_u64(seed.wrapping_add(n));
                // Joins at a random moment of the run (which takes about five seconds).
                tokio::time::sleep(Duration::from_millis(rng.random_range(0..4500))).await;
                let mut seen = Seen::default();
                let cuts = if n % 3 == 0 { rng.random_range(1..=8) } else { 0 };
                for _ in 0..cuts {
                    let mut connection = Connection::open(&server.address, key, &seen).await.unwrap();
                    if connection.read(&mut seen, rng.random_range(1..200_000)).await.unwrap() != End::Cut {
                        break;
                    }
                }
                // With 4 KiB one once waited for minutes, most likely for a segment that the kernel sent again.
                let small = (n % 5 == 0).then_some(16_384);
                let mut connection = Connection::open_with(&server.address, key, &seen, small).await.unwrap();
                if n % 5 == 0 {
                    // Reads a little, stalls, and goes on.
                    connection.read(&mut seen, 1000).await.unwrap();
                    tokio::time::sleep(Duration::from_millis(rng.random_range(500..3000))).await;
                }
                assert_ne!(connection.read(&mut seen, usize::MAX).await.unwrap(), End::Cut);
                let mut after = Connection::open(&server.address, key, &seen).await.unwrap();
                assert_eq!(after.read(&mut seen, usize::MAX).await.unwrap(), End::NoContent);
                seen
            })
        })
        .collect();
    for (n, viewer) in viewers.into_iter().enumerate() {
        let seen = viewer.await.unwrap();
        assert!(seen.ids.iter().copied().eq(1..=EVENTS + 1), "viewer {n} saw {} events", seen.ids.len());
        assert_eq!((seen.endings.len(), seen.gaps), (1, 0), "viewer {n}");
        assert_eq!(seen.endings[0].event_type, "complete");
    }
}

/// Seconds from start to end of a run, by the record.
async fn seconds(server: &Server, key: &str) -> f64 {
    let ended = || async { server.task(key).await["status"] == "completed" };
    system_tests::eventually("the run completes", ended).await;
    let task = server.task(key).await;
    let micros = |field: &str| {
        let text = task[field].as_str().unwrap().to_owned();
        let time: f64 = text[17..26].parse().unwrap();
        let minutes: f64 = text[14..16].parse().unwrap();
        minutes * 60.0 + time
    };
    (micros("completed_at") - micros("started_at") + 3600.0) % 3600.0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s8_a_viewer_that_never_reads_costs_little_memory_slows_nothing_and_gets_all_when_it_reads() {
    const BURST: &str = r#"{"events":100000,"bytes":1024,"rate":0}"#;
    let server = Server::start().await;
    // Once to warm up: the allocator, the page cache and the database have their size.
    for key in ["demo/BurstTask/warm", "demo/BurstTask/alone", "demo/BurstTask/watched"] {
        server.create(key, BURST).await;
    }
    server.begin("demo/BurstTask/warm").await;
    seconds(&server, "demo/BurstTask/warm").await;
    server.begin("demo/BurstTask/alone").await;
    let alone = seconds(&server, "demo/BurstTask/alone").await;

    let before = server.resident();
    server.begin("demo/BurstTask/watched").await;
    let mut seen = Seen::default();
    let mut stalled =
        Connection::open_with(&server.address, "demo/BurstTask/watched", &seen, Some(4096)).await.unwrap();
    let watched = seconds(&server, "demo/BurstTask/watched").await;
    let grown = server.resident().saturating_sub(before);
    println!(
        "alone {alone:.2} s, with a stalled viewer {watched:.2} s, resident memory grew by {} KiB",
        grown / 1024
    );
    assert!(grown < 32 << 20, "memory grew by {grown} bytes");
    assert!(watched < alone * 2.0 + 0.5, "the run took {watched} s instead of {alone} s");
    stalled.read(&mut seen, usize::MAX).await.unwrap();
    assert!(seen.ids.iter().copied().eq(1..=100_001), "{} events", seen.ids.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_viewers_do_not_slow_a_run() {
    const STEADY: &str = r#"{"events":300,"bytes":100,"rate":100}"#;
    let server = Arc::new(Server::start().await);
    for key in ["demo/BurstTask/alone", "demo/BurstTask/watched"] {
        server.create(key, STEADY).await;
    }
    server.begin("demo/BurstTask/alone").await;
    let alone = seconds(&server, "demo/BurstTask/alone").await;
    // Without the event stream's media type a pending task is not needed: the run begins, then the viewers come.
    server.begin("demo/BurstTask/watched").await;
    let viewers: Vec<_> = (0..1000)
        .map(|_| {
            let server = server.clone();
            tokio::spawn(async move {
                let mut seen = Seen::default();
                let mut viewer =
                    Connection::open(&server.address, "demo/BurstTask/watched", &seen).await.unwrap();
                viewer.read(&mut seen, usize::MAX).await.unwrap();
                seen.ids.iter().copied().eq(1..=301)
            })
        })
        .collect();
    let watched = seconds(&server, "demo/BurstTask/watched").await;
    println!("alone {alone:.2} s, with 1000 viewers {watched:.2} s");
    for viewer in viewers {
        assert!(viewer.await.unwrap(), "a viewer has seen all 301 events, once and in order");
    }
    assert!(watched < alone * 1.5 + 1.0, "the run took {watched} s instead of {alone} s");
}
