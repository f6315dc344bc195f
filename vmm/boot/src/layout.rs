//! Where things stand below 1 MiB, and the registers that ACPI tables describe and devices
//! implement.

use std::ops::Range;

/// The global descriptor table.
pub const GDT: u64 = 0x500;
/// PVH's `hvm_start_info`, with its module list and memory map behind it.
pub const START_INFO: u64 = 0x6000;
/// Linux's `boot_params`.
pub const ZERO_PAGE: u64 = 0x7000;
/// Top of a page of stack, for the first instructions of a 64-bit kernel.
pub const STACK: u64 = 0x8ff0;
/// PML4, PDPT and four page directories that map the first 4 GiB to themselves.
pub const PAGE_TABLES: u64 = 0x9000;
/// The command line, with its terminating zero.
pub const COMMAND_LINE: u64 = 0x2_0000;
/// End of the memory below 1 MiB that the guest may use; what follows was once video memory and
/// ROM.
pub const LOW_RAM_END: u64 = 0xa_0000;
/// ACPI's root pointer, where a search of the old BIOS area finds it (ACPI 6.5, 5.2.5.1).
pub const RSDP: u64 = 0xe_0000;
/// Where a BIOS is entered (f000:fff0).
pub const RESET_VECTOR: u64 = 0xf_fff0;
/// Kernels are loaded from here on.
pub const HIGH_RAM: u64 = 0x10_0000;
/// What is not RAM below 1 MiB.
pub const LEGACY_HOLE: Range<u64> = LOW_RAM_END..HIGH_RAM;
/// End of what a 32-bit address reaches.
pub const FOUR_GIB: u64 = 1 << 32;

/// Registers in the page [`hypervisor::layout::EVENTS`], as offsets into it.
pub mod power {
    /// What happened (32 bits, cleared when read); see [`BUTTON_PRESSED`]. The interrupt is a level, high
    /// while anything has.
    pub const EVENTS: u64 = 0;
    /// Sleep control register of hardware-reduced ACPI (8 bits; ACPI 6.5, 4.8.3.7).
    pub const SLEEP_CONTROL: u64 = 4;
    /// Sleep status register of hardware-reduced ACPI (8 bits; ACPI 6.5, 4.8.3.7).
    pub const SLEEP_STATUS: u64 = 5;

    /// In [`EVENTS`]: somebody pressed the power button.
    pub const BUTTON_PRESSED: u32 = 1;
    /// In [`SLEEP_CONTROL`]: enter the state whose type is in bits 2 to 4.
    pub const SLEEP_ENABLE: u8 = 1 << 5;
    /// Type of the state S5, soft off, as `_S5` says.
    pub const TYPE_S5: u8 = 5;
    /// What the guest writes to [`SLEEP_CONTROL`] to switch the machine off.
    pub const SWITCH_OFF: u8 = SLEEP_ENABLE | TYPE_S5 << 2;
}

/// The reset register, the port [`hypervisor::layout::RESET_CONTROL`].
pub mod reset {
    /// What the guest writes there to reset the machine: a full reset, now.
    pub const VALUE: u8 = 0x06;
}
