//! The limit: a loop that punches the same ranges into a file of the same kind, mapped as often.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use driver::{Memory, RegionSpec};
use framework::memory::Mapping;
use nix::time::ClockId;
use rustix::fs::{FallocateFlags, fallocate, fstat};

use super::cell::{Pages, Sample, What};
use super::rings::{CPU, LIST, PAGES, WRITER, piece, ranges};
use crate::process::on_cpu;

/// Punches what a driver would give, and merges neighbours within one list as a device can.
pub(super) fn measure(mebibytes: u64, what: What, pages: Pages) -> Result<Sample> {
    let bytes = mebibytes << 20;
    let memory = Memory::with_regions(&[RegionSpec::new(PAGES, bytes)])?;
    let area = memory.area(PAGES, usize::try_from(bytes)?)?;
    // Pages that are still in the caches of the CPU that gives them back would flatter the limit.
    on_cpu(WRITER, || area.fill(0x5a))?;
    let file = memory.file(PAGES)?;
    // Guest memory is mapped by the VMM and by the daemon: the kernel has to look at both.
    let _of_daemon = Mapping::shared(&file, 0, bytes)?;
    let starts = ranges(bytes, what, pages);
    let merged = if what == What::Inflate && pages == Pages::Large { LIST } else { 1 };
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    let before = allocated(&file)?;
    let (took, cpu) = on_cpu(CPU, || -> Result<_> {
        let (start, cpu) = (Instant::now(), thread_time()?);
        for chunk in starts.chunks(merged) {
            let Some(first) = chunk.first() else { continue };
            let length = chunk.len() as u64 * piece(what, pages);
            fallocate(&file, flags, first - PAGES, length).context("cannot punch a hole")?;
        }
        Ok((start.elapsed(), thread_time()?.saturating_sub(cpu)))
    })??;
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
