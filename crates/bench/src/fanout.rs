//! Many viewers of one run.
//!
//! Decides: what of a server is measured while it hands the events of one run to many viewers: the CPU time of a delivery,
//! at its fastest and at a pace at which every event goes out alone; how long an event takes from its sending to the
//! sockets; the memory of a viewer that waits, and of one that does not read. Each part has a server of its own, where bench
//! starts it, so that none meets what another has left in memory.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::{
    Error, Result,
    burst::{self, Burst, Load},
    floor,
    report::Report,
    server::{Server, Usage},
    start::Tell,
    viewers::{Clock, Seen, Target, Until, Viewers},
};

/// What is measured.
#[derive(Debug, Clone)]
pub struct Options {
    /// How many viewers a run has.
    pub viewers: usize,
    /// How many bytes of data an event has.
    pub bytes: u64,
    /// How many events are sent as fast as the server can; 0 leaves that part out.
    pub burst: u64,
    /// At how many events in a second else; each is a part.
    pub rates: Vec<u64>,
    /// How long each of these parts takes, in seconds.
    pub seconds: u64,
    /// At how many events in a second a single viewer watches; 0 leaves that part out.
    pub single_rate: u64,
    /// How many viewers wait for a task that says nothing; 0 leaves that part out.
    pub idle: usize,
    /// How many viewers do not read; 0 leaves that part out.
    pub stalled: usize,
    /// What latency is taken by; none takes none.
    pub clock: Option<Clock>,
    /// Whether the floor of this machine is measured beside them.
    pub has_floor: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            viewers: 1_000,
            bytes: 200,
            burst: 20_000,
            rates: vec![50, 500],
            seconds: 10,
            single_rate: 50,
            idle: 5_000,
            stalled: 200,
            clock: None,
            has_floor: true,
        }
    }
}

/// What every viewer was held to.
pub(crate) const DENSE: &str = "events in order, each once, up to the end of the run";
/// How long memory has to stay as it is before it is read, and how long it is waited for.
const SETTLED: Duration = Duration::from_millis(300);
const SETTLED_MAX: Duration = Duration::from_secs(10);
/// What viewers do not read: more than the kernel takes for each of them and a server keeps in memory for all.
const UNREAD: Load = Load { events: 6_000, bytes: 2_000, rate: 0 };

/// Measures a server, and where it was started here, others that are started in the same way.
pub fn run(server: &Server, options: &Options, tell: Tell<'_>, report: &mut Report) -> Result<()> {
    let Options { viewers, bytes, seconds, .. } = *options;
    report.option("viewers", viewers);
    report.option("bytes", bytes);
    let (mut delivered, mut peak_bytes) = (0, 0);
    let mut deliver = |viewers: usize, load: Load| {
        let rate =
            if load.rate == 0 { "as fast as it can".to_owned() } else { format!("{} a second", load.rate) };
        tell(&format!("{} events to {viewers} viewers, {rate}", load.events));
        let server = Part::of(server)?;
        let part = deliver(&server, viewers, load, options.clock)?;
        delivered += part.seen.events;
        peak_bytes = server.usage()?.map_or(0, |usage| usage.peak_bytes).max(peak_bytes);
        Ok::<_, Error>(part)
    };
    // Memory comes first: a server that cannot be started anew is measured before it has kept any for other reasons.
    if options.idle > 0 {
        tell(&format!("memory of {} viewers that wait", options.idle));
        let memory = idle(&*Part::of(server)?, options.idle)?;
        report.lower("idle_viewer_memory", memory / 1024.0, "KiB");
    }
    let mut stalled_events = 0;
    if options.stalled > 0 {
        tell(&format!("memory of {} viewers that do not read", options.stalled));
        let (memory, events) = stalled(&*Part::of(server)?, options.stalled)?;
        report.lower("stalled_viewer_memory", memory / 1024.0, "KiB");
        stalled_events = events;
    }
    if options.single_rate > 0 {
        let rate = options.single_rate;
        let part = deliver(1, Load { events: rate * seconds, bytes, rate })?;
        part.tell_latency(report, "single");
    }
    for &rate in options.rates.iter().filter(|rate| **rate > 0) {
        let part = deliver(viewers, Load { events: rate * seconds, bytes, rate })?;
        let name = format!("at_{rate}");
        part.tell(report, &name);
        part.tell_latency(report, &name);
    }
    if options.burst > 0 {
        let part = deliver(viewers, Load { events: options.burst, bytes, rate: 0 })?;
        report.higher("burst_deliveries", part.seen.events as f64 / part.took.as_secs_f64(), "/s");
        part.tell(report, "burst");
    }
    if options.has_floor {
        tell("the floor: the same bytes to as many sockets, and nothing else");
        floor::run(viewers, report)?;
    }
    if peak_bytes > 0 {
        report.lower("peak_memory", peak_bytes as f64 / 1e6, "MB");
    }
    report.check(DENSE, delivered + stalled_events);
    Ok(())
}

/// The server that a part measures.
struct Part<'a> {
    given: &'a Server,
    fresh: Option<Server>,
}

impl<'a> Part<'a> {
    fn of(given: &'a Server) -> Result<Self> {
        Ok(Self { given, fresh: given.fresh()? })
    }
}

