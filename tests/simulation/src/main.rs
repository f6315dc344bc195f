//! Replays a seed of the simulation, or hunts for one that fails.
#![expect(clippy::print_stdout, reason = "a command for people, whose output is its result")]

use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Parser;
use simulation::{Failure, Options, hunt, run, shrink};

/// Simulate the whole system: replay one seed, or hunt for seeds that fail.
#[derive(Debug, Parser)]
#[command(name = "simulation")]
struct Arguments {
    /// Replay this seed and tell its story; with --count, the first of so many
    #[arg(long, value_name = "S", required_unless_present = "minutes")]
    seed: Option<u64>,

    /// Run so many seeds from --seed on, and tell of those that fail
    #[arg(long, value_name = "N", requires = "seed", conflicts_with = "minutes")]
    count: Option<u64>,

    /// Hunt over fresh seeds for so long
    #[arg(long, value_name = "N")]
    minutes: Option<f64>,

    /// Let the driver break rules now and then
    #[arg(long)]
    hostile: bool,

    /// How many steps a run has
    #[arg(long, value_name = "N", default_value_t = Options::default().steps)]
    steps: u32,

    /// Tell the story of a failing seed as it is, without leaving out what it does not need
    #[arg(long)]
    whole: bool,

    /// How many threads hunt
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let options =
        Options { hostile: arguments.hostile, steps: arguments.steps, ..Options::default() };
    match (arguments.seed, arguments.count, arguments.minutes) {
        (Some(seed), None, None) => replay(seed, &options, arguments.whole),
        (Some(first), Some(count), _) => {
            let last = first.saturating_add(count);
            search(first, &arguments, &options, |seed| seed < last)
        }
        (first, None, minutes) => {
            let time = Duration::from_secs_f64(60.0 * minutes.unwrap_or(1.0));
            let end = Instant::now() + time;
            search(first.unwrap_or_else(fresh), &arguments, &options, |_| Instant::now() < end)
        }
        (None, Some(_), _) => ExitCode::FAILURE,
    }
}

/// A seed that was probably never run.
fn fresh() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.as_secs() << 20
}

fn replay(seed: u64, options: &Options, whole: bool) -> ExitCode {
    let mut outcome = run(seed, &Options { trace: true, ..options.clone() });
    if let (Some((step, failure)), false) = (&outcome.failure, whole) {
        let (shrunk, story) = shrink(seed, options, *step, failure);
        let left = usize::try_from(shrunk.steps).unwrap_or(0) - shrunk.without.len();
        println!("{} of {} steps are needed; --whole tells all of them", left, options.steps);
        outcome = story;
    }
    for line in &outcome.trace {
        println!("{line}");
    }
    println!("{}", outcome.counts);
    match outcome.failure {
        None => {
            println!("seed {seed} passes");
            ExitCode::SUCCESS
        }
        Some((step, failure)) => {
            println!("seed {seed} fails at step {step}: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn search(
    first: u64,
    arguments: &Arguments,
    options: &Options,
    goes_on: impl Fn(u64) -> bool + Sync,
) -> ExitCode {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    println!("seeds from {first} on");
    let found = |seed: u64, failure: &Failure| println!("seed {seed} fails: {failure}");
    let report = hunt(first, arguments.threads.unwrap_or(cpus), options, goes_on, found);
    println!("{}", report.counts);
    println!(
        "{} seeds in {:.1} s ({:.0} in each second), {} of them failed",
        report.seeds,
        report.time.as_secs_f64(),
        report.rate(),
        report.failures.len(),
    );
    if report.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
