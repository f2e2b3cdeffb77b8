//! What may be said to `soloist bench`.

pub(crate) mod streams;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use soloist_bench::server::Store;

#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    arg_required_else_help = true,
    after_help = "\
Without --url a server is started for the measurement, with the demo models and a store of its own, \
and both are gone when it ends. Answers are checked while they are counted: one that breaks a promise \
ends the measurement with exit code 1. Figures of one machine are for comparing, not for promises: \
look at the load average that is printed with them."
)]
pub(crate) struct Bench {
    /// Print the figures of two measurements that --save has written, and their ratio
    #[arg(long, num_args = 2, value_names = ["OLD", "NEW"])]
    pub(crate) compare: Option<Vec<PathBuf>>,
    #[command(subcommand)]
    pub(crate) command: Option<BenchCmd>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCmd {
    /// Starts: refusals of one hot key, distinct starts, starts to their results, repeats [default: all of them]
    Start(BenchStart),
    /// Viewers of one run: CPU of a delivery, latency, memory of a viewer; beside the floor of this machine
    Fanout(streams::BenchFanout),
    /// Viewers of a run that is over: how long a replay takes one, and many at once
    Replay(streams::BenchReplay),
    /// Events that many runs at once commit as fast as they can
    Events(BenchEvents),
    /// How long it takes until the runs of a killed process go on in another one
    Takeover(BenchTakeover),
}

#[derive(Debug, Args)]
pub(crate) struct BenchStart {
    /// Starts of one key that runs already, each of them refused, with GET /health in turn
    #[arg(long)]
    pub(crate) hot: bool,
    /// Tasks of their own: each request creates and starts one
    #[arg(long)]
    pub(crate) distinct: bool,
    /// Each request creates, starts and watches a task until its result is on record
    #[arg(long)]
    pub(crate) results: bool,
    /// One start sent again and again under one Idempotency-Key
    #[arg(long)]
    pub(crate) repeats: bool,
    /// Connections, each with one request under way
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) connections: u32,
    /// How long each of them is measured
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub(crate) seconds: u32,
    /// Servers on one store
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) nodes: u32,
    #[command(flatten)]
    pub(crate) target: Target,
}

#[derive(Debug, Args)]
pub(crate) struct BenchEvents {
    /// Runs at once
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) runs: u32,
    /// Events of each run
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub(crate) events: u64,
    /// Bytes of the data of each event
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u64).range(..=1_000_000))]
    pub(crate) bytes: u64,
    #[command(flatten)]
    pub(crate) target: Target,
}

#[derive(Debug, Args)]
pub(crate) struct BenchTakeover {
    /// Runs of the process that is killed
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) runs: u32,
    /// The lease of the servers
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub(crate) lease_seconds: u32,
    #[command(flatten)]
    pub(crate) target: Target,
}

/// What is measured, and where the figures go.
#[derive(Debug, Args)]
pub(crate) struct Target {
    /// The process of the server that --url names, of which CPU and memory are then measured
    #[arg(long, value_name = "PID")]
    pub(crate) pid: Option<u32>,
    /// What the server that is started keeps everything in: sqlite, memory, or postgres://... of a database that is
    /// for this (what is written there stays)
    #[arg(long, value_name = "STORE", default_value = "sqlite")]
    pub(crate) store: Store,
    /// Whether the server that is started waits for the disk: full or relaxed
    #[arg(long, value_name = "TEXT", default_value = "full", value_parser = ["full", "relaxed"])]
    pub(crate) durability: String,
    /// Where the store lies, and the disk is measured [default: the directory for temporary files]
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// The executable that is started as the server [default: this one]
    #[arg(long, value_name = "PATH")]
    pub(crate) server: Option<PathBuf>,
    /// Write the figures to this file too, for --compare
    #[arg(long, value_name = "FILE")]
    pub(crate) save: Option<PathBuf>,
}
