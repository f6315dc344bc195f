//! Where a vCPU starts, and in which mode.

use crate::GuestAddress;

/// A descriptor table in guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DescriptorTable {
    /// Where it is.
    pub base: GuestAddress,
    /// Its size in bytes, less one.
    pub limit: u16,
}

/// The global descriptor table that fits the segments a vCPU starts with: whoever lays out guest
/// memory writes these entries where [`BootState::Linux64`] or [`BootState::Pvh`] says it is.
///
/// Selectors: 0x08 32-bit code, 0x10 64-bit code, 0x18 data, 0x20 task state (two entries).
/// 0x10 and 0x18 are what Linux's 64-bit boot protocol wants.
pub const BOOT_GDT: [u64; 6] = [
    0,
    0x00cf_9b00_0000_ffff,
    0x00af_9b00_0000_ffff,
    0x00cf_9300_0000_ffff,
    0x0000_8b00_0000_0067,
    0,
];

/// Where the first vCPU starts, and in which mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootState {
    /// Linux's 64-bit boot protocol: long mode, kernel mode, interrupts off.
    Linux64 {
        /// RIP: 0x200 bytes into the loaded kernel.
        entry: GuestAddress,
        /// RSI: the zero page (`boot_params`).
        zero_page: GuestAddress,
        /// RSP; a few bytes below it are free for use.
        stack: GuestAddress,
        /// CR3: level-4 page table that identity-maps at least what the kernel needs to begin.
        page_tables: GuestAddress,
        /// GDTR: where [`BOOT_GDT`] is.
        gdt: DescriptorTable,
    },
    /// PVH: 32-bit protected mode without paging.
    Pvh {
        /// EIP: from the kernel's ELF note.
        entry: GuestAddress,
        /// EBX: the `hvm_start_info`.
        start_info: GuestAddress,
        /// GDTR: where [`BOOT_GDT`] is.
        gdt: DescriptorTable,
    },
    /// A bare program in long mode at user privilege, which may use all ports (IOPL 3) but has no
    /// interrupts, no `hlt`, and no tables but its page tables. Every KVM runs this natively, even
    /// one that emulates kernels, so it is what tests run. The first 8 KiB of memory serve as the
    /// map of ports it may use; a zero bit means that it may.
    User64 {
        /// RIP.
        entry: GuestAddress,
        /// RDI: the first argument of a C function.
        argument: u64,
        /// RSP.
        stack: GuestAddress,
        /// CR3: level-4 page table; its entries must allow user access.
        page_tables: GuestAddress,
    },
}
