//! `soloist bench takeover`: the process that runs tasks dies, and another one on the same store goes on with them.
//!
//! Decides: when a task counts as taken over: when the other server says that it runs there, as the next attempt of the
//! same run under a higher epoch.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    control,
    error::{Error, Result},
    http::Connection,
    latency::Latencies,
    report::Report,
    server::Server,
    start::Tell,
};

/// How much.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Runs of the process that dies; one page of a list holds them.
    pub runs: usize,
    /// The lease of both servers.
    pub lease: Duration,
}

/// What a lost run may take beyond the lease.
const BEYOND: Duration = Duration::from_secs(1);

/// What is on record of a run.
struct Held {
    node: Value,
    epoch: u64,
}

/// Measures it, with two servers on one store, of which the first is killed.
pub fn takeover(servers: &mut [Server], options: Options, tell: Tell<'_>, report: &mut Report) -> Result<()> {
    let [dies, lives, ..] = servers else {
        return Err(Error::Invalid("a takeover needs two servers on one store".into()));
    };
    tell("runs begin");
    let mut connection = lives.connect()?;
    let mut elsewhere = dies.connect()?;
    let body = r#"{"input":{"message":"bench","timeout_ms":3600000},"max_retries":1,"start":true}"#;
    for _ in 0..options.runs {
        control::create(&mut elsewhere, "demo/ContinueTask", body)?;
    }
    let held = running(&mut connection, options.runs)?;
    tell("the process is dead");
    let died = Instant::now();
    dies.kill();
    let latencies = wait(&mut connection, held, died, options)?;
    report.lower("takeover_min", latencies.percentile_ms(0.0), "ms");
    latencies.report("takeover", report);
    let limit = (options.lease + BEYOND).as_secs_f64() * 1e3;
    report.lower("takeover_max_of_lease_and_1_s", 100.0 * latencies.percentile_ms(100.0) / limit, "%");
    report.check("every run went on elsewhere as attempt 2 under a higher epoch", latencies.count());
    // A database that is not ours is left with nothing that runs.
    for task in page(&mut connection, options.runs)? {
        let (app, model, id) = (text(&task, "app"), text(&task, "model"), text(&task, "id"));
        connection.call("POST", &format!("/tasks/{app}/{model}/{id}/cancel"), "{}")?;
    }
    control::at_rest(std::slice::from_ref(lives))
}

/// Waits until all of them run, and none of them where it is asked.
fn running(connection: &mut Connection, runs: usize) -> Result<HashMap<String, Held>> {
    let (_, here) = connection.call("GET", "/health", "")?;
    let begun = Instant::now();
    loop {
        let tasks = page(connection, runs)?;
        if tasks.len() == runs && tasks.iter().all(|task| task["status"] == "running") {
            if let Some(task) = tasks.iter().find(|task| task["node"] == here["node"] || task["attempt"] != 1)
            {
                return Err(Error::Wrong(format!(
                    "a task was started at one server, and is on record as {task}"
                )));
            }
            let held = |task: &Value| {
                let held = Held { node: task["node"].clone(), epoch: task["epoch"].as_u64().unwrap_or(0) };
                (text(task, "id").to_owned(), held)
            };
            return Ok(tasks.iter().map(held).collect());
        }
        if begun.elapsed() > control::PATIENCE {
            return Err(Error::Wrong(format!("of {runs} started tasks not all run")));
        }
    }
}

/// Asks for all of them again and again; how long after the death each was seen to run elsewhere.
fn wait(
    connection: &mut Connection,
    mut held: HashMap<String, Held>,
    died: Instant,
    options: Options,
) -> Result<Latencies> {
    let mut latencies = Latencies::default();
    while !held.is_empty() {
        let tasks = page(connection, options.runs)?;
        let now = died.elapsed();
        for task in &tasks {
            let id = text(task, "id");
            let Some(before) = held.get(id) else { continue };
            if task["epoch"].as_u64() == Some(before.epoch) || task["status"] == "queued" {
                continue;
            }
            let is_next = task["epoch"].as_u64() > Some(before.epoch)
                && (&task["run"], &task["attempt"], &task["status"])
                    == (&1.into(), &2.into(), &"running".into())
                && task["node"] != before.node;
            if !is_next {
                return Err(Error::Wrong(format!("a run whose process died is on record as {task}")));
            }
            latencies.record(now);
            held.remove(id);
        }
        if now > (options.lease + BEYOND) * 10 {
            let left = held.len();
            return Err(Error::Wrong(format!(
                "{left} runs of a dead process were not taken over in {now:?}"
            )));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(latencies)
}

/// The newest so many of the tasks that wait.
fn page(connection: &mut Connection, runs: usize) -> Result<Vec<Value>> {
    let path = format!("/tasks?app=demo&model=ContinueTask&limit={runs}");
    let (status, mut page) = connection.call("GET", &path, "")?;
    match page["tasks"].take() {
        Value::Array(tasks) if status == 200 => Ok(tasks),
        _ => Err(Error::Wrong(format!("a list of tasks was answered {status} {page}"))),
    }
}

fn text<'a>(task: &'a Value, name: &str) -> &'a str {
    task[name].as_str().unwrap_or_default()
}
