//! The commands, a file each.

pub(crate) mod backup;
pub(crate) mod bench;
pub(crate) mod cancel;
pub(crate) mod cleanup;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod create;
pub(crate) mod list;
pub(crate) mod openapi;
pub(crate) mod progress;
pub(crate) mod retry_failed;
pub(crate) mod run;
pub(crate) mod screen;
pub(crate) mod serve;
pub(crate) mod show;
pub(crate) mod signal;
pub(crate) mod start;
pub(crate) mod stopping;
pub(crate) mod watch;

use std::io::Read;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::value::RawValue;
use soloist::{Json, Timestamp};
use soloist_client::{Error, IdempotencyKey};
use soloist_wire::RawJson;

use crate::{
    args,
    exit::{Exit, Stop},
};

/// The key under which a request is sent, and what to say where it never was answered.
struct Once(IdempotencyKey);

impl Once {
    fn new(args: args::Idempotency) -> Self {
        Self(args.key.unwrap_or_else(IdempotencyKey::random))
    }

    fn stop(&self, error: Error) -> Stop {
        let broke = matches!(error, Error::Broke { .. });
        let mut stop = Stop::from(error);
        if broke {
            let key = self.0.as_str();
            stop.message.push_str(&format!(
                "\nto ask again without doing it twice, repeat the command with --idempotency-key '{key}'"
            ));
        }
        stop
    }
}

/// JSON that was given as it is, as `@FILE`, or as `-` for standard input.
fn json(what: &str, given: &str) -> Result<RawJson, Stop> {
    let cannot = |source: &str, e: std::io::Error| {
        Stop::new(Exit::Usage, format!("cannot read {what} from {source}: {e}"))
    };
    let text = match given {
        "-" => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).map_err(|e| cannot("standard input", e))?;
            text
        }
        given => match given.strip_prefix('@') {
            Some(file) => std::fs::read_to_string(file).map_err(|e| cannot(file, e))?,
            None => given.to_owned(),
        },
    };
    let json = Json::parse(&text).map_err(|e| Stop::new(Exit::Usage, format!("{what} is {e}")))?;
    Ok(RawValue::from_string(json.as_str().to_owned()).expect("it was checked"))
}

/// The moment so many hours ago.
fn hours_ago(hours: u32) -> Timestamp {
    Timestamp::from_micros(Timestamp::now().as_micros() - i64::from(hours) * 3_600_000_000)
}

fn count(n: u64, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

/// Counts tasks, nobody knows of how many.
fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {pos} tasks  {per_sec}  {elapsed}");
    ProgressBar::no_length().with_style(style.expect("the template is right"))
}
