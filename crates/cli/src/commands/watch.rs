//! `soloist watch`
//!
//! Ends as the run that it showed ended, or the one whose end it was given as where to begin.

use soloist_client::{Client, Cursor, Update, WatchOptions};

use super::screen::Screen;
use crate::{
    args::Watch,
    exit::{Exit, Stop},
    render::{Out, status},
};

pub(crate) async fn watch(args: Watch, client: &Client, out: &Out) -> Result<Exit, Stop> {
    let key = args.key.to_string();
    let mut stream = client.watch(&key, WatchOptions { after: args.from, follow: args.follow })?;
    let mut screen = Screen::new(out);
    let mut ending = None;
    while let Some(update) = stream.next().await? {
        match update {
            Update::Event(event) => {
                ending = event.is_terminal().then(|| event.event_type.clone());
                screen.event(event)?;
            }
            Update::Gap(gap) => screen.gap(&gap)?,
            Update::Cut { cause, wait } => {
                screen.note(&format!("{cause}; again in {:.1} s", wait.as_secs_f64()));
            }
        }
    }
    screen.close();
    match ending.as_deref().and_then(Exit::of_ending) {
        Some(exit) => Ok(exit),
        None => nothing_left(&key, stream.cursor(), client, out).await,
    }
}

/// There was nothing left to see, because the event after which it was to begin ended a run. What is on record says how,
/// and whether that is the newest run.
async fn nothing_left(key: &str, after: Option<Cursor>, client: &Client, out: &Out) -> Result<Exit, Stop> {
    let task = client.task(key).await?;
    let seq = after.map_or(task.last_seq, |after| after.seq);
    if seq >= task.last_seq
        && let Some(exit) = Exit::of_status(&task.status)
    {
        return Ok(exit);
    }
    let newer = format!("run {} is {}, and `soloist watch {key}` shows it", task.run, status(&task.status));
    let named = client.events(key, seq.saturating_sub(1), Some(1)).await?.events.into_iter().next();
    let named = named.filter(|event| event.seq == seq && event.run < task.run);
    match named.map(|event| (Exit::of_ending(&event.event_type), event.run)) {
        Some((Some(exit), run)) => {
            out.note(&format!("event {seq} of {key} ended run {run}; {newer}"));
            Ok(exit)
        }
        _ => Err(Stop::new(
            Exit::Refused,
            format!(
                "how the run went that ended with event {seq} of {key} is not on record any more; {newer}"
            ),
        )),
    }
}
