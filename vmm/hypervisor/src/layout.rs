//! Where everything is in the guest's physical address space.
//!
//! ```text
//!           0  RAM, up to 3 GiB (the legacy hole is not used: nothing is mapped over it)
//! 0xc000_0000  32-bit BARs
//! 0xe000_0000  ECAM of PCI bus 0
//! 0xfe00_0000  generic event device and ACPI sleep registers
//! 0xfec0_0000  IOAPIC
//! 0xfee0_0000  local APICs
//! 0xfeff_c000  four pages for KVM on Intel CPUs without unrestricted guests
//! 0x1_0000_0000  the rest of the RAM, then 64-bit BARs up to the end of what the CPU addresses
//! ```

use std::ops::Range;

const GIB: u64 = 1 << 30;

/// Where low RAM must end, and the hole for devices begins.
pub const LOW_RAM_END: u64 = 3 * GIB;

/// Where the RAM beyond the hole begins.
pub const HIGH_RAM_START: u64 = 4 * GIB;

/// Window of the 32-bit BARs.
pub const MMIO32: Range<u64> = 0xc000_0000..0xe000_0000;

/// PCI configuration space in memory (ECAM): one bus, 32 devices of 8 functions, 4 KiB each.
pub const ECAM: Range<u64> = 0xe000_0000..0xe010_0000;

/// One page: generic event device and ACPI's sleep registers.
pub const EVENTS: Range<u64> = 0xfe00_0000..0xfe00_1000;

/// The IOAPIC's registers.
pub const IOAPIC: Range<u64> = 0xfec0_0000..0xfec0_1000;

/// Pins of the IOAPIC, and so the number of interrupt lines set aside for it.
pub const IOAPIC_PINS: u32 = 24;

/// The local APICs' registers.
pub const LOCAL_APIC: Range<u64> = 0xfee0_0000..0xfee0_1000;

/// Where KVM may put an identity-mapped page table, and after it a task state segment, on Intel CPUs
/// that cannot run real mode otherwise. Not RAM.
pub const KVM_PRIVATE: Range<u64> = 0xfeff_c000..0xff00_0000;

/// Port range of the first serial port.
pub const COM1: Range<u16> = 0x3f8..0x400;

/// Interrupt line of the first serial port.
pub const COM1_IRQ: u32 = 4;

/// Interrupt line of the generic event device.
pub const EVENTS_IRQ: u32 = 5;

/// Port of pvpanic.
pub const PVPANIC: u16 = 0x505;

/// Ports of PCI configuration mechanism 1: address at the first, data at the last four. The reset
/// control register (0xcf9) is among them.
pub const PCI_CONFIG: Range<u16> = 0xcf8..0xd00;

/// Port of the reset control register.
pub const RESET_CONTROL: u16 = 0xcf9;

/// Alignment of the window of 64-bit BARs, so that a huge BAR fits at its beginning.
const MMIO64_ALIGN: u64 = 64 * GIB;

/// The guest's RAM as ranges: below the hole and, if it does not fit there, above.
#[must_use]
pub fn ram(size: u64) -> (Range<u64>, Option<Range<u64>>) {
    let low = size.min(LOW_RAM_END);
    let high = size.saturating_sub(LOW_RAM_END);
    let high = (high > 0).then(|| HIGH_RAM_START..HIGH_RAM_START.saturating_add(high));
    (0..low, high)
}

/// Window of the 64-bit BARs: the upper half of what the guest's CPUs address, or what the RAM
/// leaves of it. Empty if nothing is left.
#[must_use]
pub fn mmio64(ram_size: u64, physical_bits: u32) -> Range<u64> {
    let end = 1_u64.checked_shl(physical_bits.min(52)).unwrap_or(0);
    let ram_end = ram(ram_size).1.map_or(HIGH_RAM_START, |high| high.end);
    let start = ram_end.max(end / 2).checked_next_multiple_of(MMIO64_ALIGN);
    start.unwrap_or(end).min(end)..end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ram_leaves_the_hole_free() {
        assert_eq!(ram(GIB), (0..GIB, None));
        assert_eq!(ram(3 * GIB), (0..3 * GIB, None));
        assert_eq!(ram(5 * GIB), (0..3 * GIB, Some(4 * GIB..6 * GIB)));
    }

    #[test]
    fn ranges_are_in_order_and_disjoint() {
        let all = [MMIO32, ECAM, EVENTS, IOAPIC, LOCAL_APIC, KVM_PRIVATE, HIGH_RAM_START..u64::MAX];
        assert!(all.iter().all(|range| range.start < range.end));
        assert!(all.windows(2).all(|pair| pair[0].end <= pair[1].start));
        assert_eq!(LOW_RAM_END, MMIO32.start);
    }

    #[test]
    fn the_64_bit_window_is_beyond_ram_and_within_the_cpu() {
        assert_eq!(mmio64(GIB, 40), 512 * GIB..1024 * GIB);
        assert_eq!(mmio64(600 * GIB, 40), 640 * GIB..1024 * GIB);
        assert!(mmio64(2048 * GIB, 40).is_empty());
        assert!(mmio64(u64::MAX, 52).is_empty());
        assert!(!mmio64(GIB, 36).is_empty() || (1 << 36) < HIGH_RAM_START + MMIO64_ALIGN);
    }
}
