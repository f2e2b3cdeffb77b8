//! Nothing of a command outlives its attempt, whoever is killed. What happens when the node itself is killed is shown
//! with the released program, in the tests of the command line.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use soloist::{CancelOptions, Key, MemoryStore, Run, Status, limits};
use soloist_runners::{
    exec::{ExecOptions, ExecRunner},
    guard::Guard,
};

use crate::{
    world::{DEADLINE, World, command, guard, shell},
    zoo::{Zoo, children},
};

fn pid(raw: u32) -> Pid {
    Pid::from_raw(raw.try_into().unwrap()).unwrap()
}

/// The one attempt process of a guard.
fn attempt_of(guard: &Guard) -> Pid {
    let children = children(guard.pid());
    assert_eq!(children.iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>(), ["exec-attempt"]);
    pid(children[0].0)
}

fn is_gone(process: Pid) {
    let begun = Instant::now();
    while rustix::process::test_kill_process(process).is_ok() {
        assert!(begun.elapsed() < DEADLINE, "{process:?} is still there");
        std::thread::sleep(Duration::from_millis(5));
    }
}

async fn world(guard: &Guard, options: ExecOptions) -> World {
    World::of(ExecRunner::new(options, guard).unwrap()).await
}

/// A world in which a zoo is running.
async fn open(guard: &Guard) -> (Zoo, World, Key, Run) {
    let zoo = Zoo::new();
    let world = world(guard, shell(&zoo.script())).await;
    let (key, run) = world.start("t/Model", "{}").await;
    zoo.is_full();
    (zoo, world, key, run)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_and_a_dropped_attempt_end_with_their_trees_and_leave_others_alone() {
    let guard = guard();
    let (other_zoo, other, other_key, other_run) = open(&guard).await;
    let (zoo, world, key, run) = open(&guard).await;
    world.coordinator.cancel(&key, CancelOptions::default()).await.unwrap();
    assert_eq!(world.ended(&key, run).await.task.status, Status::Cancelled);
    assert_eq!(zoo.living(), [""; 0], "nothing is left once the end is on record");
    other_zoo.is_full();

    other.coordinator.shutdown(Duration::ZERO).await;
    let ran = other.ended(&other_key, other_run).await;
    assert_eq!(ran.task.status, Status::Failed);
    assert_eq!(other_zoo.living(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_command_leaves_when_it_exits_is_gone_before_its_end_is_on_record() {
    let zoo = Zoo::new();
    // The whole zoo in the background, and the command exits once all of it is there.
    let dir = tempfile::tempdir().unwrap();
    let mut options = shell(&format!("({}) & while [ ! -e full ]; do sleep 0.05; done", zoo.script()));
    options.dir = Some(dir.path().to_owned());
    let world = world(&guard(), options).await;
    let (key, run) = world.start("t/Model", "{}").await;
    zoo.is_full();
    std::fs::write(dir.path().join("full"), "").unwrap();
    assert_eq!(world.ended(&key, run).await.task.status, Status::Completed);
    assert_eq!(zoo.living(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_guard_is_killed_its_commands_end_and_the_next_start_gets_another_one() {
    let guard = guard();
    let (zoo, world, key, run) = open(&guard).await;
    let first = guard.pid();
    kill_process(pid(first), Signal::KILL).unwrap();
    let ran = world.ended(&key, run).await;
    assert_eq!(ran.failure().0, "GuardLost");
    zoo.is_empty();

    let next = self::world(&guard, command(&["echo", "fine"])).await;
    assert_eq!(next.run("t/Model", "{}").await.lines(), ["fine"]);
    assert_ne!(guard.pid(), first);
    is_gone(pid(first));
}

#[tokio::test(flavor = "multi_thread")]
async fn when_an_attempt_process_is_killed_the_guard_ends_what_it_leaves() {
    let guard = guard();
    let (zoo, world, key, run) = open(&guard).await;
    kill_process(attempt_of(&guard), Signal::KILL).unwrap();
    assert_eq!(world.ended(&key, run).await.failure().0, "GuardLost");
    zoo.is_empty();

    let next = self::world(&guard, command(&["echo", "fine"])).await;
    assert_eq!(next.run("t/Model", "{}").await.lines(), ["fine"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_an_attempt_process_is_stopped_a_dropped_attempt_ends_all_the_same() {
    let guard = guard();
    let (zoo, world, key, run) = open(&guard).await;
    kill_process(attempt_of(&guard), Signal::STOP).unwrap();
    world.coordinator.shutdown(Duration::ZERO).await;
    assert_eq!(world.ended(&key, run).await.task.status, Status::Failed);
    zoo.is_empty();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guard_that_hangs_fails_a_start_in_time_and_never_runs_its_command_later() {
    let guard = guard();
    let dir = tempfile::tempdir().unwrap();
    let mut options = command(&["touch", "ran"]);
    options.dir = Some(dir.path().to_owned());
    let world = world(&guard, options.clone()).await;
    kill_process(pid(guard.pid()), Signal::STOP).unwrap();
    let begun = Instant::now();
    let ran = world.run("t/Model", "{}").await;
    let (error_type, message) = ran.failure();
    assert_eq!(error_type, "SpawnFailed");
    assert!(message.contains(&format!("pid {}", guard.pid())), "{message}");
    assert!(begun.elapsed() >= limits::EXEC_ANSWER_WAIT && begun.elapsed() < 3 * limits::EXEC_ANSWER_WAIT);

    kill_process(pid(guard.pid()), Signal::CONT).unwrap();
    // The guard takes them in order, so the late one has had its turn before this one.
    let next = self::world(&guard, command(&["echo", "fine"])).await;
    assert_eq!(next.run("t/Model", "{}").await.lines(), ["fine"]);
    let begun = Instant::now();
    while !children(guard.pid()).is_empty() {
        assert!(begun.elapsed() < DEADLINE, "the late attempt process does not end");
    }
    assert!(!dir.path().join("ran").exists());
    assert_eq!(self::world(&guard, options).await.run("t/Model", "{}").await.task.status, Status::Completed);
    assert!(dir.path().join("ran").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_terminals_and_init_systems_send_to_everybody_does_not_end_the_guard_or_an_attempt() {
    let guard = guard();
    let dir = tempfile::tempdir().unwrap();
    let mut options = shell("echo '{\"event\":\"up\"}'; while [ ! -e go ]; do sleep 0.05; done; echo fine");
    options.dir = Some(dir.path().to_owned());
    let world = world(&guard, options).await;
    let (key, run) = world.start("t/Model", "{}").await;
    world.watch(&key).await.until("up").await;
    for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT] {
        for process in [pid(guard.pid()), attempt_of(&guard)] {
            kill_process(process, signal).unwrap();
        }
    }
    std::fs::write(dir.path().join("go"), "").unwrap();
    assert_eq!(world.ended(&key, run).await.lines(), ["fine"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_guard_process_goes_with_the_last_handle() {
    let guard = guard();
    let process = pid(guard.pid());
    let world = world(&guard, command(&["true"])).await;
    assert_eq!(world.run("t/Model", "{}").await.task.status, Status::Completed);
    drop((guard, world));
    is_gone(process);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_command_lives_on_while_the_runtime_is_idle() {
    // Longer than tokio keeps a thread that has nothing to do. Were a command bound to the thread that started it, it
    // would be killed with that thread.
    let ran = world(&guard(), shell("sleep 15; echo fine")).await.run("t/Model", "{}").await;
    assert_eq!((ran.task.status, ran.lines()), (Status::Completed, vec!["fine".to_owned()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_attempts_at_once_share_one_guard() {
    let guard = guard();
    let worlds = (0..100).map(|i| {
        let guard = guard.clone();
        tokio::spawn(async move {
            // A hundred databases would be another test.
            let runner = ExecRunner::new(command(&["echo", &i.to_string()]), &guard).unwrap();
            let ran = World::on(Arc::new(MemoryStore::new()), runner).await.run("t/Model", "{}").await;
            assert_eq!(ran.lines(), [i.to_string()]);
        })
    });
    for world in worlds.collect::<Vec<_>>() {
        world.await.unwrap();
    }
}

#[test]
fn a_program_that_cannot_be_a_guard_process_is_told_so() {
    // The main of this test is not its own, so it has not asked what it was started as.
    assert!(Guard::start().unwrap_err().to_string().contains("enter_if_asked"));
    for other in ["/bin/true", "/nowhere/at/all"] {
        let error = Guard::start_from(other).unwrap_err().to_string();
        assert!(error.contains(other), "{error}");
    }
}
