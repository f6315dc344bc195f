//! Port I/O.

use core::arch::asm;

pub fn write8(port: u16, value: u8) {
    // SAFETY: a device's port; no port of this machine touches this program's memory.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nostack, preserves_flags)) }
}

pub fn write32(port: u16, value: u32) {
    // SAFETY: as above.
    unsafe {
        asm!("out dx, eax", in("dx") port, in("eax") value, options(nostack, preserves_flags));
    }
}

pub fn read16(port: u16) -> u16 {
    let value;
    // SAFETY: as above.
    unsafe { asm!("in ax, dx", in("dx") port, out("ax") value, options(nostack, preserves_flags)) }
    value
}

pub fn read32(port: u16) -> u32 {
    let value;
    // SAFETY: as above.
    unsafe {
        asm!("in eax, dx", in("dx") port, out("eax") value, options(nostack, preserves_flags));
    }
    value
}

/// Writes all bytes to one port, one after the other, with one instruction.
pub fn write_bytes(port: u16, bytes: &[u8]) {
    // SAFETY: as above, and the bytes are only read.
    unsafe {
        asm!("rep outsb", in("dx") port, inout("rcx") bytes.len() => _,
            inout("rsi") bytes.as_ptr() => _, options(nostack, preserves_flags, readonly));
    }
}
