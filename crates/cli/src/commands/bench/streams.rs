//! `soloist bench fanout` and `soloist bench replay`

use soloist_bench::{fanout, replay, report::Report};

use super::measure;
use crate::{
    args::bench::streams::{BenchFanout, BenchReplay},
    exit::{Exit, Stop},
    render::Out,
};

pub(super) fn fanout(args: BenchFanout, url: Option<&str>, out: &Out) -> Result<Exit, Stop> {
    let options = fanout::Options {
        viewers: args.viewers as usize,
        bytes: args.bytes,
        burst: args.burst,
        rates: args.rate,
        seconds: args.seconds,
        single_rate: args.single,
        idle: args.idle as usize,
        stalled: args.stalled as usize,
        clock: Some(soloist::clock::wall_clock_ns),
        has_floor: !args.no_floor,
    };
    measure(Report::new("fanout"), &args.target, url, 1, &[], out, |servers, tell, report| {
        fanout::run(&servers[0], &options, tell, report)
    })
}

pub(super) fn replay(args: BenchReplay, url: Option<&str>, out: &Out) -> Result<Exit, Stop> {
    let options = replay::Options {
        single_events: args.single,
        repeats: args.repeats,
        viewers: args.viewers as usize,
        events: args.events,
        bytes: args.bytes,
    };
    let serve = ["--linger-seconds", "0"];
    measure(Report::new("replay"), &args.target, url, 1, &serve, out, |servers, tell, report| {
        replay::run(&servers[0], &options, tell, report)
    })
}
