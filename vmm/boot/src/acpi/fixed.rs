//! FADT: the fixed hardware, of which there is little (ACPI 6.5, 5.2.9).

use acpi_tables::fadt::{FADT, FADTBuilder, Flags};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};
use hypervisor::layout::{EVENTS, RESET_CONTROL};

use super::table::{OEM_ID, OEM_REVISION, OEM_TABLE_ID, bytes};
use crate::layout::power::{SLEEP_CONTROL, SLEEP_STATUS};
use crate::layout::reset::VALUE;

/// In IAPC_BOOT_ARCH: do not look for VGA, nor for a CMOS clock. Not set: there are legacy devices
/// (bit 0), there is a keyboard controller (bit 1).
const NO_VGA_NO_CMOS_CLOCK: u16 = 1 << 2 | 1 << 5;

/// Size of the table in bytes.
pub(super) fn size() -> usize {
    FADT::len()
}

/// The table; `dsdt` is where the DSDT is.
pub(super) fn fadt(dsdt: u64) -> Vec<u8> {
    let mut table = FADTBuilder::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION)
        .dsdt_64(dsdt)
        .flag(Flags::HwReducedAcpi)
        .flag(Flags::Wbinvd)
        // Power and sleep button are not fixed hardware: bits set.
        .flag(Flags::PwrButton)
        .flag(Flags::SlpButton)
        .flag(Flags::ResetRegSup);
    table.iapc_boot_arch = NO_VGA_NO_CMOS_CLOCK.into();
    table.reset_reg = register(AddressSpace::SystemIo, RESET_CONTROL.into());
    table.reset_value = VALUE;
    table.sleep_control_reg = register(AddressSpace::SystemMemory, EVENTS.start + SLEEP_CONTROL);
    table.sleep_status_reg = register(AddressSpace::SystemMemory, EVENTS.start + SLEEP_STATUS);
    table.hypervisor_vendor_identity = u64::from_le_bytes(*b"OUTRIGGR").into();
    bytes(&table.finalize())
}

/// A register of 8 bits.
fn register(space: AddressSpace, address: u64) -> GAS {
    GAS::new(space, 8, 0, AccessSize::ByteAccess, address)
}
