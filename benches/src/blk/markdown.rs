//! The report for people: a Markdown page with everything that a reader needs to judge it.

use std::fmt::{self, Write};

use super::measurement::Settings;
use super::plan::{BackEnd, Medium, Operation};
use super::report::{Report, Row};
use super::targets::{Measure, RESIDENT_KIB};
use crate::statistics::Spread;

/// Share of a CPU that others may use before a run is called disturbed.
const QUIET: f64 = 0.1;

/// The page of a report.
pub(crate) fn page(report: &Report) -> String {
    let mut page = String::new();
    // Writing to a string cannot fail.
    let _ = write_page(&mut page, report);
    page
}

fn write_page(page: &mut String, report: &Report) -> fmt::Result {
    writeln!(page, "# Block benchmark\n")?;
    write_origin(page, report)?;
    if !report.rows.is_empty() {
        write_method(page, &report.settings)?;
        write_targets(page, report)?;
        write_resources(page, report)?;
        write_cells(page, report)?;
        write_noise(page, report)?;
    }
    if !report.callgrind.is_empty() {
        write_callgrind(page, report)?;
    }
    write_failures(page, report)
}

/// Where and with what the figures were made.
fn write_origin(page: &mut String, report: &Report) -> fmt::Result {
    let machine = &report.machine;
    let virtual_machine = if machine.virtualized { ", a virtual machine" } else { "" };
    writeln!(page, "| | |\n|---|---|")?;
    writeln!(page, "| date | {} |", report.date)?;
    writeln!(page, "| commit | {} |", report.commit)?;
    writeln!(page, "| CPU | {}, {} cores{virtual_machine} |", machine.cpu, machine.cores)?;
    writeln!(page, "| memory | {} MiB |", machine.memory_mib)?;
    writeln!(page, "| kernel | {} |", machine.kernel)?;
    writeln!(page, "| distribution | {} |", machine.distribution)?;
    writeln!(page, "| load average before | {} |", machine.load_before)?;
    for (medium, file_system) in &report.file_systems {
        writeln!(page, "| {} | {file_system} |", medium.title())?;
    }
    writeln!(page, "| client | {} |", report.client)?;
    for (back_end, version) in &report.versions {
        writeln!(page, "| {} | {version} |", back_end.title())?;
    }
    for missing in &report.not_measured {
        writeln!(page, "| **{} not measured** | {} |", missing.back_end.title(), missing.reason)?;
    }
    if !report.settings.optimized_client {
        writeln!(page, "| **warning** | the client was built without optimization |")?;
    }
    writeln!(page)
}

/// How the figures were made.
fn write_method(page: &mut String, settings: &Settings) -> fmt::Result {
    let waits = if settings.client_busy_polls {
        "asks for completions all the time"
    } else {
        "sleeps until a completion is signalled"
    };
    writeln!(
        page,
        "Each back-end runs on CPU {}, the client on CPU {}; one queue, split ring. The client \
         {waits}. {} rounds, in each of which all back-ends take their turn, each started afresh; \
         {} s of load before {} s of measurement; media of {} MiB, written in full beforehand. \
         Figures are medians of the rounds with (least–greatest); a ratio is taken within each \
         round, and then the median. Absolute figures hold for this run on this machine only.\n",
        settings.back_end_cpu,
        settings.client_cpu,
        settings.rounds,
        settings.warm_up_seconds,
        settings.runtime_seconds,
        settings.size >> 20,
    )?;
    writeln!(
        page,
        "On *null* no data moves: qemu-storage-daemon serves null-co with read-zeroes=off, its \
         faster setting. Files are served buffered, except for O_DIRECT; qemu-storage-daemon uses \
         aio=io_uring and an iothread, with its default adaptive polling. *No back-end* is the \
         client's own io_uring on the same file. CPU is that of the back-end with all its threads, \
         seconds per million requests, kernel worker threads of its io_uring included.\n"
    )
}

