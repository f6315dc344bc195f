//! ELF files with a PVH entry, such as Linux's `vmlinux`.
//!
//! `linux-loader` reads these, too, but takes 32-bit files and other machines' for its own, and
//! forgets the entry when another note segment follows.

use crate::layout::HIGH_RAM;
use crate::{Error, Image};

/// Size of the ELF header and of a program header (ELF-64).
const HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;
/// More program headers than any kernel has.
const MOST_PROGRAM_HEADERS: u16 = 128;
/// More than any kernel's notes need, in bytes.
const MOST_NOTES: u64 = 1 << 20;

const CLASS_64: u8 = 2;
const LITTLE_ENDIAN: u8 = 1;
const MACHINE_X86_64: u16 = 62;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
/// The note with the PVH entry: `XEN_ELFNOTE_PHYS32_ENTRY`, named "Xen".
const PHYS32_ENTRY: u32 = 18;

const COPY_AGAIN: &str = "Copy or download it again.";
const FOR_X86_64: &str = "Use one that was built for x86-64.";
const WITH_PVH: &str =
    "Boot the bzImage (vmlinuz) of the same kernel, or build it with CONFIG_PVH=y.";

/// What of a file is loaded, and where it starts.
#[derive(Debug)]
pub(crate) struct Elf {
    pub(crate) segments: Vec<Loaded>,
    /// Physical address of the first instruction.
    pub(crate) entry: u32,
}

/// A segment that is loaded; its offset in the file, physical address, sizes in file and memory.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) offset: u64,
    pub(crate) address: u64,
    pub(crate) file_size: u64,
    pub(crate) memory_size: u64,
}

impl Elf {
    /// Reads and checks the headers and notes.
    pub(crate) fn read(image: &Image) -> Result<Self, Error> {
        let header = image.read_at(0, HEADER)?;
        check(&header, image)?;
        let truncated = || image.unbootable("it ends within its headers", COPY_AGAIN);
        let offset = u64_at(&header, 32).ok_or_else(truncated)?;
        let count = u16_at(&header, 56).ok_or_else(truncated)?;
        if count > MOST_PROGRAM_HEADERS {
            return Err(image.unbootable(format!("it has {count} program headers"), COPY_AGAIN));
        }
        let table = image.read_at(offset, usize::from(count) * PROGRAM_HEADER)?;
        let (mut segments, mut entry) = (Vec::new(), None);
        for header in table.chunks(PROGRAM_HEADER) {
            let segment = Loaded::parse(header).ok_or_else(truncated)?;
            match u32_at(header, 0) {
                Some(PT_LOAD) if segment.memory_size > 0 => {
                    segments.push(segment.checked(image)?);
                }
                Some(PT_NOTE) if segment.file_size <= MOST_NOTES => {
                    let size = usize::try_from(segment.file_size).unwrap_or(0);
                    let notes = image.read_at(segment.offset, size)?;
                    let alignment = u64_at(header, 48).filter(|&a| a == 8).map_or(4, |_| 8);
                    entry = entry.or_else(|| pvh_entry(&notes, alignment));
                }
                _ => {}
            }
        }
        let entry = entry.ok_or_else(|| image.unbootable("it has no PVH entry", WITH_PVH))?;
        if !segments.iter().any(|segment| segment.contains(entry.into())) {
            let what = format!("its PVH entry {entry:#x} is outside of what is loaded");
            return Err(image.unbootable(what, COPY_AGAIN));
        }
        Ok(Self { segments, entry })
    }
}

/// Whether the header is of an x86-64 executable.
fn check(header: &[u8], image: &Image) -> Result<(), Error> {
    let wrong = |what: &str, advice| Err(image.unbootable(what, advice));
    if header.len() < HEADER {
        return wrong("it ends within its header", COPY_AGAIN);
    }
    if header.get(4) != Some(&CLASS_64) {
        return wrong("it is a 32-bit ELF file", FOR_X86_64);
    }
    if header.get(5) != Some(&LITTLE_ENDIAN) || u16_at(header, 18) != Some(MACHINE_X86_64) {
        return wrong("it is an ELF file for another kind of CPU", FOR_X86_64);
    }
    if u16_at(header, 54).map(usize::from) != Some(PROGRAM_HEADER) {
        return wrong("its program headers have a strange size", COPY_AGAIN);
    }
    Ok(())
}

impl Loaded {
    fn parse(header: &[u8]) -> Option<Self> {
        Some(Self {
            offset: u64_at(header, 8)?,
            address: u64_at(header, 24)?,
            file_size: u64_at(header, 32)?,
            memory_size: u64_at(header, 40)?,
        })
    }

    fn checked(self, image: &Image) -> Result<Self, Error> {
        let Self { offset, address, file_size, memory_size } = self;
        let file_end = offset.checked_add(file_size);
        if file_end.is_none_or(|end| image.size().is_ok_and(|size| end > size)) {
            return Err(image.unbootable("it ends within a segment", COPY_AGAIN));
        }
        if file_size > memory_size || address.checked_add(memory_size).is_none() {
            let what = format!("its segment at {address:#x} has impossible sizes");
            return Err(image.unbootable(what, COPY_AGAIN));
        }
        if address < HIGH_RAM {
            let what = format!("it has a segment at {address:#x}, below 1 MiB");
            return Err(image.unbootable(what, "Boot the bzImage (vmlinuz) of the same kernel."));
        }
        Ok(self)
    }

    pub(crate) fn end(&self) -> u64 {
        self.address.saturating_add(self.memory_size)
    }

    fn contains(&self, address: u64) -> bool {
        (self.address..self.end()).contains(&address)
    }
}

/// Looks for the PVH entry among notes: name size, contents' size, type; name; contents.
fn pvh_entry(mut notes: &[u8], alignment: usize) -> Option<u32> {
    loop {
        let name_size = usize::try_from(u32_at(notes, 0)?).ok()?;
        let size = usize::try_from(u32_at(notes, 4)?).ok()?;
        let kind = u32_at(notes, 8)?;
        let name = notes.get(12..)?.get(..name_size)?;
        let at = name_size.checked_add(12)?.checked_next_multiple_of(alignment)?;
        if kind == PHYS32_ENTRY && name == b"Xen\0" && size >= 4 {
            return u32_at(notes, at);
        }
        notes = notes.get(at.checked_add(size)?.checked_next_multiple_of(alignment)?..)?;
    }
}

fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes_at(bytes, at).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes_at(bytes, at).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes_at(bytes, at).map(u64::from_le_bytes)
}
