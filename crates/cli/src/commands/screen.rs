//! Where events are printed while they come.
//!
//! Decides: how a stream looks: a line for each event, with a bar below them where a person watches and the events carry
//! progress; one JSON object for each event for machines.

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use soloist_client::{Event, Gap};
use soloist_wire::RawJson;

use super::progress::{Position, Progress};
use crate::{
    exit::Stop,
    render::{self, Out},
};

pub(crate) struct Screen<'a> {
    out: &'a Out,
    bar: Option<ProgressBar>,
    progress: Progress,
}

/// An event, for machines.
#[derive(Serialize)]
struct Line<'a> {
    seq: u64,
    run: u64,
    r#type: &'a str,
    data: &'a RawJson,
    timestamp: &'a str,
    /// What `watch --from` takes to go on after this event.
    cursor: String,
}

impl<'a> Screen<'a> {
    pub(crate) fn new(out: &'a Out) -> Self {
        Self { out, bar: None, progress: Progress::default() }
    }

    pub(crate) fn event(&mut self, event: Event) -> Result<(), Stop> {
        if self.out.json() {
            return self.out.value(&Line {
                seq: event.seq,
                run: event.run,
                r#type: &event.event_type,
                data: &event.data,
                timestamp: &event.timestamp,
                cursor: event.cursor().to_string(),
            });
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

    pub(crate) fn gap(&self, gap: &Gap) -> Result<(), Stop> {
        #[derive(Serialize)]
        struct Missing<'a> {
            r#type: &'static str,
            reason: &'a str,
            first_seq: u64,
        }
        if self.out.json() {
            return self.out.value(&Missing { r#type: "gap", reason: &gap.reason, first_seq: gap.first_seq });
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

    pub(crate) fn note(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| self.out.note(text)),
            None => self.out.note(text),
        }
    }

    pub(crate) fn close(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
