//! Advice to the host about the memory; allocating and locking it before the guest starts.
#![expect(unsafe_code, reason = "madvise and mlock take addresses")]

use std::thread;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;
use rustix::mm::Advice;

use super::{Config, Pages, Region, failed};
use crate::Result;

/// Threads that allocate memory, at most: zeroing saturates a memory bus long before this.
const MAX_THREADS: usize = 16;

/// How much one thread allocates at a time, in bytes: a multiple of every page size.
const CHUNK: u64 = 1 << 30;

/// Does with the mapped regions what the configuration asks for.
pub(super) fn prepare(config: &Config, regions: &[Region]) -> Result<()> {
    for region in regions {
        // A core dump of the VMM is about the VMM.
        advise(region, 0, region.size(), Advice::LinuxDontDump)
            .map_err(failed("keeping it out of core dumps"))?;
        if config.pages == Pages::Transparent {
            advise(region, 0, region.size(), Advice::LinuxHugepage)
                .map_err(failed("asking for transparent huge pages"))?;
        }
    }
    if config.prefault || config.lock {
        prefault(regions)?;
    }
    if config.lock {
        regions.iter().try_for_each(lock).map_err(failed("locking it"))?;
    }
    Ok(())
}

/// Allocates all pages, in several threads.
fn prefault(regions: &[Region]) -> Result<()> {
    let chunks: Vec<(&Region, u64)> = regions
        .iter()
        .flat_map(|region| {
            let count = region.size().div_ceil(CHUNK);
            (0..count).map(move |chunk| (region, chunk * CHUNK))
        })
        .collect();
    let threads = thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
    let share = chunks.len().div_ceil(threads).max(1);
    let populate = |chunks: &[(&Region, u64)]| {
        chunks.iter().try_for_each(|&(region, offset)| allocate_chunk(region, offset))
    };
    let result = thread::scope(|scope| {
        let workers: Vec<_> =
            chunks.chunks(share).map(|share| scope.spawn(move || populate(share))).collect();
        workers.into_iter().try_for_each(|worker| worker.join().unwrap_or(Err(Errno::INTR)))
    });
    result.map_err(failed("allocating it"))
}

fn allocate_chunk(region: &Region, offset: u64) -> rustix::io::Result<()> {
    let size = CHUNK.min(region.size() - offset);
    match advise(region, offset, size, Advice::LinuxPopulateWrite) {
        // Linux before 5.14 does not know this advice. The file can be told to allocate, too; what
        // is missing then is only that this process has mapped the pages.
        Err(Errno::INVAL) => {
            fallocate(region.fd(), FallocateFlags::empty(), region.offset() + offset, size)
        }
        result => result,
    }
}

/// Gives advice about `size` bytes at `offset` of the region.
fn advise(region: &Region, offset: u64, size: u64, advice: Advice) -> rustix::io::Result<()> {
    let mapping = region.mapping();
    let offset = usize::try_from(offset).map_err(|_| Errno::INVAL)?;
    let size = usize::try_from(size).map_err(|_| Errno::INVAL)?;
    if offset.checked_add(size).is_none_or(|end| end > mapping.size()) {
        return Err(Errno::INVAL);
    }
    // SAFETY: the range was checked to be within the mapping, which `mapping` keeps. The advice used
    // here (huge pages, no dump, populate) never changes what the memory holds.
    unsafe { rustix::mm::madvise(mapping.as_ptr().wrapping_add(offset).cast(), size, advice) }
}

fn lock(region: &Region) -> rustix::io::Result<()> {
    let mapping = region.mapping();
    // SAFETY: the range is exactly the mapping, which `mapping` keeps; locking changes no content.
    unsafe { rustix::mm::mlock(mapping.as_ptr().cast(), mapping.size()) }
}
