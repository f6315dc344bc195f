//! The guest's memory before its first instruction: its program and its page tables.
//!
//! ```text
//! 0x1_0000  page tables: one page of level 4, one of level 3, four of level 2 (2 MiB pages, 4 GiB)
//! 0x8_0000  top of the stack
//! 0x20_0000 the program, where the linker puts it
//! 12 MiB    free memory, all zero
//! ```

use hypervisor::{BootState, GuestAddress};
use vm_memory::{Bytes, GuestMemoryMmap};

use crate::error::{Error, Result};

/// The program, compiled by `build.rs`.
const PROGRAM: &[u8] = include_bytes!(env!("CPL3_GUEST"));

const PAGE_TABLES: u64 = 0x1_0000;
const STACK: u64 = 0x8_0000;
const PAGE: u64 = 4096;
const GIGABYTES: u64 = 4;
const ENTRIES: u64 = 512;
const LARGE_PAGE: u64 = 2 << 20;

/// Page table entry: present, writable, user; and for level 2, that it is a page and no table.
const USER: u64 = 0b111;
const IS_PAGE: u64 = 1 << 7;

/// A program header of an ELF file that is to be loaded.
const LOAD: u64 = 1;

/// Loads everything; says where the guest starts, with this argument.
pub(crate) fn load(memory: &GuestMemoryMmap, argument: u64) -> Result<BootState> {
    load_segments(memory)?;
    map_everything(memory)?;
    Ok(BootState::User64 {
        entry: GuestAddress(number(0x18, 8)?),
        argument,
        // As if its first function had been called: a return address lies on the stack.
        stack: GuestAddress(STACK - 8),
        page_tables: GuestAddress(PAGE_TABLES),
    })
}

fn load_segments(memory: &GuestMemoryMmap) -> Result<()> {
    let (headers, size, count) = (number(0x20, 8)?, number(0x36, 2)?, number(0x38, 2)?);
    for at in (0..count).map(|index| headers + index * size) {
        if number(at, 4)? != LOAD {
            continue;
        }
        let (offset, address, length) =
            (number(at + 0x08, 8)?, number(at + 0x10, 8)?, number(at + 0x20, 8)?);
        memory.write_slice(bytes(offset, length)?, GuestAddress(address))?;
    }
    Ok(())
}

/// Maps the first gigabytes to themselves, for everyone.
fn map_everything(memory: &GuestMemoryMmap) -> Result<()> {
    let (level3, level2) = (PAGE_TABLES + PAGE, PAGE_TABLES + 2 * PAGE);
    let store = |at: u64, entry: u64| memory.write_slice(&entry.to_le_bytes(), GuestAddress(at));
    store(PAGE_TABLES, level3 | USER)?;
    for gigabyte in 0..GIGABYTES {
        store(level3 + 8 * gigabyte, (level2 + gigabyte * PAGE) | USER)?;
    }
    for page in 0..GIGABYTES * ENTRIES {
        store(level2 + 8 * page, (page * LARGE_PAGE) | USER | IS_PAGE)?;
    }
    Ok(())
}

/// A little-endian number of the program's file.
fn number(offset: u64, length: u64) -> Result<u64> {
    let digits = bytes(offset, length)?.iter().rev();
    Ok(digits.fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

fn bytes(offset: u64, length: u64) -> Result<&'static [u8]> {
    let range = usize::try_from(offset).ok().zip(usize::try_from(offset + length).ok());
    let found = range.and_then(|(start, end)| PROGRAM.get(start..end));
    found.ok_or(Error::Image("its file is too short"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_and_its_tables_are_in_memory() {
        let ranges = [(GuestAddress(0), 16 << 20)];
        let memory = GuestMemoryMmap::from_ranges(&ranges).unwrap();
        let state = load(&memory, 7).unwrap();
        let BootState::User64 { entry, argument, .. } = state else { panic!("{state:?}") };
        assert_eq!(argument, 7);
        assert_ne!(memory.read_obj::<u32>(entry).unwrap(), 0);
        let tables: u64 = memory.read_obj(GuestAddress(PAGE_TABLES)).unwrap();
        assert_eq!(tables & 0xfff, USER);
    }
}
