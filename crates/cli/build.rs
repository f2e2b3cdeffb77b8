//! Names the commit that a release is built from, which `soloist bench` prints beside its figures.
//!
//! Never fails a build: without git, or outside a repository, the program does not know its commit. A build that is no
//! release does not ask, so that a commit alone makes nothing to be built again.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=SOLOIST_COMMIT");
    let is_release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let is_checked = std::env::var("OPT_LEVEL").is_ok_and(|level| level == "0" || level == "1");
    if std::env::var_os("SOLOIST_COMMIT").is_some() || !is_release || is_checked {
        return;
    }
    // The log of HEAD grows with every commit and every switch of branches.
    let (Some(commit), Some(log)) =
        (git(&["rev-parse", "--short", "HEAD"]), git(&["rev-parse", "--git-path", "logs/HEAD"]))
    else {
        return;
    };
    println!("cargo::rerun-if-changed={log}");
    println!("cargo::rustc-env=SOLOIST_COMMIT={commit}");
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
