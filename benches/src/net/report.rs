//! What was measured, as JSON and as a page for people.

use std::fmt::{self, Write};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use super::Options;
use super::measurement::Sample;
use super::plan::{Cell, Side};
use crate::machine::{self, Machine};
use crate::statistics::Spread;

/// All of a run.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    benchmark: &'static str,
    date: String,
    commit: String,
    machine: Machine,
    dpdk: String,
    runtime: u64,
    realtime: bool,
    rows: Vec<Row>,
    failures: Vec<String>,
}

/// One measurement.
#[derive(Debug, Serialize)]
struct Row {
    #[serde(flatten)]
    cell: Cell,
    side: Side,
    /// Counted from 1.
    round: u16,
    #[serde(flatten)]
    sample: Sample,
}

impl Report {
    /// A report without rows.
    pub(super) fn begin(options: &Options, dpdk: String) -> Self {
        Self {
            benchmark: "net",
            date: machine::date(),
            commit: machine::commit(),
            machine: Machine::describe(),
            dpdk,
            runtime: options.runtime,
            realtime: options.realtime,
            rows: Vec::new(),
            failures: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, cell: Cell, side: Side, round: u16, sample: Sample) {
        self.rows.push(Row { cell, side, round, sample });
    }

    pub(super) fn fail(&mut self, what: String) {
        self.failures.push(what);
    }

    /// How many measurements failed.
    pub(super) const fn failures(&self) -> usize {
        self.failures.len()
    }

    /// Writes `net.json` and `net.md`.
    ///
    /// # Errors
    /// The folder or a file cannot be written.
    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let json = serde_json::to_string_pretty(self)? + "\n";
        let mut page = String::new();
        // Writing to a string cannot fail.
        let _ = self.write_page(&mut page);
        for (name, text) in [("net.json", json), ("net.md", page)] {
            let path = folder.join(name);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }

    fn write_page(&self, page: &mut String) -> fmt::Result {
        let machine = &self.machine;
        writeln!(page, "# Network benchmark\n\n| | |\n|---|---|")?;
        writeln!(page, "| date | {} |\n| commit | {} |", self.date, self.commit)?;
        let virtual_machine = if machine.virtualized { ", a virtual machine" } else { "" };
        writeln!(page, "| CPU | {}, {} cores{virtual_machine} |", machine.cpu, machine.cores)?;
        writeln!(page, "| memory | {} MiB |", machine.memory_mib)?;
        writeln!(page, "| kernel | {} |", machine.kernel)?;
        writeln!(page, "| distribution | {} |", machine.distribution)?;
        writeln!(page, "| load average before | {} |", machine.load_before)?;
        writeln!(page, "| client and peer | DPDK {} |", self.dpdk)?;
        writeln!(page, "\n{}\n", self.method())?;
        self.write_figures(page)?;
        if !self.failures.is_empty() {
            writeln!(page, "\n## Failures\n")?;
        }
        self.failures.iter().try_for_each(|failure| writeln!(page, "- {failure}"))
    }

    fn method(&self) -> String {
        let rounds = self.rows.iter().map(|row| row.round).max().unwrap_or_default();
        let realtime = if self.realtime { ", both with real-time priority" } else { "" };
        format!(
            "The client is testpmd with a virtio-user port on one CPU, the back-end is on another\
             {realtime}. *null*: the client sends, the back-end drops (DPDK's, rxonly, has copied \
             the frame by then). *echo*: the client sends and gets back (flowgen; DPDK's, io). *to \
             tap*: frames that the interface took, beside a loop of writev on the back-end's CPU, \
             which sends one frame over and over. {rounds} rounds of {} s, in each of which both \
             take their turn, each started afresh. Figures are medians with (least–greatest); a \
             ratio is taken within each round, and then the median. Figures hold for this run on \
             this machine only. Mpps per CPU second counts the back-end's CPU time alone; memory is \
             its own, without the guest's and without the program; idle is how often it woke in a \
             second with a client that does nothing.",
            self.runtime
        )
    }

    fn write_figures(&self, page: &mut String) -> fmt::Result {
        writeln!(
            page,
            "| what | peer | Mpps | peer's Mpps | ratio | wanted | | Gbit/s | Mpps per CPU second | \
             memory, KiB | idle |\n|---|---|--:|--:|--:|--:|---|--:|--:|--:|--:|"
        )?;
        let mut cells: Vec<Cell> = self.rows.iter().map(|row| row.cell).collect();
        cells.sort_unstable();
        cells.dedup();
        cells.into_iter().try_for_each(|cell| self.write_cell(page, cell))
    }

    fn write_cell(&self, page: &mut String, cell: Cell) -> fmt::Result {
        let millions = |sample: &Sample| sample.packets_per_second / 1e6;
        let (ours, peer) = (Side::Outrigger, cell.peer());
        let Some(rate) = self.spread(cell, ours, millions) else { return Ok(()) };
        let memory = self.spread(cell, ours, |sample| count(sample.resident.anon_kib));
        let idle = self.spread(cell, ours, |sample| count(sample.idle_wakeups.unwrap_or(0)));
        let ratio = self.ratio(cell);
        let verdict = match ratio {
            Some(ratio) if ratio.median >= cell.wanted() => "reached",
            Some(_) => "**missed**",
            None => "",
        };
        writeln!(
            page,
            "| {} | {} | {} | {} | {} | {} | {verdict} | {:.2} | {} | {} | {} |",
            cell.title(),
            peer.title(),
            shown(Some(rate), 2),
            shown(self.spread(cell, peer, millions), 2),
            shown(ratio, 2),
            cell.wanted(),
            rate.median * f64::from(cell.size) * 8.0 / 1e3,
            shown(self.spread(cell, ours, |s| millions(s) / s.cpu.max(1e-9)), 2),
            median(memory),
            median(idle),
        )
    }

    fn spread(&self, cell: Cell, side: Side, of: impl Fn(&Sample) -> f64) -> Option<Spread> {
        let rows = self.rows.iter().filter(|row| row.cell == cell && row.side == side);
        Spread::of(rows.map(|row| of(&row.sample)))
    }

    /// Our rate by the peer's in the same round.
    fn ratio(&self, cell: Cell) -> Option<Spread> {
        let of = |side| self.rows.iter().filter(move |row| row.cell == cell && row.side == side);
        let ratios = of(Side::Outrigger).filter_map(|ours| {
            let peer = of(cell.peer()).find(|peer| peer.round == ours.round)?;
            Some(ours.sample.packets_per_second / peer.sample.packets_per_second)
        });
        Spread::of(ratios.filter(|ratio| ratio.is_finite()))
    }
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn count(n: u64) -> f64 {
    n as f64
}

fn shown(spread: Option<Spread>, digits: usize) -> String {
    spread.map_or("–".to_owned(), |Spread { min, median, max }| {
        format!("{median:.digits$} ({min:.digits$}–{max:.digits$})")
    })
}

fn median(spread: Option<Spread>) -> String {
    spread.map_or("–".to_owned(), |spread| format!("{:.0}", spread.median))
}
