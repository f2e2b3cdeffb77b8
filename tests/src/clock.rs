//! Servers whose wall clock is another one.

use std::{path::PathBuf, sync::Arc};

use crate::server::Server;

/// The library that moves a process's wall clock, built into this folder.
#[must_use]
pub fn library(dir: &std::path::Path) -> PathBuf {
    let library = dir.join("clock.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/clock.c");
    let built = std::process::Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&library)
        .arg(source)
        .status();
    assert!(built.unwrap().success());
    library
}

/// A server whose wall clock is so many seconds ahead.
pub async fn stepped(config: &str, by: i64) -> Server {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    std::fs::write(dir.path().join("soloist.toml"), config).unwrap();
    launch(dir, by).await
}

/// The same in a folder that holds what it is to find. Its clock is read anew from the file `step` in it.
pub async fn launch(dir: Arc<tempfile::TempDir>, by: i64) -> Server {
    let step = dir.path().join("step");
    std::fs::write(&step, by.to_string()).unwrap();
    let mut command = tokio::process::Command::new(crate::binary());
    command.env("LD_PRELOAD", library(dir.path())).env("CLOCK_STEP", &step);
    Server::launch(command, dir, "127.0.0.1:0").await.unwrap()
}
