//! How a scenario is run: again and again, each time under another schedule.
//!
//! Decides: how many schedules, and by which rule. Half of them choose at each step any task that can go on. The others
//! give each task a rank, keep to it, and change it at a few steps (PCT): so a task is held up for long, which a fair
//! choice hardly ever does. A few are run twice, and have to go the same way. A failure prints its schedule;
//! `SOLOIST_SCHEDULE` with the name of a file that holds what was printed runs that one again. `SOLOIST_SCHEDULES` is how many
//! there are of each rule, `SHUTTLE_RANDOM_SEED` the seed.

use std::{
    hash::{BuildHasher as _, RandomState},
    io::Write as _,
    time::Instant,
};

use interleaved::time;
use shuttle::{
    Config, MaxSteps, Runner,
    current::TaskId,
    future::block_on,
    scheduler::{
        PctScheduler, RandomScheduler, ReplayScheduler, Schedule, Scheduler, Task,
        UncontrolledNondeterminismCheckScheduler as Twice,
    },
};

/// How many steps an execution may take before it counts as one that hangs.
const MAX_STEPS: usize = 100_000;
/// How many tasks a schedule by rank holds up.
const DEPTH: usize = 4;
/// How many schedules are run twice.
const TWICE: usize = 10;

fn config() -> Config {
    let mut config = Config::new();
    config.stack_size = 1 << 18;
    config.max_steps = MaxSteps::FailAfter(MAX_STEPS);
    config.silence_warnings = true;
    // Others that went on while a task unwinds would meet what it has left, and hide why it failed.
    config.ungraceful_shutdown_config.immediately_return_on_panic = true;
    config
}

/// Holds time back where it is to pass only while nothing else goes on.
struct Idle<S>(S);

impl<S: Scheduler> Scheduler for Idle<S> {
    fn new_execution(&mut self) -> Option<Schedule> {
        self.0.new_execution()
    }

    fn next_task(
        &mut self,
        runnable: &[&Task],
        current: Option<TaskId>,
        is_yielding: bool,
    ) -> Option<TaskId> {
        let others: Vec<&Task> =
            runnable.iter().copied().filter(|task| !time::is_idle_time(task.id())).collect();
        self.0.next_task(if others.is_empty() { runnable } else { &others }, current, is_yielding)
    }

    fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }
}

/// Runs a scenario under so many schedules of each rule.
pub(crate) fn explore<F>(
    name: &str,
    schedules: usize,
    scenario: impl Fn() -> F + Send + Sync + Clone + 'static,
) where
    F: Future<Output = ()>,
{
    let run = move || {
        time::begin();
        block_on(scenario());
    };
    if let Ok(file) = std::env::var("SOLOIST_SCHEDULE") {
        let scheduler = ReplayScheduler::new_from_file(file).expect("a file that holds a schedule");
        Runner::new(scheduler, config()).run(run);
        return;
    }
    let schedules = std::env::var("SOLOIST_SCHEDULES").ok().and_then(|n| n.parse().ok()).unwrap_or(schedules);
    let seed = std::env::var("SHUTTLE_RANDOM_SEED").ok().and_then(|n| n.parse().ok());
    let seed = seed.unwrap_or_else(|| RandomState::new().hash_one(name));
    let begun = Instant::now();
    println!("{name}: SHUTTLE_RANDOM_SEED={seed}");
    // What a schedule does not decide would make it impossible to repeat.
    let twice = Twice::new(Idle(RandomScheduler::new_from_seed(seed, TWICE)));
    Runner::new(twice, config()).run(run.clone());
    let random = Idle(RandomScheduler::new_from_seed(seed, schedules));
    let random = Runner::new(random, config()).run(run.clone());
    let by_rank = Idle(PctScheduler::new_from_seed(seed, DEPTH, schedules));
    let by_rank = Runner::new(by_rank, config()).run(run);
    // Said also where tests are quiet.
    let _ = writeln!(
        std::io::stderr(),
        "{name}: {random} random schedules and {by_rank} by rank in {:.1} s",
        begun.elapsed().as_secs_f64()
    );
}
