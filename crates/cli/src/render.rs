//! What is printed, for people on a terminal and for machines.
//!
//! Decides: how records, events and errors look. Text that came from tasks is made harmless first: it never moves the
//! cursor or colours the terminal of whoever looks at it.

use std::{
    fmt::Write as _,
    io::{ErrorKind, Write as _},
    time::Duration,
};

use console::{Style, Term, measure_text_width, style};
use serde::Serialize;
use soloist::Timestamp;
use soloist_client::Event;

use crate::exit::{Exit, Stop};

/// Standard output and standard error.
#[derive(Debug)]
pub(crate) struct Out {
    json: bool,
}

impl Out {
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether a machine reads.
    pub(crate) fn json(&self) -> bool {
        self.json
    }

    /// Whether a person looks on.
    pub(crate) fn is_watched(&self) -> bool {
        !self.json && Term::stdout().is_term() && Term::stderr().is_term()
    }

    /// Prints a line.
    pub(crate) fn line(&self, text: &str) -> Result<(), Stop> {
        let mut stdout = std::io::stdout().lock();
        writeln!(stdout, "{text}").and_then(|()| stdout.flush()).map_err(|e| match e.kind() {
            // Whoever read has seen enough (`| head`).
            ErrorKind::BrokenPipe => Stop::new(Exit::Completed, ""),
            _ => Stop::new(Exit::Failed, format!("cannot write to standard output: {e}")),
        })
    }

    /// Prints a value as one line of JSON.
    pub(crate) fn value(&self, value: &impl Serialize) -> Result<(), Stop> {
        self.line(&serde_json::to_string(value).expect("what the API says can be written as JSON"))
    }

    /// Says something beside the output, on standard error.
    pub(crate) fn note(&self, text: &str) {
        let _ = writeln!(std::io::stderr(), "{}", style(text).for_stderr().dim());
    }

    /// Says why a command went no further.
    pub(crate) fn error(&self, stop: &Stop) {
        if stop.message.is_empty() {
            return;
        }
        let line = if self.json {
            let code = stop.exit as u8;
            serde_json::json!({ "error": stop.message, "code": stop.code, "exit": code }).to_string()
        } else {
            format!(
                "{} {}",
                style("error:").for_stderr().red().bold(),
                printable(&stop.message, Newlines::Stay)
            )
        };
        let _ = writeln!(std::io::stderr(), "{line}");
    }
}

/// A status in its colour.
pub(crate) fn status(word: &str) -> String {
    let colour = match word {
        "running" => Style::new().cyan(),
        "completed" => Style::new().green(),
        "failed" => Style::new().red(),
        "cancelled" | "cancelling" => Style::new().yellow(),
        _ => Style::new().dim(),
    };
    colour.apply_to(plain(word)).to_string()
}

/// Text that stands back.
pub(crate) fn dim(text: &str) -> String {
    style(text).dim().to_string()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Newlines {
    Stay,
    Escape,
}

/// Text of somebody else, made harmless: control characters are written out. Line ends stay.
pub(crate) fn plain(text: &str) -> String {
    printable(text, Newlines::Stay)
}

fn printable(text: &str, newlines: Newlines) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' if newlines == Newlines::Stay => safe.push(c),
            '\t' => safe.push(' '),
            // Also what would turn the direction of the text around.
            c if c.is_control()
                || matches!(c, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') =>
            {
                safe.extend(c.escape_default());
            }
            c => safe.push(c),
        }
    }
    safe
}

/// An event on one line, cut at the width of the terminal.
pub(crate) fn event(event: &Event) -> String {
    let time = event.timestamp.get(11..23).unwrap_or(&event.timestamp);
    let kind = printable(&event.event_type, Newlines::Escape);
    let colour = match event.event_type.as_str() {
        "complete" => Style::new().green(),
        "error" => Style::new().red(),
        "cancelled" | "retry" | "timeout" => Style::new().yellow(),
        "output" | "log" => Style::new().dim(),
        _ => Style::new().cyan(),
    };
    let head = format!(
        "{}  {}",
        dim(&format!("{:>4}  {}", event.seq, plain(time))),
        colour.apply_to(format!("{kind:<9}"))
    );
    let line = format!("{head}  {}", printable(&summary(event), Newlines::Escape));
    let terminal = Term::stdout();
    if terminal.is_term() {
        let width = usize::from(terminal.size().1).max(40);
        console::truncate_str(&line, width, "…").into_owned()
    } else {
        line
    }
}

