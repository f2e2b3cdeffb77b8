//! `soloist bench start`: starts of one hot key, and starts of tasks of their own.
//!
//! Decides: what is asked and what every answer must be. A refusal must name the run that is active; a create that starts
//! must have started run 1; a result must have come after the event that ends the run, which is shown only once it is on
//! record.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use memchr::memmem;

use crate::{
    control::{at_rest, wrong},
    error::{Error, Result},
    http::{Answer, request},
    latency::Latencies,
    load::{Driver, Load, Stretch},
    report::Report,
    server::{Server, Usage},
};

/// How much.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Connections at once.
    pub connections: usize,
    /// How long each kind of request is sent.
    pub time: Duration,
}

/// Says what is being measured.
pub type Tell<'a> = &'a dyn Fn(&str);

/// An empty native task.
const EMPTY: &str = r#"{"events":0,"bytes":0,"rate":0}"#;

fn addresses(servers: &[Server]) -> Vec<SocketAddr> {
    servers.iter().map(Server::address).collect()
}

/// CPU time of the servers and of this process, over one or more stretches.
struct Meter<'a> {
    servers: &'a [Server],
    spent: Spent,
}

/// Seconds of CPU time.
#[derive(Clone, Copy, Default)]
struct Spent {
    /// None where a process is not known.
    servers: Option<f64>,
    client: f64,
}

impl<'a> Meter<'a> {
    fn of(servers: &'a [Server]) -> Self {
        Self { servers, spent: Spent::default() }
    }

    /// What has been spent until now.
    fn read(&self) -> Result<Spent> {
        let pids: Vec<u32> = self.servers.iter().flat_map(|server| server.pids().iter().copied()).collect();
        let is_known = self.servers.iter().all(|server| !server.pids().is_empty());
        let seconds = |usage: Usage| usage.cpu().as_secs_f64();
        let servers = is_known.then(|| Usage::of(&pids).map(seconds)).transpose()?;
        Ok(Spent { servers, client: seconds(Usage::of(&[std::process::id()])?) })
    }

    /// Loads, and counts what that costs.
    fn run(&mut self, load: &mut Load, time: Duration, driver: &mut impl Driver) -> Result<Stretch> {
        let before = self.read()?;
        let stretch = load.run(time, driver)?;
        self.add(before)?;
        Ok(stretch)
    }

    fn add(&mut self, before: Spent) -> Result<()> {
        let after = self.read()?;
        let more = before.servers.zip(after.servers).map(|(before, after)| after - before);
        self.spent.servers = more.map(|more| more + self.spent.servers.unwrap_or_default());
        self.spent.client += after.client - before.client;
        Ok(())
    }

    /// Puts the time for each of so many requests into a report.
    fn report(&self, name: &str, count: u64, report: &mut Report) {
        let each = |seconds: f64| seconds * 1e6 / count.max(1) as f64;
        if let Some(servers) = self.spent.servers {
            report.lower(&format!("{name}_cpu"), each(servers), "us");
        }
        report.lower(&format!("{name}_client_cpu"), each(self.spent.client), "us");
    }
}

/// A shorter time of the same load, which is not counted.
fn warm(load: &mut Load, options: Options, driver: &mut impl Driver) -> Result<Stretch> {
    load.run((options.time / 5).min(Duration::from_secs(1)), driver)
}

/// `GET /health`: what a request costs that asks nothing.
struct Health {
    request: Vec<u8>,
}

impl Health {
    fn of(servers: &[Server]) -> Self {
        Self { request: request("GET", "/health", &host(servers), &[], "") }
    }
}

impl Driver for Health {
    fn request(&mut self, _: usize, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.request);
    }

    fn answer(&mut self, _: usize, answer: Answer<'_>, _: Duration) -> Result<()> {
        if answer.status == 200 { Ok(()) } else { Err(wrong("GET /health", answer)) }
    }
}

/// Any server takes any loopback name or address.
fn host(servers: &[Server]) -> String {
    servers.first().map(|server| server.address().to_string()).unwrap_or_default()
}

/// Requests that ask nothing, measured in the same minute as those that do.
pub fn health(servers: &[Server], options: Options, tell: Tell<'_>, report: &mut Report) -> Result<()> {
    tell("requests that ask nothing");
    let mut load = Load::connect(&addresses(servers), options.connections)?;
    let mut driver = Health::of(servers);
    let asked = warm(&mut load, options, &mut driver).and_then(|_| warm(&mut load, options, &mut driver))?;
    report.higher("health", asked.rate(), "/s");
    Ok(())
}

