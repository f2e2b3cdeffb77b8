//! `soloist backup`
//!
//! Decides: nothing about the copy; that is the store's. Says how far it is where a person watches.

use std::time::Instant;

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use serde::Serialize;
use soloist_sqlite::BackupError;

use crate::{
    args::Backup,
    config::types::StoreUrl,
    exit::{Exit, Stop},
    render::Out,
};

pub(crate) fn backup(args: Backup, out: &Out) -> Result<Exit, Stop> {
    let from = match args.store.load()?.store {
        StoreUrl::Sqlite(from) => from,
        StoreUrl::Memory => {
            return Err(Stop::new(Exit::Usage, "the store is memory:, which no other process can copy"));
        }
        StoreUrl::Postgres(_) => {
            return Err(Stop::new(Exit::Usage, "the store is a PostgreSQL database; copy it with pg_dump"));
        }
    };
    let begun = Instant::now();
    let bar = if out.is_watched() { bar() } else { ProgressBar::hidden() };
    let done = soloist_sqlite::backup(&from, &args.file, |progress| {
        bar.set_length(progress.total);
        bar.set_position(progress.done);
    });
    bar.finish_and_clear();
    let done = done.map_err(stop)?;
    let file = args.file.display().to_string();
    if out.json() {
        out.value(&Copied { file, tasks: done.tasks, bytes: done.bytes })?;
    } else {
        let (tasks, size, took) = (done.tasks, HumanBytes(done.bytes), begun.elapsed().as_secs_f64());
        let tasks = if tasks == 1 { "1 task".to_owned() } else { format!("{tasks} tasks") };
        out.line(&format!("copied {tasks} ({size}) to {file} in {took:.1} s"))?;
    }
    Ok(Exit::Completed)
}

#[derive(Serialize)]
struct Copied {
    file: String,
    tasks: u64,
    bytes: u64,
}

fn bar() -> ProgressBar {
    let style =
        ProgressStyle::with_template("{bar:40.cyan/dim} {bytes}/{total_bytes}  {elapsed}, {eta} left");
    ProgressBar::no_length().with_style(style.expect("the template is right").progress_chars("━╸─"))
}

fn stop(error: BackupError) -> Stop {
    let exit = match &error {
        BackupError::Exists { .. } => Exit::Refused,
        BackupError::Open(_) => Exit::Unreachable,
        _ => Exit::Failed,
    };
    Stop::new(exit, error.to_string())
}
