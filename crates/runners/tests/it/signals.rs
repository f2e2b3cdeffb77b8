//! Signals on stdin: a command that wants them hears them all, in order, and one that does not is held up by nothing.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use soloist::{
    CancelOptions, Create, Json, Key, ModelOptions, NewTask, RunTerms, Start, StartOptions, Status, limits,
    store::Signalled,
};
use soloist_runners::exec::{ExecOptions, Signals};

use crate::world::{World, exec, shell};

fn hearing(script: &str) -> ExecOptions {
    ExecOptions { signals: Signals::Stdin, ..shell(script) }
}

impl World {
    /// Creates a task that nobody has started.
    async fn pending(&self, input: &str) -> Key {
        let key: Key = "t/Model/1".parse().unwrap();
        let new = NewTask::named(key.clone(), Json::parse(input).unwrap());
        assert!(matches!(self.coordinator.create(new).await.unwrap(), Create::Created(_)));
        key
    }

    async fn signal(&self, key: &Key, name: &str, data: &str) {
        let sent = self.coordinator.signal(key, name, Json::parse(data).unwrap()).await.unwrap();
        assert!(matches!(sent, Signalled::Recorded { .. }), "{sent:?}");
    }
}

#[tokio::test]
async fn a_command_hears_of_signals_before_and_during_its_run_and_nobody_sends_it_one_after() {
    let world = World::of(exec(hearing(
        r#"read -r input; printf '{"event":"input","data":%s}\n' "$input"
           while read -r line; do
             printf '{"event":"heard","data":%s}\n' "$line"
             case $line in *'"last"'*) exit 0;; esac
           done
           exit 9"#,
    )))
    .await;
    let key = world.pending("{\n \"a\":\r\n 1.50\n}").await;
    world.signal(&key, "first", "{\"x\":\n[1]}").await;
    world.signal(&key, "a \"b\"", "null").await;
    let Start::Started { run } = world.coordinator.start(&key, StartOptions::default()).await.unwrap() else {
        panic!("it was pending")
    };
    let mut viewer = world.watch(&key).await;
    viewer.until("heard").await;
    world.signal(&key, "during", "\"line\\nbreak\"").await;
    loop {
        let heard = viewer.until("heard").await;
        if heard["signal"] == "during" {
            break;
        }
    }
    world.signal(&key, "last", "2.50").await;
    let ran = world.ended(&key, run).await;
    assert_eq!(ran.task.status, Status::Completed);
    assert_eq!(ran.of_type("input"), [json!({"a": 1.50})]);
    assert_eq!(
        ran.of_type("heard"),
        [
            json!({"signal": "first", "number": 1, "data": {"x": [1]}}),
            json!({"signal": "a \"b\"", "number": 2, "data": null}),
            json!({"signal": "during", "number": 3, "data": "line\nbreak"}),
            json!({"signal": "last", "number": 4, "data": 2.5}),
        ]
    );
    let after = world.coordinator.signal(&key, "after", Json::null()).await.unwrap();
    assert_eq!(after, Signalled::NotRunning(Status::Completed));
}

#[tokio::test]
async fn the_next_attempt_hears_of_them_all_again() {
    let terms = RunTerms { max_retries: 1, ..RunTerms::default() };
    let options = ModelOptions { terms, retry_delay: Duration::from_millis(10), ..ModelOptions::default() };
    let script = r#"read -r input; read -r line; printf '{"event":"heard","data":%s}\n' "$line"
                    [ "$SOLOIST_TASK_ATTEMPT" = 2 ]"#;
    let world = World::on_terms(exec(hearing(script)), options).await;
    let (key, run) = world.start("t/Model", "{}").await;
    world.signal(&key, "go", "1").await;
    let ran = world.ended(&key, run).await;
    assert_eq!((ran.task.status, ran.task.attempt), (Status::Completed, 2));
    let heard: Vec<Value> = ran.of_type("heard").into_iter().map(|heard| heard["number"].clone()).collect();
    assert_eq!(heard, [1, 1]);
}

#[tokio::test]
async fn a_command_that_never_reads_is_cancelled_as_fast_as_any() {
    let world = World::of(exec(hearing(r#"echo '{"event":"up"}'; exec sleep 600"#))).await;
    let key = world.pending("{}").await;
    // More than a pipe holds.
    let data = format!("\"{}\"", "x".repeat(1_000));
    for _ in 0..110 {
        world.signal(&key, "more", &data).await;
    }
    let Start::Started { run } = world.coordinator.start(&key, StartOptions::default()).await.unwrap() else {
        panic!("it was pending")
    };
    world.watch(&key).await.until("up").await;
    let asked = Instant::now();
    world.coordinator.cancel(&key, CancelOptions::default()).await.unwrap();
    assert_eq!(world.ended(&key, run).await.task.status, Status::Cancelled);
    assert!(asked.elapsed() < limits::EXEC_TERM_GRACE, "SIGTERM was enough: {:?}", asked.elapsed());
}

#[tokio::test]
async fn a_command_that_closes_its_stdin_works_on_whatever_it_is_sent() {
    let dir = tempfile::tempdir().unwrap();
    let options = ExecOptions {
        dir: Some(dir.path().to_owned()),
        ..hearing(
            r#"exec < /dev/null; echo '{"event":"up"}'; while [ ! -e go ]; do sleep 0.02; done; echo done"#,
        )
    };
    let world = World::of(exec(options)).await;
    let (key, run) = world.start("t/Model", "{}").await;
    world.watch(&key).await.until("up").await;
    for _ in 0..3 {
        world.signal(&key, "nobody", "1").await;
    }
    std::fs::write(dir.path().join("go"), "").unwrap();
    let ran = world.ended(&key, run).await;
    assert_eq!((ran.task.status, ran.lines()), (Status::Completed, vec!["done".to_owned()]));
}

#[tokio::test]
async fn stdin_stays_open_until_the_command_has_exited() {
    // It completes by the time that `timeout` gives it, not by the end of its stdin, which would be exit code 0.
    let options = hearing(r#"timeout 0.5 cat > /dev/null; [ $? = 124 ]"#);
    let world = World::of(exec(options)).await;
    assert_eq!(world.run("t/Model", "{}").await.task.status, Status::Completed);
}
