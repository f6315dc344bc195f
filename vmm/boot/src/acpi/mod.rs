//! ACPI tables (ACPI 6.5): how the guest learns of CPUs, interrupts, PCI and the few devices that
//! are not on it.
//!
//! The platform is hardware-reduced (3.11.1): no fixed registers, no SCI, no legacy interrupt
//! controllers. Every table is found from the root pointer below 1 MiB; the tables themselves end
//! low RAM, in a range that the memory map calls ACPI's.

mod fixed;
mod interrupts;
mod namespace;
mod numa;
mod pci;
mod table;

use std::ops::Range;

use acpi_tables::rsdp::Rsdp;
use acpi_tables::xsdt::XSDT;
use vm_memory::GuestMemoryBackend;

use crate::layout::{HIGH_RAM, RSDP};
use crate::loading::{Write, mebibytes};
use crate::{Error, Platform};
use table::{OEM_ID, OEM_REVISION, OEM_TABLE_ID, bytes};

/// Tables start at multiples of this; 5.2 asks for nothing, other firmware does the same.
const ALIGNMENT: usize = 16;
/// What the tables take of RAM is a multiple of this.
const PAGE: u64 = 4096;

/// All tables, and where they go.
#[derive(Debug)]
pub(crate) struct Tables {
    base: u64,
    end: u64,
    bytes: Vec<u8>,
    root_pointer: Vec<u8>,
}

impl Tables {
    /// The tables of a platform whose low RAM ends at `ram_end`.
    pub(crate) fn new(platform: &Platform, ram_end: u64) -> Result<Self, Error> {
        let too_little = || Error::TooLittleRam { have: mebibytes(ram_end) };
        let namespace = namespace::dsdt(platform);
        let mut others = vec![interrupts::madt(platform), pci::mcfg()];
        others.extend(numa::tables(platform));

        // Tables state addresses of others, and none depends on the addresses in its size.
        let size = namespace.len()
            + fixed::size()
            + others.iter().map(Vec::len).sum::<usize>()
            + 8 * (others.len() + 1)
            + usize::from(table::HEADER)
            + ALIGNMENT * (others.len() + 3);
        let size = u64::try_from(size).unwrap_or(u64::MAX);
        let base = ram_end.checked_sub(size).ok_or_else(too_little)? / PAGE * PAGE;
        if base <= HIGH_RAM {
            return Err(too_little());
        }

        let mut heap = Heap { base, bytes: Vec::new() };
        let dsdt = heap.add(&namespace);
        let mut listed = vec![heap.add(&fixed::fadt(dsdt))];
        listed.extend(others.iter().map(|table| heap.add(table)));
        let mut xsdt = XSDT::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION);
        for address in listed {
            xsdt.add_entry(address);
        }
        let xsdt = heap.add(&bytes(&xsdt));
        let root_pointer = bytes(&Rsdp::new(OEM_ID, xsdt));
        Ok(Self { base, end: ram_end, bytes: heap.bytes, root_pointer })
    }

    /// What they take of RAM.
    pub(crate) fn range(&self) -> Range<u64> {
        self.base..self.end
    }

    /// Writes them, and the root pointer.
    pub(crate) fn write<M: GuestMemoryBackend>(&self, memory: &M) -> Result<(), Error> {
        memory.put(&self.bytes, self.base, "the ACPI tables")?;
        memory.put(&self.root_pointer, RSDP, "the ACPI root pointer")
    }
}

/// Tables one after the other, from an address on.
struct Heap {
    base: u64,
    bytes: Vec<u8>,
}

impl Heap {
    /// Adds a table and says where it is.
    fn add(&mut self, table: &[u8]) -> u64 {
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGNMENT), 0);
        let address = self.base + self.bytes.len() as u64;
        self.bytes.extend_from_slice(table);
        address
    }
}

#[cfg(test)]
#[path = "acpi_test.rs"]
mod tests;
