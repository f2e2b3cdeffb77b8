//! Stopping: a command is asked, then ended, and nothing that it has started outlives its attempt.

use std::time::{Duration, Instant};

use serde_json::Value;
use soloist::{CancelOptions, ModelOptions, RunTerms, Status, limits};

use crate::world::{Ran, World, exec, is_alive, run, shell, world};

/// Starts a script, waits for its event `up` and cancels the run. Returns the data of `up` and how it ended.
async fn cancelled(script: &str) -> (Value, Ran) {
    let world = world(shell(script)).await;
    let (key, run) = world.start("t/Model", "{}").await;
    let up = world.watch(&key).await.until("up").await;
    world.coordinator.cancel(&key, CancelOptions::default()).await.unwrap();
    let ran = world.ended(&key, run).await;
    (up, ran)
}

#[tokio::test]
async fn a_command_that_ignores_sigterm_is_killed_after_the_grace_and_is_gone() {
    let begun = Instant::now();
    let (pid, ran) =
        cancelled(r#"trap '' TERM; echo '{"event":"up","data":'$$'}'; while :; do sleep 1; done"#).await;
    assert_eq!(ran.task.status, Status::Cancelled);
    assert!(begun.elapsed() >= limits::EXEC_TERM_GRACE && begun.elapsed() < limits::EXEC_TERM_GRACE * 10);
    assert!(!is_alive(&pid));
}

#[tokio::test]
async fn a_command_that_exits_with_0_because_it_was_asked_to_stop_is_cancelled() {
    let (pid, ran) = cancelled(
        r#"trap 'echo bye; exit 0' TERM; echo '{"event":"up","data":'$$'}'; while :; do sleep 0.1; done"#,
    )
    .await;
    assert_eq!(ran.task.status, Status::Cancelled);
    assert_eq!(ran.lines(), ["bye"]);
    assert!(!is_alive(&pid));
}

#[tokio::test]
async fn a_command_that_still_sends_its_result_when_it_is_asked_to_stop_has_finished() {
    let (_, ran) = cancelled(
        r#"trap 'echo "{\"event\":\"result\",\"data\":5}"; exit 0' TERM
           echo '{"event":"up"}'; while :; do sleep 0.1; done"#,
    )
    .await;
    assert_eq!((ran.task.status, ran.final_value()), (Status::Completed, "5"));
}

#[tokio::test]
async fn what_the_command_has_started_gets_its_time_to_stop_as_well() {
    // The shell itself dies of SIGTERM at once; its child needs a moment for its last words.
    let (pid, ran) = cancelled(
        r#"sh -c 'trap "sleep 0.5; echo tidy; exit" TERM; echo "{\"event\":\"up\",\"data\":$$}"; while :; do sleep 0.1; done' &
           wait"#,
    )
    .await;
    assert_eq!(ran.task.status, Status::Cancelled);
    assert_eq!(ran.lines(), ["tidy"]);
    assert!(!is_alive(&pid));
}

#[tokio::test]
async fn a_process_that_the_command_leaves_behind_ends_with_it_and_holds_up_nothing() {
    let ran = run(shell(r#"trap '' TERM; sleep 600 & echo '{"event":"left","data":'$!'}'"#)).await;
    assert_eq!(ran.task.status, Status::Completed);
    assert!(!is_alive(&ran.of_type("left")[0]));
}

#[tokio::test]
async fn a_daemon_with_a_session_of_its_own_that_holds_stdout_ends_with_its_command() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = shell(
        r#"setsid sh -c 'echo up > up; exec sleep 600' & pid=$!
           while [ ! -s up ]; do sleep 0.05; done
           echo '{"event":"daemon","data":'$pid'}'; seq 1 1000; printf end"#,
    );
    options.dir = Some(dir.path().to_owned());
    let ran = run(options).await;
    assert!(!is_alive(&ran.of_type("daemon")[0]));
    assert_eq!(ran.task.status, Status::Completed);
    let lines = ran.lines();
    assert_eq!((lines.len(), lines[999].as_str(), lines[1000].as_str()), (1001, "1000", "end"));
}

#[tokio::test]
async fn an_attempt_that_is_dropped_takes_its_whole_tree_with_it() {
    let world: World = world(shell(
        r#"trap '' TERM; sleep 600 & a=$!; setsid sleep 600 & echo '{"event":"up","data":['$$','$a','$!']}'; while :; do sleep 1; done"#,
    ))
    .await;
    let (key, _) = world.start("t/Model", "{}").await;
    let pids = world.watch(&key).await.until("up").await;
    world.coordinator.shutdown(Duration::ZERO).await;
    // What is on record is true: they are gone by now, not soon.
    assert!(!pids.as_array().unwrap().iter().any(is_alive));
}

#[tokio::test]
async fn a_timeout_ends_a_command_that_ignores_sigterm_and_all_that_it_has_started() {
    let terms = RunTerms { timeout_seconds: Some(1), ..RunTerms::default() };
    let options = ModelOptions { terms, ..ModelOptions::default() };
    // What a shell ignores its children ignore as well.
    let world = World::on_terms(
        exec(shell(
            r#"trap '' TERM; sleep 600 & a=$!; setsid sleep 600 & b=$!
               sh -c 'while :; do sleep 1; done' & echo '{"event":"up","data":['$$','$a','$b','$!']}'
               while :; do sleep 1; done"#,
        )),
        options,
    )
    .await;
    let begun = Instant::now();
    let (key, run) = world.start("t/Model", "{}").await;
    let ran = world.ended(&key, run).await;
    let took = begun.elapsed();
    assert_eq!(ran.task.status, Status::Cancelled);
    let at_least = Duration::from_secs(1) + limits::EXEC_TERM_GRACE;
    assert!(took >= at_least && took < at_least + Duration::from_secs(15), "{took:?}");
    let pids = ran.of_type("up").remove(0);
    assert_eq!(pids.as_array().unwrap().len(), 4);
    assert!(!pids.as_array().unwrap().iter().any(is_alive));
}
