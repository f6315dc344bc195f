//! From a file into guest memory, in the kernel.
//!
//! A read into the mapping would have each page of guest memory faulted in and zeroed before it is
//! filled. What is written to the memory's own file is copied once, a page at a time, and nothing is
//! mapped before the guest touches it.

use rustix::fs::{SeekFrom, seek, sendfile};
use rustix::io::Errno;
use vm_memory::{
    Bytes, FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryError, GuestMemoryRegion,
};

use crate::Image;

/// Copies `length` bytes of the file at `offset` to a guest address.
///
/// # Errors
/// When that is no guest memory, or the file cannot be read or is shorter.
pub(crate) fn copy<M: GuestMemoryBackend>(
    memory: &M,
    image: &Image,
    (offset, length): (u64, usize),
    address: u64,
) -> Result<(), GuestMemoryError> {
    let sent = match place(memory, address, length) {
        // What is not sent is read: huge pages cannot be written to, and other kinds of files not
        // be sent.
        Some((to, at)) => send(image, (offset, length), &to, at).unwrap_or(0),
        None => 0,
    };
    let rest = length.saturating_sub(sent);
    if rest == 0 {
        return Ok(());
    }
    let failed = |errno: Errno| GuestMemoryError::IOError(errno.into());
    let (mut file, done) = (image.file(), sent as u64);
    seek(file, SeekFrom::Start(offset.saturating_add(done))).map_err(failed)?;
    memory.read_exact_volatile_from(GuestAddress(address.saturating_add(done)), &mut file, rest)
}

/// Where in which file that part of guest memory is, if it is in one.
fn place<M: GuestMemoryBackend>(
    memory: &M,
    address: u64,
    length: usize,
) -> Option<(FileOffset, u64)> {
    let (region, start) = memory.to_region_addr(GuestAddress(address))?;
    let room = region.len().checked_sub(start.0)?;
    let file = region.file_offset().filter(|_| length as u64 <= room)?;
    Some((file.clone(), file.start().checked_add(start.0)?))
}

/// Returns how much was sent, which is less only if the file ends.
///
/// The position of the memory's file is shared with whoever the file is shared with. A back-end that
/// moved it meanwhile could have written the same itself.
fn send(
    image: &Image,
    (mut offset, length): (u64, usize),
    to: &FileOffset,
    at: u64,
) -> rustix::io::Result<usize> {
    seek(to.file(), SeekFrom::Start(at))?;
    let mut sent = 0;
    while sent < length {
        match sendfile(to.file(), image.file(), Some(&mut offset), length - sent) {
            Ok(0) => break,
            Ok(count) => sent += count,
            Err(Errno::INTR) => {}
            Err(error) if sent == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(sent)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write as _;

    use hypervisor::memory::{Config, Memory};
    use vm_memory::GuestMemoryMmap;

    use super::*;

    const LENGTH: usize = 100_000;

    fn image(content: &[u8]) -> (tempfile::NamedTempFile, Image) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content).unwrap();
        let open = File::open(file.path()).unwrap();
        let image = Image::new(file.path().to_owned(), open).unwrap();
        (file, image)
    }

    fn content() -> Vec<u8> {
        (0..LENGTH).map(|at| u8::try_from(at % 251).unwrap()).collect()
    }

    fn arrives<M: GuestMemoryBackend>(memory: &M) {
        let (_file, image) = image(&content());
        copy(memory, &image, (1, LENGTH - 1), 0x10_0333).unwrap();
        let mut found = vec![0; LENGTH + 1];
        memory.read_slice(&mut found, GuestAddress(0x10_0332)).unwrap();
        assert_eq!((found[0], found[LENGTH]), (0, 0), "nothing around it");
        assert_eq!(found[1..LENGTH], content()[1..]);
    }

    #[test]
    fn memory_with_a_file_is_written_through_it() {
        let memory = Memory::new(&Config::new(4 << 20)).unwrap();
        arrives(memory.guest());
        assert!(place(memory.guest(), 0x10_0000, LENGTH).is_some());
        assert!(memory.allocated().unwrap() < 1 << 20, "only what was copied");
    }

    #[test]
    fn memory_without_a_file_is_written_itself() {
        let memory: GuestMemoryMmap =
            GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 4 << 20)]).unwrap();
        assert!(place(&memory, 0x10_0000, LENGTH).is_none());
        arrives(&memory);
    }

    #[test]
    fn what_is_not_there_cannot_be_copied() {
        let memory = Memory::new(&Config::new(4 << 20)).unwrap();
        let (_file, image) = image(&content());
        copy(memory.guest(), &image, (1, LENGTH), 0x10_0000).unwrap_err();
        copy(memory.guest(), &image, (0, LENGTH), (4 << 20) - 10).unwrap_err();
    }
}
