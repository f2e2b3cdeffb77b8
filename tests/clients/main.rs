//! Real clients against the built program: the browser's `EventSource`, the npm package `eventsource`, and Python's
//! httpx with httpx-sse. They are used as their documentation says; nothing here re-opens or closes a stream for them.
#![allow(missing_docs, clippy::unwrap_used)]

mod client;
mod log;

use std::time::Duration;

use rand::{RngExt, SeedableRng, rngs::StdRng};
use system_tests::{
    eventually,
    proxy::{Proxy, Viewing, cuts},
    seed,
    server::Server,
};

use client::{Client, PAGE};
use log::{assert_same, log_of};

const KEY: &str = "demo/BurstTask/seen-by-a-real-client";
const EVENTS: usize = 600;
const BYTES: usize = 1000;

/// Generous: a client waits 2 s before it comes back, and the machine may be busy.
const DEADLINE: Duration = Duration::from_secs(240);

fn burst(events: usize, rate: usize) -> String {
    format!(r#"{{"events":{events},"bytes":{BYTES},"rate":{rate}}}"#)
}

/// The first viewer starts the run; it is cut while the run goes on, and after its end.
async fn comes_back(client: Client) {
    let seed = seed();
    let server = Server::start().await;
    server.create(KEY, &burst(EVENTS, 40)).await;
    let proxy = Proxy::start(&server.address, PAGE, cuts(seed, 4, EVENTS * BYTES / 5)).await;
    let seen = tokio::time::timeout(DEADLINE, client.watch(&proxy, KEY)).await.expect("the client ends");

    let log = log_of(&server, KEY).await;
    assert_same(&seen, &log);
    assert_eq!((log.len(), log[EVENTS].kind.as_str()), (EVENTS + 1, "complete"));
    let viewings = proxy.viewings();
    assert_each_resumes(&viewings, EVENTS + 1);
    // Four that were cut, one that saw the end, one that was told that there is nothing more.
    assert_eq!(viewings.len(), 6, "{viewings:#?}");
    let last_sent_ns = u128::from(log[EVENTS - 1].data["t_ns"].as_u64().unwrap());
    let live =
        viewings.iter().filter(|viewing| viewing.cut_at_ns.is_some_and(|at| at < last_sent_ns)).count();
    assert!(live >= 2, "only {live} cuts fell into the run: {viewings:#?}");
}

/// The run is over before the client comes; it is cut twice all the same.
async fn replays(client: Client) {
    let seed = seed();
    let server = Server::start().await;
    server.create(KEY, &burst(EVENTS, 0)).await;
    assert_eq!(server.begin(KEY).await, (true, 1));
    eventually("the run completes", async || server.task(KEY).await["status"] == "completed").await;
    let proxy = Proxy::start(&server.address, PAGE, cuts(seed, 2, EVENTS * BYTES / 3)).await;
    let seen = tokio::time::timeout(DEADLINE, client.watch(&proxy, KEY)).await.expect("the client ends");

    let log = log_of(&server, KEY).await;
    assert_same(&seen, &log);
    assert_eq!((log.len(), log[EVENTS].kind.as_str()), (EVENTS + 1, "complete"));
    let viewings = proxy.viewings();
    assert_each_resumes(&viewings, EVENTS + 1);
    assert_eq!(viewings.len(), 4, "{viewings:#?}");
    assert_eq!(server.task(KEY).await["run"], 1, "looking at a finished task starts nothing");
}

/// The server dies in the middle of the run and comes back on the same port.
async fn learns_of_a_lost_run(client: Client) {
    let mut rng = StdRng::seed_from_u64(seed());
    let server = Server::start().await;
    server.create(KEY, &burst(100_000, 50)).await;
    let proxy = Proxy::start(&server.address, PAGE, Vec::new()).await;
    // Behind the first byte of the first event, so that the run is on record.
    let dies_at = rng.random_range(BYTES..200 * BYTES);
    let watching = tokio::time::timeout(DEADLINE, client.watch(&proxy, KEY));
    let (seen, server) = tokio::join!(watching, async {
        proxy.passed(dies_at).await;
        server.kill_and_restart().await
    });

    let (seen, log) = (seen.expect("the client ends"), log_of(&server, KEY).await);
    assert_same(&seen, &log);
    let end = log.last().unwrap();
    assert_eq!((end.kind.as_str(), &end.data["error_type"]), ("error", &"NodeLost".into()));
    assert_each_resumes(&proxy.viewings(), log.len());
    assert_eq!(server.task(KEY).await["status"], "failed");
}

/// Each comes back with the id of an event that it has seen, the last one with that of the terminal event, and is told
/// that there is nothing more.
fn assert_each_resumes(viewings: &[Viewing], end: usize) {
    let ids: Vec<Option<u64>> = viewings.iter().map(|viewing| viewing.last_event_id).collect();
    assert!(ids[0].is_none() && ids.is_sorted(), "{viewings:#?}");
    let (last, earlier) = viewings.split_last().unwrap();
    assert_eq!((last.status, last.last_event_id), (Some(204), Some(end as u64)), "{viewings:#?}");
    assert!(earlier.iter().all(|viewing| matches!(viewing.status, None | Some(200))), "{viewings:#?}");
}

macro_rules! tests_of {
    ($module:ident, $client:expr) => {
        mod $module {
            use super::*;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn cut_at_random_bytes_it_gets_every_event_once_and_stops_at_the_end() {
                comes_back($client).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn of_a_finished_run_it_gets_every_event_once_and_stops() {
                replays($client).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn where_the_server_is_killed_it_keeps_what_it_saw_and_learns_that_the_run_is_lost() {
                learns_of_a_lost_run($client).await;
            }
        }
    };
}

tests_of!(chromium, Client::Chromium);
tests_of!(npm_eventsource, Client::NpmEventsource);
tests_of!(python_httpx_sse, Client::PythonHttpxSse);
