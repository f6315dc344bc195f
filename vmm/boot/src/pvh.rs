//! The PVH boot protocol: an ELF file is entered in 32-bit mode, with a start info in EBX
//! (xen/include/public/arch-x86/hvm/start_info.h).

use hypervisor::{BootState, GuestAddress};
use linux_loader::loader::elf::start_info::{
    XEN_HVM_START_MAGIC_VALUE, hvm_memmap_table_entry, hvm_modlist_entry, hvm_start_info,
};
use vm_memory::{ByteValued, GuestMemoryBackend};

use crate::elf::{Elf, Loaded};
use crate::layout::{COMMAND_LINE, FOUR_GIB, RSDP, START_INFO};
use crate::loading::{Payload, Room, Write, fits, too_little};
use crate::{Error, command_line, initrd, tables};

/// First version with a memory map.
const VERSION: u32 = 1;
/// Where the module list is.
const MODULES: u64 = START_INFO + 0x40;
/// Where the memory map is.
const MEMORY_MAP: u64 = START_INFO + 0x100;
/// Guest memory is cleared in pieces of this size.
const ZEROES: [u8; 4096] = [0; 4096];

/// Loads kernel, initrd and command line, and fills in the start info.
pub(crate) fn load<M: GuestMemoryBackend>(
    memory: &M,
    payload: &Payload,
    room: &Room<'_>,
) -> Result<BootState, Error> {
    let image = &payload.kernel;
    let elf = Elf::read(image)?;
    let end = elf.segments.iter().map(Loaded::end).max().unwrap_or(0);
    for segment in &elf.segments {
        if !fits(segment.address, segment.memory_size, room) {
            return Err(too_little("the kernel", image, end, room));
        }
        memory.copy(image, segment.offset, segment.file_size, segment.address)?;
        clear(memory, segment.address + segment.file_size, segment.end())?;
    }
    command_line::write(memory, &payload.command_line, command_line::LINUX_LIMIT)?;
    let modules = match &payload.initrd {
        // Linux keeps its address in 32 bits.
        Some(image) => vec![initrd::load(memory, image, end, FOUR_GIB, room)?],
        None => Vec::new(),
    };
    let list = modules.iter().map(|range| hvm_modlist_entry {
        paddr: range.start,
        size: range.end - range.start,
        ..Default::default()
    });
    memory.put(&bytes(list), MODULES, "the module list")?;
    let map = room.map.entries().iter().map(|entry| hvm_memmap_table_entry {
        addr: entry.range.start,
        size: entry.range.end - entry.range.start,
        type_: entry.what as u32,
        reserved: 0,
    });
    memory.put(&bytes(map), MEMORY_MAP, "the memory map")?;
    let info = hvm_start_info {
        magic: XEN_HVM_START_MAGIC_VALUE,
        version: VERSION,
        nr_modules: u32::from(payload.initrd.is_some()),
        modlist_paddr: MODULES,
        cmdline_paddr: COMMAND_LINE,
        rsdp_paddr: RSDP,
        memmap_paddr: MEMORY_MAP,
        memmap_entries: u32::try_from(room.map.entries().len()).unwrap_or(0),
        ..Default::default()
    };
    memory.put(info.as_slice(), START_INFO, "the start info")?;
    Ok(BootState::Pvh {
        entry: GuestAddress(elf.entry.into()),
        start_info: GuestAddress(START_INFO),
        gdt: tables::write_descriptors(memory)?,
    })
}

/// Clears what a segment has in memory and not in the file; after a reset it is not zero by itself.
fn clear<M: GuestMemoryBackend>(memory: &M, mut from: u64, to: u64) -> Result<(), Error> {
    while from < to {
        let length = usize::try_from(to - from).unwrap_or(usize::MAX).min(ZEROES.len());
        let piece = ZEROES.get(..length).unwrap_or(&ZEROES);
        memory.put(piece, from, "the kernel's cleared memory")?;
        from += piece.len() as u64;
    }
    Ok(())
}

fn bytes<T: ByteValued>(entries: impl Iterator<Item = T>) -> Vec<u8> {
    entries.flat_map(|entry| entry.as_slice().to_vec()).collect()
}
