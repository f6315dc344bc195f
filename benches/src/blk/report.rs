//! The report: every sample, what follows from them, and where they come from.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde_json::Value;

use super::callgrind::Counted;
use super::client::Outcome;
use super::markdown;
use super::measurement::{Bench, Settings};
use super::plan::{BackEnd, Cell, Medium};
use super::targets::{self, Verdict};
use crate::machine::{self, Machine};
use crate::statistics::Spread;

/// A back-end that was asked for and not measured.
#[derive(Debug, Serialize)]
pub(crate) struct NotMeasured {
    pub(crate) back_end: BackEnd,
    pub(crate) reason: String,
}

/// One measurement.
#[derive(Debug, Serialize)]
pub(crate) struct Sample {
    pub(crate) round: u16,
    pub(crate) iops: f64,
    #[serde(flatten)]
    pub(crate) outcome: Outcome,
}

impl Sample {
    /// One line for people.
    pub(crate) fn describe(outcome: &Outcome) -> String {
        let cpu = outcome.back_end.as_ref().map_or(0.0, |used| used.cpu_seconds);
        format!(
            "{:8.1} kIOPS, p50 {:.1} µs, p99 {:.1} µs, back-end CPU {:.2} s per million",
            iops(outcome) / 1e3,
            outcome.p50_us,
            outcome.p99_us,
            per_million(cpu, outcome),
        )
    }
}

/// What one back-end did in one cell.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    #[serde(flatten)]
    pub(crate) cell: Cell,
    pub(crate) back_end: BackEnd,
    pub(crate) iops: Option<Spread>,
    pub(crate) p50_us: Option<Spread>,
    pub(crate) p99_us: Option<Spread>,
    /// CPU seconds of the back-end per million requests.
    pub(crate) cpu_per_million: Option<Spread>,
    /// CPU seconds of the client per million requests.
    pub(crate) client_cpu_per_million: Option<Spread>,
    /// Resident memory of the back-end besides guest memory: RssAnon and RssFile.
    pub(crate) resident_kib: Option<Spread>,
    /// Times that the back-end woke while it had nothing to do.
    pub(crate) idle_wakeups: Option<u64>,
    /// IOPS against qemu-storage-daemon's in the same round.
    pub(crate) to_qemu: Option<Spread>,
    /// IOPS against those without a back-end in the same round.
    pub(crate) to_none: Option<Spread>,
    /// CPU time per request against qemu-storage-daemon's in the same round.
    pub(crate) cpu_to_qemu: Option<Spread>,
    pub(crate) samples: Vec<Sample>,
    pub(crate) failures: Vec<String>,
}

/// All of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) benchmark: &'static str,
    pub(crate) date: String,
    pub(crate) commit: String,
    pub(crate) machine: Machine,
    pub(crate) file_systems: BTreeMap<Medium, String>,
    pub(crate) settings: Settings,
    pub(crate) client: String,
    pub(crate) versions: BTreeMap<BackEnd, String>,
    pub(crate) not_measured: Vec<NotMeasured>,
    pub(crate) targets: Vec<Verdict>,
    pub(crate) rows: Vec<Row>,
    pub(crate) callgrind: Vec<Counted>,
}

impl Report {
    /// A report without figures yet.
    pub(crate) fn begin(bench: &Bench) -> Self {
        let settings = bench.settings.clone();
        let on_files = settings.media.iter().filter(|medium| **medium != Medium::Null);
        let file_system = |medium: &Medium| {
            // A directory that is yet to be made will be on its parent's file system.
            let there = bench.directory(*medium).ancestors().find(|path| path.exists());
            (*medium, machine::file_system(there.unwrap_or(Path::new("."))))
        };
        let version = |back_end: &BackEnd| (*back_end, bench.programs.version(*back_end));
        Self {
            benchmark: "blk",
            date: machine::date(),
            commit: machine::commit(),
            machine: Machine::describe(),
            file_systems: on_files.map(file_system).collect(),
            client: format!("libblkio (crate blkio {})", machine::locked_version("blkio")),
            versions: bench.available().iter().map(version).collect(),
            settings,
            not_measured: Vec::new(),
            targets: Vec::new(),
            rows: Vec::new(),
            callgrind: Vec::new(),
        }
    }

