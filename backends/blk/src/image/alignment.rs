//! What direct I/O demands of positions and of memory.

use std::os::fd::OwnedFd;
use std::path::Path;

use framework::memory::Segment;
use rustix::fs::{AtFlags, StatxFlags};
use rustix::io::Errno;

use super::SECTOR;
use crate::error::{Error, Result};

/// The alignments of direct I/O, bytes, powers of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alignment {
    /// Of addresses.
    pub memory: u32,
    /// Of positions and lengths.
    pub offset: u32,
}

impl Alignment {
    /// Asks the kernel (statx, since Linux 6.1), or finds out by reading.
    ///
    /// # Errors
    /// When the file takes no direct I/O at all.
    pub(super) fn of(file: &OwnedFd, logical: u32, path: &Path) -> Result<Self> {
        let unsupported = || Error::NoDirectIo { path: path.into() };
        let wanted = StatxFlags::DIOALIGN;
        if let Ok(statx) = rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, wanted)
            && statx.stx_mask & wanted.bits() != 0
        {
            let (memory, offset) = (statx.stx_dio_mem_align, statx.stx_dio_offset_align);
            // The kernel says "no direct I/O" with zeroes.
            let usable = memory.is_power_of_two() && offset.is_power_of_two();
            let told = Alignment { memory, offset: offset.max(SECTOR) };
            return if usable { Ok(told) } else { Err(unsupported()) };
        }
        let offset = probe(file, logical).ok_or_else(unsupported)?;
        Ok(Alignment { memory: offset, offset })
    }

    /// Whether a request may start at `offset` and be `len` bytes long.
    pub fn takes_range(&self, offset: u64, len: u64) -> bool {
        (offset | len).is_multiple_of(self.offset.into())
    }

    /// Whether these segments may be read into or written from.
    pub fn takes_memory(&self, segments: &[Segment]) -> bool {
        let (memory, offset) = (self.memory as usize, self.offset as usize);
        segments.iter().all(|s| s.is_aligned(memory) && s.len().is_multiple_of(offset))
    }
}

/// The smallest block, from `least` up, that can be read from the start of the file.
fn probe(file: &OwnedFd, least: u32) -> Option<u32> {
    const LARGEST: usize = 4096;
    let mut memory = vec![0; 2 * LARGEST];
    let start = memory.as_ptr().align_offset(LARGEST);
    let sizes = std::iter::successors(Some(least.max(SECTOR)), |n| n.checked_mul(2));
    for size in sizes.take_while(|n| *n as usize <= LARGEST) {
        // The address is aligned to no more than what is tried.
        let at = start.checked_add(if size as usize == LARGEST { 0 } else { size as usize })?;
        let buffer = memory.get_mut(at..at.checked_add(size as usize)?)?;
        match rustix::io::pread(file, buffer, 0) {
            Err(Errno::INVAL) => {}
            _ => return Some(size),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_and_lengths_both_count() {
        let alignment = Alignment { memory: 4, offset: 4096 };
        assert!(alignment.takes_range(8192, 4096));
        assert!(!alignment.takes_range(8192 + 512, 4096));
        assert!(!alignment.takes_range(8192, 512));
    }

    #[test]
    fn probing_finds_that_the_page_cache_takes_every_sector() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(8192).unwrap();
        assert_eq!(probe(&file.into(), 0), Some(512));
    }
}
