//! Many tabs at two Soloist servers on one PostgreSQL database, in front of one FastAPI endpoint: it is called once for an
//! answer, whatever the tabs do, and once more where its caller, or it itself, was killed.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use rustix::process::Signal;
use serde_json::Value;
use soloist_test_postgres::{Cluster, Database};
use system_tests::{
    checker::{At, Told, check_postgres},
    eventually, seed,
    server::Server,
};
use tokio::{sync::Barrier, task::JoinHandle};

use crate::{
    example::{DEADLINE, Endpoint},
    tab::{Connection, Ended, Tab, Until},
};

const KEY: &str = "chat/Reply/1";

/// The endpoint, and two servers in front of it.
struct Setting {
    endpoint: Endpoint,
    nodes: [Server; 2],
    database: Database<'static>,
}

impl Setting {
    async fn new(name: &str, max_retries: u32) -> Self {
        let endpoint = Endpoint::start().await;
        let database = Cluster::shared().database(name);
        let config = format!(
            "store = \"{}\"\nlease_seconds = 2\nshutdown_grace_seconds = 1\n[[model]]\napp = \"chat\"\nmodel = \"Reply\"\nrunner = \"http\"\n\
             url = \"http://{}/generate\"\nterminal_data = \"[DONE]\"\nmax_retries = {max_retries}\n",
            database.url(),
            endpoint.address,
        );
        let nodes = [
            Server::start_with(&config, "127.0.0.1:0").await,
            Server::start_with(&config, "127.0.0.1:0").await,
        ];
        Self { endpoint, nodes, database }
    }

    fn addresses(&self) -> [String; 2] {
        [self.nodes[0].address.clone(), self.nodes[1].address.clone()]
    }

    /// How many answers each of the servers runs.
    async fn running(&self) -> [u64; 2] {
        let of = async |node: &Server| node.stats().await["running"].as_u64().unwrap();
        [of(&self.nodes[0]).await, of(&self.nodes[1]).await]
    }

    /// Which of the servers runs the one answer.
    async fn runs_at(&self) -> usize {
        let running = self.running().await;
        assert_eq!(running[0] + running[1], 1, "one of them has it");
        usize::from(running[1] == 1)
    }

    /// Holds the log, and what the tabs saw of it, against the promises; the log.
    async fn check(&self, at: usize, tabs: &[Tab]) -> Vec<Value> {
        let viewers = tabs.iter().map(Tab::watched).collect();
        let told = Told { won: vec![1], viewers, ..Told::default() };
        check_postgres(&self.database.url(), At::Rest, &BTreeMap::from([(KEY.to_owned(), told)])).await;
        let (status, page) = self.nodes[at].call("GET", &format!("/tasks/{KEY}/events?limit=1000"), "").await;
        assert_eq!(status, 200, "{page}");
        let log = page["events"].as_array().unwrap().clone();
        assert_eq!(page["last_seq"], log.len(), "the whole log is on one page");
        log
    }
}

