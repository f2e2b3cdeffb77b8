//! `kill -9` at any moment: what a viewer had seen is there, and nothing stays running.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use system_tests::{
    eventually, seed,
    server::Server,
    viewer::{Connection, Seen},
};

/// Servers side by side: where only the lease tells of a death, most of the time is waited for it.
const SERVERS: u64 = 5;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_after_kill_9_at_50_moments_all_that_was_seen_is_there_and_nothing_stays_running() {
    let seed = seed();
    let kills: Vec<_> =
        (0..SERVERS).map(|n| tokio::spawn(kill(seed.wrapping_add(n), 50 / SERVERS))).collect();
    for kills in kills {
        kills.await.unwrap();
    }
}

/// Kills one server so many times.
async fn kill(seed: u64, rounds: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    // Where the system does not tell of a death, the lease does; a busy machine is to keep it.
    let mut server = Server::start_with("lease_seconds = 5\n", "127.0.0.1:0").await;
    for round in 1..=rounds {
        let keys: Vec<String> = (0..3).map(|n| format!("demo/BurstTask/{round}-{n}")).collect();
        for (n, key) in keys.iter().enumerate() {
            // One as fast as it can, one steady, one that may be over before the kill.
            let rate = [0, 2000, 0][n];
            let events = [1_000_000, 1_000_000, 200][n];
            server.create(key, &format!(r#"{{"events":{events},"bytes":100,"rate":{rate}}}"#)).await;
            server.begin(key).await;
        }
        let viewers: Vec<_> = keys
            .iter()
            .map(|key| {
                let (address, key) = (server.address.clone(), key.clone());
                let seen = Arc::new(Mutex::new(Seen::default()));
                let shared = seen.clone();
                let reading = tokio::spawn(async move {
                    let mut mine = Seen::default();
                    let mut viewer = Connection::open(&address, &key, &mine).await?;
                    while viewer.read(&mut mine, 4096).await? == system_tests::viewer::End::Cut {
                        shared.lock().unwrap().ids.clone_from(&mine.ids);
                    }
                    shared.lock().unwrap().ids.clone_from(&mine.ids);
                    std::io::Result::Ok(())
                });
                (seen, reading)
            })
            .collect();
        // A moment of the run, chosen by the seed.
        tokio::time::sleep(Duration::from_micros(rng.random_range(0..200_000))).await;
        server = server.kill_and_restart().await;
        for ((seen, reading), key) in viewers.into_iter().zip(&keys) {
            let _ =
                tokio::time::timeout(Duration::from_secs(30), reading).await.expect("the socket is closed");
            let seen = std::mem::take(&mut *seen.lock().unwrap());
            assert!(seen.ids.iter().copied().eq(1..=seen.ids.len() as u64), "round {round} {key}: a hole");
            check(&server, key, seen).await;
        }
    }
    let (_, running) = server.call("GET", "/tasks?status=running", "").await;
    assert_eq!(running["tasks"].as_array().unwrap().len(), 0);
}

/// The viewer resumes, and gets the rest: what it had seen is there, in the same places, with one ending.
async fn check(server: &Server, key: &str, mut seen: Seen) {
    let ended =
        || async { ["failed", "completed"].contains(&server.task(key).await["status"].as_str().unwrap()) };
    eventually("the run has ended on record", ended).await;
    let task = server.task(key).await;
    if task["status"] == "failed" {
        assert_eq!(task["error_type"], "NodeLost", "{key}");
    }
    let before = seen.ids.len();
    let mut viewer = Connection::open(&server.address, key, &seen).await.unwrap();
    viewer.read(&mut seen, usize::MAX).await.unwrap();
    let last = task["last_seq"].as_u64().unwrap();
    assert!(last >= before as u64, "{key}: {before} events were seen and {last} are there");
    assert!(seen.ids.iter().copied().eq(1..=last), "{key}: {} of {last} events", seen.ids.len());
    assert!(seen.gaps == 0 && seen.endings.len() <= 1, "{key}: one ending");
}
