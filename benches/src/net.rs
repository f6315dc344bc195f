//! `bench net`: network back-ends side by side.
//!
//! - Packets (`packets.rs`): the client is DPDK's testpmd with a virtio-user port, on one CPU; the
//!   back-end has the other. For the ring alone the peer is testpmd with a vhost port in the back-end's
//!   place; for a tap interface it is a loop of `writev` or `readv` on the same kind of interface,
//!   without any back-end; for a switch it is two daemons and a bridge of the kernel.
//! - Streams (`guests.rs`): iperf3 between real guests and their host, beside other servers of their
//!   cards.
//! - Instructions per packet (`instructions.rs`).
//!
//! In each round all take their turn, each started afresh, and ratios are taken within a round.

mod frames;
mod guests;
mod instructions;
mod interface;
mod packets;
mod plan;
mod report;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::Args;

pub(crate) use frames::Loop;
use guests::Guests;
use packets::Bench;
use plan::{Guest, Part, Place, Row};
use report::{Report, page};

/// What to measure, and where the report goes.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// The parts to measure.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "ring,tap,switch,uml,nested,instructions"
    )]
    only: Vec<Part>,
    /// Bytes of the frames, without checksum.
    #[arg(long, value_delimiter = ',', default_value = "64,256,1518",
          value_parser = clap::value_parser!(u16).range(64..=1518))]
    sizes: Vec<u16>,
    /// Rounds; medians are taken over them.
    #[arg(long, value_name = "N", default_value = "3",
          value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Length of each measurement of packets.
    #[arg(long, value_name = "MILLISECONDS", default_value = "800",
          value_parser = clap::value_parser!(u64).range(100..=60_000))]
    runtime: u64,
    /// Length of each stream, whole seconds.
    #[arg(long, value_name = "SECONDS", default_value = "1",
          value_parser = clap::value_parser!(u32).range(1..=60))]
    stream: u32,
    /// One round of frames of 64 bytes, in half a second each, to see whether it works.
    #[arg(long, conflicts_with_all = ["sizes", "rounds", "runtime", "stream"])]
    quick: bool,
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

impl Options {
    fn runtime(&self) -> Duration {
        Duration::from_millis(if self.quick { 500 } else { self.runtime })
    }

    fn rounds(&self) -> u16 {
        if self.quick { 1 } else { self.rounds }
    }

    fn sizes(&self) -> &[u16] {
        if self.quick { &[64] } else { &self.sizes }
    }

    fn stream(&self) -> u32 {
        if self.quick { 1 } else { self.stream }
    }
}

/// Measures every part and writes the report.
///
/// # Errors
/// What is needed is not there, a measurement failed (after the others were made and the report was
/// written), or the report cannot be written.
pub(crate) fn run(options: &Options) -> Result<()> {
    let bench = Bench::new(options)?;
    let mut report = Report::begin("net");
    report.fact("client and peer", format_args!("DPDK {}", bench.root.version("dpdk-dev")));
    report.fact("length of a measurement", format_args!("{:?}", options.runtime()));
    report.fact("length of a stream", format_args!("{} s", options.stream()));
    if options.realtime {
        report.fact("priority", "real-time, for packets");
    }
    for &part in &options.only {
        match part {
            Part::Ring | Part::Tap | Part::Switch => packets(options, part, &bench, &mut report)?,
            Part::Uml => streams(options, Guest::Uml, &mut report)?,
            Part::Qemu => streams(options, Guest::Qemu, &mut report)?,
            Part::Nested => streams(options, Guest::Nested, &mut report)?,
            Part::Instructions => instructions::run(&bench, &mut report),
        }
        report.write(&options.out, page(&report))?;
    }
    report.verdict()
}

fn packets(options: &Options, part: Part, bench: &Bench, report: &mut Report) -> Result<()> {
    for cell in plan::cells(part, options.sizes()) {
        for round in 1..=options.rounds() {
            for side in cell.sides() {
                let sample = bench.measure(cell, side, round == 1);
                report.note(Place { row: Row::Packets(cell), side }, round, sample);
            }
        }
        // A run takes long; what is there is worth having if it is broken off.
        report.write(&options.out, page(report))?;
    }
    Ok(())
}

fn streams(options: &Options, guest: Guest, report: &mut Report) -> Result<()> {
    let guests = match Guests::new(guest, options.stream()) {
        Ok(guests) => guests,
        Err(error) => {
            report.fail("preparing guests", &error);
            return Ok(());
        }
    };
    for round in 1..=options.rounds() {
        guests.round(round, report);
        report.write(&options.out, page(report))?;
    }
    Ok(())
}