/// Starts of one key that runs: all are refused.
pub fn hot(servers: &[Server], options: Options, tell: Tell<'_>, report: &mut Report) -> Result<()> {
    tell("refusals of one hot key, and /health in turn");
    let first = servers.first().ok_or_else(|| Error::Invalid("there is no server to measure".into()))?;
    let mut control = first.connect()?;
    let body = r#"{"input":{"message":"bench","timeout_ms":3600000},"start":true}"#;
    let (status, task) = control.call("POST", "/tasks/demo/ContinueTask", body)?;
    let (id, run) = (task["id"].as_str().unwrap_or_default().to_owned(), task["run"].as_u64());
    if status != 201 || run != Some(1) {
        return Err(Error::Wrong(format!("the task that is to run was answered {status} {task}")));
    }
    let path = format!("/tasks/demo/ContinueTask/{id}");
    let done = refuse(servers, options, &path, report);
    // What was started goes, whatever came out.
    let _ = control.call("POST", &format!("{path}/cancel?wait=10"), "{}");
    done
}

fn refuse(servers: &[Server], options: Options, path: &str, report: &mut Report) -> Result<()> {
    let mut load = Load::connect(&addresses(servers), options.connections)?;
    let mut health = Health::of(servers);
    let start = request("POST", &format!("{path}/start"), &host(servers), &[], "");
    let mut hot = Refused { request: start, known: Vec::new(), latencies: Latencies::default(), checked: 0 };
    warm(&mut load, options, &mut health)?;
    warm(&mut load, options, &mut hot)?;
    hot.latencies.clear();
    let slices = 10;
    let (mut refused, mut asked) = (Stretch::default(), Stretch::default());
    let (mut of_refused, mut of_asked) = (Meter::of(servers), Meter::of(servers));
    for _ in 0..slices {
        asked.add(of_asked.run(&mut load, options.time / slices, &mut health)?);
        refused.add(of_refused.run(&mut load, options.time / slices, &mut hot)?);
    }
    report.higher("hot_refusals", refused.rate(), "/s");
    report.higher("hot_health", asked.rate(), "/s");
    report.higher("hot_refusals_of_health", 100.0 * refused.rate() / asked.rate(), "%");
    hot.latencies.report("hot_latency", report);
    of_refused.report("hot", refused.all, report);
    of_asked.report("hot_health", asked.all, report);
    report.check("every start of the running key was refused and named run 1", hot.checked);
    Ok(())
}

/// A start of a key that runs already.
struct Refused {
    request: Vec<u8>,
    /// Answers that were looked at: they are the same to the byte.
    known: Vec<Vec<u8>>,
    latencies: Latencies,
    checked: u64,
}

impl Driver for Refused {
    fn request(&mut self, _: usize, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.request);
    }

    fn answer(&mut self, _: usize, answer: Answer<'_>, took: Duration) -> Result<()> {
        self.latencies.record(took);
        self.checked += 1;
        if answer.status == 200 && self.known.iter().any(|known| known == answer.body) {
            return Ok(());
        }
        let read: serde_json::Value = serde_json::from_slice(answer.body).unwrap_or_default();
        if answer.status != 200 || read["started"] != false || read["run"] != 1 || read["status"] != "running"
        {
            return Err(wrong("a start of a task whose run 1 is active", answer));
        }
        // Each node may write it down in its own way; more than that would be one that changes.
        if self.known.len() < 64 {
            self.known.push(answer.body.to_vec());
        }
        Ok(())
    }
}

/// Tasks of their own, each created and started by one request; then until all of them are on record as completed.
pub fn distinct(servers: &[Server], options: Options, tell: Tell<'_>, report: &mut Report) -> Result<()> {
    tell("distinct starts");
    let mut load = Load::connect(&addresses(servers), options.connections)?;
    let body = format!(r#"{{"input":{EMPTY},"start":true}}"#);
    let create = request("POST", "/tasks/demo/BurstTask", &host(servers), &[], &body);
    let mut driver = Created { request: create, latencies: Latencies::default(), checked: 0 };
    warm(&mut load, options, &mut driver)?;
    at_rest(servers)?;
    let warmed = driver.checked;
    driver.latencies.clear();
    let mut meter = Meter::of(servers);
    let (before, begun) = (meter.read()?, Instant::now());
    let starts = load.run(options.time, &mut driver)?;
    at_rest(servers)?;
    let ended = begun.elapsed();
    meter.add(before)?;
    report.higher("distinct_starts", starts.rate(), "/s");
    driver.latencies.report("distinct_latency", report);
    report.higher("distinct_completed", starts.all as f64 / ended.as_secs_f64(), "/s");
    meter.report("distinct", starts.all, report);
    report.check("every create was answered 201 with run 1 started", driver.checked);
    tell("every start is looked up in the record");
    let found = completed(servers, warmed + starts.all)?;
    report.check("every started task is on record as completed, in run 1", found);
    Ok(())
}

/// A create that starts.
struct Created {
    request: Vec<u8>,
    latencies: Latencies,
    checked: u64,
}

impl Driver for Created {
    fn request(&mut self, _: usize, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.request);
    }

    fn answer(&mut self, _: usize, answer: Answer<'_>, took: Duration) -> Result<()> {
        self.latencies.record(took);
        self.checked += 1;
        let holds = |text: &str| memmem::find(answer.body, text.as_bytes()).is_some();
        let is_started = holds(r#""run":1,"#) && !holds(r#""status":"pending""#);
        if answer.status == 201 && is_started { Ok(()) } else { Err(wrong("a create that starts", answer)) }
    }
}

/// Reads the newest so many tasks from the record; all are completed, in their first run.
fn completed(servers: &[Server], count: u64) -> Result<u64> {
    let Some(server) = servers.first() else { return Ok(0) };
    let mut control = server.connect()?;
    let (mut found, mut cursor) = (0, String::new());
    while found < count {
        let limit = (count - found).min(1000);
        let path = format!("/tasks?app=demo&model=BurstTask&limit={limit}{cursor}");
        let (status, page) = control.call("GET", &path, "")?;
        let tasks = page["tasks"].as_array().map_or(&[][..], Vec::as_slice);
        if let Some(task) = tasks.iter().find(|task| task["status"] != "completed" || task["run"] != 1) {
            return Err(Error::Wrong(format!("a task was started, and is on record as {task}")));
        }
        found += tasks.len() as u64;
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None if found == count => {}
            None => {
                return Err(Error::Wrong(format!(
                    "{count} tasks were started, and {found} are listed ({status})"
                )));
            }
        }
    }
    Ok(found)
}

