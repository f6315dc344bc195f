//! How much of the memory is in the host's RAM at the moment.
#![expect(unsafe_code, reason = "mincore is not wrapped")]

use std::io;

use super::Region;
use crate::{Error, Result};

/// Pages looked at in one call; a byte each is needed for the answer.
const PAGES: usize = 64 << 10;
const PAGE: usize = 4096;

/// Bytes of a region that are in RAM.
pub(super) fn bytes(region: &Region) -> Result<u64> {
    let mapping = region.mapping();
    let mut answer = vec![0_u8; PAGES.min(mapping.size() / PAGE)];
    let mut pages = 0_u64;
    for offset in (0..mapping.size()).step_by(PAGES * PAGE) {
        let size = (mapping.size() - offset).min(PAGES * PAGE);
        let at = mapping.as_ptr().wrapping_add(offset);
        // SAFETY: the range is within the mapping, which `mapping` keeps, and `answer` has a byte
        // for each of its pages. Neither reads nor changes the memory itself.
        let result = unsafe { libc::mincore(at.cast(), size, answer.as_mut_ptr()) };
        if result != 0 {
            let source = io::Error::last_os_error();
            return Err(Error::Memory { action: "asking what is in RAM", source, advice: "" });
        }
        let seen = answer.iter().take(size / PAGE).filter(|&&page| page & 1 != 0);
        pages += seen.count() as u64;
    }
    Ok(pages * PAGE as u64)
}
