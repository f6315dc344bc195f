//! Replays a seed of the simulation, or hunts for one that fails.
#![expect(clippy::print_stdout, reason = "a command for people, whose output is its result")]

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Parser;
use simulation::{DeviceKind, Failure, Options, Report, hunt, run, shrink};

/// Simulate the whole system: replay one seed, or hunt for seeds that fail.
#[derive(Debug, Parser)]
#[command(name = "simulation")]
struct Arguments {
    /// Which device; a hunt without this goes through all of them, mostly the disk
    #[arg(long, value_enum, value_name = "D")]
    device: Option<DeviceKind>,

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

    /// Write what a search has found here, as Markdown
    #[arg(long, value_name = "PATH")]
    report: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let options = Options {
        device: arguments.device.unwrap_or_default(),
        hostile: arguments.hostile,
        steps: arguments.steps,
        ..Options::default()
    };
    match (arguments.seed, arguments.count, arguments.minutes) {
        (Some(seed), None, None) => replay(seed, &options, arguments.whole),
        (Some(first), Some(count), _) => {
            let last = first.saturating_add(count);
            let found = search(first, &arguments, &options, |seed| seed < last);
            conclude(&arguments, first, &[found])
        }
        (first, None, minutes) => hunt_devices(first, minutes.unwrap_or(1.0), &arguments, &options),
        (None, Some(_), _) => ExitCode::FAILURE,
    }
}

/// Hunts for so long, over one device or all of them.
fn hunt_devices(
    first: Option<u64>,
    minutes: f64,
    arguments: &Arguments,
    options: &Options,
) -> ExitCode {
    let first = first.unwrap_or_else(fresh);
    let all =
        DeviceKind::ALL.map(|device| (device, if device == DeviceKind::Block { 0.7 } else { 0.1 }));
    let chosen = arguments.device.map_or(all.to_vec(), |device| vec![(device, 1.0)]);
    let found = chosen.into_iter().map(|(device, share)| {
        let end = Instant::now() + Duration::from_secs_f64(60.0 * minutes * share);
        let options = Options { device, ..options.clone() };
        search(first, arguments, &options, |_| Instant::now() < end)
    });
    let found: Vec<_> = found.collect();
    conclude(arguments, first, &found)
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
    // Who reads only the beginning of the story may leave.
    let mut out = std::io::stdout().lock();
    let _ = outcome.trace.iter().try_for_each(|line| writeln!(out, "{line}"));
    let _ = writeln!(out, "{}", outcome.counts);
    drop(out);
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
) -> (DeviceKind, Report) {
    let device = options.device;
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    println!("{device}: seeds from {first} on");
    let found = |seed: u64, failure: &Failure| println!("{device}: seed {seed} fails: {failure}");
    let report = hunt(first, arguments.threads.unwrap_or(cpus), options, goes_on, found);
    println!("{}\n{}", report.counts, summary(&report));
    (device, report)
}

fn summary(report: &Report) -> String {
    format!(
        "{} seeds in {:.1} s ({:.0} in each second), {} of them failed",
        report.seeds,
        report.time.as_secs_f64(),
        report.rate(),
        report.failures.len(),
    )
}

/// Writes the report that was asked for, and says whether all is well.
fn conclude(arguments: &Arguments, first: u64, found: &[(DeviceKind, Report)]) -> ExitCode {
    if let Some(path) = &arguments.report
        && let Err(error) = std::fs::write(path, markdown(arguments, first, found))
    {
        eprintln!("error: could not write {}: {error}", path.display());
        return ExitCode::FAILURE;
    }
    let clean = found.iter().all(|(_, report)| report.failures.is_empty());
    if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn markdown(arguments: &Arguments, first: u64, found: &[(DeviceKind, Report)]) -> String {
    let hostile = if arguments.hostile { " --hostile" } else { "" };
    let mut text = format!(
        "# Simulation\n\nSeeds from {first} on, of {} steps each. `cargo xtask simulate{hostile} \
         --device D --seed S` replays any of them.\n",
        arguments.steps
    );
    for (device, report) in found {
        text += &format!("\n## {device}\n\n{}.\n\n", summary(report));
        for (seed, failure) in &report.failures {
            text += &format!("- seed {seed} fails: {failure}\n");
        }
        text += "| what happened | how often |\n|---|---:|\n";
        let counts = report.counts.to_string();
        let counts = counts.split(", ").filter_map(|count| count.split_once(' '));
        for (count, what) in counts.filter(|(count, _)| *count != "0") {
            text += &format!("| {what} | {count} |\n");
        }
    }
    text
}
