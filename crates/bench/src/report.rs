//! What a measurement found, in the one form that is printed, saved and compared.
//!
//! Decides: how a figure is written down, and that every report says where and when it was measured. Never what is good
//! enough.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One measurement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Which one: the name of the command.
    pub bench: String,
    /// What it was asked for.
    pub options: Map<String, Value>,
    /// When, with what and on what; filled in by who runs it.
    #[serde(default)]
    pub machine: Map<String, Value>,
    /// What was measured.
    pub figures: Vec<Figure>,
    /// What was found true of every answer, with how many were looked at.
    pub checks: Vec<Check>,
}

/// One number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// Its name, which stays from version to version.
    pub name: String,
    /// How much.
    pub value: f64,
    /// Of what.
    pub unit: String,
    /// Which way it gets better.
    pub better: Better,
}

/// Which way a figure gets better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// More is better.
    Higher,
    /// Less is better.
    Lower,
}

/// Something that was true of everything that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What.
    pub name: String,
    /// How often it was looked at.
    pub count: u64,
}

/// A figure as people read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// What it is.
    pub name: String,
    /// How much, rounded.
    pub value: String,
    /// Of what.
    pub unit: String,
}

impl Report {
    /// An empty one.
    #[must_use]
    pub fn new(bench: &str) -> Self {
        Self {
            bench: bench.to_owned(),
            options: Map::new(),
            machine: Map::new(),
            figures: Vec::new(),
            checks: Vec::new(),
        }
    }

    /// Says what it was asked for.
    pub fn option(&mut self, name: &str, value: impl Into<Value>) {
        self.options.insert(name.to_owned(), value.into());
    }

    /// Adds a figure of which more is better.
    pub fn higher(&mut self, name: &str, value: f64, unit: &str) {
        self.figure(name, value, unit, Better::Higher);
    }

    /// Adds a figure of which less is better.
    pub fn lower(&mut self, name: &str, value: f64, unit: &str) {
        self.figure(name, value, unit, Better::Lower);
    }

    fn figure(&mut self, name: &str, value: f64, unit: &str, better: Better) {
        self.figures.push(Figure { name: name.to_owned(), value, unit: unit.to_owned(), better });
    }

    /// Says what was found true, and of how many.
    pub fn check(&mut self, name: &str, count: u64) {
        self.checks.push(Check { name: name.to_owned(), count });
    }

    /// The figure of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<f64> {
        self.figures.iter().find(|figure| figure.name == name).map(|figure| figure.value)
    }

    /// All figures as people read them.
    #[must_use]
    pub fn rows(&self) -> Vec<Row> {
        let row = |figure: &Figure| Row {
            name: figure.name.replace('_', " "),
            value: rounded(figure.value),
            unit: figure.unit.clone(),
        };
        self.figures.iter().map(row).collect()
    }
}

/// A figure of two measurements.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Compared {
    /// Its name.
    pub name: String,
    /// What it is counted in.
    pub unit: String,
    /// Which way it gets better.
    pub better: Better,
    /// What it was.
    pub old: f64,
    /// What it is.
    pub new: f64,
    /// `new / old`.
    pub ratio: f64,
}

/// The figures that both have, in the order of the new one.
#[must_use]
pub fn compare(old: &Report, new: &Report) -> Vec<Compared> {
    let both = new.figures.iter().filter_map(|figure| {
        let old = old.figures.iter().find(|old| old.name == figure.name && old.unit == figure.unit)?;
        // Where both are nothing, nothing has changed.
        let ratio = if old.value == figure.value { 1.0 } else { figure.value / old.value };
        Some(Compared {
            name: figure.name.clone(),
            unit: figure.unit.clone(),
            better: figure.better,
            old: old.value,
            new: figure.value,
            ratio,
        })
    });
    both.collect()
}

/// A count, with a comma between thousands.
#[must_use]
pub fn counted(count: u64) -> String {
    grouped(&count.to_string())
}

/// A number with about three digits that count, and a comma between thousands.
#[must_use]
pub fn rounded(value: f64) -> String {
    let places = match value.abs() {
        0.0 => 0,
        100.0.. => 0,
        10.0.. => 1,
        1.0.. => 2,
        _ => 3,
    };
    let text = format!("{value:.places$}");
    let (whole, rest) = text.split_once('.').map_or((&*text, None), |(whole, rest)| (whole, Some(rest)));
    let (sign, digits) = whole.strip_prefix('-').map_or(("", whole), |digits| ("-", digits));
    let grouped = format!("{sign}{}", grouped(digits));
    match rest {
        Some(rest) => format!("{grouped}.{rest}"),
        None => grouped,
    }
}

fn grouped(digits: &str) -> String {
    let mut grouped = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rounded_to_what_was_measured() {
        let said = [0.0, 0.0123, 1.234, 12.34, 123.4, 1234.5, 1_234_567.0, -1234.0].map(rounded);
        assert_eq!(said, ["0", "0.012", "1.23", "12.3", "123", "1,234", "1,234,567", "-1,234"]);
        assert_eq!([counted(7), counted(64), counted(1_234_567)], ["7", "64", "1,234,567"]);
    }

    #[test]
    fn two_reports_are_compared_by_the_figures_that_both_have() {
        let (mut old, mut new) = (Report::new("x"), Report::new("x"));
        old.higher("rate", 100.0, "/s");
        old.lower("gone", 1.0, "ms");
        old.lower("p50", 4.0, "ms");
        old.lower("other", 4.0, "ms");
        new.lower("p50", 1.0, "ms");
        new.higher("rate", 150.0, "/s");
        new.lower("other", 4.0, "us");
        new.higher("fresh", 1.0, "/s");
        let compared = compare(&old, &new);
        let ratios: Vec<_> = compared.iter().map(|one| (&*one.name, one.ratio)).collect();
        assert_eq!(ratios, [("p50", 0.25), ("rate", 1.5)], "one of another unit is another figure");
    }

    #[test]
    #[allow(clippy::unwrap_used)]
    fn a_report_comes_back_from_its_json_as_it_was() {
        let mut report = Report::new("start");
        report.option("connections", 64);
        report.higher("starts", 1234.5, "/s");
        report.lower("latency_p99", 2.5, "ms");
        report.check("started once", 12);
        let text = serde_json::to_string(&report).unwrap();
        assert!(
            text.contains(r#"{"name":"latency_p99","value":2.5,"unit":"ms","better":"lower"}"#),
            "{text}"
        );
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
    }
}
