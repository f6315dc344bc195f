//! `bench console`: consoles side by side, with real drivers.
//!
//! In each guest every console that it can have is measured in turn, in interleaved rounds:
//!
//! | guest | consoles |
//! |---|---|
//! | User Mode Linux | outrigger-console; its own, which writes into a descriptor of the host |
//! | QEMU | outrigger-console and the crate `vhost-device-console` in QEMU's generic vhost-user device; QEMU's virtio-serial, which is in QEMU itself |
//!
//! A guest is booted for each console and does what the host asks for (`guest-port`): it writes so many
//! bytes, reads so many, or sends each key back. Its CPU is one of two; whoever serves its console,
//! QEMU's own threads included, has the other, and so has the client. What used elements a byte takes
//! is counted with a driver that looks into the ring (`elements`).

mod elements;
mod guest;
mod line;
mod peer;
mod plan;
mod report;
mod server;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use clap::Args;
use e2e::{Kind, Kit, Place, RunDir};

use elements::Bursts;
use guest::Stage;
use plan::{Cell, Console, Load};
use report::Sample;
use server::{Ends, Server};

use crate::report::Report;

/// How long to measure, and where the report goes.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Rounds; medians are taken over them.
    #[arg(long, value_name = "N", default_value = "3",
          value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Which consoles.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "uml-outrigger,uml-own,qemu-outrigger,qemu-virtio-serial,qemu-crate"
    )]
    consoles: Vec<Console>,
    /// About how long a stream goes on, milliseconds.
    #[arg(long, value_name = "MS", default_value = "1000",
          value_parser = clap::value_parser!(u64).range(10..=10_000))]
    stream: u64,
    /// Keys that are pressed.
    #[arg(long, value_name = "N", default_value = "1000",
          value_parser = clap::value_parser!(u16).range(10..))]
    keys: u16,
    /// CPU of the guest.
    #[arg(long, value_name = "CPU", default_value_t = 0)]
    guest_cpu: usize,
    /// CPU of who serves the console, and of the client.
    #[arg(long, value_name = "CPU", default_value_t = 1)]
    back_end_cpu: usize,
    /// Folder for the report, as console.json and console.md.
    #[arg(long, value_name = "FOLDER", default_value = "benches/results")]
    out: PathBuf,
}

/// Measures every console in interleaved rounds and writes the report.
///
/// # Errors
/// What is needed is not there, a measurement failed (after the others were made and the report was
/// written), or the report cannot be written.
pub(crate) fn run(options: &Options) -> Result<()> {
    let place = Place::of_workspace()?;
    let kits = [Kit::fetch(&place, Kind::Uml)?, Kit::fetch(&place, Kind::LatestQemu)?];
    let peer = options.consoles.contains(&Console::QemuCrate).then(peer::program).transpose()?;
    let mut report = report::begin(&kits);
    for round in 1..=options.rounds {
        for &console in &options.consoles {
            let [uml, qemu] = &kits;
            let kit = if console.is_in_uml() { uml } else { qemu };
            measure(options, &place, kit, (console, peer.as_deref()), round, &mut report);
        }
        // A run takes long; what is there is worth having if it is broken off.
        report.write(&options.out, report::page(&report))?;
    }
    report.verdict()
}

/// All that is measured of a console, in one guest.
fn measure(
    options: &Options,
    place: &Place,
    kit: &Kit,
    (console, peer): (Console, Option<&Path>),
    round: u16,
    report: &mut Report<Cell, Sample>,
) {
    if console.has_back_end() {
        let counted = count(options, place, (console, peer));
        for load in [Load::BurstToHost, Load::BurstToGuest] {
            let sample = match &counted {
                Ok(bursts) if load.is_to_host() => Ok(Sample::elements(bursts.to_host)),
                Ok(bursts) => Ok(Sample::elements(bursts.to_guest)),
                Err(error) => Err(anyhow!("{error:#}")),
            };
            report.note(Cell { console, load }, round, sample);
        }
    }
    match Stage::start(options, place, kit, (console, peer)) {
        Ok(mut stage) => {
            for load in console.loads() {
                let sample = stage.measure(options, load).context("in the guest");
                report.note(Cell { console, load }, round, sample);
            }
        }
        Err(error) => {
            for load in console.loads() {
                report.note(Cell { console, load }, round, Err(anyhow!("{error:#}")));
            }
        }
    }
}

/// Used elements of a back-end, without a guest.
fn count(
    options: &Options,
    place: &Place,
    (console, peer): (Console, Option<&Path>),
) -> Result<Bursts> {
    let (run, cpu) = (RunDir::create(place, "bench-console-elements")?, options.back_end_cpu);
    let server = match console {
        Console::QemuCrate => Server::peer(&run, cpu, peer.context("it is not built")?)?,
        _ => Server::outrigger(&run, cpu, Ends::Tcp)?,
    };
    elements::count(server)
}
