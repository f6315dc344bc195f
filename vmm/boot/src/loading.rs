//! Everything a guest starts from, written in one pass.

use hypervisor::BootState;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

use crate::elf::Elf;
use crate::map::{self, MemoryMap};
use crate::{Error, Image, Kind, Platform};
use crate::{acpi, bzimage, command_line, copying, layout, pvh, reset_vector};

/// What to boot.
#[derive(Debug)]
pub struct Payload {
    /// The kernel: a bzImage, or an ELF file with a PVH entry.
    pub kernel: Image,
    /// The initial RAM disk, if any.
    pub initrd: Option<Image>,
    /// The kernel's command line: one line of text.
    pub command_line: String,
}

impl Payload {
    /// Looks at the headers without loading anything.
    ///
    /// # Errors
    /// When the kernel or the command line is of no use, in words that say what to do.
    pub fn check(&self) -> Result<(), Error> {
        let limit = match self.kernel.kind()? {
            Kind::BzImage => bzimage::Header::read(&self.kernel)?.command_line_limit(),
            Kind::Elf => Elf::read(&self.kernel).map(|_| command_line::LINUX_LIMIT)?,
        };
        command_line::check(&self.command_line, limit)
    }
}

/// Where the loaders may put things, and what they tell the guest about.
pub(crate) struct Room<'a> {
    /// End of low RAM that is free.
    pub(crate) end: u64,
    /// The memory map.
    pub(crate) map: &'a MemoryMap,
}

/// Loads kernel, initrd, command line and tables into guest memory.
///
/// RAM is what `memory` has. The payload's files are read anew, so that a machine can be loaded
/// again when it is reset.
///
/// # Errors
/// When the payload is of no use or does not fit, in words that say what to do.
pub fn load<M: GuestMemoryBackend>(
    memory: &M,
    payload: &Payload,
    platform: &Platform,
) -> Result<BootState, Error> {
    let ram = map::ram(memory);
    let tables = acpi::Tables::new(platform, map::low_ram_end(&ram)?)?;
    let map = MemoryMap::new(&ram, &tables.range());
    let room = Room { end: tables.range().start, map: &map };
    tables.write(memory)?;
    reset_vector::write(memory)?;
    match payload.kernel.kind()? {
        Kind::BzImage => bzimage::load(memory, payload, &room),
        Kind::Elf => pvh::load(memory, payload, &room),
    }
}

/// Guest memory as the loaders use it.
pub(crate) trait Write {
    /// Writes `bytes`, which are called `what` should it fail.
    fn put(&self, bytes: &[u8], address: u64, what: &'static str) -> Result<(), Error>;

    /// Copies `length` bytes of the file at `offset`.
    fn copy(&self, image: &Image, offset: u64, length: u64, address: u64) -> Result<(), Error>;
}

impl<M: GuestMemoryBackend> Write for M {
    fn put(&self, bytes: &[u8], address: u64, what: &'static str) -> Result<(), Error> {
        self.write_slice(bytes, GuestAddress(address)).map_err(|source| Error::Write {
            what,
            address,
            source,
        })
    }

    fn copy(&self, image: &Image, offset: u64, length: u64, address: u64) -> Result<(), Error> {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        copying::copy(self, image, (offset, length), address).map_err(|source| Error::Load {
            path: image.path().to_owned(),
            address,
            source,
        })
    }
}

/// Rounds up to whole MiB, for messages.
pub(crate) fn mebibytes(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

/// The error for something that needs RAM up to `needed`.
pub(crate) fn too_little(what: &'static str, image: &Image, needed: u64, room: &Room<'_>) -> Error {
    // The tables above the room have to fit, too.
    let tables = room.map.ram_end().saturating_sub(room.end);
    Error::Memory {
        what,
        path: image.path().to_owned(),
        needed: mebibytes(needed.saturating_add(tables)),
        have: room.map.ram_end() >> 20,
    }
}

/// Whether `length` bytes from `start` on lie in the room, above the old BIOS area.
pub(crate) fn fits(start: u64, length: u64, room: &Room<'_>) -> bool {
    start >= layout::HIGH_RAM && start.checked_add(length).is_some_and(|end| end <= room.end)
}

#[cfg(test)]
#[path = "loading_test.rs"]
mod tests;
