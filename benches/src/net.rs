//! `bench net`: network back-ends side by side.
//!
//! The client is DPDK's testpmd with a virtio-user port, on one CPU; the back-end has another. For
//! the ring alone the peer is testpmd with a vhost port in the back-end's place; for a tap interface
//! it is a loop of `writev` into the same kind of interface, without any back-end. In each round both
//! take their turn, each started afresh, and ratios are taken within a round.

mod frames;
mod measurement;
mod plan;
mod report;
mod testpmd;

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;

pub(crate) use frames::Loop;
use measurement::Bench;
use plan::{Cell, Side, Uplink};
use report::Report;

/// What to measure, and where the report goes.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// What is behind the card.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "null,echo,tap")]
    uplinks: Vec<Uplink>,
    /// Bytes of the frames, without checksum.
    #[arg(long, value_delimiter = ',', default_value = "64,1518",
          value_parser = clap::value_parser!(u16).range(64..=1518))]
    sizes: Vec<u16>,
    /// Rounds; medians are taken over them.
    #[arg(long, value_name = "N", default_value = "3",
          value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Length of each measurement, whole seconds.
    #[arg(long, value_name = "SECONDS", default_value = "3",
          value_parser = clap::value_parser!(u64).range(2..=60))]
    runtime: u64,
    /// CPU of the client.
    #[arg(long, value_name = "CPU", default_value_t = 0)]
    client_cpu: usize,
    /// CPU of the back-end.
    #[arg(long, value_name = "CPU", default_value_t = 1)]
    back_end_cpu: usize,
    /// Give both sides real-time priority, so that a busy machine disturbs them less.
    #[arg(long)]
    realtime: bool,
    /// Folder for the report, as net.json and net.md.
    #[arg(long, value_name = "FOLDER", default_value = "benches/results")]
    out: PathBuf,
}

/// Measures every cell in interleaved rounds and writes the report.
///
/// # Errors
/// What is needed is not there, a measurement failed (after the others were made and the report was
/// written), or the report cannot be written.
pub(crate) fn run(options: &Options) -> Result<()> {
    let bench = Bench::new(options)?;
    let mut report = Report::begin(options, bench.dpdk_version());
    for cell in plan::cells(&options.uplinks, &options.sizes) {
        for round in 1..=options.rounds {
            for side in cell.sides() {
                measure(&bench, cell, side, round, &mut report);
            }
        }
        // A run takes long; what is there is worth having if it is broken off.
        report.write(&options.out)?;
    }
    match report.failures() {
        0 => Ok(()),
        count => bail!("{count} measurements failed; the report says which and why"),
    }
}

fn measure(bench: &Bench, cell: Cell, side: Side, round: u16, report: &mut Report) {
    let place = format!("{}, round {round}, {}", cell.title(), side.title());
    match bench.measure(cell, side) {
        Ok(sample) => {
            eprintln!("{place}: {:.2} M packets/s", sample.packets_per_second / 1e6);
            report.add(cell, side, round, sample);
        }
        Err(error) => {
            eprintln!("{place}: FAILED: {error:#}");
            let why = format!("{error:#}");
            report.fail(format!("{place}: {}", why.lines().next().unwrap_or_default()));
        }
    }
}
