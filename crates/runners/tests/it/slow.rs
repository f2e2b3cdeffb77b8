//! A store that is slow slows the command down; nothing gathers in memory.

use std::{sync::Arc, time::Duration};

use soloist::{MemoryStore, Status, limits};
use soloist_store_contract::line::Line;
use tokio::sync::watch;

use crate::world::{DEADLINE, Gated, World, exec, shell};

/// Bytes that a process has written so far.
fn written(pid: &str) -> usize {
    let io = std::fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    io.lines().find_map(|line| line.strip_prefix("wchar: ")).map_or(0, |bytes| bytes.parse().unwrap())
}

#[tokio::test]
async fn s8_a_store_that_takes_nothing_stops_the_command_through_its_pipe_and_nothing_is_lost() {
    let (gate, open) = watch::channel(false);
    let dir = tempfile::tempdir().unwrap();
    let mut options = shell("echo $$ > pid.new; mv pid.new pid; exec seq -f %01000g 1 20000");
    options.dir = Some(dir.path().to_owned());
    let store = Arc::new(Line(Gated { store: MemoryStore::new(), open }));
    let world = World::on(store, exec(options)).await;
    let (key, run) = world.start("t/Model", "{}").await;

    let stands_still = async {
        let (mut before, mut still) = (0, 0);
        while still < 40 {
            tokio::time::sleep(Duration::from_millis(25)).await;
            let pid = std::fs::read_to_string(dir.path().join("pid")).unwrap_or_default();
            let now = written(pid.trim());
            still = if now > 1000 && now == before { still + 1 } else { 0 };
            before = now;
        }
        before
    };
    let bytes = tokio::time::timeout(DEADLINE, stands_still).await.expect("the command is held");
    // What is being committed, what waits behind it, and what the pipe and the reader hold.
    let most = 2 * limits::PIPELINE_MAX_BYTES + (1 << 20);
    assert!(bytes < most, "{bytes} bytes were taken of a command that nobody keeps up with");

    gate.send(true).unwrap();
    let ran = world.ended(&key, run).await;
    assert_eq!(ran.task.status, Status::Completed);
    let lines = ran.lines();
    assert_eq!(lines.len(), 20_000);
    assert!(lines.iter().zip(1..).all(|(line, i)| line.len() == 1000 && line.parse() == Ok(i)));
}
