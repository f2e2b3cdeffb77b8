//! `soloist bench`
//!
//! Decides: which server is measured, and how figures are printed, saved and compared. What is measured is decided in
//! `soloist-bench`.

mod streams;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value};
use soloist::Timestamp;
use soloist_bench::{
    events, machine,
    report::{Better, Report, counted, rounded},
    server::{Launch, Server, Store},
    start::{self, Tell},
    takeover,
};

use super::serve::allow_many_descriptors;
use crate::{
    args::bench::{Bench, BenchCmd, BenchEvents, BenchStart, BenchTakeover, Target},
    exit::{Exit, Stop},
    render::{Out, dim, plain, table},
};

pub(crate) fn bench(args: Bench, url: Option<&str>, out: &Out) -> Result<Exit, Stop> {
    match (args.compare.as_deref(), args.command) {
        (Some([old, new]), _) => compare(old, new, out),
        (_, Some(BenchCmd::Start(args))) => start(args, url, out),
        (_, Some(BenchCmd::Fanout(args))) => streams::fanout(args, url, out),
        (_, Some(BenchCmd::Replay(args))) => streams::replay(args, url, out),
        (_, Some(BenchCmd::Events(args))) => events(args, url, out),
        (_, Some(BenchCmd::Takeover(args))) => takeover(args, url, out),
        _ => Err(Stop::new(Exit::Usage, "say what is to be measured; soloist bench --help names it")),
    }
}

fn start(args: BenchStart, url: Option<&str>, out: &Out) -> Result<Exit, Stop> {
    let options = start::Options {
        connections: args.connections as usize,
        time: Duration::from_secs(args.seconds.into()),
    };
    let is_all = !(args.hot || args.distinct || args.results || args.repeats);
    let mut report = Report::new("start");
    report.option("connections", args.connections);
    report.option("seconds", args.seconds);
    measure(report, &args.target, url, args.nodes, &[], out, |servers, tell, report| {
        if args.hot || is_all {
            start::hot(servers, options, tell, report)?;
        } else {
            start::health(servers, options, tell, report)?;
        }
        if args.distinct || is_all {
            start::distinct(servers, options, tell, report)?;
        }
        if args.results || is_all {
            start::results(servers, options, tell, report)?;
        }
        if args.repeats || is_all {
            start::repeats(servers, options, tell, report)?;
        }
        Ok(())
    })
}

fn events(args: BenchEvents, url: Option<&str>, out: &Out) -> Result<Exit, Stop> {
    let options = events::Options { runs: args.runs as usize, events: args.events, bytes: args.bytes };
    let mut report = Report::new("events");
    report.option("runs", args.runs);
    report.option("events", args.events);
    report.option("bytes", args.bytes);
    let dir = disk(&args.target, url);
    measure(report, &args.target, url, 1, &[], out, |servers, tell, report| {
        events::events(&servers[0], dir.as_deref(), options, tell, report)
    })
}

fn takeover(args: BenchTakeover, url: Option<&str>, out: &Out) -> Result<Exit, Stop> {
    if url.is_some() || args.target.store == Store::Memory {
        let why = "a takeover is measured by killing a server that is started here beside another one: leave out --url, and \
                   choose --store sqlite or postgres://...";
        return Err(Stop::new(Exit::Usage, why));
    }
    let lease = Duration::from_secs(args.lease_seconds.into());
    let options = takeover::Options { runs: args.runs as usize, lease };
    let mut report = Report::new("takeover");
    report.option("runs", args.runs);
    report.option("lease_seconds", args.lease_seconds);
    let serve = ["--lease-seconds", &args.lease_seconds.to_string()];
    measure(report, &args.target, None, 2, &serve, out, |servers, tell, report| {
        takeover::takeover(servers, options, tell, report)
    })
}