/// From a start to the recorded result: each request creates, starts and watches a task until its end.
pub fn results(servers: &[Server], options: Options, tell: Tell<'_>, report: &mut Report) -> Result<()> {
    tell("starts to their recorded results");
    let mut load = Load::connect(&addresses(servers), options.connections)?;
    let attach = request("POST", "/stream/demo/BurstTask", &host(servers), &[], EMPTY);
    let mut driver = Ended { request: attach, latencies: Latencies::default(), checked: 0 };
    warm(&mut load, options, &mut driver)?;
    driver.latencies.clear();
    let mut meter = Meter::of(servers);
    let ended = meter.run(&mut load, options.time, &mut driver)?;
    report.higher("results", ended.rate(), "/s");
    driver.latencies.report("results_latency", report);
    meter.report("results", ended.all, report);
    report.check("every stream ended with the event complete of run 1", driver.checked);
    Ok(())
}

/// A start that is watched to its end.
struct Ended {
    request: Vec<u8>,
    latencies: Latencies,
    checked: u64,
}

impl Driver for Ended {
    fn request(&mut self, _: usize, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.request);
    }

    fn answer(&mut self, _: usize, answer: Answer<'_>, took: Duration) -> Result<()> {
        self.latencies.record(took);
        self.checked += 1;
        let holds = |text: &str| memmem::find(answer.body, text.as_bytes()).is_some();
        let is_complete = holds("id: 1\nevent: complete\n") && holds(r#""_run":1,"#);
        if answer.status == 200 && is_complete {
            Ok(())
        } else {
            Err(wrong("a start that is watched", answer))
        }
    }
}

/// One create that is sent again and again under one `Idempotency-Key`: all have the first answer.
pub fn repeats(servers: &[Server], options: Options, tell: Tell<'_>, report: &mut Report) -> Result<()> {
    tell("repeats of one idempotency key");
    let first = servers.first().ok_or_else(|| Error::Invalid("there is no server to measure".into()))?;
    let (_, task) =
        first.connect()?.call("POST", "/tasks/demo/BurstTask", &format!(r#"{{"input":{EMPTY}}}"#))?;
    let path = format!("/tasks/demo/BurstTask/{}/start", task["id"].as_str().unwrap_or_default());
    let start = request("POST", &path, &host(servers), &[("idempotency-key", "bench")], "");
    let mut control = first.connect()?;
    let answer = control.send(&start)?;
    if !answer.body.starts_with(br#"{"started":true,"run":1,"#) {
        return Err(wrong("the first start under its key", answer));
    }
    at_rest(servers)?;
    let mut load = Load::connect(&addresses(servers), options.connections)?;
    let mut driver = Repeated { request: start, latencies: Latencies::default(), checked: 0 };
    warm(&mut load, options, &mut driver)?;
    driver.latencies.clear();
    let mut meter = Meter::of(servers);
    let repeated = meter.run(&mut load, options.time, &mut driver)?;
    report.higher("repeats", repeated.rate(), "/s");
    driver.latencies.report("repeats_latency", report);
    meter.report("repeats", repeated.all, report);
    report.check("every repeat had the first answer, and began no other run", driver.checked);
    Ok(())
}

/// A start that was answered before.
struct Repeated {
    request: Vec<u8>,
    latencies: Latencies,
    checked: u64,
}

impl Driver for Repeated {
    fn request(&mut self, _: usize, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.request);
    }

    fn answer(&mut self, _: usize, answer: Answer<'_>, took: Duration) -> Result<()> {
        self.latencies.record(took);
        self.checked += 1;
        let is_replay = memmem::find(answer.head, b"idempotent-replayed: true").is_some();
        let is_first = answer.body.starts_with(br#"{"started":true,"run":1,"#);
        if answer.status == 200 && is_replay && is_first { Ok(()) } else { Err(wrong("a repeat", answer)) }
    }
}