fn write_targets(page: &mut String, report: &Report) -> fmt::Result {
    if report.targets.is_empty() {
        return Ok(());
    }
    writeln!(page, "## Targets, 4 KiB random read\n")?;
    writeln!(page, "| medium | depth | back-end | against | wanted | measured | |")?;
    writeln!(page, "|---|--:|---|---|--:|--:|---|")?;
    for verdict in &report.targets {
        let target = verdict.target;
        let wanted = match target.measure {
            Measure::Iops => format!("IOPS ≥ {} ×", target.bound),
            Measure::Cpu => format!("CPU ≤ {} ×", target.bound),
        };
        writeln!(
            page,
            "| {} | {} | {} | {} | {wanted} | {} | {} |",
            target.medium.title(),
            target.depth,
            target.back_end.title(),
            target.against.title(),
            ratio(Some(verdict.measured)),
            reached(verdict.reached)
        )?;
    }
    writeln!(page)
}

/// Memory and idling: one line for each back-end and medium.
fn write_resources(page: &mut String, report: &Report) -> fmt::Result {
    writeln!(page, "## Memory and idling\n")?;
    writeln!(
        page,
        "Greatest resident memory of the back-end at the end of a load, without guest memory \
         (RssAnon + RssFile; the latter is mostly program text, which processes share), and how \
         often its threads woke in {} s with a connected driver and nothing to do.\n",
        report.settings.idle_seconds
    )?;
    writeln!(page, "| medium | back-end | resident, MiB | idle wake-ups | |")?;
    writeln!(page, "|---|---|--:|--:|---|")?;
    for &medium in &report.settings.media {
        for back_end in served(report) {
            let rows = || {
                report
                    .rows
                    .iter()
                    .filter(move |row| row.cell.medium == medium && row.back_end == back_end)
            };
            let Some(resident) = Spread::of(rows().filter_map(|row| Some(row.resident_kib?.max)))
            else {
                continue;
            };
            let wakeups = rows().filter_map(|row| row.idle_wakeups).max();
            let ours = matches!(back_end, BackEnd::Outrigger | BackEnd::OutriggerNoPoll);
            let good = resident.max < RESIDENT_KIB && wakeups.is_none_or(|count| count == 0);
            writeln!(
                page,
                "| {} | {} | {:.1} | {} | {} |",
                medium.title(),
                back_end.title(),
                resident.max / 1024.0,
                wakeups.map_or("–".to_owned(), |count| count.to_string()),
                if ours { reached(good) } else { "" }
            )?;
        }
    }
    writeln!(page)
}

fn write_cells(page: &mut String, report: &Report) -> fmt::Result {
    for &medium in &report.settings.media {
        for &operation in &report.settings.operations {
            write_table(page, report, medium, operation)?;
        }
    }
    Ok(())
}

fn write_table(
    page: &mut String,
    report: &Report,
    medium: Medium,
    operation: Operation,
) -> fmt::Result {
    writeln!(page, "## {}, {}\n", medium.title(), operation.title())?;
    writeln!(
        page,
        "| depth | back-end | kIOPS | p50 µs | p99 µs | CPU s/M | client CPU s/M \
         | × qemu-storage-daemon | × no back-end |"
    )?;
    writeln!(page, "|--:|---|--:|--:|--:|--:|--:|--:|--:|")?;
    for &depth in &report.settings.depths {
        let in_cell = |row: &&Row| {
            let cell = row.cell;
            (cell.medium, cell.operation, cell.depth) == (medium, operation, depth)
        };
        for row in report.rows.iter().filter(in_cell) {
            writeln!(
                page,
                "| {depth} | {} | {} | {} | {} | {} | {} | {} | {} |",
                row.back_end.title(),
                thousands(row.iops),
                median(row.p50_us, 1),
                median(row.p99_us, 1),
                median(row.cpu_per_million, 2),
                median(row.client_cpu_per_million, 2),
                ratio(row.to_qemu),
                ratio(row.to_none),
            )?;
        }
    }
    writeln!(page)
}

