//! What the tests of the built program share: a server process, calls to it, and a viewer that reads raw bytes.
//!
//! Everything here is real: processes are started from the binary and killed with signals, connections are cut in the
//! middle of a byte stream. `SOLOIST_BIN` names the binary; without it `target/checked/soloist` is used, which is built with
//! all tests by `cargo test --workspace --profile checked --no-run`.

#![forbid(unsafe_code)]
#![allow(missing_docs, clippy::unwrap_used)]

pub mod browser;
pub mod checker;
pub mod clock;
pub mod proxy;
pub mod server;
pub mod viewer;

use std::{
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

/// The binary under test.
#[must_use]
pub fn binary() -> PathBuf {
    let path = std::env::var_os("SOLOIST_BIN").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/checked/soloist")),
        PathBuf::from,
    );
    assert!(path.exists(), "{} is not there; run `./scripts/test compile` first", path.display());
    path
}

/// The binary under test as a command. What names the binary, a seed or a client is meant for the tests; to the program it
/// is a misspelt key.
#[must_use]
pub fn program() -> Command {
    let mut command = Command::new(binary());
    forget_ours(&mut command);
    command
}

/// Takes the variables of the tests from the environment of a program.
pub fn forget_ours(command: &mut Command) {
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SOLOIST_")) {
        command.env_remove(name);
    }
}

/// The seed of a test: `SOLOIST_SEED`, or a fresh one; printed, so that a failure can be run again.
#[must_use]
pub fn seed() -> u64 {
    let seed = std::env::var("SOLOIST_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(rand::random);
    println!("seed: SOLOIST_SEED={seed}");
    seed
}

/// Something that `./scripts/test client-env` has installed, by default below `target/test-env`.
#[must_use]
pub fn installed(variable: &str, default: &str) -> PathBuf {
    let path = std::env::var_os(variable).map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/test-env")).join(default),
        PathBuf::from,
    );
    assert!(path.exists(), "{variable}: {} is not there; run `./scripts/test client-env`", path.display());
    path
}

/// Asks again until `done` says so; fails after a generous while.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut done: impl FnMut() -> F) {
    let since = Instant::now();
    while !done().await {
        assert!(since.elapsed() < Duration::from_secs(120), "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
