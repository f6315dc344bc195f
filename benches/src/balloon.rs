//! `bench balloon`: memory given back to the host, by whom, how fast, and for how much of a CPU.
//!
//! On the rings alone a fake driver does what Linux's does: lists of 256 pages and reports of 32 ranges,
//! one at a time, each waited for. Beside it stands the limit: the same ranges of the same file, punched in a
//! loop. Then with a guest: the same kernel and memory in the same QEMU, with this balloon's daemon behind
//! QEMU's generic vhost-user device, and with QEMU's own balloon. All memory is written before it is given.

mod cell;
mod guest;
mod limit;
mod report;
mod rings;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use e2e::{Kind, Kit, Place, Programs};

use cell::{Cell, Front, Pages, What, Who};
use rings::Rings;

/// How often to measure, and where the report goes.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Rounds; medians are taken over them.
    #[arg(long, value_name = "N", default_value = "3",
          value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Folder for the report, as balloon.json and balloon.md.
    #[arg(long, value_name = "FOLDER", default_value = "benches/results")]
    out: PathBuf,
    /// Without guests.
    #[arg(long)]
    no_guests: bool,
    /// MiB that go in and out on the rings.
    #[arg(long, value_name = "MIB", default_value = "512",
          value_parser = clap::value_parser!(u64).range(8..=8192))]
    mebibytes: u64,
}

/// Measures all cells in interleaved rounds and writes the report.
///
/// # Errors
/// A daemon or guest does not come up, a measurement failed (after the others were made and the report
/// was written), or the report cannot be written.
pub(crate) fn run(options: &Options) -> Result<()> {
    let folder = std::env::current_exe()?.parent().map(PathBuf::from);
    let folder = folder.context("this program is in no folder")?;
    let mut report = report::begin(options.mebibytes);
    let guests = guests(options)?;
    if let Some((_, kit)) = &guests {
        report.fact("guest", kit.kernel_version());
        report.fact("QEMU", kit.root().version("qemu-system-x86 "));
    }
    for round in 1..=options.rounds {
        for pages in [Pages::Small, Pages::Large] {
            let mut rings = Rings::start(&folder, options.mebibytes)?;
            for what in [What::Inflate, What::Deflate, What::Report] {
                let cell = Cell { front: Front::Rings, who: Who::Outrigger, what, pages };
                report.note(cell, round, rings.measure(what, pages));
            }
            for what in [What::Inflate, What::Report] {
                let cell = Cell { front: Front::Rings, who: Who::Fallocate, what, pages };
                report.note(cell, round, limit::measure(options.mebibytes, what, pages));
            }
        }
        if let Some((place, kit)) = &guests {
            let programs = Programs::built_in(folder.clone());
            for who in [Who::Outrigger, Who::Qemu] {
                for (what, sample) in guest::measure(place, kit, &programs, who) {
                    let cell = Cell { front: Front::Guest, who, what, pages: Pages::Guests };
                    report.note(cell, round, sample);
                }
            }
        }
        report.write(&options.out, report::page(&report))?;
    }
    report.verdict()
}

/// What guests need.
fn guests(options: &Options) -> Result<Option<(Place, Kit)>> {
    if options.no_guests {
        return Ok(None);
    }
    let place = Place::of_workspace()?;
    let kit = Kit::cached(&place, Kind::LatestQemu)?;
    Ok(Some((place, kit)))
}
