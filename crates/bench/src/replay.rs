//! Viewers that come when all is over.
//!
//! Decides: what is measured of a server that hands out the whole log of a finished run: how long one viewer waits for the
//! end of its stream, and what many at once cost in CPU and memory.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::{
    Error, Result, burst,
    fanout::DENSE,
    latency::Latencies,
    report::Report,
    server::Server,
    start::Tell,
    viewers::{Seen, Target, Until, Viewers},
};

/// What is measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// How many events one viewer replays; 0 leaves that part out.
    pub single_events: u64,
    /// How often.
    pub repeats: u32,
    /// How many viewers replay at once; 0 leaves that part out.
    pub viewers: usize,
    /// How many events each of them replays.
    pub events: u64,
    /// How many bytes of data an event has.
    pub bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { single_events: 10_000, repeats: 20, viewers: 100, events: 100_000, bytes: 100 }
    }
}

/// Measures a server.
pub fn run(server: &Server, options: &Options, tell: Tell<'_>, report: &mut Report) -> Result<()> {
    report.option("bytes", options.bytes);
    let mut events = 0;
    if options.single_events > 0 {
        report.option("single_events", options.single_events);
        report.option("repeats", options.repeats);
        tell(&format!("a run of {} events", options.single_events));
        let target = finished(server, options.single_events, options.bytes)?;
        tell(&format!("one viewer replays {} events, {} times", options.single_events, options.repeats));
        let mut latencies = Latencies::default();
        for _ in 0..options.repeats {
            let (seen, took) = replay(&target, 1, options.single_events)?;
            latencies.record(took);
            events += seen.events;
        }
        latencies.report("single", report);
    }
    if options.viewers > 0 {
        report.option("viewers", options.viewers);
        report.option("events", options.events);
        tell(&format!("a run of {} events", options.events));
        let target = finished(server, options.events, options.bytes)?;
        tell(&format!("{} viewers replay {} events each", options.viewers, options.events));
        server.forget_peak();
        let before = server.usage()?;
        let (seen, took) = replay(&target, options.viewers, options.events)?;
        events += seen.events;
        report.lower("together_took", took.as_secs_f64(), "s");
        report.higher("together_events", seen.events as f64 / took.as_secs_f64(), "/s");
        report.higher("together_rate", seen.bytes as f64 / 1e6 / took.as_secs_f64(), "MB/s");
        if let Some((before, after)) = before.zip(server.usage()?) {
            let each = |spent: Duration| spent.as_secs_f64() * 1e6 / seen.events as f64;
            report.lower("together_cpu", each(after.cpu_since(&before)), "us/event");
            report.lower("together_client_cpu", each(seen.cpu), "us/event");
            report.lower("memory_before", before.resident_bytes as f64 / 1e6, "MB");
            report.lower("peak_memory", after.peak_bytes as f64 / 1e6, "MB");
        }
    }
    report.check(DENSE, events);
    Ok(())
}

/// So many viewers from the first event to the end of the stream, and how long that takes from the first connection on.
fn replay(target: &Target, viewers: usize, events: u64) -> Result<(Seen, Duration)> {
    let begun = Instant::now();
    let seen = Viewers::connect(target, viewers)?.read(Until::End, None)?.finish()?;
    let took = begun.elapsed();
    let due = (events + 1) * viewers as u64;
    if seen.events != due {
        return Err(Error::Wrong(format!("{} events were replayed, and not {due}", seen.events)));
    }
    Ok((seen, took))
}

/// A run that has sent so many events, and is over.
fn finished(server: &Server, events: u64, bytes: u64) -> Result<Target> {
    let mut connection = server.connect()?;
    let input = json!({"events": events, "bytes": bytes, "rate": 0});
    let path = burst::create(&mut connection, "BurstTask", &input)?;
    burst::expect(&mut connection, "POST", &format!("/tasks{path}/start"), "", 202)?;
    let target = Target { address: server.address(), path: format!("/stream{path}"), after: 0 };
    replay(&target, 1, events)?;
    Ok(target)
}
