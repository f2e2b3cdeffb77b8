//! A process of its own for a test: this very binary, running the one test that started it, in another part.

use std::{
    env,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

const PART: &str = "SOLOIST_TEST_CHILD_DB";

/// The database that this process is to play its part on; `None` in the process of the test runner.
pub(crate) fn part() -> Option<PathBuf> {
    env::var_os(PART).map(PathBuf::from)
}

/// A child that runs `test` (its full name) on a database.
pub(crate) fn command(test: &str, database: &Path) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(PART, database);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

/// What a child says, line by line; only lines that begin with `word` (the test runner prints others), without it.
pub(crate) fn said(child: &mut Child, word: &'static str) -> impl Iterator<Item = String> + use<> {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.map_while(Result::ok).filter_map(move |line| {
        // The runner's own "test name ... " may stand before the first one.
        line.split_once(word).map(|(_, rest)| rest.trim().to_owned())
    })
}
