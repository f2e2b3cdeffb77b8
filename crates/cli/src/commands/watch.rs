//! `soloist watch`
//!
//! Ends as the task ended.

use soloist_client::{Client, Update, WatchOptions};

use super::screen::Screen;
use crate::{
    args::Watch,
    exit::{Exit, Stop},
    render::Out,
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
    Ok(match ending.as_deref().and_then(Exit::of_ending) {
        Some(exit) => exit,
        // There was nothing left to see: the record says how it ended.
        None => Exit::of_status(&client.task(&key).await?.status),
    })
}
