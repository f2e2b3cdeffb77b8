//! What happens to a task besides a clean start and a clean end, by the API of one server.

use std::{sync::Arc, time::Duration};

use serde_json::Value;
use system_tests::{eventually, server::Server};

/// Work that is told to go on and is cancelled in the same moment, 1,000 times: the answer of the cancel, the record and the
/// terminal event say the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_that_races_the_end_agrees_with_record_and_stream_1000_times() {
    let server = Arc::new(Server::start().await);
    let rounds: Vec<_> = (0..20)
        .map(|racer| {
            let server = server.clone();
            tokio::spawn(async move {
                let (mut completed, mut cancelled) = (0, 0);
                // Which of the two is quicker depends on store and machine: whoever wins gets a handicap, and more of it
                // each time until the other one has won.
                let (mut handicap, mut step) = (0, 250);
                for round in 0..50 {
                    let key = format!("demo/ContinueTask/{racer}-{round}");
                    match race(&server, &key, handicap).await.as_str() {
                        "completed" => {
                            (completed, step) = (completed + 1, if step > 0 { step * 2 } else { 250 })
                        }
                        "cancelled" => {
                            (cancelled, step) = (cancelled + 1, if step < 0 { step * 2 } else { -250 })
                        }
                        other => panic!("{other}"),
                    }
                    handicap += step;
                }
                (completed, cancelled)
            })
        })
        .collect();
    let (mut completed, mut cancelled) = (0, 0);
    for round in rounds {
        let (one, other) = round.await.unwrap();
        (completed, cancelled) = (completed + one, cancelled + other);
    }
    println!("of 1,000 races {completed} completed and {cancelled} were cancelled");
    assert!(completed > 0 && cancelled > 0, "{completed} and {cancelled}: no race");
}

/// One race; how it ended. A handicap is so many microseconds that the end is sent after the cancel, or before it where it is
/// less than nothing.
async fn race(server: &Server, key: &str, handicap: i64) -> String {
    server.create(key, r#"{"message":"m"}"#).await;
    server.begin(key).await;
    let (signal, cancel) = (format!("/tasks/{key}/signals/continue"), format!("/tasks/{key}/cancel?wait=60"));
    let later = |micros: i64| tokio::time::sleep(Duration::from_micros(micros.try_into().unwrap_or(0)));
    let ((signalled, _), (status, answer)) = tokio::join!(
        async {
            later(handicap).await;
            server.call("POST", &signal, "1").await
        },
        async {
            later(-handicap).await;
            server.call("POST", &cancel, "").await
        },
    );
    assert!(matches!(signalled, 202 | 409), "{signalled}");
    let task = server.task(key).await;
    let (_, page) = server.call("GET", &format!("/tasks/{key}/events?limit=1000"), "").await;
    let types: Vec<&str> =
        page["events"].as_array().unwrap().iter().map(|event| event["type"].as_str().unwrap()).collect();
    let endings = types.iter().filter(|kind| ["complete", "error", "cancelled"].contains(kind)).count();
    assert_eq!(endings, 1, "{types:?}");
    let ended = task["status"].as_str().unwrap();
    match (status, answer["status"].as_str().unwrap_or_default(), ended, *types.last().unwrap()) {
        (200, "cancelled", "cancelled", "cancelled") => assert_eq!(answer["cancelled"], true),
        (200, "completed", "completed", "complete") => assert_eq!(answer["cancelled"], false),
        (409, "", "completed", "complete") | (409, "409", "completed", "complete") => {
            assert_eq!(answer["code"], "not_running");
        }
        _ => panic!("{status} {answer}, {ended}, {types:?}"),
    }
    ended.to_owned()
}

/// 10,000 tasks that wait for one slot: each that goes lets in one that stood in front of the last, and a task of another model
/// waits for none of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_of_10000_queued_tasks_is_served_from_its_head() {
    let config = "[[model]]\napp = \"a\"\nmodel = \"Slow\"\nrunner = \"exec\"\ncommand = [\"sleep\", \"3600\"]\nmax_concurrent = 1\n";
    let server = Arc::new(Server::start_with(config, "127.0.0.1:0").await);
    // The queue of one model is long, and holds up no other.
    let creating: Vec<_> = (0..20)
        .map(|n| {
            let server = server.clone();
            tokio::spawn(async move {
                for m in 0..500 {
                    let (status, answer) =
                        server.call("PUT", &format!("/tasks/a/Slow/{n}-{m}"), r#"{"start":true}"#).await;
                    assert_eq!(status, 201, "{answer}");
                }
            })
        })
        .collect();
    for creating in creating {
        creating.await.unwrap();
    }
    let (_, queued) = server.call("GET", "/tasks?status=queued&limit=1", "").await;
    let newest = queued["tasks"][0].clone();
    let key = format!("a/Slow/{}", newest["id"].as_str().unwrap());
    let position = server.task(&key).await["position"].as_u64().unwrap();
    assert!(position > 9_900, "{position}");
    let begun = std::time::Instant::now();
    server.create("demo/ExampleTask/1", r#"{"message":"m","delay_ms":1}"#).await;
    server.begin("demo/ExampleTask/1").await;
    let done = || async { server.task("demo/ExampleTask/1").await["status"] == "completed" };
    eventually("another model is served beside it", done).await;
    println!("beside 9,999 that wait a task of another model took {:?}", begun.elapsed());
    // Each cancel lets the next one in, first come, first served.
    let running = async || {
        let (_, running) = server.call("GET", "/tasks?status=running", "").await;
        running["tasks"]
            .as_array()
            .unwrap()
            .iter()
            .map(|task| task["id"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let mut served = Vec::new();
    for _ in 0..50 {
        let now = running().await;
        let [id] = now.as_slice() else { panic!("one runs at a time: {now:?}") };
        served.push(id.clone());
        let (status, answer) = server.call("POST", &format!("/tasks/a/Slow/{id}/cancel?wait=60"), "").await;
        assert_eq!(status, 200, "{answer}");
        let next = || async { running().await.iter().any(|next| next != id) };
        eventually("the next one runs", next).await;
    }
    let left = server.task(&key).await["position"].as_u64().unwrap();
    assert_eq!(left, position - 50, "each of them was in front of the last one");
}

/// A task for a time a moment away: the record says so, and it runs then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_with_a_time_waits_for_it_and_runs() {
    let server = Server::start().await;
    let run_at = (jiff::Timestamp::now() + Duration::from_millis(1_500)).to_string();
    let body = format!(r#"{{"input":{{"message":"m","delay_ms":1}},"run_at":"{run_at}"}}"#);
    let (status, task) = server.call("PUT", "/tasks/demo/ExampleTask/1", &body).await;
    assert_eq!((status, &task["status"], &task["position"]), (201, &"queued".into(), &Value::Null), "{task}");
    assert_eq!(
        task["due_at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_millisecond(),
        run_at.parse::<jiff::Timestamp>().unwrap().as_millisecond()
    );
    let done = || async { server.task("demo/ExampleTask/1").await["status"] == "completed" };
    eventually("it has run", done).await;
    let started = server.task("demo/ExampleTask/1").await["started_at"]
        .as_str()
        .unwrap()
        .parse::<jiff::Timestamp>()
        .unwrap();
    assert!(started >= run_at.parse::<jiff::Timestamp>().unwrap(), "{started} is before {run_at}");
}
