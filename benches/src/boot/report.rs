//! What was measured, as JSON and as a page for people.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use e2e::{Contents, Ground, Kit, Site};
use serde::Serialize;

use super::vmm::{MEMORY, QEMU, Vmm};
use crate::machine::{self, Machine};
use crate::statistics::Spread;

/// One boot.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Sample {
    /// Counted from 1.
    pub(super) round: u16,
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
}

impl Sample {
    /// One line for people.
    pub(super) fn describe(&self) -> String {
        format!(
            "first KVM_RUN after {:.0} ms, init after {:.0} ms, {:.0} KiB private",
            self.first_run_ms, self.init_ms, self.private_kib
        )
    }
}

/// All of a run.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    benchmark: &'static str,
    date: String,
    commit: String,
    machine: Machine,
    nested: bool,
    guest_kernel: String,
    qemu: String,
    /// Programs without debugging symbols, bytes.
    sizes: BTreeMap<String, u64>,
    samples: BTreeMap<Vmm, Vec<Sample>>,
    failures: Vec<String>,
}

/// What is wanted of Outrigger, against QEMU's microvm in the same round.
struct Target {
    what: &'static str,
    of: fn(&Sample) -> f64,
    most: f64,
}

const TARGETS: [Target; 2] = [
    Target { what: "exec to first KVM_RUN", of: |sample| sample.first_run_ms, most: 0.3 },
    Target { what: "exec to init", of: |sample| sample.init_ms, most: 0.9 },
];
/// What is wanted of its memory, KiB.
const PRIVATE_KIB: f64 = 5.0 * 1024.0;

impl Report {
    /// A report without samples.
    pub(super) fn begin(site: &Site, kit: &Kit) -> Result<Self> {
        let mut sizes = BTreeMap::new();
        for name in Contents::PROGRAMS {
            let text = site.run(&format!("wc -c < $(command -v {name})"))?;
            sizes.insert(name.to_owned(), text.trim().parse().context("wc printed no number")?);
        }
        let version = site.run(&format!("{QEMU} --version | head -n 1"))?;
        Ok(Self {
            benchmark: "boot",
            date: machine::date(),
            commit: machine::commit(),
            machine: Machine::describe(),
            nested: site.ground() == Ground::Nested,
            guest_kernel: kit.kernel_version().to_owned(),
            qemu: version.trim().to_owned(),
            sizes,
            samples: BTreeMap::new(),
            failures: Vec::new(),
        })
    }

    pub(super) fn add(&mut self, vmm: Vmm, round: u16, sample: Sample) {
        self.samples.entry(vmm).or_default().push(Sample { round, ..sample });
    }

    pub(super) fn fail(&mut self, vmm: Vmm, round: u16, error: &anyhow::Error) {
        let why = error.to_string();
        let why = why.lines().next().unwrap_or_default();
        self.failures.push(format!("{} in round {round}: {why}", vmm.title()));
    }

    /// How many boots failed.
    pub(super) const fn failures(&self) -> usize {
        self.failures.len()
    }

    /// Writes `boot.json` and `boot.md`.
    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let json = serde_json::to_string_pretty(self)? + "\n";
        let mut page = String::new();
        // Writing to a string cannot fail.
        let _ = self.write_page(&mut page);
        for (name, text) in [("boot.json", json), ("boot.md", page)] {
            let path = folder.join(name);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }

    fn write_page(&self, page: &mut String) -> fmt::Result {
        let machine = &self.machine;
        writeln!(page, "# Boot benchmark\n\n| | |\n|---|---|")?;
        writeln!(page, "| date | {} |\n| commit | {} |", self.date, self.commit)?;
        writeln!(page, "| CPU | {}, {} cores |", machine.cpu, machine.cores)?;
        writeln!(page, "| kernel | {} |", machine.kernel)?;
        writeln!(page, "| load average before | {} |", machine.load_before)?;
        writeln!(page, "| guest kernel | {} |\n| peer | {} |", self.guest_kernel, self.qemu)?;
        for (name, bytes) in &self.sizes {
            writeln!(page, "| size of {name} | {} KiB |", bytes / 1024)?;
        }
        writeln!(page, "\n{}", self.method())?;
        self.write_targets(page)?;
        self.write_figures(page)?;
        if !self.failures.is_empty() {
            writeln!(page, "\n## Failures\n")?;
        }
        self.failures.iter().try_for_each(|failure| writeln!(page, "- {failure}"))
    }

