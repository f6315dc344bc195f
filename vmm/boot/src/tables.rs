//! The CPU's own tables: descriptors and pages.

use hypervisor::{BOOT_GDT, DescriptorTable, GuestAddress};
use vm_memory::GuestMemoryBackend;

use crate::Error;
use crate::layout::{FOUR_GIB, GDT, PAGE_TABLES};
use crate::loading::Write;

/// Page table entry: present, writable.
const PRESENT_WRITABLE: u64 = 0b11;
/// Page directory entry that maps 2 MiB.
const LARGE: u64 = 1 << 7;
/// What a large page directory entry maps.
const LARGE_PAGE: u64 = 2 << 20;
const PAGE: u64 = 4096;

/// Writes the global descriptor table.
pub(crate) fn write_descriptors<M: GuestMemoryBackend>(
    memory: &M,
) -> Result<DescriptorTable, Error> {
    memory.put(&words(BOOT_GDT), GDT, "the descriptor table")?;
    let limit = u16::try_from(size_of_val(&BOOT_GDT) - 1).unwrap_or(u16::MAX);
    Ok(DescriptorTable { base: GuestAddress(GDT), limit })
}

/// Writes page tables that map the first 4 GiB to themselves, in pages of 2 MiB, and says where
/// they are.
pub(crate) fn write_pages<M: GuestMemoryBackend>(memory: &M) -> Result<GuestAddress, Error> {
    let pointers = PAGE_TABLES + PAGE;
    let directories = pointers + PAGE;
    let what = "the page tables";
    memory.put(&words([pointers | PRESENT_WRITABLE]), PAGE_TABLES, what)?;
    let gigabytes = (0..4).map(|n| (directories + n * PAGE) | PRESENT_WRITABLE);
    memory.put(&words(gigabytes), pointers, what)?;
    let pages = (0..FOUR_GIB / LARGE_PAGE).map(|n| (n * LARGE_PAGE) | LARGE | PRESENT_WRITABLE);
    memory.put(&words(pages), directories, what)?;
    Ok(GuestAddress(PAGE_TABLES))
}

fn words(words: impl IntoIterator<Item = u64>) -> Vec<u8> {
    words.into_iter().flat_map(u64::to_le_bytes).collect()
}