    /// Adds one measurement, or what went wrong with it.
    pub(crate) fn add(
        &mut self,
        cell: Cell,
        back_end: BackEnd,
        round: u16,
        result: Result<Outcome>,
    ) {
        let found = self.rows.iter().position(|row| row.cell == cell && row.back_end == back_end);
        if found.is_none() {
            self.rows.push(Row::empty(cell, back_end));
        }
        let row = match found {
            Some(index) => self.rows.get_mut(index),
            None => self.rows.last_mut(),
        };
        match (row, result) {
            (Some(row), Ok(outcome)) => {
                row.samples.push(Sample { round, iops: iops(&outcome), outcome });
            }
            (Some(row), Err(error)) => {
                row.failures.push(format!("round {}: {error:#}", round + 1));
            }
            (None, _) => {}
        }
    }

    /// Works out what follows from the samples.
    pub(crate) fn finish(&mut self) {
        let ratios: Vec<_> = self
            .rows
            .iter()
            .map(|row| {
                let (qemu, none) = (self.peer(row, BackEnd::Qemu), self.peer(row, BackEnd::None));
                let cpu = row.ratio(qemu, |sample| {
                    let used = sample.outcome.back_end.as_ref()?;
                    Some(per_million(used.cpu_seconds, &sample.outcome))
                });
                let iops = |sample: &Sample| Some(sample.iops);
                (row.ratio(qemu, iops), row.ratio(none, iops), cpu)
            })
            .collect();
        for (row, (to_qemu, to_none, cpu_to_qemu)) in self.rows.iter_mut().zip(ratios) {
            (row.to_qemu, row.to_none, row.cpu_to_qemu) = (to_qemu, to_none, cpu_to_qemu);
            row.summarize();
        }
        self.targets = targets::verdicts(&self.rows);
    }

    /// What another back-end did in the row's cell.
    fn peer(&self, row: &Row, back_end: BackEnd) -> Option<&Row> {
        self.rows.iter().find(|peer| peer.cell == row.cell && peer.back_end == back_end)
    }

    /// How many measurements failed.
    pub(crate) fn failures(&self) -> usize {
        let rows: usize = self.rows.iter().map(|row| row.failures.len()).sum();
        rows + self.callgrind.iter().filter(|counted| counted.failure.is_some()).count()
    }

    /// Writes the report as JSON and as Markdown.
    ///
    /// # Errors
    /// The operating system's.
    pub(crate) fn write(&self, directory: &Path, name: &str) -> Result<()> {
        fs::create_dir_all(directory)
            .with_context(|| format!("cannot make the directory {}", directory.display()))?;
        for (extension, text) in [("json", json(self)?), ("md", markdown::page(self))] {
            let path = directory.join(format!("{name}.{extension}"));
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
            eprintln!("wrote {}", path.display());
        }
        Ok(())
    }
}

impl Row {
    fn empty(cell: Cell, back_end: BackEnd) -> Self {
        Self {
            cell,
            back_end,
            iops: None,
            p50_us: None,
            p99_us: None,
            cpu_per_million: None,
            client_cpu_per_million: None,
            resident_kib: None,
            idle_wakeups: None,
            to_qemu: None,
            to_none: None,
            cpu_to_qemu: None,
            samples: Vec::new(),
            failures: Vec::new(),
        }
    }

    /// The spread of the ratios to a peer's values, each taken within one round.
    fn ratio(&self, peer: Option<&Self>, value: impl Fn(&Sample) -> Option<f64>) -> Option<Spread> {
        let base = &peer?.samples;
        let ratios = self.samples.iter().filter_map(|sample| {
            let same_round = base.iter().find(|other| other.round == sample.round)?;
            let base = value(same_round).filter(|base| *base > 0.0)?;
            Some(value(sample)? / base)
        });
        Spread::of(ratios)
    }

