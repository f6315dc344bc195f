//! The dirty log of a live migration (vhost-user, "Migration").

use std::os::fd::OwnedFd;

use super::{GuestAddress, Mapping};
use crate::Error;

/// Size of the pages that the log counts in, bytes.
const LOG_PAGE: u64 = 4096;

/// A bitmap shared with the front-end: one bit for each 4096-byte page of guest memory that was
/// written. A page outside the bitmap is not marked.
#[derive(Debug)]
pub struct DirtyLog {
    bits: Mapping,
}

impl DirtyLog {
    /// Maps `size` bytes of `fd` at `offset`.
    ///
    /// # Errors
    /// When the range cannot be mapped.
    pub fn map(fd: &OwnedFd, offset: u64, size: u64) -> Result<Self, Error> {
        // The offset need not be page-aligned; the mapping must be.
        let skew = offset % LOG_PAGE;
        if skew != 0 {
            return Err(Error::Map {
                len: size,
                offset,
                why: "the log is not page-aligned".into(),
            });
        }
        Ok(DirtyLog { bits: Mapping::shared(fd, offset, size)? })
    }

    /// Marks all pages that `len` bytes from `start` touch.
    pub fn mark(&self, start: GuestAddress, len: u64) {
        let Some(last) = len.checked_sub(1).map(|n| start.0.saturating_add(n)) else { return };
        let end = (last / LOG_PAGE).min((self.bits.len() as u64).saturating_mul(8));
        for page in start.0 / LOG_PAGE..=end {
            let Ok(byte) = usize::try_from(page / 8) else { return };
            self.bits.set_bits(byte, 1 << (page % 8));
        }
    }
}
