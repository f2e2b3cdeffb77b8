//! `soloist start`
//!
//! Decides: that losing the start is no failure. Whoever asked wanted the task to run, and it runs.

use soloist_client::Client;
use soloist_wire::{StartAnswer, StartBody};

use crate::{
    args::{Policy, Start},
    exit::{Exit, Stop},
    render::{Out, ago, status},
};

pub(crate) async fn start(args: Start, client: &Client, out: &Out) -> Result<Exit, Stop> {
    let policy = match args.policy {
        Policy::Restart => soloist_wire::Policy::Restart,
        Policy::Once => soloist_wire::Policy::Once,
    };
    let answer = client.start(&args.key.to_string(), &StartBody { policy: Some(policy) }).await?;
    if out.json() {
        out.value(&answer)?;
    } else {
        out.line(&said(&args.key.to_string(), &answer))?;
    }
    Ok(Exit::Completed)
}

fn said(key: &str, answer: &StartAnswer) -> String {
    let run = answer.run;
    if answer.started {
        return format!("started {key}: run {run}");
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
