//! What holds for each of the three examples.

use std::{process::Stdio, time::Instant};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::Value;
use system_tests::{eventually, seed};
use tokio::process::Command;

use crate::{
    example::{DEADLINE, Example, Record, client},
    tab::{Ended, Tab, Until},
};

const KEY: &str = "chat/Reply/1";

fn input(tokens: u32, delay_ms: u32) -> String {
    format!(r#"{{"prompt":"Grüße, \"world\"","tokens":{tokens},"delay_ms":{delay_ms}}}"#)
}

/// Two viewers of one answer, each cut at bytes of its own.
async fn cut_and_resumed(name: &str) {
    let seed = seed();
    let example = Example::start(name, Record::Kept).await;
    let viewers = [seed, seed.wrapping_add(1)].map(|seed| {
        let address = example.soloist.clone();
        tokio::spawn(async move {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut tab = Tab::full(KEY, &input(150, 20));
            while !matches!(tab.last(), "complete" | "error" | "cancelled") {
                // Also within the head of the answer.
                let ended = tab.read(&address, Until::Bytes(rng.random_range(1..5000))).await;
                assert_ne!(ended, Ended::Broken, "only the viewer cuts");
            }
            tab
        })
    });
    let mut tabs = Vec::new();
    for viewer in viewers {
        tabs.push(tokio::time::timeout(DEADLINE, viewer).await.expect("it sees the end").unwrap());
    }
    println!("{name}: the viewers have asked {} and {} times", tabs[0].asked, tabs[1].asked);
    assert!(tabs.iter().all(|tab| tab.asked > 3), "they were hardly cut");
    assert_eq!(tabs[0].shown(), tabs[1].shown());
    // Its tokens, what it has used, [DONE], and `complete`.
    assert!(tabs[0].shown().iter().map(|event| event.0).eq(1..=153), "{:?}", tabs[0].shown());
    assert_eq!(tabs[0].last(), "complete");
    let calls = example.calls().await;
    assert_eq!((&calls["started"], &calls["aborted"]), (&1.into(), &0.into()), "{calls}");
    eventually("the endpoint is done", async || example.calls().await["finished"] == 1).await;
    example.stop().await;
}

async fn stopped(name: &str) {
    let example = Example::start(name, Record::Kept).await;
    let mut viewers = Vec::new();
    for _ in 0..2 {
        let mut tab = Tab::full(KEY, &input(10_000, 20));
        let mut connection = tab.open(&example.soloist).await.unwrap();
        assert_eq!(tab.go_on(&mut connection, Until::Events(5)).await, Ended::Enough);
        viewers.push((tab, connection));
    }
    let task = format!("http://{}/tasks/{KEY}", example.soloist);
    let stop = client()
        .post(format!("{task}/cancel"))
        .header("content-type", "application/json")
        .body(r#"{"reason":"not needed"}"#);
    let asked = Instant::now();
    assert_eq!(stop.send().await.unwrap().status(), 202);
    eventually("the endpoint notices", async || example.calls().await["aborted"] == 1).await;
    let took = asked.elapsed();
    println!("{name}: stopped at the endpoint {took:?} after the cancel was sent");
    assert!(took.as_secs_f64() < 1.0, "{took:?}");
    for (mut tab, mut connection) in viewers {
        assert_eq!(tab.go_on(&mut connection, Until::End).await, Ended::Told);
        assert_eq!(tab.last(), "cancelled");
        let data: Value = serde_json::from_str(&tab.seen.last().unwrap().data).unwrap();
        assert_eq!(data["reason"], "not needed");
    }
    let record: Value =
        serde_json::from_str(&text_of(client().get(task).send().await.unwrap()).await).unwrap();
    assert_eq!(
        (&record["status"], &record["cancellation_reason"]),
        (&"cancelled".into(), &"not needed".into()),
        "{record}"
    );
    let calls = example.calls().await;
    assert_eq!((&calls["started"], &calls["finished"]), (&1.into(), &0.into()), "{calls}");
    example.stop().await;
}

async fn the_same_bytes(name: &str) {
    let example = Example::start(name, Record::Kept).await;
    let body = input(60, 5);
    let ask = async |url: String| {
        let asked = client().post(url).header("content-type", "application/json");
        text_of(asked.body(body.clone()).send().await.unwrap()).await
    };
    let direct = ask(format!("http://{}/generate", example.endpoint)).await;
    let relayed = ask(format!("http://{}/stream/{KEY}?format=raw", example.soloist)).await;
    assert_eq!(direct.matches("\n\n").count(), 62, "{direct}");
    assert_eq!(without_soloists(&relayed), direct);
    // Replayed from the record as well.
    let replayed = ask(format!("http://{}/stream/{KEY}?format=raw", example.soloist)).await;
    assert_eq!(without_soloists(&replayed), direct);
    assert_eq!(example.calls().await["started"], 2);
    example.stop().await;
}

/// A raw stream without what Soloist adds: when to come back, comments, ids, and the event that ends the run.
fn without_soloists(stream: &str) -> String {
    let mut blocks: Vec<&str> = stream.split_inclusive("\n\n").collect();
    let end = blocks.pop().unwrap();
    assert!(end.contains("event: complete\n"), "{end}");
    blocks.retain(|block| !block.starts_with(':') && !block.starts_with("retry:"));
    let lines = blocks.into_iter().flat_map(|block| block.split_inclusive('\n'));
    lines.filter(|line| !line.starts_with("id: ")).collect()
}

async fn begins_and_ends(name: &str) {
    let example = Example::start(name, Record::Temporary).await;
    let printed = example.curl.clone();
    let curl = Command::new("sh")
        .args(["-c", &format!("exec {printed} --silent --fail")])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(DEADLINE, curl).await.expect("curl ends").unwrap();
    assert!(output.status.success(), "{printed}: {output:?}");
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.contains("data: [DONE]\n") && shown.contains("event: complete\n"), "{printed}: {shown}");
    // Another answer is under way.
    let mut tab = Tab::new(KEY, &input(10_000, 20));
    let mut connection = tab.open(&example.soloist).await.unwrap();
    assert_eq!(tab.go_on(&mut connection, Until::Events(5)).await, Ended::Enough);
    let asked = Instant::now();
    let status = example.stop().await;
    println!("{name}: all of it has ended {:?} after SIGTERM, in the middle of an answer", asked.elapsed());
    assert_eq!(status.code(), Some(143), "{status}");
}

async fn text_of(answer: reqwest::Response) -> String {
    assert_eq!(answer.status(), 200);
    let body = tokio::time::timeout(DEADLINE, answer.bytes()).await.expect("the answer ends").unwrap();
    String::from_utf8(body.to_vec()).unwrap()
}

macro_rules! tests_of {
    ($module:ident) => {
        mod $module {
            const NAME: &str = stringify!($module);

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn two_viewers_that_are_cut_at_random_bytes_see_every_event_once_and_it_is_called_once() {
                super::cut_and_resumed(NAME).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn stopped_by_somebody_else_it_notices_within_a_second_and_all_viewers_are_told() {
                super::stopped(NAME).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn the_raw_format_gives_its_own_bytes_back() {
                super::the_same_bytes(NAME).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn what_its_run_script_prints_works_and_sigterm_ends_all_of_it() {
                super::begins_and_ends(NAME).await;
            }
        }
    };
}

tests_of!(fastapi);
tests_of!(express);
tests_of!(django);
