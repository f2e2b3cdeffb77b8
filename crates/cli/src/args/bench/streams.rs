//! What may be said to `soloist bench fanout` and `soloist bench replay`.

use clap::Args;

use super::Target;

#[derive(Debug, Args)]
#[command(after_help = "\
All parts are measured, each on a server of its own where servers are started here; 0 leaves a part \
out. CPU per delivery is that of the whole server, with its commits.")]
pub(crate) struct BenchFanout {
    /// Viewers of a run
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) viewers: u32,
    /// Data of an event
    #[arg(long, value_name = "BYTES", default_value_t = 200, value_parser = clap::value_parser!(u64).range(..=1_000_000))]
    pub(crate) bytes: u64,
    /// Events that are sent as fast as the server can
    #[arg(long, value_name = "EVENTS", default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(..=10_000_000))]
    pub(crate) burst: u64,
    /// Events in a second, at which latency is measured too; several with commas
    #[arg(long, value_name = "RATE", default_values_t = [50, 500], value_delimiter = ',', value_parser = clap::value_parser!(u64).range(..=100_000))]
    pub(crate) rate: Vec<u64>,
    /// How long each rate is measured
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) seconds: u64,
    /// Events in a second to a viewer alone
    #[arg(long, value_name = "RATE", default_value_t = 50, value_parser = clap::value_parser!(u64).range(..=100_000))]
    pub(crate) single: u64,
    /// Viewers that wait for a task which says nothing
    #[arg(long, value_name = "N", default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(..=100_000))]
    pub(crate) idle: u32,
    /// Viewers that do not read
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(..=100_000))]
    pub(crate) stalled: u32,
    /// Leave out the floor
    #[arg(long)]
    pub(crate) no_floor: bool,
    #[command(flatten)]
    pub(crate) target: Target,
}

#[derive(Debug, Args)]
#[command(after_help = "\
0 events or viewers leave a part out. The server that is started here keeps no finished run in memory \
(--linger-seconds 0), so that the log comes from the store.")]
pub(crate) struct BenchReplay {
    /// Events that one viewer replays
    #[arg(long, value_name = "EVENTS", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(..=10_000_000))]
    pub(crate) single: u64,
    /// How often it does
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) repeats: u32,
    /// Viewers that replay at once
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(..=100_000))]
    pub(crate) viewers: u32,
    /// Events that each of them replays
    #[arg(long, value_name = "EVENTS", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub(crate) events: u64,
    /// Data of an event
    #[arg(long, value_name = "BYTES", default_value_t = 100, value_parser = clap::value_parser!(u64).range(..=1_000_000))]
    pub(crate) bytes: u64,
    #[command(flatten)]
    pub(crate) target: Target,
}
