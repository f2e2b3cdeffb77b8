//! `soloist start`
//!
//! Decides: that losing the start is no failure. Whoever asked wanted the task to run, and it runs.

use soloist_client::Client;
use soloist_wire::{StartAnswer, StartBody};

use super::Once;
use crate::{
    args::{Start, StartPolicy},
    exit::{Exit, Stop},
    render::{Out, ago, status},
};

pub(crate) async fn start(args: Start, client: &Client, out: &Out) -> Result<Exit, Stop> {
    let policy = match args.policy {
        StartPolicy::Restart => soloist_wire::Policy::Restart,
        StartPolicy::Once => soloist_wire::Policy::Once,
        StartPolicy::Rerun => soloist_wire::Policy::Rerun,
        StartPolicy::Replace => soloist_wire::Policy::Replace,
    };
    let key = args.key.to_string();
    let once = Once::new(args.idempotency);
    let body = StartBody { policy: Some(policy) };
    let answered = client.keyed(&once.0).start(&key, &body).await.map_err(|e| once.stop(e))?;
    let answer = answered.answer;
    if out.json() {
        out.value(&answer)?;
    } else {
        out.line(&match answered.is_replayed {
            true => replayed(&key, &answer),
            false => said(&key, &answer),
        })?;
    }
    Ok(Exit::Completed)
}

/// What a copy of an earlier request is told.
fn replayed(key: &str, answer: &StartAnswer) -> String {
    let (run, status) = (answer.run, status(&answer.status));
    match answer.started {
        true => format!("{key} was started by this request before: run {run} is {status}"),
        // It may be the active run of then, or the one that is to begin after it: only the task's own status is told.
        false => format!(
            "{key} had been started when this request came first: it was told of run {run}; the task is {status}"
        ),
    }
}

fn said(key: &str, answer: &StartAnswer) -> String {
    let run = answer.run;
    if answer.started {
        return format!("started {key}: run {run}");
    }
    if let Some(next) = answer.next_run {
        let status = status(&answer.status);
        return format!("{key} is {status}: run {next} begins when run {run} has ended");
    }
    let mut text = format!("{key} is {} already: run {run}", status(&answer.status));
    if let Some(node) = &answer.node {
        text.push_str(&format!(" on {node}"));
    }
    if let Some(since) = &answer.since {
        text.push_str(&format!(", started {}", ago(since)));
    }
    if matches!(answer.status.as_str(), "queued" | "running" | "cancelling") {
        text.push_str(&format!("; attach with `soloist watch {key}`"));
    }
    text
}
