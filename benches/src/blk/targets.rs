//! What the project wants to reach, and whether a run reached it.

use serde::Serialize;

use super::plan::{BackEnd, Medium, Operation};
use super::report::Row;
use crate::statistics::Spread;

/// Most that a back-end's own resident memory may be, in KiB.
pub(crate) const RESIDENT_KIB: f64 = 8.0 * 1024.0;

/// What is compared with the other back-end's, as a ratio within one round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Measure {
    /// Requests a second; the ratio is to be the bound or more.
    Iops,
    /// CPU time per request; the ratio is to be the bound or less.
    Cpu,
}

/// A ratio at 4 KiB random reads that is to be reached within one run.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Target {
    pub(crate) back_end: BackEnd,
    pub(crate) medium: Medium,
    pub(crate) depth: u16,
    pub(crate) measure: Measure,
    pub(crate) against: BackEnd,
    pub(crate) bound: f64,
}

/// A target and what was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Verdict {
    #[serde(flatten)]
    pub(crate) target: Target,
    pub(crate) measured: Spread,
    pub(crate) reached: bool,
}

/// Depths that have targets.
const DEPTHS: [u16; 3] = [1, 32, 128];

/// Bounds of one medium, by depth; none where nothing is asked.
type Bounds = (Medium, Measure, BackEnd, [Option<f64>; 3]);

const POLLING: &[Bounds] = &[
    (Medium::Null, Measure::Iops, BackEnd::Qemu, [Some(4.0), Some(4.0), Some(6.0)]),
    (Medium::Tmpfs, Measure::Iops, BackEnd::Qemu, [Some(4.0), Some(1.8), Some(1.5)]),
    (Medium::Cached, Measure::Iops, BackEnd::Qemu, [Some(4.0), Some(1.9), Some(1.9)]),
    (Medium::Cached, Measure::Iops, BackEnd::None, [None, Some(0.95), Some(0.95)]),
    (Medium::Direct, Measure::Iops, BackEnd::None, [Some(1.4), Some(1.05), Some(1.1)]),
];

/// Without polling: never behind qemu-storage-daemon, and at no more CPU.
const NOT_POLLING: &[Bounds] = &[
    (Medium::Null, Measure::Iops, BackEnd::Qemu, [Some(1.0); 3]),
    (Medium::Null, Measure::Cpu, BackEnd::Qemu, [Some(1.0); 3]),
    (Medium::Tmpfs, Measure::Iops, BackEnd::Qemu, [Some(1.0); 3]),
    (Medium::Tmpfs, Measure::Cpu, BackEnd::Qemu, [Some(1.0); 3]),
    (Medium::Cached, Measure::Iops, BackEnd::Qemu, [Some(1.0); 3]),
    (Medium::Cached, Measure::Cpu, BackEnd::Qemu, [Some(1.0); 3]),
    (Medium::Direct, Measure::Iops, BackEnd::Qemu, [Some(1.0); 3]),
    (Medium::Direct, Measure::Cpu, BackEnd::Qemu, [Some(1.0); 3]),
    (Medium::Direct, Measure::Iops, BackEnd::None, [Some(0.85), Some(0.95), Some(0.95)]),
];

/// The verdict on each target for which there are figures.
pub(crate) fn verdicts(rows: &[Row]) -> Vec<Verdict> {
    targets().filter_map(|target| verdict(target, rows)).collect()
}

fn targets() -> impl Iterator<Item = Target> {
    let lists = [(BackEnd::Outrigger, POLLING), (BackEnd::OutriggerNoPoll, NOT_POLLING)];
    lists.into_iter().flat_map(|(back_end, list)| {
        list.iter().flat_map(move |&(medium, measure, against, bounds)| {
            DEPTHS.into_iter().zip(bounds).filter_map(move |(depth, bound)| {
                bound.map(|bound| Target { back_end, medium, depth, measure, against, bound })
            })
        })
    })
}

fn verdict(target: Target, rows: &[Row]) -> Option<Verdict> {
    let row = rows.iter().find(|row| {
        let cell = row.cell;
        row.back_end == target.back_end
            && cell.operation == Operation::RandRead
            && (cell.medium, cell.depth) == (target.medium, target.depth)
    })?;
    let measured = match (target.measure, target.against) {
        (Measure::Cpu, _) => row.cpu_to_qemu?,
        (Measure::Iops, BackEnd::None) => row.to_none?,
        (Measure::Iops, _) => row.to_qemu?,
    };
    let reached = match target.measure {
        Measure::Iops => measured.median >= target.bound,
        Measure::Cpu => measured.median <= target.bound,
    };
    Some(Verdict { target, measured, reached })
}
