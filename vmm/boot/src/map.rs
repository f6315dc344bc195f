//! The memory map that the guest is told: RAM, tables, and what looks like RAM and is not.

use std::ops::Range;

use hypervisor::layout::{ECAM, KVM_PRIVATE};
use vm_memory::{Address, GuestMemoryBackend, GuestMemoryRegion};

use crate::Error;
use crate::layout::{HIGH_RAM, LEGACY_HOLE};
use crate::loading::mebibytes;

/// What a range is; the numbers are those of e820 (ACPI 6.5, table 15.6) and of PVH's memory map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Use {
    /// The guest may use it.
    Ram = 1,
    /// The guest must leave it alone.
    Reserved = 2,
    /// ACPI tables; RAM again once they were read.
    Acpi = 3,
}

/// A range of one use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) range: Range<u64>,
    pub(crate) what: Use,
}

/// Entries in ascending order that do not overlap.
#[derive(Debug)]
pub(crate) struct MemoryMap {
    entries: Vec<Entry>,
    ram_end: u64,
}

impl MemoryMap {
    /// The map of a machine with this RAM, whose tables end it.
    ///
    /// ECAM is reserved because Linux believes MCFG only where the memory map agrees.
    pub(crate) fn new(ram: &[Range<u64>], tables: &Range<u64>) -> Self {
        let special = [
            Entry { range: LEGACY_HOLE, what: Use::Reserved },
            Entry { range: tables.clone(), what: Use::Acpi },
            Entry { range: ECAM, what: Use::Reserved },
            Entry { range: KVM_PRIVATE, what: Use::Reserved },
        ];
        let mut free = ram.to_vec();
        for hole in &special {
            free = free.iter().flat_map(|range| without(range, &hole.range)).collect();
        }
        let free = free.into_iter().map(|range| Entry { range, what: Use::Ram });
        let mut entries: Vec<Entry> = special.iter().cloned().chain(free).collect();
        entries.retain(|entry| !entry.range.is_empty());
        entries.sort_by_key(|entry| entry.range.start);
        Self { entries, ram_end: tables.end }
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// End of RAM below the PCI hole, tables included.
    pub(crate) fn ram_end(&self) -> u64 {
        self.ram_end
    }
}

/// What is left of a range: at most two.
fn without(range: &Range<u64>, hole: &Range<u64>) -> impl Iterator<Item = Range<u64>> + use<> {
    let before = range.start..range.end.min(hole.start);
    let after = range.start.max(hole.end)..range.end;
    [before, after].into_iter().filter(|range| !range.is_empty())
}

/// Guest memory as ranges in ascending order, adjacent regions in one.
pub(crate) fn ram<M: GuestMemoryBackend>(memory: &M) -> Vec<Range<u64>> {
    let mut regions: Vec<Range<u64>> = memory
        .iter()
        .map(|region| {
            let start = region.start_addr().raw_value();
            start..start.saturating_add(region.len())
        })
        .collect();
    regions.sort_by_key(|region| region.start);
    let mut merged: Vec<Range<u64>> = Vec::new();
    for region in regions {
        match merged.last_mut() {
            Some(last) if last.end == region.start => last.end = region.end,
            _ => merged.push(region),
        }
    }
    merged
}

/// End of the RAM that starts at 0.
pub(crate) fn low_ram_end(ram: &[Range<u64>]) -> Result<u64, Error> {
    let end = ram.first().filter(|range| range.start == 0).map_or(0, |range| range.end);
    if end <= HIGH_RAM {
        return Err(Error::TooLittleRam { have: mebibytes(end) });
    }
    Ok(end)
}

#[cfg(test)]
mod tests {
    use std::iter;

    use proptest::prelude::*;

    use super::*;

    /// A machine as the hypervisor lays it out: low RAM, perhaps in several nodes, and high RAM.
    fn machine() -> impl Strategy<Value = (Vec<Range<u64>>, Range<u64>)> {
        (2u64..3072, prop::option::of(1u64..1 << 20), 1u64..200).prop_map(|(low, high, tables)| {
            let high = high.map(|size| 1 << 32..(1 << 32) + (size << 20));
            let ram = iter::once(0..low << 20).chain(high).collect();
            let end = low << 20;
            (ram, end - tables * 4096..end)
        })
    }

    proptest! {
        #[test]
        fn no_entry_overlaps_and_all_ram_is_covered((ram, tables) in machine()) {
            let map = MemoryMap::new(&ram, &tables);
            for pair in map.entries().windows(2) {
                prop_assert!(pair[0].range.end <= pair[1].range.start);
            }
            let covered: u64 = map
                .entries()
                .iter()
                .filter(|entry| ![ECAM, KVM_PRIVATE].contains(&entry.range))
                .map(|entry| entry.range.end - entry.range.start)
                .sum();
            prop_assert_eq!(covered, ram.iter().map(|range| range.end - range.start).sum::<u64>());
            for entry in map.entries().iter().filter(|entry| entry.what == Use::Ram) {
                prop_assert!(ram.iter().any(|r| r.start <= entry.range.start && entry.range.end <= r.end));
                for special in [&LEGACY_HOLE, &tables, &ECAM, &KVM_PRIVATE] {
                    prop_assert!(entry.range.end <= special.start || special.end <= entry.range.start);
                }
            }
            prop_assert!(map.entries().len() <= 128, "what the zero page and Linux's PVH entry take");
        }
    }

    #[test]
    fn ram_that_does_not_start_at_zero_or_ends_below_the_kernel_is_too_little() {
        let end_of =
            |range: Option<Range<u64>>| low_ram_end(&range.into_iter().collect::<Vec<_>>()).ok();
        assert_eq!(end_of(None), None);
        assert_eq!(end_of(Some(4096..1 << 30)), None);
        assert_eq!(end_of(Some(0..HIGH_RAM)), None);
        assert_eq!(end_of(Some(0..2 * HIGH_RAM)), Some(2 * HIGH_RAM));
    }
}
