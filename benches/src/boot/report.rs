//! What was measured, and the page for people.

use std::fmt;

use anyhow::{Context, Result};
use e2e::{Contents, Ground, Kit, Site};
use serde::Serialize;

use super::vmm::{MEMORY, QEMU, Vmm};
use crate::report::{self, Page, Verdict, Wanted};

/// Who boots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Booted {
    pub(super) vmm: Vmm,
}

impl fmt::Display for Booted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.vmm.title())
    }
}

/// One boot.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Sample {
    /// From exec to the first `KVM_RUN`, devices connected.
    pub(super) first_run_ms: f64,
    /// From exec to the first line of the guest's init.
    pub(super) init_ms: f64,
    /// CPU time of the VMM by then, without its guest's.
    pub(super) own_cpu_ms: f64,
    /// Memory by then that only the VMM has, without its guest's.
    pub(super) private_kib: f64,
    /// The same of its daemons.
    pub(super) daemons_private_kib: f64,
    /// CPU time of the VMM up to its first `KVM_RUN` on this machine, without nesting.
    pub(super) native_cpu_ms: Option<f64>,
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first_run_ms, init_ms, private_kib, .. } = self;
        write!(
            f,
            "first KVM_RUN after {first_run_ms:.0} ms, init after {init_ms:.0} ms, \
             {private_kib:.0} KiB private"
        )
    }
}

/// All boots of a run.
pub(super) type Report = report::Report<Booted, Sample>;

/// Most CPU time of its own that Outrigger is to use before its guest starts, milliseconds.
const NATIVE_CPU_MS: f64 = 15.0;
/// Most memory of its own that Outrigger is to have, KiB.
const PRIVATE_KIB: f64 = 5.0 * 1024.0;

/// A report without samples.
pub(super) fn begin(site: &Site, kit: &Kit) -> Result<Report> {
    let mut report = Report::begin("boot");
    report.fact("guest kernel", kit.kernel_version());
    let version = site.run(&format!("{QEMU} --version | head -n 1"))?;
    report.fact("peer", version.trim());
    for name in Contents::PROGRAMS {
        let text = site.run(&format!("wc -c < $(command -v {name})"))?;
        let bytes: u64 = text.trim().parse().context("wc printed no number")?;
        report.fact(&format!("size of {name}"), format_args!("{} KiB", bytes / 1024));
    }
    Ok(report)
}

/// The page as far as the run has come.
pub(super) fn page(report: &Report, ground: Ground) -> Page {
    let mut page = report.page("Boot benchmark");
    page.paragraph(&method(report, ground));
    page.targets(targets(report));
    page.heading("Figures");
    let head = [
        "VMM",
        "first KVM_RUN, ms",
        "init, ms",
        "own CPU, ms",
        "private, KiB",
        "daemons' private, KiB",
    ];
    page.table(&head, Vmm::ALL.into_iter().map(|vmm| row(report, vmm)));
    page
}

fn method(report: &Report, ground: Ground) -> String {
    let place = match ground {
        Ground::Nested => {
            "nested in one guest of QEMU without KVM, whose emulated CPUs virtualize: a ratio holds \
             there, a time does not"
        }
        Ground::Native => "on this machine's own KVM",
    };
    format!(
        "Same kernel, initrd, command line, one CPU, {MEMORY} MiB, serial console and one disk, \
         {place}. {} rounds, in each of which all boot once. Times are from the moment of exec as \
         the host's kernel traced it; init is the guest's first line. Outrigger's include starting \
         the disk's daemon and connecting it. Figures are medians with (least–greatest); a ratio is \
         taken within each round, and then the median. CPU is the VMM's up to init without its \
         guest's, the kernel's work for its exits included; memory is what only the VMM has mapped, \
         without guest memory. The VMM's own share is its CPU time up to the guest's first \
         instruction on this machine itself, not nested, with an initrd of 10 MiB of zeroes.",
        report.rounds()
    )
}

/// What is wanted of Outrigger: times against QEMU's microvm in the same round, and memory.
fn targets(report: &Report) -> Vec<Verdict> {
    let [ours, microvm] = [Vmm::Outrigger, Vmm::Microvm].map(|vmm| Booted { vmm });
    let faster = |what, most, of: fn(&Sample) -> f64| {
        let ratio = report.ratio(ours, microvm, of);
        Verdict::on(what, Wanted::AtMost(most), "× QEMU microvm", ratio)
    };
    let private = report.spread(ours, |sample| sample.private_kib);
    let native = report.spread(ours, |sample| sample.native_cpu_ms);
    let verdicts = [
        faster("exec to first KVM_RUN", 0.3, |sample| sample.first_run_ms),
        faster("exec to init", 0.9, |sample| sample.init_ms),
        Verdict::on("the VMM's own share of CPU", Wanted::AtMost(NATIVE_CPU_MS), "ms", native),
        Verdict::on("private memory", Wanted::AtMost(PRIVATE_KIB), "KiB", private),
    ];
    verdicts.into_iter().flatten().collect()
}

fn row(report: &Report, vmm: Vmm) -> Vec<String> {
    let columns: [fn(&Sample) -> f64; 5] = [
        |sample| sample.first_run_ms,
        |sample| sample.init_ms,
        |sample| sample.own_cpu_ms,
        |sample| sample.private_kib,
        |sample| sample.daemons_private_kib,
    ];
    let figures = columns.map(|of| report::spread(report.spread(Booted { vmm }, of), 0));
    [vmm.title().to_owned()].into_iter().chain(figures).collect()
}