impl std::ops::Deref for Part<'_> {
    type Target = Server;

    fn deref(&self) -> &Server {
        self.fresh.as_ref().unwrap_or(self.given)
    }
}

/// What one run has shown.
#[derive(Debug)]
struct Delivered {
    seen: Seen,
    /// From the start to the last event at the last viewer.
    took: Duration,
    /// What the server has used in that time.
    cpu: Option<Duration>,
}

impl Delivered {
    fn tell(&self, report: &mut Report, name: &str) {
        let events = self.seen.events as f64;
        let each = |spent: Duration| spent.as_secs_f64() * 1e6 / events;
        if let Some(cpu) = self.cpu {
            report.lower(&format!("{name}_cpu"), each(cpu), "us/delivery");
        }
        report.lower(&format!("{name}_client_cpu"), each(self.seen.cpu), "us/delivery");
        report.higher(&format!("{name}_read"), events / self.seen.reads as f64, "events/read");
        report.lower(&format!("{name}_took"), self.took.as_secs_f64(), "s");
    }

    fn tell_latency(&self, report: &mut Report, name: &str) {
        if let Some(latency) = &self.seen.latency {
            latency.report(&format!("{name}_latency"), report);
        }
    }
}

/// One run, watched by so many viewers who are there before it begins.
fn deliver(server: &Server, viewers: usize, load: Load, clock: Option<Clock>) -> Result<Delivered> {
    let mut burst = Burst::prepare(server, load)?;
    let waiting = Viewers::connect(burst.target(), viewers)?;
    waiting.answered()?;
    // As fast as the server can, an event waits for those before it, and its latency says nothing.
    let reading = waiting.read(Until::Terminal, clock.filter(|_| load.rate > 0))?;
    let before = server.usage()?;
    let begun = Instant::now();
    burst.start()?;
    let seen = reading.finish()?;
    let after = server.usage()?;
    let due = (load.events + 1) * viewers as u64;
    if seen.events != due {
        return Err(Error::Wrong(format!(
            "{} events came to all viewers together, and not {due}",
            seen.events
        )));
    }
    let cpu = before.zip(after).map(|(before, after)| after.cpu_since(&before));
    Ok(Delivered { took: seen.last_event.duration_since(begun), seen, cpu })
}

/// Bytes of memory for each viewer that waits for a task which says nothing.
fn idle(server: &Server, viewers: usize) -> Result<f64> {
    let mut connection = server.connect()?;
    let input = json!({"message": "silent", "delay_ms": 3_600_000});
    let path = burst::create(&mut connection, "ExampleTask", &input)?;
    burst::expect(&mut connection, "POST", &format!("/tasks{path}/start"), "", 202)?;
    let target = Target { address: server.address(), path: format!("/stream{path}"), after: 0 };
    // What the first viewer needs, the others share.
    let first = Viewers::connect(&target, 1)?;
    first.answered()?;
    let before = settled(server)?;
    let waiting = Viewers::connect(&target, viewers)?;
    waiting.answered()?;
    let reading = waiting.read(Until::Stopped, None)?;
    let after = settled(server)?;
    reading.stop()?;
    burst::expect(&mut connection, "POST", &format!("/tasks{path}/cancel?wait=10"), "", 200)?;
    Ok((after.resident_bytes as f64 - before.resident_bytes as f64) / viewers as f64)
}

/// Bytes of memory for each viewer that does not read while events flow, and how many events they had in the end.
fn stalled(server: &Server, viewers: usize) -> Result<(f64, u64)> {
    // What the events themselves take is there without such viewers, too.
    let (alone, first) = unread(server, 0)?;
    let (together, second) = unread(server, viewers)?;
    let more = together.resident_bytes as f64 - alone.resident_bytes as f64;
    Ok((more / viewers as f64, first + second))
}

/// A run of which one viewer reads all and so many others nothing, until memory was read.
fn unread(server: &Server, viewers: usize) -> Result<(Usage, u64)> {
    let mut burst = Burst::prepare(server, UNREAD)?;
    let stalled = Viewers::connect(burst.target(), viewers)?;
    let reading = Viewers::connect(burst.target(), 1)?;
    stalled.answered()?;
    reading.answered()?;
    let reading = reading.read(Until::Terminal, None)?;
    burst.start()?;
    let read = reading.finish()?;
    let usage = settled(server)?;
    let late = stalled.read(Until::Terminal, None)?.finish()?;
    Ok((usage, read.events + late.events))
}

/// What the server uses once its memory does not change any more.
fn settled(server: &Server) -> Result<Usage> {
    let Some(mut usage) = server.usage()? else {
        return Err(Error::Invalid("memory is measured where the process of the server is known".into()));
    };
    let (begun, mut since) = (Instant::now(), Instant::now());
    while since.elapsed() < SETTLED && begun.elapsed() < SETTLED_MAX {
        thread::sleep(Duration::from_millis(20));
        let now = server.usage()?.unwrap_or(usage);
        if now.resident_bytes != usage.resident_bytes {
            (usage, since) = (now, Instant::now());
        }
    }
    Ok(usage)
}
