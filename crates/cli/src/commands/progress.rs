//! How far a task is, read from its events.
//!
//! Decides: which data count as progress: `step` of `total` (or of `total_steps`, which may come ahead, with the first
//! event), or a `percentage`.

use serde::Deserialize;
use soloist_wire::RawJson;

/// What is known so far.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Progress {
    run: u64,
    total: Option<f64>,
}

/// How far: `done` of `total`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Position {
    Steps { done: u64, total: u64 },
    Percent(u64),
}

#[derive(Deserialize)]
struct Said {
    step: Option<f64>,
    total: Option<f64>,
    total_steps: Option<f64>,
    percentage: Option<f64>,
}

impl Progress {
    /// Takes an event; says how far the task is where the event tells.
    pub(crate) fn take(&mut self, run: u64, data: &RawJson) -> Option<Position> {
        if run != self.run {
            *self = Self { run, total: None };
        }
        let said: Said = serde_json::from_str(data.get()).ok()?;
        self.total = said.total.or(said.total_steps).filter(|total| *total >= 1.0).or(self.total);
        if let (Some(step), Some(total)) = (said.step, self.total) {
            return Some(Position::Steps { done: step.clamp(0.0, total) as u64, total: total as u64 });
        }
        said.percentage.map(|percentage| Position::Percent(percentage.clamp(0.0, 100.0) as u64))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    #[test]
    fn progress_is_read_where_events_carry_it() {
        let mut progress = Progress::default();
        let mut take = |run, text: &str| progress.take(run, &RawValue::from_string(text.to_owned()).unwrap());
        assert_eq!(take(1, r#"{"step":1}"#), None, "nobody said of how many");
        assert_eq!(take(1, r#"{"message":"Hello","total_steps":3}"#), None);
        assert_eq!(take(1, r#"{"step":2}"#), Some(Position::Steps { done: 2, total: 3 }));
        assert_eq!(take(1, r#"{"step":9,"total":4}"#), Some(Position::Steps { done: 4, total: 4 }));
        assert_eq!(take(2, r#"{"step":1}"#), None, "another run begins anew");
        assert_eq!(take(2, r#"{"percentage":12.5}"#), Some(Position::Percent(12)));
        assert_eq!(take(2, r#"{"percentage":-1e300}"#), Some(Position::Percent(0)));
        for other in [r#"{"step":"one","total":3}"#, r#"{"value":[1]}"#, "{}"] {
            assert_eq!(take(2, other), None, "{other}");
        }
    }
}
