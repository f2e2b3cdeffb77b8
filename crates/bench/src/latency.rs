//! How long things took, as percentiles.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::report::Report;

/// The most that is told apart; what took longer counts as this.
const MOST_NS: u64 = 120_000_000_000;

/// Times, each kept to three digits.
#[derive(Debug, Clone)]
pub struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, MOST_NS, 3).expect("these bounds are right"))
    }
}

impl Latencies {
    /// Adds one.
    pub fn record(&mut self, took: Duration) {
        self.0.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(MOST_NS));
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.0.reset();
    }

    /// How many.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The time that so many of a hundred do not exceed, in milliseconds.
    #[must_use]
    pub fn percentile_ms(&self, percentile: f64) -> f64 {
        self.0.value_at_percentile(percentile) as f64 / 1e6
    }

    /// Puts the percentiles into a report, as `NAME_p50` and so on.
    pub fn report(&self, name: &str, report: &mut Report) {
        for (suffix, percentile) in
            [("p50", 50.0), ("p90", 90.0), ("p99", 99.0), ("p99.9", 99.9), ("max", 100.0)]
        {
            report.lower(&format!("{name}_{suffix}"), self.percentile_ms(percentile), "ms");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_what_was_recorded() {
        let mut latencies = Latencies::default();
        (1..=1000).for_each(|ms| latencies.record(Duration::from_millis(ms)));
        let mut report = Report::new("x");
        latencies.report("latency", &mut report);
        let figure = |name: &str| report.get(name).unwrap_or(f64::NAN);
        for (name, wanted) in
            [("p50", 500.0), ("p90", 900.0), ("p99", 990.0), ("p99.9", 999.0), ("max", 1000.0)]
        {
            let value = figure(&format!("latency_{name}"));
            assert!((value / wanted - 1.0).abs() < 0.002, "{name}: {value}");
        }
        assert_eq!(latencies.count(), 1000);
        latencies.record(Duration::from_secs(1_000_000));
        assert!(latencies.percentile_ms(100.0) >= 120_000.0, "what takes too long is not lost");
    }
}
