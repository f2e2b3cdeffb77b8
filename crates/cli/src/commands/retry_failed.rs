//! `soloist retry-failed`
//!
//! Decides: which failures are of late, and that each of them gets one new run. They are all listed before the first is
//! started: a task that fails again meanwhile would come up in the list a second time. A task that somebody else has
//! started since is left alone, and what goes wrong with one task does not stop the others.

use indicatif::ProgressBar;
use serde::Serialize;
use soloist::{ModelKey, Status, Timestamp, limits};
use soloist_client::{Client, Error, IdempotencyKey, ListFilter};
use soloist_wire::{Policy, StartBody, TaskRecord};

use super::{bar, count, hours_ago};
use crate::{
    args::RetryFailed,
    exit::{Exit, Stop},
    render::{Out, ago, plain},
};

/// What was found.
#[derive(Debug, Default, Serialize)]
struct Retried {
    dry_run: bool,
    /// Started, or to be started.
    tasks: u64,
    /// Active or deleted by then, or tasks of `soloist run`.
    skipped: u64,
    /// Could not be started.
    errors: u64,
}

/// What is kept of a failed task until it is its turn; its input and its error may be long.
struct Failed {
    key: String,
    is_own: bool,
    failed_at: String,
    error_type: String,
}

pub(crate) async fn retry_failed(args: RetryFailed, client: &Client, out: &Out) -> Result<Exit, Stop> {
    let bar = if out.is_watched() { bar() } else { ProgressBar::hidden() };
    let mut retried = Retried { dry_run: args.dry_run, ..Retried::default() };
    let failed = listed(&args, client).await?;
    bar.set_length(failed.len() as u64);
    for task in &failed {
        bar.inc(1);
        // Only `soloist run` has the commands of its tasks.
        if task.is_own {
            retried.skipped += 1;
            continue;
        }
        if args.dry_run {
            retried.tasks += 1;
            if !out.json() {
                bar.suspend(|| out.line(&said(task)))?;
            }
            continue;
        }
        match start(client, task).await {
            Ok(true) => retried.tasks += 1,
            Ok(false) => retried.skipped += 1,
            Err(error) => {
                let mut stop = Stop::from(error);
                // It would be the same with all others.
                if stop.exit == Exit::Unreachable {
                    bar.finish_and_clear();
                    return Err(stop);
                }
                stop.message = format!("{}: {}", task.key, stop.message);
                bar.suspend(|| out.error(&stop));
                retried.errors += 1;
            }
        }
    }
    bar.finish_and_clear();
    if out.json() {
        out.value(&retried)?;
    } else {
        out.line(&summary(&retried, args.max_age_hours))?;
    }
    Ok(if retried.errors == 0 { Exit::Completed } else { Exit::Refused })
}

/// All tasks whose last run failed less than so many hours ago.
async fn listed(args: &RetryFailed, client: &Client) -> Result<Vec<Failed>, Error> {
    let after = hours_ago(args.max_age_hours);
    let mut filter = ListFilter {
        app: args.app.clone(),
        model: args.model.clone(),
        status: Some(Status::Failed.as_str().to_owned()),
        limit: Some(limits::LIST_MAX_TASKS),
        ..ListFilter::default()
    };
    let mut failed = Vec::new();
    loop {
        let page = client.tasks(&filter).await?;
        failed.extend(page.tasks.into_iter().filter_map(|task| younger(task, after)));
        filter.cursor = page.next_cursor;
        if filter.cursor.is_none() {
            return Ok(failed);
        }
    }
}

/// The task, where it failed after that.
fn younger(task: TaskRecord, after: Timestamp) -> Option<Failed> {
    let (key, is_own) = (task.key(), task.app == ModelKey::OWN_APP);
    let failed_at = task.failed_at.filter(|at| at.parse::<Timestamp>().is_ok_and(|at| at > after))?;
    Some(Failed { key, is_own, failed_at, error_type: task.error_type.unwrap_or_default() })
}

/// Whether it is this call that started it.
async fn start(client: &Client, task: &Failed) -> Result<bool, Error> {
    let body = StartBody { policy: Some(Policy::Restart) };
    // Under a key of its own: where the answer is lost it is asked for again, and starts nothing twice.
    match client.keyed(&IdempotencyKey::random()).start(&task.key, &body).await {
        Ok(answered) => Ok(answered.answer.started),
        Err(error) if error.code() == Some("unknown_task") => Ok(false),
        Err(error) => Err(error),
    }
}

fn said(task: &Failed) -> String {
    format!("{}  failed {}  {}", plain(&task.key), ago(&task.failed_at), plain(&task.error_type))
}

fn summary(retried: &Retried, hours: u32) -> String {
    let verb = if retried.dry_run { "would start" } else { "started" };
    let (tasks, hours) = (count(retried.tasks, "task"), count(hours.into(), "hour"));
    let mut text = format!("{verb} {tasks} that failed less than {hours} ago");
    if retried.skipped > 0 {
        text.push_str(&format!("; {} skipped", retried.skipped));
    }
    if retried.errors > 0 {
        text.push_str(&format!("; {} could not be started", retried.errors));
    }
    text
}
