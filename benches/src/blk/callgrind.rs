//! Instructions per request, counted by callgrind.
//!
//! A back-end runs under `valgrind --tool=callgrind` twice, for N requests and for 2 N. The
//! difference, divided by N, is what a request costs in user space, start and end not counted.
//! Nobody polls, because instructions executed while waiting are not a request's. outrigger-blk uses
//! its thread engine: valgrind holds up a whole process in which one thread waits for io_uring. Rings,
//! worker and device are the same code; on null, where no I/O is done, so is everything that counts.
//! The count does not change with the machine's mood, as time does, and it says nothing of the kernel.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use super::client::{Spec, Until};
use super::measurement::Bench;
use super::medium::Prepared;
use super::plan::{self, BackEnd, Cell};
use super::report::{NotMeasured, Report};
use crate::{callgrind, machine};

/// Instructions of one back-end in one cell, or why they could not be counted.
#[derive(Debug, Serialize)]
pub(crate) struct Counted {
    #[serde(flatten)]
    pub(crate) cell: Cell,
    pub(crate) back_end: BackEnd,
    /// Requests of the shorter run.
    pub(crate) requests: u64,
    pub(crate) instructions_per_request: Option<f64>,
    pub(crate) failure: Option<String>,
}

/// Counts the instructions of every back-end in every cell.
///
/// # Errors
/// valgrind is not installed, or a medium cannot be prepared.
pub(crate) fn run(bench: &Bench, back_ends: &[BackEnd], report: &mut Report) -> Result<()> {
    let valgrind = machine::program_version(Path::new("valgrind"));
    ensure!(valgrind != "unknown", "valgrind is not there; install it: apt-get install valgrind");
    report.client = format!("{}, counted by {valgrind}", report.client);
    let (counted, left_out): (Vec<BackEnd>, Vec<BackEnd>) =
        back_ends.iter().partition(|back_end| reason_not_to_count(**back_end).is_none());
    for back_end in left_out {
        let reason = reason_not_to_count(back_end).unwrap_or_default().to_owned();
        report.not_measured.push(NotMeasured { back_end, reason });
    }
    let settings = &bench.settings;
    for &medium in &settings.media {
        let prepared = Prepared::new(medium, bench.directory(medium), settings.size)?;
        for cell in plan::cells(&[medium], &settings.operations, &settings.depths) {
            for &back_end in &counted {
                let result = count(bench, cell, back_end, &prepared);
                report.callgrind.push(told(bench, cell, back_end, result));
            }
        }
    }
    Ok(())
}

/// Why a back-end's instructions say nothing.
fn reason_not_to_count(back_end: BackEnd) -> Option<&'static str> {
    match back_end {
        BackEnd::Outrigger => Some("a polling back-end executes instructions while it waits"),
        BackEnd::None => Some("there is no process whose instructions could be counted"),
        _ => None,
    }
}

/// Tells a waiting person, and makes the entry in the report.
fn told(bench: &Bench, cell: Cell, back_end: BackEnd, result: Result<f64>) -> Counted {
    let place = format!(
        "{}, {}, depth {}: {}",
        cell.medium.title(),
        cell.operation.title(),
        cell.depth,
        back_end.title()
    );
    match &result {
        Ok(instructions) => eprintln!("{place}: {instructions:.0} instructions per request"),
        Err(error) => eprintln!("{place}: NOT COUNTED: {error:#}"),
    }
    Counted {
        cell,
        back_end,
        requests: bench.callgrind_requests,
        failure: result.as_ref().err().map(|error| format!("{error:#}")),
        instructions_per_request: result.ok(),
    }
}

/// Instructions per request, from a run of N requests and one of 2 N.
fn count(bench: &Bench, cell: Cell, back_end: BackEnd, medium: &Prepared) -> Result<f64> {
    let requests = bench.callgrind_requests;
    let shorter = instructions(bench, cell, back_end, medium, requests)?;
    let longer = instructions(bench, cell, back_end, medium, 2 * requests)?;
    ensure!(longer > shorter, "twice the requests took no more instructions: {shorter}, {longer}");
    Ok((longer - shorter) as f64 / requests as f64)
}

/// Instructions that a back-end executes from its start to its end while it serves requests.
fn instructions(
    bench: &Bench,
    cell: Cell,
    back_end: BackEnd,
    medium: &Prepared,
    requests: u64,
) -> Result<u64> {
    let counts = bench.scratch("callgrind.out");
    // Left by the run before; it must not be taken for this one's.
    let _ = fs::remove_file(&counts);
    let socket = bench.scratch("blk.sock");
    let served = bench
        .programs
        .command(back_end, medium, &socket, bench.settings.back_end_cpu, false)
        .context("nothing to count")?;
    let mut command = Command::new("valgrind");
    callgrind::prepare(&mut command, &counts);
    command.arg(served.get_program()).args(served.get_args());
    if back_end == BackEnd::OutriggerNoPoll {
        // valgrind makes system calls of its own, which the sandbox does not know.
        command.arg("--sandbox=off");
    }
    let spec = Spec {
        target: bench.target(back_end, medium),
        operation: cell.operation,
        depth: cell.depth,
        size: bench.settings.size,
        verify: false,
        warm_up: None::<Duration>,
        until: Until::Requests(requests),
        idle: None,
        busy_poll: bench.settings.client_busy_polls,
        seed: 0,
        back_end: None,
    };
    bench.drive(&mut command, spec)?;
    let text = fs::read_to_string(&counts).context("callgrind wrote no counts")?;
    callgrind::total(&text).context("callgrind's counts have no total")
}