/// Brings up what is to be measured, measures it, and hands out the figures. `serve` are more arguments of the server.
pub(crate) fn measure(
    mut report: Report,
    target: &Target,
    url: Option<&str>,
    nodes: u32,
    serve: &[&str],
    out: &Out,
    run: impl FnOnce(&mut [Server], Tell<'_>, &mut Report) -> soloist_bench::Result<()>,
) -> Result<Exit, Stop> {
    allow_many_descriptors();
    let bar = if out.is_watched() { spinner() } else { ProgressBar::hidden() };
    let tell = |what: &str| bar.set_message(what.to_owned());
    tell("the server comes up");
    let mut servers = servers(target, url, nodes, serve)?;
    describe(&mut report, target, url, &servers)?;
    let done = run(&mut servers, &tell, &mut report);
    bar.finish_and_clear();
    done?;
    report.machine.insert("load_average_after".into(), machine::load_average().into());
    // Where the peak of a part or of other servers is of interest, the measurement has said so. One that was killed is left
    // out.
    let is_told = report.get("peak_memory").is_some();
    let peaks = servers.iter().filter_map(|server| server.usage().ok().flatten());
    let peak: u64 = peaks.map(|usage| usage.peak_bytes).sum();
    if peak > 0 && !is_told {
        report.lower("peak_memory", peak as f64 / 1e6, "MB");
    }
    drop(servers);
    hand_out(&report, target.save.as_deref(), out)
}

fn spinner() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {msg}  {elapsed}").expect("the template is right");
    let bar = ProgressBar::new_spinner().with_style(style);
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

fn servers(target: &Target, url: Option<&str>, nodes: u32, serve: &[&str]) -> Result<Vec<Server>, Stop> {
    if let Some(url) = url {
        if nodes > 1 || target.server.is_some() {
            let why = "--nodes and --server are for servers that are started here; leave them out, or --url";
            return Err(Stop::new(Exit::Usage, why));
        }
        return Ok(vec![Server::attach(url, target.pid)?]);
    }
    if target.pid.is_some() {
        return Err(Stop::new(Exit::Usage, "--pid is the process of the server that --url names; say both"));
    }
    let own =
        std::env::current_exe().map_err(|e| Stop::new(Exit::Failed, format!("cannot find myself: {e}")));
    let program = target.server.clone().map_or_else(|| own, Ok)?;
    let args = ["--durability", &target.durability].into_iter().chain(serve.iter().copied());
    let launch = Launch {
        // The server runs in a folder of its own.
        program: std::path::absolute(&program).unwrap_or(program),
        store: target.store.clone(),
        dir: directory(target),
        args: args.map(Into::into).collect(),
    };
    let first = Server::start(&launch)?;
    let mut servers = vec![first];
    for _ in 1..nodes {
        servers.push(servers[0].beside()?);
    }
    Ok(servers)
}

fn directory(target: &Target) -> PathBuf {
    target.dir.clone().unwrap_or_else(std::env::temp_dir)
}

/// The directory of the store, as far as it is known: of a server that runs already only where it is said.
fn disk(target: &Target, url: Option<&str>) -> Option<PathBuf> {
    if url.is_none() { Some(directory(target)) } else { target.dir.clone() }
}

/// Says when, with what and on what it is measured.
fn describe(report: &mut Report, target: &Target, url: Option<&str>, servers: &[Server]) -> Result<(), Stop> {
    report.option("nodes", servers.len());
    // Of a server that runs already nobody here knows how it was started.
    if url.is_none() {
        report.option("store", target.store.kind());
        report.option("durability", &*target.durability);
    }
    let dir = disk(target, url);
    let (_, health) = servers[0].connect()?.call("GET", "/health", "")?;
    let machine = &mut report.machine;
    machine.insert("date".into(), Timestamp::now().to_string().into());
    machine.insert("soloist".into(), env!("CARGO_PKG_VERSION").into());
    if let Some(commit) = option_env!("SOLOIST_COMMIT") {
        machine.insert("commit".into(), commit.into());
    }
    machine.insert("server".into(), health["version"].clone());
    machine.append(&mut machine::describe(dir.as_deref())?);
    machine.insert("load_average_before".into(), machine::load_average().into());
    Ok(())
}

fn hand_out(report: &Report, save: Option<&Path>, out: &Out) -> Result<Exit, Stop> {
    if let Some(file) = save {
        let text = serde_json::to_string_pretty(report).expect("a report can be written as JSON");
        let cannot = |e| Stop::new(Exit::Failed, format!("cannot write {}: {e}", file.display()));
        std::fs::write(file, text + "\n").map_err(cannot)?;
    }
    if out.json() {
        out.value(report)?;
        return Ok(Exit::Completed);
    }
    let rows: Vec<_> = report.rows().into_iter().map(|row| [row.name, right(&row.value), row.unit]).collect();
    out.line(&table(["FIGURE", "       VALUE", "UNIT"], &rows))?;
    for check in &report.checks {
        out.line(&dim(&format!("checked {} times: {}", counted(check.count), check.name)))?;
    }
    out.line(&dim(&said(&report.options)))?;
    out.line(&dim(&said(&report.machine)))?;
    Ok(Exit::Completed)
}

fn right(text: &str) -> String {
    format!("{text:>12}")
}

/// `name value; name value`
fn said(all: &Map<String, Value>) -> String {
    let one = |(name, value): (&String, &Value)| {
        let value = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) if number.is_f64() => rounded(number.as_f64().unwrap_or_default()),
            value => value.to_string(),
        };
        plain(&format!("{} {value}", name.replace('_', " ")))
    };
    all.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// Two saved measurements side by side.
fn compare(old: &Path, new: &Path, out: &Out) -> Result<Exit, Stop> {
    let (old, new) = (load(old)?, load(new)?);
    if old.bench != new.bench {
        let why = format!(
            "one is of bench {}, the other of bench {}; compare two of one kind",
            old.bench, new.bench
        );
        return Err(Stop::new(Exit::Usage, why));
    }
    let compared = soloist_bench::report::compare(&old, &new);
    if out.json() {
        out.value(&compared)?;
        return Ok(Exit::Completed);
    }
    let rows: Vec<_> = compared
        .iter()
        .map(|row| {
            let better = match (row.ratio > 1.0, row.better) {
                _ if (row.ratio - 1.0).abs() < 0.02 => "same",
                (true, Better::Higher) | (false, Better::Lower) => "better",
                _ => "worse",
            };
            let name = plain(&row.name.replace('_', " "));
            let ratio = right(&format!("{:.3}", row.ratio));
            [
                name,
                right(&rounded(row.old)),
                right(&rounded(row.new)),
                plain(&row.unit),
                ratio,
                better.to_owned(),
            ]
        })
        .collect();
    out.line(&table(["FIGURE", "         OLD", "         NEW", "UNIT", "     NEW/OLD", ""], &rows))?;
    for (name, report) in [("old", &old), ("new", &new)] {
        out.line(&dim(&format!("{name}: {}; {}", said(&report.options), said(&report.machine))))?;
    }
    Ok(Exit::Completed)
}

fn load(file: &Path) -> Result<Report, Stop> {
    let cannot = |e: String| Stop::new(Exit::Usage, format!("cannot read {}: {e}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|e| cannot(e.to_string()))?;
    serde_json::from_str(&text)
        .map_err(|e| cannot(format!("this is no measurement that --save has written: {e}")))
}
