//! Nothing per task outlives its use.

use std::sync::Arc;

use system_tests::{eventually, server::Server};

async fn run_many(server: &Arc<Server>, from: u32, to: u32) {
    let next = Arc::new(std::sync::atomic::AtomicU32::new(from));
    let callers: Vec<_> = (0..16)
        .map(|_| {
            let (server, next) = (server.clone(), next.clone());
            tokio::spawn(async move {
                loop {
                    let n = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    if n >= to {
                        return;
                    }
                    let body = r#"{"input":{"events":3,"bytes":100,"rate":0},"start":true}"#;
                    let (status, answer) = server.call("POST", "/tasks/demo/BurstTask", body).await;
                    assert_eq!(status, 201, "{answer}");
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    let idle = || async {
        let stats = server.stats().await;
        ["running", "starting", "kept"].iter().all(|count| stats[*count].as_u64() == Some(0))
    };
    eventually("nothing is kept after the linger", idle).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_10_000_short_runs_and_the_linger_nothing_is_kept_and_memory_is_as_after_the_first_1_000() {
    let server = Arc::new(Server::start_with("linger_seconds = 1\n", "127.0.0.1:0").await);
    // A thousand at a time, each with its linger: what is kept at a time is then the same at every reading, and what
    // grows with the number of runs shows.
    let mut levels = Vec::new();
    for thousand in 0..10 {
        run_many(&server, thousand * 1_000, (thousand + 1) * 1_000).await;
        levels.push(server.resident());
    }
    // The middle of three: one reading may meet a buffer that is large for a moment, and what grows with the number of runs
    // is in all of them.
    let middle = |three: &[u64]| {
        let mut three = three.to_vec();
        three.sort_unstable();
        three[1]
    };
    let (first, between, last) = (middle(&levels[..3]), middle(&levels[4..7]), middle(&levels[7..]));
    println!(
        "resident KiB after each 1,000 runs: {:?}",
        levels.iter().map(|bytes| bytes / 1024).collect::<Vec<_>>()
    );
    // What is kept of each run grows all the time; an allocator that needed a few pages more at once does not.
    let grows = |from: u64, to: u64| to > from + first / 25;
    assert!(
        last < first + first / 10 || !(grows(first, between) && grows(between, last)),
        "resident memory grew from {first} over {between} to {last} bytes"
    );
    let stats = server.stats().await;
    for count in ["running", "starting", "kept", "viewers", "stuck"] {
        assert_eq!(stats[count], 0, "{stats}");
    }
}
