//! What a CPU finds where PCs have their BIOS: a way to reset the machine.
//!
//! A kernel that believes the machine has UEFI, as Linux does wherever ACPI is hardware-reduced,
//! resets it by UEFI's runtime services and, there being none, by a jump to the BIOS's entry in
//! real mode. It never comes to try ACPI's reset register.

use hypervisor::layout::RESET_CONTROL;
use vm_memory::GuestMemoryBackend;

use crate::Error;
use crate::layout::{RESET_VECTOR, reset};
use crate::loading::Write;

/// `mov dx, RESET_CONTROL; mov al, VALUE; out dx, al; again: hlt; jmp again`, in 16-bit code.
const PROGRAM: [u8; 9] = {
    let [low, high] = RESET_CONTROL.to_le_bytes();
    [0xba, low, high, 0xb0, reset::VALUE, 0xee, 0xf4, 0xeb, 0xfd]
};

/// Writes the program to the BIOS's entry.
pub(crate) fn write<M: GuestMemoryBackend>(memory: &M) -> Result<(), Error> {
    memory.put(&PROGRAM, RESET_VECTOR, "the reset vector")
}
