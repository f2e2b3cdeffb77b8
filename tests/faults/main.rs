//! `kill -9` at chosen places of the store, beside a server that lives on: all that was promised holds.
//!
//! Each round a server joins the others on their file, is given work, and kills itself at a place that the seed has
//! chosen: before or after a commit, in a heartbeat, while it joins, while it buries another. Starts whose answers are lost
//! are sent again with their keys to the server that lives on; viewers resume there. At the end an independent checker
//! holds the file against everything that anybody was told.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use system_tests::{
    checker::{At, Told, Watched, check},
    eventually, seed,
    server::Server,
    viewer::{Connection, End, Seen},
};

/// The program with fault points.
fn program() -> PathBuf {
    let path = std::env::var_os("SOLOIST_TEST_FAULT_POINTS").map_or_else(
        || concat!(env!("CARGO_MANIFEST_DIR"), "/../target/fault-points/soloist").into(),
        PathBuf::from,
    );
    assert!(path.exists(), "{} is not there; run `scripts/test fault-points` first", path.display());
    path
}

/// A place, and the pass of it that kills. What comes often may be passed often.
fn point(rng: &mut StdRng) -> String {
    let (name, most) = [
        ("commit:before", 30),
        ("commit:after", 30),
        ("commit:before", 10),
        ("commit:after", 10),
        ("heartbeat:before", 2),
        ("heartbeat:after", 2),
        ("join:locked", 1),
        ("bury:marked", 1),
    ][rng.random_range(0..8)];
    format!("{name}:{}", rng.random_range(1..=most))
}

/// What the outside world was told, by task.
#[derive(Default)]
struct Record(Mutex<BTreeMap<String, Told>>);

impl Record {
    fn of(&self, key: &str, tell: impl FnOnce(&mut Told)) {
        tell(self.0.lock().unwrap().entry(key.to_owned()).or_default());
    }
}

/// Creates a task and starts it under a key: at the doomed server, and where that has no answer at the other one, which
/// is also asked to start it by somebody else.
async fn start(
    doomed: Arc<Server>,
    other: Arc<Server>,
    record: Arc<Record>,
    key: String,
    input: &'static str,
) {
    let body = format!(r#"{{"input":{input}}}"#);
    let create = format!("/tasks/{key}");
    if doomed.try_call("PUT", &create, &body, None).await.is_err() {
        other.create(&key, input).await;
    }
    let path = format!("/tasks/{key}/start");
    let mine = async {
        let first = doomed.try_call("POST", &path, "", Some("mine")).await;
        let again = other.try_call("POST", &path, "", Some("mine")).await.unwrap();
        (first.ok(), again)
    };
    let theirs = other.try_call("POST", &path, r#"{"policy":"once"}"#, None);
    let ((first, again), theirs) = tokio::join!(mine, theirs);
    let told = |(status, answer): &(u16, serde_json::Value)| {
        assert!(matches!(status, 200 | 202), "{key}: {status} {answer}");
        (answer["started"].as_bool().unwrap(), answer["run"].as_u64().unwrap())
    };
    // The doomed server may have answered that it has lost its lease or its store; that is no answer to a start.
    if let Some(first) = first.filter(|(status, _)| *status < 500) {
        assert_eq!(told(&first), told(&again), "{key}: a repeat was told something else");
    }
    for (started, run) in [told(&again), told(&theirs.unwrap())] {
        record.of(&key, |told| if started { told.won.push(run) } else { told.lost.push(run) });
    }
}

/// Watches the first run of a task to its end, at the doomed server as long as that lives.
async fn watch(doomed: String, other: Arc<Server>, record: Arc<Record>, key: String) {
    let mut seen = Seen::default();
    let mut address = doomed;
    while seen.endings.is_empty() {
        let read = async {
            let mut viewer = Connection::open_raw(&address, &key, &seen).await?;
            // What was read before a connection breaks counts as well.
            loop {
                match viewer.read(&mut seen, 4096).await {
                    Ok(End::Cut) => {}
                    end => break end,
                }
            }
        };
        if matches!(
            tokio::time::timeout(Duration::from_secs(60), read).await.expect("it ends or breaks"),
            Ok(End::NoContent)
        ) {
            break;
        }
        address = other.address.clone();
    }
    assert_eq!(seen.gaps, 0, "{key}: nothing was lost, so there is no gap");
    // A task that was over already when its second start came has two runs; then this is the second one's.
    let watched = Watched { after: None, ids: seen.ids, shown: seen.shown };
    record.of(&key, |told| told.viewers.push(watched));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s1_to_s8_hold_over_100_kills_at_places_that_a_seed_has_chosen() {
    let wanted: u32 = std::env::var("SOLOIST_TEST_KILLS").map_or(100, |kills| kills.parse().unwrap());
    let mut rng = StdRng::seed_from_u64(seed());
    let program = program();
    let config = "lease_seconds = 1\nlinger_seconds = 1\n";
    let mut other = Arc::new(Server::start_with(config, "127.0.0.1:0").await);
    let record = Arc::new(Record::default());
    let mut killed = BTreeMap::<String, u32>::new();
    for round in 0.. {
        if killed.values().sum::<u32>() == wanted {
            break;
        }
        let point = point(&mut rng);
        let place = point.rsplit_once(':').unwrap().0.to_owned();
        let Some(doomed) = other.doomed(&program, &point).await else {
            *killed.entry(format!("{place} before it listened")).or_default() += 1;
            continue;
        };
        let doomed = Arc::new(doomed);
        let tasks = [
            ("BurstTask", r#"{"events":100,"bytes":50,"rate":0}"#),
            ("BurstTask", r#"{"events":300,"bytes":10,"rate":500}"#),
            ("ExampleTask", r#"{"message":"m","delay_ms":200}"#),
            ("FailTask", r#"{"message":"m"}"#),
        ];
        let mut running = Vec::new();
        for (n, (model, input)) in tasks.into_iter().enumerate() {
            let key = format!("demo/{model}/{round}-{n}");
            let (doomed, other, record) = (doomed.clone(), other.clone(), record.clone());
            running.push(tokio::spawn(async move {
                start(doomed.clone(), other.clone(), record.clone(), key.clone(), input).await;
                let watch = |address: &str| {
                    tokio::spawn(watch(address.to_owned(), other.clone(), record.clone(), key.clone()))
                };
                let viewers = [watch(&doomed.address), watch(&doomed.address), watch(&other.address)];
                for viewer in viewers {
                    viewer.await.unwrap();
                }
            }));
        }
        for task in running {
            task.await.unwrap();
        }
        let mut doomed = Arc::into_inner(doomed).expect("nobody asks it any more");
        if doomed.ends_within(Duration::from_millis(100)).await {
            *killed.entry(place).or_default() += 1;
        }
        drop(doomed);
        // Now and then there is nobody left.
        if rng.random_ratio(1, 10) {
            let lonely = Arc::into_inner(other).expect("nobody asks it any more");
            other = Arc::new(lonely.kill_and_restart().await);
        }
    }
    let rest = || async {
        let stats = other.stats().await;
        ["running", "starting", "kept", "viewers", "stuck"].iter().all(|count| stats[count] == 0)
    };
    eventually("S8: nothing is kept of what is over", rest).await;
    let told = record.0.lock().unwrap().clone();
    let summary = check(&other.database(), At::Rest, &told);
    println!("killed at: {killed:?}; {summary:?}");
    assert!(summary.node_lost > 0, "no kill has hit a run: the places are not passed");
}