fn input(tokens: u32, delay_ms: u32) -> String {
    format!(r#"{{"prompt":"Hello","tokens":{tokens},"delay_ms":{delay_ms}}}"#)
}

/// Tabs that have read so many events, each with its connection still open, at these addresses in turn.
async fn attached(count: usize, addresses: &[&str], tab: &Tab, events: usize) -> Vec<(Tab, Connection)> {
    let mut tabs = Vec::new();
    for address in addresses.iter().cycle().take(count) {
        let mut tab = tab.clone();
        let mut connection = tab.open(address).await.unwrap();
        assert_eq!(tab.go_on(&mut connection, Until::Events(events)).await, Ended::Enough);
        tabs.push((tab, connection));
    }
    tabs
}

async fn all(tabs: Vec<JoinHandle<Tab>>) -> Vec<Tab> {
    let mut done = Vec::new();
    for tab in tabs {
        done.push(tab.await.unwrap());
    }
    done
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_tabs_at_two_nodes_ask_at_once_come_and_go_and_come_again_and_the_endpoint_is_called_once() {
    let seed = seed();
    let setting = Setting::new("tabs", 0).await;
    let addresses = setting.addresses();
    let together = Arc::new(Barrier::new(10));
    let tabs = (0..10).map(|n| {
        let (together, addresses) = (together.clone(), addresses.clone());
        tokio::spawn(async move {
            let (here, other) = (&addresses[n % 2], &addresses[(n + 1) % 2]);
            let mut tab = Tab::full(KEY, &input(300, 20));
            together.wait().await;
            let mut connection = tab.open(here).await.unwrap();
            assert_eq!(tab.go_on(&mut connection, Until::Events(20)).await, Ended::Enough);
            // Five of them, of both nodes, are cut somewhere in the middle, and go on at the other one.
            if n < 5 {
                let at = StdRng::seed_from_u64(seed.wrapping_add(n as u64)).random_range(1..20_000);
                assert_eq!(tab.go_on(&mut connection, Until::Bytes(at)).await, Ended::Enough);
                drop(connection);
                assert!(tab.seen.len() < 290, "cut while the answer comes");
                assert_eq!(tab.read(other, Until::End).await, Ended::Told);
            } else {
                assert_eq!(tab.go_on(&mut connection, Until::End).await, Ended::Told);
            }
            tab
        })
    });
    let tabs = all(tabs.collect()).await;
    let asked: usize = tabs.iter().map(|tab| tab.asked).sum();
    assert_eq!(asked, 15);
    let calls = setting.endpoint.calls().await;
    assert_eq!((&calls["started"], &calls["aborted"]), (&1.into(), &0.into()), "{calls}");
    let first = tabs[0].shown();
    assert!(first.iter().map(|event| event.0).eq(1..=303), "{first:?}");
    assert_eq!(tabs[0].last(), "complete");
    for tab in &tabs {
        assert_eq!(tab.shown(), first);
    }

    // A second round, after the end: all of it again, from the record.
    for address in &addresses {
        let mut again = Tab::full(KEY, &input(300, 20));
        assert_eq!(again.read(address, Until::End).await, Ended::Told);
        assert_eq!(again.shown(), first);
        // Whoever has seen the end is told that there is nothing more.
        assert_eq!(again.read(address, Until::End).await, Ended::NoContent);
    }
    assert_eq!(setting.endpoint.calls().await["started"], 1);
    let mut raw = Tab::new(KEY, &input(300, 20));
    raw.read_on(&[&addresses[0]]).await;
    setting.check(0, &[raw]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopped_at_the_node_that_does_not_run_it_the_endpoint_loses_its_client_within_a_second() {
    let setting = Setting::new("stopped_elsewhere", 1).await;
    let [first, second] = setting.addresses();
    let (mut took, mut seen) = (Vec::new(), Vec::new());
    // Of several answers, so that one moment at which the machine is busy does not count.
    for n in 1..=5 {
        let key = format!("chat/Reply/{n}");
        let tabs = attached(4, &[&first, &second], &Tab::new(&key, &input(10_000, 20)), 10).await;
        let other = &setting.nodes[1 - setting.runs_at().await];
        let asked = Instant::now();
        let (status, answer) =
            other.call("POST", &format!("/tasks/{key}/cancel"), r#"{"reason":"not needed"}"#).await;
        assert_eq!(status, 202, "{answer}");
        eventually("the endpoint notices", async || setting.endpoint.calls().await["aborted"] == n).await;
        took.push(asked.elapsed());
        for (mut tab, mut connection) in tabs {
            assert_eq!(tab.go_on(&mut connection, Until::End).await, Ended::Told);
            assert_eq!(tab.last(), "cancelled");
            assert!(tab.seen.last().unwrap().data.contains("not needed"), "{:?}", tab.seen.last());
            seen.push(tab);
        }
        eventually("its run is over", async || setting.running().await == [0, 0]).await;
    }
    println!("stopped at the endpoint so long after the cancel was sent to the other node: {took:?}");
    took.sort_unstable();
    assert!(took[2] < Duration::from_secs(1), "{took:?}");
    setting.check(0, &seen[..4]).await;
    assert_eq!(setting.endpoint.calls().await["started"], 5, "what was stopped is not tried again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_node_that_runs_it_is_killed_and_the_other_calls_the_endpoint_again_as_the_next_attempt() {
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let setting = Setting::new("killed_node", 1).await;
    let [first, second] = setting.addresses();
    let tab = Tab::new(KEY, &input(200, 25)).with("traceparent", trace);
    let tabs = attached(4, &[&first, &second], &tab, 20).await;
    let holder = setting.runs_at().await;
    let living = setting.addresses()[1 - holder].clone();
    let before = setting.endpoint.calls().await;
    assert_eq!(before["started"], 1, "{before}");
    let reading = tabs.into_iter().enumerate().map(|(n, (mut tab, mut connection))| {
        let living = living.clone();
        tokio::spawn(async move {
            let ended = tab.go_on(&mut connection, Until::End).await;
            // Those at the living node stay attached; the others come back there.
            assert_eq!(ended, if n % 2 == holder { Ended::Broken } else { Ended::Told }, "tab {n}");
            if ended == Ended::Broken {
                assert_eq!(tab.read(&living, Until::End).await, Ended::Told);
            }
            tab
        })
    });
    let reading: Vec<_> = reading.collect();
    setting.nodes[holder].signal(Signal::KILL);
    let killed = Instant::now();
    eventually("it is called again", async || setting.endpoint.calls().await["started"] == 2).await;
    println!("called again by the other node {:?} after the kill (lease 2 s)", killed.elapsed());
    let after = setting.endpoint.calls().await;
    let seen = all(reading).await;

    let (before, after) = (&before["last_headers"], &after["last_headers"]);
    let both = format!("{before} {after}");
    for same in ["soloist-task", "soloist-run"] {
        assert!(before[same].is_string() && before[same] == after[same], "{same}: {both}");
    }
    assert_eq!((&before["soloist-attempt"], &after["soloist-attempt"]), (&"1".into(), &"2".into()), "{both}");
    let epoch = |headers: &Value| headers["soloist-epoch"].as_str().unwrap().parse::<u64>().unwrap();
    assert!(epoch(before) < epoch(after), "{both}");
    assert!(
        before["idempotency-key"].is_string() && before["idempotency-key"] != after["idempotency-key"],
        "{both}"
    );
    assert_eq!((&before["traceparent"], &after["traceparent"]), (&trace.into(), &trace.into()), "{both}");

    let log = setting.check(1 - holder, &seen).await;
    assert_retried_once(&log, 203, "NodeLost");
    let calls = setting.endpoint.calls().await;
    assert_eq!((&calls["started"], &calls["aborted"]), (&2.into(), &1.into()), "{calls}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_endpoint_is_killed_in_the_middle_and_the_next_attempt_has_the_whole_answer() {
    let mut setting = Setting::new("killed_endpoint", 10).await;
    let [first, second] = setting.addresses();
    let tabs = attached(4, &[&first, &second], &Tab::new(KEY, &input(100, 25)), 20).await;
    let reading = tabs.into_iter().map(|(mut tab, mut connection)| {
        tokio::spawn(async move {
            assert_eq!(tab.go_on(&mut connection, Until::End).await, Ended::Told);
            tab
        })
    });
    let reading: Vec<_> = reading.collect();
    let address = setting.endpoint.kill().await;
    setting.endpoint = Endpoint::start_at(address).await;
    let seen = all(reading).await;
    let mut log = setting.check(0, &seen).await;
    // A slow machine may take longer for its start than the first retry waits.
    let away = |event: &Value| event["type"] == "retry" && event["data"]["error_type"] == "HttpConnect";
    let waited = log.iter().filter(|event| away(event)).count();
    println!("the endpoint was killed: {waited} attempts found it away");
    log.retain(|event| !away(event));
    assert_retried_once(&log, 103, "HttpCutOff");
    let calls = setting.endpoint.calls().await;
    assert_eq!(
        (&calls["started"], &calls["finished"]),
        (&1.into(), &1.into()),
        "since it came back: {calls}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_hangs_beyond_its_lease_lets_go_of_the_endpoint_when_it_wakes_and_tells_nobody_a_word() {
    let setting = Setting::new("hung_node", 1).await;
    let [first, second] = setting.addresses();
    let tabs = attached(2, &[&first, &second], &Tab::new(KEY, &input(200, 25)), 20).await;
    let holder = setting.runs_at().await;
    let (mut tab, mut connection) = tabs.into_iter().nth(1 - holder).unwrap();
    setting.nodes[holder].signal(Signal::STOP);
    eventually("it is called again", async || setting.endpoint.calls().await["started"] == 2).await;
    // Its own call is still open: the endpoint is streaming to both.
    let calls = setting.endpoint.calls().await;
    assert_eq!(calls["aborted"], 0, "{calls}");
    setting.nodes[holder].signal(Signal::CONT);
    let woken = Instant::now();
    eventually("it lets go", async || setting.endpoint.calls().await["aborted"] == 1).await;
    println!("a node that hung has closed its call {:?} after it woke", woken.elapsed());
    assert_eq!(tab.go_on(&mut connection, Until::End).await, Ended::Told);
    // Whoever asks the one that hung sees the same.
    let mut late = Tab::new(KEY, &input(200, 25));
    late.read_on(&[&setting.addresses()[holder]]).await;
    let log = setting.check(holder, &[tab, late]).await;
    assert_retried_once(&log, 203, "NodeLost");
    let calls = setting.endpoint.calls().await;
    assert_eq!((&calls["started"], &calls["finished"]), (&2.into(), &1.into()), "{calls}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_node_that_runs_it_is_restarted_and_the_other_makes_the_call_anew_at_the_cost_of_no_retry() {
    let mut setting = Setting::new("drained_node", 1).await;
    let [first, second] = setting.addresses();
    let tabs = attached(4, &[&first, &second], &Tab::new(KEY, &input(200, 25)), 20).await;
    let holder = setting.runs_at().await;
    let living = setting.addresses()[1 - holder].clone();
    let reading = tabs.into_iter().map(|(mut tab, mut connection)| {
        let living = living.clone();
        tokio::spawn(async move {
            if tab.go_on(&mut connection, Until::End).await != Ended::Told {
                tab.read_on(&[&living]).await;
            }
            tab
        })
    });
    let reading: Vec<_> = reading.collect();
    setting.nodes[holder].signal(Signal::TERM);
    let asked = Instant::now();
    eventually("it is called again", async || setting.endpoint.calls().await["started"] == 2).await;
    println!("called again by the other node {:?} after SIGTERM (grace 1 s)", asked.elapsed());
    let calls = setting.endpoint.calls().await;
    assert_eq!(calls["last_headers"]["soloist-attempt"], "2", "{calls}");
    assert!(setting.nodes[holder].ends_within(DEADLINE).await, "it ends by itself");
    let seen = all(reading).await;
    let log = setting.check(1 - holder, &seen).await;
    assert_retried_once(&log, 203, "Drained");
    let record = setting.nodes[1 - holder].task(KEY).await;
    assert_eq!((&record["attempt"], &record["retry_count"]), (&2.into(), &0.into()), "{record}");
    let calls = setting.endpoint.calls().await;
    assert_eq!(
        (&calls["started"], &calls["aborted"], &calls["finished"]),
        (&2.into(), &1.into(), &1.into()),
        "{calls}"
    );
}

/// The beginning of an answer, why it ended there, and a whole answer that takes so many events.
fn assert_retried_once(log: &[Value], whole: usize, why: &str) {
    let types: Vec<&str> = log.iter().map(|event| event["type"].as_str().unwrap()).collect();
    let retry = types.iter().position(|kind| *kind == "retry").expect("a retry is on record");
    assert!(retry >= 20, "the tabs had seen 20 events: {types:?}");
    assert_eq!(log[retry]["data"]["error_type"], why, "{}", log[retry]);
    let answer = &types[retry + 1..];
    assert_eq!(answer.len(), whole, "{types:?}");
    let (end, tokens) = answer.split_last().unwrap();
    assert_eq!(*end, "complete");
    assert!(tokens.iter().chain(&types[..retry]).all(|kind| *kind == "message"), "{types:?}");
    // The same words from the beginning.
    let data = |event: &Value| event["data"].clone();
    assert!(log[..retry].iter().map(data).eq(log[retry + 1..][..retry].iter().map(data)), "{log:?}");
}
