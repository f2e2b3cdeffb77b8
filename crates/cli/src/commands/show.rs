//! `soloist show`

use soloist_client::Client;
use soloist_wire::TaskRecord;

use crate::{
    args::Show,
    exit::{Exit, Stop},
    render::{Out, between, dim, due, plain, seconds, status, when},
};

pub(crate) async fn show(args: Show, client: &Client, out: &Out) -> Result<Exit, Stop> {
    let record = client.task(&args.key.to_string()).await?;
    if out.json() {
        out.value(&record)?;
    } else {
        out.line(&text(&record))?;
    }
    Ok(Exit::Completed)
}

/// The record without what does not apply.
fn text(record: &TaskRecord) -> String {
    let mut lines = vec![format!("{}  {}", record.key(), status(&record.status))];
    let mut field = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            let value = value.replace('\n', &format!("\n{:14}", ""));
            lines.push(format!("  {}{value}", dim(&format!("{name:12}"))));
        }
    };
    let took = |end: &Option<String>| match (&record.started_at, end) {
        (Some(start), Some(end)) => format!(", after {}", between(start, end)),
        _ => String::new(),
    };
    let ended = |end: &Option<String>| end.as_ref().map(|at| format!("{}{}", when(at), took(end)));
    field(
        "run",
        (record.run > 0)
            .then(|| format!("{} (attempt {}, epoch {})", record.run, record.attempt, record.epoch)),
    );
    let retries =
        (record.max_retries > 0).then(|| format!("{} of {}", record.retry_count, record.max_retries));
    field("retries", retries);
    field("due", record.due_at.as_deref().map(due));
    field("position", record.position.map(|position| format!("{position} in the queue of its model")));
    let next = |run| format!("{run} begins when run {} has ended", record.run);
    field("next run", record.next_run.map(next));
    field("timeout", record.timeout_seconds.map(|time| format!("{} for each attempt", seconds(time.into()))));
    field("deadline", record.deadline_seconds.map(|time| format!("{} for each run", seconds(time.into()))));
    field("node", record.node.clone());
    field("owner", record.owner.as_deref().map(plain));
    field("created", Some(when(&record.created_at)));
    field("run at", record.run_at.as_deref().filter(|_| record.due_at.is_none()).map(due));
    field("started", record.started_at.as_deref().map(when));
    field("completed", ended(&record.completed_at));
    field("failed", ended(&record.failed_at));
    field("cancelled", ended(&record.cancelled_at));
    field("reason", record.cancellation_reason.as_deref().map(plain));
    field("events", Some(record.last_seq.to_string()));
    field("input", Some(plain(record.input.get())));
    field("final value", record.final_value.as_ref().map(|value| plain(value.get())));
    let error = (record.error_type.as_deref(), record.error_message.as_deref());
    field(
        "error",
        match error {
            (Some(kind), Some(message)) => Some(format!("{}: {}", plain(kind), plain(message))),
            (kind, message) => kind.or(message).map(plain),
        },
    );
    field("traceback", record.error_traceback.as_deref().map(|text| plain(text.trim_end())));
    lines.join("\n")
}
