//! Giving memory back to the host: holes in the files behind guest memory.
//!
//! Guest memory is a shared file, so `madvise(MADV_DONTNEED)` would free nothing; only a hole punched
//! into the file does. Where holes may be is decided here and nowhere else: [`holes`] turns pages into
//! ranges of files, of whole pages of those files, inside guest memory.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use framework::memory::{GuestAddress, MemoryTable, Region};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use virtio_spec::balloon::PAGE_SIZE;

use crate::pages::Run;

/// A range of a file that is to be given back.
#[derive(Clone, Debug)]
pub struct Hole {
    /// The file.
    pub file: Arc<OwnedFd>,
    /// Where it begins, bytes.
    pub offset: u64,
    /// Bytes, never zero.
    pub len: u64,
}

/// What [`holes`] has found besides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Pages that are not in guest memory, or not with all their bytes.
    pub outside: u64,
    /// Bytes of pages of the file (huge ones) that are not given back whole, or of memory without a
    /// file.
    pub partial: u64,
}

/// Finds what can be given back of the pages in `run`. `unused` tells whether further pages are out
/// of the driver's use too: they complete huge pages of which the run has only a part.
pub fn holes(
    memory: &MemoryTable,
    run: Run,
    unused: impl Fn(Run) -> bool,
    found: &mut Vec<Hole>,
) -> LeftOut {
    let mut left_out = LeftOut::default();
    in_memory(memory, run, &mut left_out.outside, |region, part| {
        let (from, to) = part.bytes();
        left_out.partial += to - from;
        if let Some(hole) = hole(region, from, to, &unused) {
            left_out.partial = left_out.partial.saturating_sub(hole.len);
            match found.last_mut() {
                Some(last) if last.adjoins(&hole) => last.len = hole.end() - last.offset,
                _ => found.push(hole),
            }
        }
    });
    left_out
}

/// Visits the parts of a run that lie in guest memory, each in one region. Adds to `outside` how many
/// pages do not.
pub fn in_memory(
    memory: &MemoryTable,
    run: Run,
    outside: &mut u64,
    mut visit: impl FnMut(&Region, Run),
) {
    let (from, to) = run.bytes();
    let mut inside = 0;
    let regions = memory.regions();
    let first = regions.partition_point(|region| region.guest_end() <= from);
    for region in regions.iter().skip(first).take_while(|region| region.guest.0 < to) {
        if let Some(part) = Run::inside(region.guest.0.max(from), region.guest_end().min(to)) {
            inside += part.pages();
            visit(region, part);
        }
    }
    *outside += run.pages().saturating_sub(inside);
}

/// The whole pages of the region's file between two guest addresses, which lie in the region.
fn hole(region: &Region, from: u64, to: u64, unused: &impl Fn(Run) -> bool) -> Option<Hole> {
    let (file, base) = region.file()?;
    let page = region.page_size().max(PAGE_SIZE);
    // Pages are counted from the start of the file, wherever the guest sees them.
    let start = base.checked_add(from - region.guest.0)?;
    let end = base.checked_add(to - region.guest.0)?;
    let whole = |at: u64| {
        let inside = at >= base && at.checked_add(page)? <= base.checked_add(region.size)?;
        let guest = region.guest.0 + at.checked_sub(base)?;
        let run = Run { start: guest / PAGE_SIZE, end: (guest + page).div_ceil(PAGE_SIZE) };
        (inside && unused(run)).then_some(())
    };
    let mut first = start.next_multiple_of(page);
    let mut last = end - end % page;
    if page > PAGE_SIZE {
        let before = start - start % page;
        if before < start && whole(before).is_some() {
            first = before;
        }
        if last < end && last >= first && whole(last).is_some() {
            last += page;
        }
    }
    let len = last.checked_sub(first).filter(|len| *len > 0)?;
    Some(Hole { file: Arc::clone(file), offset: first, len })
}

impl Hole {
    fn end(&self) -> u64 {
        self.offset + self.len
    }

    /// Whether `next` goes on where this one ends, or earlier.
    fn adjoins(&self, next: &Hole) -> bool {
        Arc::ptr_eq(&self.file, &next.file)
            && next.offset >= self.offset
            && next.offset <= self.end()
            && next.end() >= self.end()
    }

    /// Gives the range back: reading it shows zeroes from now on.
    ///
    /// # Errors
    /// What `fallocate` says.
    pub fn punch(&self) -> Result<(), Errno> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        rustix::io::retry_on_intr(|| {
            rustix::fs::fallocate(&self.file, flags, self.offset, self.len)
        })
    }
}

/// Bytes that these files have in memory, each file counted once: what the host itself says.
pub fn resident<F: AsFd>(files: impl IntoIterator<Item = F>) -> u64 {
    let mut seen = BTreeSet::new();
    let mut bytes: u64 = 0;
    for file in files {
        let Ok(stat) = rustix::fs::fstat(file) else { continue };
        if seen.insert((stat.st_dev, stat.st_ino)) {
            // POSIX: blocks are of 512 bytes here, whatever the file system's are.
            bytes = bytes.saturating_add(u64::try_from(stat.st_blocks).unwrap_or(0) * 512);
        }
    }
    bytes
}

/// What tells a region from another that is plugged in at the same address later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    guest: GuestAddress,
    size: u64,
    file: Option<(u64, u64, u64)>,
}

impl Identity {
    /// The identity of a region.
    pub fn of(region: &Region) -> Self {
        let file = region.file().and_then(|(file, offset)| {
            let stat = rustix::fs::fstat(file).ok()?;
            Some((stat.st_dev, stat.st_ino, offset))
        });
        Identity { guest: region.guest, size: region.size, file }
    }

    /// Its whole pages.
    pub fn run(&self) -> Option<Run> {
        Run::inside(self.guest.0, self.guest.0.saturating_add(self.size))
    }
}

#[cfg(test)]
#[path = "give_back_test.rs"]
mod tests;
