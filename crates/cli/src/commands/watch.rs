//! `soloist watch`
//!
//! Decides: how events are printed while they come, with a bar below them where a person watches and the events carry
//! progress. Ends as the task ended.

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use soloist_client::{Client, Event, Gap, Update, WatchOptions};
use soloist_wire::EventRecord;

use super::progress::{Position, Progress};
use crate::{
    args::Watch,
    exit::{Exit, Stop},
    render::{self, Out},
};

pub(crate) async fn watch(args: Watch, client: &Client, out: &Out) -> Result<Exit, Stop> {
    let key = args.key.to_string();
    let mut stream = client.watch(&key, WatchOptions { after: args.from, follow: args.follow })?;
    let mut screen = Screen { out, bar: None, progress: Progress::default() };
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
    Ok(match ending.as_deref() {
        Some("complete") => Exit::Completed,
        Some("error") => Exit::Failed,
        Some("cancelled") => Exit::Cancelled,
        // There was nothing left to see: the record says how it ended.
        _ => Exit::of_status(&client.task(&key).await?.status),
    })
}

struct Screen<'a> {
    out: &'a Out,
    bar: Option<ProgressBar>,
    progress: Progress,
}

impl Screen<'_> {
    fn event(&mut self, event: Event) -> Result<(), Stop> {
        if self.out.json() {
            let Event { seq, run, event_type, timestamp, data } = event;
            return self.out.value(&EventRecord { seq, run, event_type, data, text: false, timestamp });
        }
        let position = self.progress.take(event.run, &event.data);
        self.print(&render::event(&event))?;
        if let (Some(position), true) = (position, self.out.is_watched()) {
            self.show(position);
        }
        if event.is_terminal() {
            self.close();
        }
        Ok(())
    }

    fn gap(&self, gap: &Gap) -> Result<(), Stop> {
        #[derive(Serialize)]
        struct Line<'a> {
            r#type: &'static str,
            reason: &'a str,
            first_seq: u64,
        }
        if self.out.json() {
            return self.out.value(&Line { r#type: "gap", reason: &gap.reason, first_seq: gap.first_seq });
        }
        self.note(&format!(
            "events are missing here ({}); event {} is next",
            render::plain(&gap.reason),
            gap.first_seq
        ));
        Ok(())
    }

    fn show(&mut self, position: Position) {
        let (done, total, unit) = match position {
            Position::Steps { done, total } => (done, total, "{pos}/{len}"),
            Position::Percent(percent) => (percent, 100, "{pos} %"),
        };
        let bar = self.bar.get_or_insert_with(|| {
            let template = format!("{{bar:40.cyan/dim}} {unit}  {{elapsed}}");
            let style = ProgressStyle::with_template(&template).expect("the template is right");
            ProgressBar::new(total).with_style(style.progress_chars("━╸─"))
        });
        bar.set_length(total);
        bar.set_position(done);
    }

    /// Prints above the bar.
    fn print(&self, line: &str) -> Result<(), Stop> {
        match &self.bar {
            Some(bar) => bar.suspend(|| self.out.line(line)),
            None => self.out.line(line),
        }
    }

    fn note(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| self.out.note(text)),
            None => self.out.note(text),
        }
    }

    fn close(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
