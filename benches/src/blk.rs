//! `bench blk`: block back-ends side by side.
//!
//! For each medium, operation and depth, and in each round, every back-end is started afresh on
//! its own CPU, driven by a client on another, and ended: A B C D, A B C D, and so on, so that a
//! change of the machine's mood meets all of them. What is compared is the ratio within a round.

mod callgrind;
pub(crate) mod client;
mod connection;
mod load;
mod markdown;
mod measurement;
mod medium;
mod options;
mod peer;
mod plan;
mod report;
mod targets;

pub(crate) use options::Options;

use anyhow::{Context, Result, bail};

use measurement::Bench;
use medium::Prepared;
use plan::{BackEnd, Cell};
use report::{NotMeasured, Report, Sample};

/// Runs the benchmark that was asked for and writes its report.
///
/// # Errors
/// Nothing can be measured, a measurement failed (after the others were made and the report was
/// written), or the report cannot be written.
pub(crate) fn run(options: &Options) -> Result<()> {
    let bench = Bench::new(options)?;
    let mut report = Report::begin(&bench);
    for back_end in &bench.settings.back_ends {
        if let Some(reason) = bench.programs.missing(*back_end) {
            eprintln!("NOT MEASURED: {}: {reason}", back_end.title());
            report.not_measured.push(NotMeasured { back_end: *back_end, reason });
        }
    }
    let back_ends = bench.available();
    if back_ends.is_empty() {
        bail!("none of the back-ends that were asked for can be measured");
    }
    if options.callgrind {
        callgrind::run(&bench, &back_ends, &mut report)?;
        report.write(&bench.out, &bench.name)?;
    } else {
        compare(&bench, &back_ends, &mut report)?;
    }
    match report.failures() {
        0 => Ok(()),
        count => bail!("{count} measurements failed; the report says which and why"),
    }
}

/// Measures every cell in interleaved rounds.
fn compare(bench: &Bench, back_ends: &[BackEnd], report: &mut Report) -> Result<()> {
    let settings = &bench.settings;
    let mut progress = Progress::new(bench, back_ends);
    for &medium in &settings.media {
        eprintln!("preparing {}, {} MiB", medium.title(), settings.size >> 20);
        let prepared = Prepared::new(medium, bench.directory(medium), settings.size)
            .with_context(|| format!("cannot prepare {}", medium.title()))?;
        for cell in plan::cells(&[medium], &settings.operations, &settings.depths) {
            for round in 0..settings.rounds {
                for &back_end in back_ends.iter().filter(|back_end| back_end.serves(medium)) {
                    let result = bench.measure(cell, back_end, round, &prepared);
                    progress.line(cell, round, back_end, result.as_ref());
                    report.add(cell, back_end, round, result);
                    if cell.operation.writes() {
                        prepared.settle()?;
                    }
                }
            }
        }
        // A run takes long; what is there is worth having if it is broken off.
        report.finish();
        report.write(&bench.out, &bench.name)?;
    }
    Ok(())
}

/// Tells a waiting person how far the run is.
struct Progress {
    done: usize,
    total: usize,
}

impl Progress {
    fn new(bench: &Bench, back_ends: &[BackEnd]) -> Self {
        let settings = &bench.settings;
        let pairs = settings
            .media
            .iter()
            .flat_map(|&medium| back_ends.iter().filter(move |back_end| back_end.serves(medium)));
        let rounds = usize::from(settings.rounds);
        let cells = settings.operations.len() * settings.depths.len();
        Self { done: 0, total: pairs.count() * cells * rounds }
    }

    fn line(
        &mut self,
        cell: Cell,
        round: u16,
        back_end: BackEnd,
        result: Result<&client::Outcome, &anyhow::Error>,
    ) {
        self.done += 1;
        let place = format!(
            "[{:>3}/{}] {}, {}, depth {}, round {}: {:<25}",
            self.done,
            self.total,
            cell.medium.title(),
            cell.operation.title(),
            cell.depth,
            round + 1,
            back_end.title()
        );
        match result {
            Ok(outcome) => eprintln!("{place} {}", Sample::describe(outcome)),
            Err(error) => eprintln!("{place} FAILED: {error:#}"),
        }
    }
}
