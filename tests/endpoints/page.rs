//! The page of the FastAPI example in real browsers: what a person sees who opens it twice, reloads it, and presses Stop.

use serde_json::{Value, json};
use system_tests::{browser::Tab, eventually};

use crate::example::{Example, Record, client};

const ANSWER: &str = r#"document.getElementById("answer").textContent"#;
const STATUS: &str = r#"document.getElementById("status").textContent"#;

/// A task of that id, as another client creates it; the address of its page.
async fn ask(example: &Example, id: &str, tokens: u32, delay_ms: u32) -> String {
    let body = json!({
        "input": {"prompt": "What is it?", "tokens": tokens, "delay_ms": delay_ms},
        "start": true,
    });
    let answer = client()
        .put(format!("http://{}/tasks/chat/Reply/{id}", example.soloist))
        .header("content-type", "application/json")
        .body(body.to_string());
    assert_eq!(answer.send().await.unwrap().status(), 201);
    page(example, id)
}

fn page(example: &Example, id: &str) -> String {
    format!("http://{}/#{id}", example.endpoint)
}

/// The words of an answer, as the endpoint itself says them.
async fn words(example: &Example, prompt: &str, tokens: u32) -> String {
    let body = json!({"prompt": prompt, "tokens": tokens, "delay_ms": 0}).to_string();
    let asked = client().post(format!("http://{}/generate", example.endpoint));
    let answer = asked.header("content-type", "application/json").body(body).send().await.unwrap();
    let answer = String::from_utf8(answer.bytes().await.unwrap().to_vec()).unwrap();
    let events =
        answer.lines().filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok());
    events.filter_map(|event| Some(event["token"].as_str()?.to_owned())).collect()
}

/// Waits until so many characters of the answer are shown.
async fn shows(tab: &mut Tab, characters: usize) {
    tab.until(&format!("{ANSWER}.length >= {characters}")).await;
}

async fn is_complete(tab: &mut Tab) {
    tab.until(&format!("{STATUS} === 'Complete.'")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_browsers_and_a_reload_show_the_same_answer_from_its_beginning() {
    let example = Example::start("fastapi", Record::Kept).await;
    // A browser takes its time to start, and the answer is not to be over by then.
    let empty = page(&example, "");
    let (mut one, mut other) = tokio::join!(Tab::open(&empty), Tab::open(&empty));
    for tab in [&mut one, &mut other] {
        tab.until(&format!("{STATUS} === 'Nothing asked yet.'")).await;
    }
    ask(&example, "shown", 600, 25).await;
    for tab in [&mut one, &mut other] {
        tab.evaluate("location.hash = 'shown'").await;
    }
    shows(&mut one, 100).await;
    shows(&mut other, 100).await;
    // What is shown before and after the reload tells the two documents apart.
    one.evaluate("window.before = true").await;
    one.reload().await;
    one.until("window.before === undefined").await;
    shows(&mut one, 100).await;
    assert_eq!(one.evaluate(STATUS).await, "Streaming ...", "reloaded in the middle");
    is_complete(&mut one).await;
    is_complete(&mut other).await;
    let shown = one.evaluate(ANSWER).await;
    assert_eq!(shown, other.evaluate(ANSWER).await);
    assert_eq!(one.evaluate(r#"document.getElementById("prompt").value"#).await, "What is it?");
    let calls = example.calls().await;
    assert_eq!((&calls["started"], &calls["finished"]), (&1.into(), &1.into()), "{calls}");
    assert_eq!(shown, words(&example, "What is it?", 600).await);
    // Once it is over as well.
    one.reload().await;
    one.until("window.before === undefined").await;
    is_complete(&mut one).await;
    assert_eq!(one.evaluate(ANSWER).await, shown);
    drop((one, other));
    example.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_browser_sends_another_one_shows() {
    let example = Example::start("fastapi", Record::Kept).await;
    let mut one = Tab::open(&page(&example, "")).await;
    one.until(&format!("{STATUS} === 'Nothing asked yet.'")).await;
    let send =
        r#"document.getElementById("prompt").value = "Hello"; document.getElementById("send").click()"#;
    one.evaluate(send).await;
    shows(&mut one, 1).await;
    let mut other = Tab::open(one.evaluate("location.href").await.as_str().unwrap()).await;
    let words = words(&example, "Hello", 50).await;
    for tab in [&mut one, &mut other] {
        is_complete(tab).await;
        assert_eq!(tab.evaluate(ANSWER).await, *words);
    }
    assert_eq!(example.calls().await["started"], 2, "by the page, and by the test");
    drop((one, other));
    example.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stop_button_of_one_browser_stops_the_answer_in_both() {
    let example = Example::start("fastapi", Record::Kept).await;
    let url = ask(&example, "stopped", 10_000, 30).await;
    let (mut one, mut other) = tokio::join!(Tab::open(&url), Tab::open(&url));
    shows(&mut one, 20).await;
    shows(&mut other, 20).await;
    other.evaluate(r#"document.getElementById("stop").click()"#).await;
    for tab in [&mut one, &mut other] {
        tab.until(&format!("{STATUS} === 'Stopped: the stop button'")).await;
    }
    assert_eq!(one.evaluate(ANSWER).await, other.evaluate(ANSWER).await);
    eventually("the endpoint notices", async || example.calls().await["aborted"] == 1).await;
    assert_eq!(example.calls().await["started"], 1);
    drop((one, other));
    example.stop().await;
}