    fn method(&self) -> String {
        let place = if self.nested {
            "nested in one guest of QEMU without KVM, whose emulated CPUs virtualize: a ratio holds \
             there, a time does not"
        } else {
            "on this machine's own KVM"
        };
        let rounds = self.samples.values().map(Vec::len).max().unwrap_or_default();
        format!(
            "Same kernel, initrd, command line, one CPU, {MEMORY} MiB, serial console and one disk, \
             {place}. {rounds} rounds, in each of which all boot once. Times are from the moment of \
             exec as the host's kernel traced it; init is the guest's first line. Outrigger's \
             include starting the disk's daemon and connecting it. Figures are medians with \
             (least–greatest); a ratio is taken within each round, and then the median. CPU is the \
             VMM's up to init without its guest's, the kernel's work for its exits included; \
             memory is what only the VMM has mapped, without guest memory."
        )
    }

    fn write_targets(&self, page: &mut String) -> fmt::Result {
        writeln!(page, "\n## Targets\n\n| what | wanted | measured | |\n|---|--:|--:|---|")?;
        for Target { what, of, most } in TARGETS {
            let Some(ratio) = self.ratio(Vmm::Outrigger, Vmm::Microvm, of) else { continue };
            let verdict = verdict(ratio.median <= most);
            let ratio = shown(ratio, 2);
            writeln!(page, "| {what} | ≤ {most} × QEMU microvm | {ratio} | {verdict} |")?;
        }
        let Some(private) = self.spread(Vmm::Outrigger, |sample| sample.private_kib) else {
            return Ok(());
        };
        let verdict = verdict(private.median <= PRIVATE_KIB);
        writeln!(
            page,
            "| private memory | ≤ {PRIVATE_KIB} KiB | {} KiB | {verdict} |",
            shown(private, 0)
        )
    }

    fn write_figures(&self, page: &mut String) -> fmt::Result {
        writeln!(
            page,
            "\n## Figures\n\n| VMM | first KVM_RUN, ms | init, ms | own CPU, ms | private, KiB | \
             daemons' private, KiB |\n|---|--:|--:|--:|--:|--:|"
        )?;
        let columns: [fn(&Sample) -> f64; 5] = [
            |sample| sample.first_run_ms,
            |sample| sample.init_ms,
            |sample| sample.own_cpu_ms,
            |sample| sample.private_kib,
            |sample| sample.daemons_private_kib,
        ];
        for vmm in Vmm::ALL {
            write!(page, "| {} |", vmm.title())?;
            for of in columns {
                let cell = self.spread(vmm, of).map_or_else(String::new, |spread| shown(spread, 0));
                write!(page, " {cell} |")?;
            }
            writeln!(page)?;
        }
        Ok(())
    }

    fn of(&self, vmm: Vmm) -> &[Sample] {
        self.samples.get(&vmm).map_or(&[], Vec::as_slice)
    }

    fn spread(&self, vmm: Vmm, of: fn(&Sample) -> f64) -> Option<Spread> {
        Spread::of(self.of(vmm).iter().map(of))
    }

    fn ratio(&self, ours: Vmm, theirs: Vmm, of: fn(&Sample) -> f64) -> Option<Spread> {
        let same_round = |sample: &Sample| {
            let other = self.of(theirs).iter().find(|other| other.round == sample.round)?;
            Some(of(sample) / of(other))
        };
        Spread::of(self.of(ours).iter().filter_map(same_round))
    }
}

const fn verdict(reached: bool) -> &'static str {
    if reached { "reached" } else { "**missed**" }
}

fn shown(spread: Spread, digits: usize) -> String {
    let Spread { min, median, max } = spread;
    format!("{median:.digits$} ({min:.digits$}–{max:.digits$})")
}
