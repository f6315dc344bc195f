//! MCFG: where PCI configuration space is in memory (PCI Firmware Specification 3.3, 4.1.2).

use acpi_tables::mcfg::MCFG;
use hypervisor::layout::ECAM;

use super::table::{OEM_ID, OEM_REVISION, OEM_TABLE_ID, bytes};

/// The table: segment 0, bus 0 and no other.
pub(super) fn mcfg() -> Vec<u8> {
    let mut table = MCFG::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION);
    table.add_ecam(ECAM.start, 0, 0, 0);
    bytes(&table)
}
