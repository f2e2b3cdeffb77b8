//! `soloist run` from many processes at one moment: one runs the command, the others watch it.

use std::{collections::BTreeMap, path::Path, process::Stdio, time::Duration};

use serde_json::Value;
use system_tests::checker::{At, Told, Watched, check};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

/// Far more than any of it takes.
const DEADLINE: Duration = Duration::from_secs(120);
const ATTACHED: i32 = 42;

/// A call of `soloist run`, with what it prints.
struct Call {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Call {
    fn new(dir: &Path, id: &str, script: &str) -> Self {
        let mut command = Command::from(system_tests::program());
        let attached = ATTACHED.to_string();
        let args = ["--json", "run", "--id", id, "--attached-exit-code", &attached, "--", "sh", "-c", script];
        let mut child = command
            .args(args)
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    async fn line(&mut self) -> Option<Value> {
        let line = tokio::time::timeout(DEADLINE, self.lines.next_line()).await.expect("it says something");
        line.unwrap().map(|line| serde_json::from_str(&line).unwrap())
    }

    /// Reads to the end: the seqs of all events, and the exit code.
    async fn end(mut self) -> (Vec<u64>, i32) {
        let mut seqs = Vec::new();
        while let Some(event) = self.line().await {
            seqs.push(event["seq"].as_u64().unwrap());
        }
        (seqs, self.child.wait().await.unwrap().code().unwrap())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s1_of_64_processes_that_run_one_id_exactly_one_runs_its_command_in_each_of_20_rounds() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("go");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let mut told = BTreeMap::new();
    for round in 0..20 {
        let id = format!("round-{round}");
        // It says that it runs, and goes on once everybody has an answer.
        let script = "echo $$ >> ran; read go < go; echo done";
        let mut calls: Vec<_> = (0..64).map(|_| Call::new(dir.path(), &id, script)).collect();
        let mut answers = Told::default();
        let mut winners = Vec::new();
        for (n, call) in calls.iter_mut().enumerate() {
            let answer = call.line().await.unwrap_or_else(|| panic!("round {round}: call {n} has no answer"));
            let run = answer["run"].as_u64().unwrap();
            if answer["started"] == true {
                winners.push(n);
                answers.won.push(run);
            } else {
                answers.lost.push(run);
            }
        }
        assert_eq!((winners.len(), &answers.won), (1, &vec![1]), "round {round}");
        tokio::fs::write(&fifo, "go\n").await.unwrap();
        for (n, call) in calls.into_iter().enumerate() {
            let (seqs, exit) = call.end().await;
            assert_eq!(exit, if winners[0] == n { 0 } else { ATTACHED }, "round {round}: call {n}");
            assert_eq!(seqs, [1, 2], "round {round}: call {n} saw all of it");
            answers.viewers.push(Watched { ids: seqs, ..Watched::default() });
        }
        told.insert(format!("cli/run/{id}"), answers);
    }
    let ran = std::fs::read_to_string(dir.path().join("ran")).unwrap();
    assert_eq!(ran.lines().count(), 20, "the command ran once in each round");
    let summary = check(&dir.path().join("soloist.db"), At::Rest, &told);
    assert_eq!((summary.tasks, summary.runs, summary.node_lost), (20, 20, 0));
}
