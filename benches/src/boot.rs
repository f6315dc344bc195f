//! `bench boot`: from exec to the guest's init, beside QEMU's microvm and q35.
//!
//! All boot the same kernel and initrd with one CPU, the same memory, a serial console and one disk,
//! where `outrigger check` says that KVM runs kernels: on this machine, or else all of them nested in
//! one guest of QEMU. In each round every VMM boots once, one after the other; ratios are taken
//! within a round. `guest-boot` (tests/e2e/guest/boot.rs) measures on the spot.

mod report;
mod share;
mod vmm;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use e2e::{Contents, FIRST, Ground, Job, Kind, Kit, Place, Programs, Site};

use report::{Booted, Sample};
use vmm::Vmm;

/// From exec to power off.
const LIMIT: Duration = Duration::from_secs(90);

/// How often to boot, and where the report goes.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Rounds; medians are taken over them.
    #[arg(long, value_name = "N", default_value = "5",
          value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Folder for the report, as boot.json and boot.md.
    #[arg(long, value_name = "FOLDER", default_value = "benches/results")]
    out: PathBuf,
    /// Boot nested even if this machine's KVM runs kernels.
    #[arg(long)]
    nested: bool,
}

/// Boots every VMM in interleaved rounds and writes the report.
///
/// # Errors
/// There is no place to boot, a boot failed (after the others were made and the report was written),
/// or the report cannot be written.
pub(crate) fn run(options: &Options) -> Result<()> {
    let place = Place::of_workspace()?;
    let kit = Kit::cached(&place, Kind::Qemu)?;
    let folder = std::env::current_exe()?.parent().map(PathBuf::from);
    let folder = folder.context("this program is in no folder")?;
    let (outrigger, programs) = (folder.join("outrigger"), Programs::built_in(folder));
    let contents = Contents::new().with_peers(kit.root(), &[&format!("usr/bin/{}", vmm::QEMU)]);
    let ground = if options.nested { Ground::Nested } else { Ground::best(&programs) };
    let site = Site::open(&place, "bench-boot", ground, &kit, (&programs, &contents))?;
    let initrd = site.initrd("boot", &Job::new().describe(FIRST))?;
    site.run("truncate -s 64M disk.img")?;

    let mut report = report::begin(&site, &kit)?;
    for round in 1..=options.rounds {
        for vmm in Vmm::ALL {
            let mut booted = boot(&site, vmm, &initrd);
            if let (Vmm::Outrigger, Ok(sample), Some(kernel)) = (vmm, &mut booted, kit.kernel()) {
                // Where there is no KVM at all, this is not to be had.
                sample.native_cpu_ms = share::measure(&outrigger, kernel).ok();
            }
            if booted.is_err() {
                site.run("killall -9 -q ld-linux-x86-64.so.2 qemu-system-x86_64 outrigger; true")?;
            }
            report.note(Booted { vmm }, round, booted);
        }
        // A run takes long; what is there is worth having if it is broken off.
        report.write(&options.out, report::page(&report, site.ground()))?;
    }
    report.verdict()
}

fn boot(site: &Site, vmm: Vmm, initrd: &str) -> Result<Sample> {
    let command = format!(
        "exec guest-boot {} 'OUTRIGGER init=' {}",
        vmm::MEMORY,
        vmm.command(&site.kernel(), initrd)
    );
    let results = site.start(vmm.name(), &command, LIMIT)?.finish()?;
    let number = |key: &str| -> Result<f64> {
        let text = results.get(key).with_context(|| format!("there is no {key}"))?;
        text.parse().with_context(|| format!("{key} is no number: {text}"))
    };
    Ok(Sample {
        first_run_ms: number("first_run_us")? / 1e3,
        init_ms: number("init_us")? / 1e3,
        own_cpu_ms: number("own_cpu_ms")?,
        private_kib: number("private_kib")?,
        daemons_private_kib: number("daemons_private_kib")?,
        native_cpu_ms: None,
    })
}