/// How much else went on during the measurements.
fn write_noise(page: &mut String, report: &Report) -> fmt::Result {
    let samples = || report.rows.iter().flat_map(|row| &row.samples);
    let other = Spread::of(
        samples().map(|sample| sample.outcome.other_cpu_seconds / sample.outcome.seconds),
    );
    let stolen =
        Spread::of(samples().map(|sample| sample.outcome.stolen_seconds / sample.outcome.seconds));
    let (Some(other), Some(stolen)) = (other, stolen) else { return Ok(()) };
    writeln!(page, "## Noise\n")?;
    writeln!(
        page,
        "During a measurement, processes that belong to neither side used {:.0} % of one CPU in \
         the median and {:.0} % at worst; the hypervisor took {:.0} % and {:.0} %.\n",
        other.median * 100.0,
        other.max * 100.0,
        stolen.median * 100.0,
        stolen.max * 100.0,
    )?;
    if other.median > QUIET {
        writeln!(page, "**The machine was busy with other things: do not rely on this run.**\n")?;
    }
    Ok(())
}

fn write_callgrind(page: &mut String, report: &Report) -> fmt::Result {
    writeln!(page, "## Instructions per request\n")?;
    writeln!(
        page,
        "In user space, counted by callgrind as the difference of a run of N and a run of 2 N \
         requests. Nobody polls: qemu-storage-daemon's iothread has poll-max-ns=0. \
         The C library is told to fill and copy memory with vector instructions, because callgrind \
         counts each byte of a repeated string instruction.\n"
    )?;
    writeln!(page, "| medium | operation | depth | back-end | instructions | N |")?;
    writeln!(page, "|---|---|--:|---|--:|--:|")?;
    for counted in &report.callgrind {
        let instructions = counted
            .instructions_per_request
            .map_or("not counted".to_owned(), |count| format!("{count:.0}"));
        writeln!(
            page,
            "| {} | {} | {} | {} | {instructions} | {} |",
            counted.cell.medium.title(),
            counted.cell.operation.title(),
            counted.cell.depth,
            counted.back_end.title(),
            counted.requests,
        )?;
    }
    writeln!(page)
}

fn write_failures(page: &mut String, report: &Report) -> fmt::Result {
    if report.failures() == 0 {
        return Ok(());
    }
    writeln!(page, "## Failed measurements\n")?;
    let measured = report
        .rows
        .iter()
        .flat_map(|row| row.failures.iter().map(move |failure| (row.cell, row.back_end, failure)));
    let counted = report.callgrind.iter().filter_map(|counted| {
        counted.failure.as_ref().map(|failure| (counted.cell, counted.back_end, failure))
    });
    for (cell, back_end, failure) in measured.chain(counted) {
        writeln!(
            page,
            "- {}, {}, depth {}, {}: {}",
            cell.medium.title(),
            cell.operation.title(),
            cell.depth,
            back_end.title(),
            failure.replace('\n', " ")
        )?;
    }
    Ok(())
}

/// Back-ends in the order in which they were asked for.
fn served(report: &Report) -> impl Iterator<Item = BackEnd> {
    report.settings.back_ends.iter().copied()
}

fn reached(reached: bool) -> &'static str {
    if reached { "reached" } else { "**missed**" }
}

fn thousands(iops: Option<Spread>) -> String {
    iops.map_or("failed".to_owned(), |iops| {
        let [min, median, max] = [iops.min, iops.median, iops.max].map(|value| value / 1e3);
        format!("{median:.1} ({min:.1}–{max:.1})")
    })
}

fn ratio(ratio: Option<Spread>) -> String {
    ratio.map_or("–".to_owned(), |ratio| {
        format!("{:.2} ({:.2}–{:.2})", ratio.median, ratio.min, ratio.max)
    })
}

fn median(spread: Option<Spread>, digits: usize) -> String {
    spread.map_or("–".to_owned(), |spread| format!("{:.digits$}", spread.median))
}
