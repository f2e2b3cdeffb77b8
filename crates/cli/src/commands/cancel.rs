//! `soloist cancel`

use std::time::Duration;

use soloist_client::Client;
use soloist_wire::CancelBody;

use crate::{
    args::Cancel,
    exit::{Exit, Stop},
    render::{Out, status},
};

pub(crate) async fn cancel(args: Cancel, client: &Client, out: &Out) -> Result<Exit, Stop> {
    let key = args.key.to_string();
    let body = CancelBody { reason: args.reason, run: args.run };
    let answer = client.cancel(&key, &body, args.wait.map(Duration::from_secs)).await?;
    if out.json() {
        out.value(&answer)?;
    } else {
        let run = answer.run.map(|run| format!(": run {run}")).unwrap_or_default();
        out.line(&match answer.status.as_str() {
            "cancelled" => format!("{key} is {}{run}", status("cancelled")),
            "cancelling" => format!("{key} was asked to stop{run}; `soloist watch {key}` shows how it ends"),
            other => format!("{key} is {}{run}; it ended before it could be cancelled", status(other)),
        })?;
    }
    let as_asked = answer.cancelled || (args.wait.is_none() && answer.status == "cancelling");
    Ok(if as_asked { Exit::Completed } else { Exit::Refused })
}
