//! `soloist cleanup`
//!
//! Decides: which tasks are old, and that nothing else goes. A task is deleted by naming the run that was read of it:
//! one that was started again meanwhile stays, whatever it does by then. Each task is a request of its own, and the
//! server clears its events away in small steps, so that nobody waits for a cleanup. Broken off, it is simply run again.

use indicatif::ProgressBar;
use serde::Serialize;
use soloist::{Status, Timestamp, limits};
use soloist_client::{Client, Error, ListFilter};
use soloist_wire::TaskRecord;

use super::{bar, count, hours_ago};
use crate::{
    args::{Cleanup, ENDINGS},
    exit::{Exit, Stop},
    render::{Out, ago, plain, status},
};

/// What was found.
#[derive(Debug, Default, Serialize)]
struct Cleaned {
    dry_run: bool,
    /// Deleted, or to be deleted.
    tasks: u64,
    events: u64,
    /// Old when they were listed, and started again or deleted by somebody else since.
    skipped: u64,
}

pub(crate) async fn cleanup(args: Cleanup, client: &Client, out: &Out) -> Result<Exit, Stop> {
    let before = hours_ago(args.hours);
    let mut cleaned = Cleaned { dry_run: args.dry_run, ..Cleaned::default() };
    let bar = if out.is_watched() { bar() } else { ProgressBar::hidden() };
    let endings = ENDINGS.map(Status::as_str).into_iter();
    for wanted in endings.filter(|ending| args.status.as_deref().is_none_or(|only| only == *ending)) {
        let mut filter = ListFilter {
            app: args.app.clone(),
            model: args.model.clone(),
            status: Some(wanted.to_owned()),
            limit: Some(limits::LIST_MAX_TASKS),
            ..ListFilter::default()
        };
        loop {
            let page = client.tasks(&filter).await?;
            for task in page.tasks.iter().filter(|task| is_older(task, before)) {
                bar.inc(1);
                let Some(events) = events(client, task).await? else {
                    cleaned.skipped += 1;
                    continue;
                };
                if args.dry_run && !out.json() {
                    bar.suspend(|| out.line(&said(task, events)))?;
                }
                if args.dry_run || delete(client, task).await? {
                    cleaned.tasks += 1;
                    cleaned.events += events;
                } else {
                    cleaned.skipped += 1;
                }
            }
            filter.cursor = page.next_cursor;
            if filter.cursor.is_none() {
                break;
            }
        }
    }
    bar.finish_and_clear();
    if out.json() {
        out.value(&cleaned)?;
    } else {
        out.line(&summary(&cleaned, args.hours))?;
    }
    Ok(Exit::Completed)
}

/// Whether its last run ended before that.
fn is_older(task: &TaskRecord, before: Timestamp) -> bool {
    let end = [&task.completed_at, &task.failed_at, &task.cancelled_at].into_iter().flatten().next();
    end.and_then(|end| end.parse::<Timestamp>().ok()).is_some_and(|end| end < before)
}

/// How many events it has; none where it is not there any more. The log of a task that was created anew goes on with the
/// numbers of the deleted one, which are not its own.
async fn events(client: &Client, task: &TaskRecord) -> Result<Option<u64>, Error> {
    if task.run <= 1 {
        return Ok(Some(task.last_seq));
    }
    match client.events(&task.key(), 0, Some(1)).await {
        Ok(page) => {
            let first = page.events.first().map_or(task.last_seq + 1, |event| event.seq);
            Ok(Some((task.last_seq + 1).saturating_sub(first)))
        }
        Err(error) if error.code() == Some("unknown_task") => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether it is this call that deleted it.
async fn delete(client: &Client, task: &TaskRecord) -> Result<bool, Error> {
    match client.delete(&task.key(), Some(task.run)).await {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.code(), Some("task_active" | "other_run" | "unknown_task")) => Ok(false),
        Err(error) => Err(error),
    }
}

fn said(task: &TaskRecord, events: u64) -> String {
    let (key, status) = (plain(&task.key()), status(&task.status));
    format!("{key}  {status}  {events} events  created {}", ago(&task.created_at))
}

fn summary(cleaned: &Cleaned, hours: u32) -> String {
    let (tasks, events) = (count(cleaned.tasks, "task"), count(cleaned.events, "event"));
    let verb = if cleaned.dry_run { "would delete" } else { "deleted" };
    let mut text =
        format!("{verb} {tasks} ({events}) that ended more than {} ago", count(hours.into(), "hour"));
    if cleaned.skipped > 0 {
        text.push_str(&format!("; {} changed meanwhile and stayed", count(cleaned.skipped, "task")));
    }
    text
}
