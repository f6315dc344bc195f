//! The kernel's command line.

use vm_memory::GuestMemoryBackend;

use crate::Error;
use crate::layout::{COMMAND_LINE, LOW_RAM_END};
use crate::loading::Write;

/// What Linux takes on x86 where its header does not say: `COMMAND_LINE_SIZE` less the final zero.
pub(crate) const LINUX_LIMIT: usize = 2047;
/// What there is room for.
const ROOM: usize = 0xffff;
const _: () = assert!(COMMAND_LINE + (ROOM as u64) < LOW_RAM_END);

/// Whether a kernel that takes `limit` bytes takes this line.
pub(crate) fn check(line: &str, limit: usize) -> Result<(), Error> {
    let limit = limit.min(ROOM);
    if let Some(at) = line.bytes().position(|byte| byte.is_ascii_control() && byte != b'\t') {
        return Err(Error::CommandLineControl { at });
    }
    if line.len() > limit {
        return Err(Error::CommandLineTooLong { length: line.len(), limit });
    }
    Ok(())
}

/// Writes it, with its final zero.
pub(crate) fn write<M: GuestMemoryBackend>(
    memory: &M,
    line: &str,
    limit: usize,
) -> Result<(), Error> {
    check(line, limit)?;
    let mut bytes = line.as_bytes().to_vec();
    bytes.push(0);
    memory.put(&bytes, COMMAND_LINE, "the command line")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line_and_not_too_long() {
        assert!(check("console=ttyS0\tquiet ä", LINUX_LIMIT).is_ok());
        assert!(check(&"x".repeat(10), 10).is_ok());
        let error = check(&"x".repeat(11), 10).unwrap_err().to_string();
        assert!(error.contains("11") && error.contains("10") && error.contains("shorten"));
        for bad in ["a\0b", "a\nb"] {
            assert!(matches!(check(bad, LINUX_LIMIT), Err(Error::CommandLineControl { at: 1 })));
        }
    }

    #[test]
    fn a_header_cannot_ask_for_more_than_there_is_room_for() {
        assert!(check(&"x".repeat(ROOM + 1), usize::MAX).is_err());
    }
}
