//! What an image can do besides reading and writing.

use std::os::fd::OwnedFd;

use rustix::fs::FallocateFlags;

use super::block_queue::QueueLimits;
use super::{Choice, Medium, SECTOR, secure_erase};

/// What can be done to ranges of an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Abilities {
    /// It gives up space, best in pieces of this many bytes.
    pub discard: Option<u32>,
    /// Zeroing may give up space.
    pub unmap: bool,
    /// It erases beyond recovery.
    pub secure_erase: bool,
}

impl Abilities {
    /// Finds out, and leaves every byte of the image as it is.
    pub(super) fn find(
        medium: Medium,
        file: &OwnedFd,
        bytes: u64,
        queue: Option<&QueueLimits>,
        choice: &Choice,
    ) -> Self {
        if choice.read_only || !choice.discard {
            return Abilities::default();
        }
        match (medium, queue) {
            (Medium::BlockDevice, Some(queue)) => Abilities {
                discard: (queue.discard_max_bytes > 0)
                    .then_some(queue.discard_granularity.max(SECTOR)),
                unmap: queue.write_zeroes_max_bytes > 0,
                secure_erase: secure_erase::is_supported(file),
            },
            _ => {
                let punches = punches_holes(file, bytes);
                let granularity = punches.then_some(4096);
                Abilities { discard: granularity, unmap: punches, secure_erase: false }
            }
        }
    }

    /// Those of a device with nothing behind it: all of them cost nothing.
    pub(super) fn of_null(logical: u32, choice: &Choice) -> Self {
        let writable = choice.discard && !choice.read_only;
        Abilities { discard: writable.then_some(logical), unmap: writable, secure_erase: false }
    }
}

/// Punches a hole behind the end of the file, where there is nothing to lose.
fn punches_holes(file: &OwnedFd, bytes: u64) -> bool {
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    let behind = bytes.next_multiple_of(1 << 20);
    rustix::fs::fallocate(file, flags, behind, 4096).is_ok()
}
