//! The device's files, and how each of them is best served.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::FileType;
use rustix::io::Errno;

use crate::engine::path::Way;

/// One of the device's files.
#[derive(Debug)]
pub(super) struct File {
    pub(super) fd: Arc<OwnedFd>,
    /// Where it is registered.
    pub(super) slot: u32,
    /// Whether reads, writes and syncs are carried out on the spot.
    pub(super) at_once: bool,
    /// Whether it is a block device, where discarding is not a matter of fallocate.
    pub(super) is_block_device: bool,
    /// Whether the ring takes the block layer's discard command for it. Until it is known: no.
    pub(super) discards_in_ring: bool,
    /// Whether zeroes can be written by deallocating. False once it has been refused.
    pub(super) unmaps_zeroes: bool,
}

impl File {
    pub(super) fn new(fd: Arc<OwnedFd>, slot: u32) -> Self {
        let kind = rustix::fs::fstat(&fd).map(|stat| FileType::from_raw_mode(stat.st_mode));
        File {
            slot,
            at_once: Way::to(&fd) == Way::AtOnce,
            is_block_device: kind == Ok(FileType::BlockDevice),
            discards_in_ring: false,
            unmaps_zeroes: true,
            fd,
        }
    }

    /// Takes note of how the kernel answered a discard of no bytes: it refuses the range, unless it
    /// does not know the command, or the device cannot discard at all.
    pub(super) fn discard_probed(&mut self, result: Result<u32, Errno>) {
        self.discards_in_ring = result == Err(Errno::INVAL);
    }
}
