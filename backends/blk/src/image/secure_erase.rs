//! Whether a block device can erase beyond recovery.
#![expect(unsafe_code, reason = "the ioctl BLKSECDISCARD, for which there is no safe wrapper")]

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::ioctl::{Setter, ioctl, opcode};

const BLKSECDISCARD: rustix::ioctl::Opcode = opcode::none(0x12, 125);

/// Asks for a range that no device accepts: one that can erase says that the range is not aligned,
/// one that cannot says so before it looks at the range. (Linux before 5.19 looks at the range
/// first; there the answer comes with the first request.)
pub(super) fn is_supported(device: &OwnedFd) -> bool {
    let misaligned: [u64; 2] = [1, 1];
    // SAFETY: BLKSECDISCARD reads two u64, a start and a length, from the pointer.
    let request = unsafe { Setter::<BLKSECDISCARD, [u64; 2]>::new(misaligned) };
    // SAFETY: the argument is the one that this opcode takes; the range is refused, see above.
    let answer = unsafe { ioctl(device, request) };
    answer == Err(Errno::INVAL)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_regular_file_cannot() {
        let file = tempfile::tempfile().unwrap();
        assert!(!super::is_supported(&file.into()));
    }
}
