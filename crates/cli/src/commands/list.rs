//! `soloist list`

use soloist_client::{Client, ListFilter};
use soloist_wire::TaskRecord;

use crate::{
    args::List,
    exit::{Exit, Stop},
    render::{Out, ago, between, status, table},
};

pub(crate) async fn list(args: List, client: &Client, out: &Out) -> Result<Exit, Stop> {
    let List { app, model, status, owner, limit, cursor } = args;
    let page = client.tasks(&ListFilter { app, model, status, owner, limit, cursor }).await?;
    if out.json() {
        out.value(&page)?;
        return Ok(Exit::Completed);
    }
    if page.tasks.is_empty() {
        out.note("no tasks");
        return Ok(Exit::Completed);
    }
    let rows: Vec<_> = page.tasks.iter().map(row).collect();
    out.line(&table(["KEY", "STATUS", "RUN", "EVENTS", "CREATED", "TOOK"], &rows))?;
    if let Some(cursor) = page.next_cursor {
        out.note(&format!("more: --cursor {cursor}"));
    }
    Ok(Exit::Completed)
}

fn row(task: &TaskRecord) -> [String; 6] {
    let end = task.completed_at.as_ref().or(task.failed_at.as_ref()).or(task.cancelled_at.as_ref());
    let took = match (&task.started_at, end) {
        (Some(start), Some(end)) => between(start, end),
        _ => String::new(),
    };
    [
        task.key(),
        status(&task.status),
        task.run.to_string(),
        task.last_seq.to_string(),
        ago(&task.created_at),
        took,
    ]
}