/// Fields that a message says already, or the bar, or the type.
const BESIDE: [&str; 6] = ["message", "step", "total", "total_steps", "percentage", "_system"];

/// What of the data says it best: a line of output, a message with what stands beside it, else all of it.
fn summary(event: &Event) -> String {
    let all = || event.data.get().to_owned();
    let Ok(serde_json::Value::Object(data)) = serde_json::from_str(event.data.get()) else { return all() };
    let text = |name: &str| data.get(name).and_then(serde_json::Value::as_str);
    let alone = |name: &str| data.len() == 1 && text(name).is_some();
    match event.event_type.as_str() {
        "error" => match (text("error_type"), text("message")) {
            (Some(kind), Some(message)) => format!("{kind}: {message}"),
            _ => all(),
        },
        "cancelled" => text("reason").map_or_else(all, str::to_owned),
        "retry" if data.contains_key("_system") => retry(&data).unwrap_or_else(all),
        _ if alone("line") => text("line").unwrap_or_default().to_owned(),
        _ if alone("message") => text("message").unwrap_or_default().to_owned(),
        _ if data.is_empty() => String::new(),
        _ if text("message").is_none() && !data.contains_key("_system") => all(),
        _ => {
            let rest: Vec<_> = data
                .iter()
                .filter(|(name, _)| !BESIDE.contains(&name.as_str()))
                .map(|(name, value)| match value {
                    serde_json::Value::String(text) => format!("{name}={text}"),
                    value => format!("{name}={value}"),
                })
                .collect();
            text("message").into_iter().map(str::to_owned).chain(rest).collect::<Vec<_>>().join("  ")
        }
    }
}

/// What the system says before another attempt: which one, of how many, when, and why. None where it says otherwise.
fn retry(data: &serde_json::Map<String, serde_json::Value>) -> Option<String> {
    let number = |name: &str| data.get(name).and_then(serde_json::Value::as_u64);
    let text = |name: &str| data.get(name).and_then(serde_json::Value::as_str);
    let delay =
        data.get("delay_seconds").and_then(serde_json::Value::as_f64).filter(|delay| *delay >= 0.0)?;
    let wait = match Duration::try_from_secs_f64(delay).ok()? {
        Duration::ZERO => "at once".to_owned(),
        delay => format!("in {}", span(delay)),
    };
    let (attempt, retries) = (number("attempt")?, number("max_retries")?);
    let (kind, error) = (text("error_type")?, text("error")?);
    let retries = if retries == 1 { "1 retry".to_owned() } else { format!("{retries} retries") };
    Some(format!("attempt {attempt} {wait} (up to {retries}), after {kind}: {error}"))
}

/// Columns under their heads. Numbers stand at the right.
pub(crate) fn table<const N: usize>(heads: [&str; N], rows: &[[String; N]]) -> String {
    let is_number = |column: usize| rows.iter().all(|row| row[column].bytes().all(|b| b.is_ascii_digit()));
    let mut lines = vec![String::new(); rows.len() + 1];
    for column in 0..N {
        let cells: Vec<_> =
            std::iter::once(dim(heads[column])).chain(rows.iter().map(|row| row[column].clone())).collect();
        let width = cells.iter().map(|cell| measure_text_width(cell)).max().unwrap_or(0);
        for (line, cell) in lines.iter_mut().zip(&cells) {
            let space = " ".repeat(width - measure_text_width(cell));
            let gap = if column == 0 { "" } else { "  " };
            let cell =
                if is_number(column) { format!("{gap}{space}{cell}") } else { format!("{gap}{cell}{space}") };
            line.push_str(&cell);
        }
    }
    lines.iter().map(|line| line.trim_end()).collect::<Vec<_>>().join("\n")
}