    fn summarize(&mut self) {
        let spread = |value: &dyn Fn(&Outcome) -> Option<f64>| {
            Spread::of(self.samples.iter().filter_map(|sample| value(&sample.outcome)))
        };
        self.iops = spread(&|outcome| Some(iops(outcome)));
        self.p50_us = spread(&|outcome| Some(outcome.p50_us));
        self.p99_us = spread(&|outcome| Some(outcome.p99_us));
        self.cpu_per_million = spread(&|outcome| {
            outcome.back_end.as_ref().map(|used| per_million(used.cpu_seconds, outcome))
        });
        self.client_cpu_per_million =
            spread(&|outcome| Some(per_million(outcome.client_cpu_seconds, outcome)));
        self.resident_kib = spread(&|outcome| {
            let resident = outcome.back_end.as_ref()?.resident;
            Some((resident.anon_kib + resident.file_kib) as f64)
        });
        let idle = |sample: &Sample| Some(sample.outcome.back_end.as_ref()?.idle.as_ref()?.wakeups);
        self.idle_wakeups = self.samples.iter().filter_map(idle).max();
    }
}

/// A report as JSON, with a line for each field and for each row, so that two can be compared.
fn json(report: &Report) -> Result<String> {
    let Value::Object(fields) = serde_json::to_value(report)? else {
        bail!("a report is an object");
    };
    let field = |(name, value): (String, Value)| match value {
        Value::Array(items) if !items.is_empty() => {
            let items: Vec<String> = items.iter().map(|item| format!("    {item}")).collect();
            format!("  \"{name}\": [\n{}\n  ]", items.join(",\n"))
        }
        other => format!("  \"{name}\": {other}"),
    };
    let fields: Vec<String> = fields.into_iter().map(field).collect();
    Ok(format!("{{\n{}\n}}\n", fields.join(",\n")))
}

fn iops(outcome: &Outcome) -> f64 {
    outcome.requests as f64 / outcome.seconds
}

/// CPU seconds per million requests.
fn per_million(cpu_seconds: f64, outcome: &Outcome) -> f64 {
    cpu_seconds * 1e6 / (outcome.requests as f64).max(1.0)
}

#[cfg(test)]
mod tests {
    use super::super::plan::Operation;
    use super::*;

    fn outcome(requests: u64) -> Outcome {
        Outcome {
            requests,
            seconds: 1.0,
            p50_us: 1.0,
            p99_us: 2.0,
            max_us: 3.0,
            client_cpu_seconds: 0.5,
            other_cpu_seconds: 0.0,
            stolen_seconds: 0.0,
            back_end: None,
        }
    }

    #[test]
    fn ratios_are_taken_within_a_round_and_then_the_median() {
        let cell = Cell { medium: Medium::Null, operation: Operation::RandRead, depth: 1 };
        let options = <crate::CommandLine as clap::Parser>::parse_from(["bench", "blk"]);
        let crate::Benchmark::Blk(options) = options.benchmark else { panic!("another command") };
        let mut report = Report::begin(&Bench::new(&options).unwrap());
        for (round, (ours, theirs)) in [(400, 100), (300, 100), (900, 300)].into_iter().enumerate()
        {
            let round = u16::try_from(round).unwrap();
            report.add(cell, BackEnd::Outrigger, round, Ok(outcome(ours)));
            report.add(cell, BackEnd::Qemu, round, Ok(outcome(theirs)));
        }
        report.finish();
        let ratio = report.rows[0].to_qemu.unwrap();
        assert_eq!((ratio.min, ratio.median, ratio.max), (3.0, 3.0, 4.0));
        assert_eq!(report.rows[0].to_none, None);
        let parsed: Value = serde_json::from_str(&json(&report).unwrap()).unwrap();
        assert_eq!(parsed["rows"][0]["samples"][2]["requests"], 900);
    }
}
