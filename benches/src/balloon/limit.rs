//! The limit: a loop that punches the same ranges into a file of the same kind.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use driver::{Memory, RegionSpec};
use nix::time::ClockId;
use rustix::fs::{FallocateFlags, fallocate, fstat};

use super::cell::{Pages, Sample, What};
use super::rings::{LIST, PAGES, piece, ranges};

/// Punches what a driver would give, and merges neighbours within one list as a device can.
pub(super) fn measure(mebibytes: u64, what: What, pages: Pages) -> Result<Sample> {
    let bytes = mebibytes << 20;
    let memory = Memory::with_regions(&[RegionSpec::new(PAGES, bytes)])?;
    memory.area(PAGES, usize::try_from(bytes)?)?.fill(0x5a);
    let file = memory.file(PAGES)?;
    let starts = ranges(bytes, what, pages);
    let merged = if what == What::Inflate && pages == Pages::Large { LIST } else { 1 };
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    let before = allocated(&file)?;
    let (start, cpu) = (Instant::now(), thread_time()?);
    for chunk in starts.chunks(merged) {
        let Some(first) = chunk.first() else { continue };
        let length = chunk.len() as u64 * piece(what, pages);
        fallocate(&file, flags, first - PAGES, length).context("cannot punch a hole")?;
    }
    let (took, cpu) = (start.elapsed(), thread_time()?.saturating_sub(cpu));
    let length = starts.len() as u64 * piece(what, pages);
    let returned = before.saturating_sub(allocated(&file)?);
    ensure!(returned == length, "{returned} of {length} bytes came back");
    Ok(Sample::of(length, took, cpu))
}

/// Bytes that a file has in memory.
pub(super) fn allocated(file: impl AsFd) -> Result<u64> {
    Ok(u64::try_from(fstat(file)?.st_blocks)? * 512)
}

fn thread_time() -> Result<Duration> {
    Ok(ClockId::CLOCK_THREAD_CPUTIME_ID.now().context("this thread's CPU time")?.into())
}