/// A time and how long ago that was.
pub(crate) fn when(time: &str) -> String {
    let day_and_time = time.get(..19).unwrap_or(time).replace('T', " ");
    format!("{} UTC, {}", plain(&day_and_time), ago(time))
}

/// A time that may be still to come, and how far it is away.
pub(crate) fn due(time: &str) -> String {
    match time.parse::<Timestamp>() {
        Ok(then) if then > Timestamp::now() => {
            let day_and_time = time.get(..19).unwrap_or(time).replace('T', " ");
            format!("{} UTC, in {}", plain(&day_and_time), span(distance(Timestamp::now(), then)))
        }
        _ => when(time),
    }
}

/// A whole number of seconds, in the units that people use.
pub(crate) fn seconds(seconds: u64) -> String {
    span(Duration::from_secs(seconds))
}

/// How long ago a time was.
pub(crate) fn ago(time: &str) -> String {
    match time.parse::<Timestamp>() {
        Ok(then) => format!("{} ago", span(distance(then, Timestamp::now()))),
        Err(_) => plain(time),
    }
}

/// How long it was from one time to another.
pub(crate) fn between(start: &str, end: &str) -> String {
    match (start.parse(), end.parse()) {
        (Ok(start), Ok(end)) => span(distance(start, end)),
        _ => String::new(),
    }
}

fn distance(from: Timestamp, to: Timestamp) -> Duration {
    Duration::from_micros(u64::try_from(to.as_micros() - from.as_micros()).unwrap_or(0))
}

fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    let mut text = String::new();
    match seconds {
        0 => write!(text, "{} ms", time.as_millis()),
        1..60 => write!(text, "{:.1} s", time.as_secs_f64()),
        60..3_600 => write!(text, "{} min {} s", seconds / 60, seconds % 60),
        3_600..86_400 => write!(text, "{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        _ => write!(text, "{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
    .expect("a String takes everything");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_others_cannot_reach_the_terminal() {
        assert_eq!(plain("a\x1b[2Jb\u{202e}c\u{9b}1m"), "a\\u{1b}[2Jb\\u{202e}c\\u{9b}1m");
        assert_eq!(plain("é\n日本\t."), "é\n日本 .");
        assert_eq!(printable("a\nb", Newlines::Escape), "a\\nb");
    }

    #[test]
    fn a_retry_says_which_attempt_comes_when_and_why() {
        let said = |event_type: &str, data: &str| {
            summary(&Event {
                seq: 1,
                run: 1,
                event_type: event_type.to_owned(),
                data: serde_json::value::RawValue::from_string(data.to_owned()).unwrap(),
                timestamp: String::new(),
                epoch: None,
            })
        };
        let retry = r#"{"attempt":2,"max_retries":3,"delay_seconds":2.1,"error_type":"E","error":"m","_system":true}"#;
        assert_eq!(said("retry", retry), "attempt 2 in 2.1 s (up to 3 retries), after E: m");
        let retry =
            r#"{"attempt":3,"max_retries":1,"delay_seconds":0,"error_type":"E","error":"m","_system":true}"#;
        assert_eq!(said("retry", retry), "attempt 3 at once (up to 1 retry), after E: m");
        let own = r#"{"attempt":2,"max_retries":3}"#;
        assert_eq!(said("retry", own), own, "of the work itself");
        assert_eq!(said("timeout", r#"{"message":"Timeout after 5 s","_system":true}"#), "Timeout after 5 s");
    }

    #[test]
    fn spans_are_short_at_every_size() {
        let said = |seconds| span(Duration::from_secs_f64(seconds));
        assert_eq!(
            [0.012, 1.0, 59.94, 60.0, 3_599.0, 3_600.0, 86_400.0, 90_000.0].map(said),
            ["12 ms", "1.0 s", "59.9 s", "1 min 0 s", "59 min 59 s", "1 h 0 min", "1 d 0 h", "1 d 1 h"]
        );
    }

    #[test]
    fn columns_are_aligned_and_numbers_stand_at_the_right() {
        let rows = [["a".to_owned(), "1".to_owned()], ["bcd".to_owned(), "23".to_owned()]];
        assert_eq!(table(["KEY", "N"], &rows), "KEY   N\na     1\nbcd  23");
    }
}
