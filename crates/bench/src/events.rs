//! `soloist bench events`: many runs at once, each of which sends events as fast as it can.
//!
//! Decides: from when to when events are counted (from the first start until nothing runs any more, so that all of them
//! are on record), and that each log must be dense: as many events as were sent, and the one that ends the run.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use crate::{
    control,
    error::{Error, Result},
    http::{Answer, request},
    load::{Driver, Load},
    machine,
    report::Report,
    server::Server,
    start::Tell,
};

/// How much.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Runs at once.
    pub runs: usize,
    /// Events of each.
    pub events: u64,
    /// Bytes of the data of each event.
    pub bytes: u64,
}

/// Before anything is measured each run sends a hundredth of its events, in another task.
const WARM: u64 = 100;

/// Raw appends that are waited for, as groups of events.
const GROUPS: [(&str, usize); 2] = [("floor_appends_64_KiB", 64 << 10), ("floor_appends_1_MiB", 1 << 20)];

/// Measures it, and in the same minute the disk below `dir` where the store is known to be there: how many events of that
/// size fit into raw appends, each waited for.
pub fn events(
    server: &Server,
    dir: Option<&Path>,
    options: Options,
    tell: Tell<'_>,
    report: &mut Report,
) -> Result<()> {
    tell("events are committed");
    let warm = Options { events: (options.events / WARM).max(1), ..options };
    burst(server, warm)?;
    let before = server.usage()?;
    let (keys, took) = burst(server, options)?;
    let after = server.usage()?;
    let total = options.runs as u64 * options.events;
    report.higher("events", total as f64 / took.as_secs_f64(), "/s");
    report.higher("data", (total * options.bytes) as f64 / took.as_secs_f64() / 1e6, "MB/s");
    if let Some((before, after)) = before.zip(after) {
        report.lower("cpu", after.cpu_since(&before).as_secs_f64() * 1e6 / total as f64, "us");
        let written = after.written_bytes.saturating_sub(before.written_bytes);
        // A database writes in processes of its own.
        if written > 0 {
            report.lower("written", written as f64 / total as f64, "bytes");
        }
        report.lower(
            "peak_memory_more",
            after.peak_bytes.saturating_sub(before.resident_bytes) as f64 / 1e6,
            "MB",
        );
    }
    if let Some(dir) = dir {
        tell("the disk alone");
        for (name, bytes) in GROUPS {
            let rate = machine::append_rate(dir, bytes)? / options.bytes.max(1) as f64;
            report.higher(name, rate, "events/s");
        }
    }
    tell("every log is looked up in the record");
    let mut connection = server.connect()?;
    for key in &keys {
        let (status, task) = connection.call("GET", &format!("/tasks/{key}"), "")?;
        let is_right =
            task["status"] == "completed" && task["last_seq"] == options.events + 1 && task["run"] == 1;
        if status != 200 || !is_right {
            let wanted = options.events + 1;
            return Err(Error::Wrong(format!(
                "a run of {wanted} events with its end is on record as {task}"
            )));
        }
    }
    report.check(
        "every run is completed, and its last event has the number of what was sent and one",
        keys.len() as u64,
    );
    let read =
        keys.first().map_or(Ok(0), |key| control::read_log(&mut connection, key, options.events + 1))?;
    report.check("the log of one run was read, and is dense", read);
    Ok(())
}

/// Starts all runs at one moment; their keys, and how long it took until nothing ran any more.
fn burst(server: &Server, options: Options) -> Result<(Vec<String>, Duration)> {
    let mut connection = server.connect()?;
    let Options { events, bytes, runs } = options;
    let body = format!(r#"{{"input":{{"events":{events},"bytes":{bytes},"rate":0}}}}"#);
    let create = |_| control::create(&mut connection, "demo/BurstTask", &body);
    let keys: Vec<String> = (0..runs).map(create).collect::<Result<_>>()?;
    let host = server.address().to_string();
    let start = |key: &String| request("POST", &format!("/tasks/{key}/start"), &host, &[], "");
    let mut starts = Starts(keys.iter().map(start).collect());
    let mut load = Load::connect(&[server.address()], runs)?;
    let begun = Instant::now();
    load.once(&mut starts)?;
    control::at_rest(std::slice::from_ref(server))?;
    Ok((keys, begun.elapsed()))
}

/// One start for each connection.
struct Starts(Vec<Vec<u8>>);

impl Driver for Starts {
    fn request(&mut self, connection: usize, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.0[connection]);
    }

    fn answer(&mut self, _: usize, answer: Answer<'_>, _: Duration) -> Result<()> {
        control::won(answer)
    }
}
