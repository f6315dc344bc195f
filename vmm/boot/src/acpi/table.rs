//! What all tables have in common (ACPI 6.5, 5.2.6).

use acpi_tables::Aml;
use acpi_tables::sdt::Sdt;

pub(super) const OEM_ID: [u8; 6] = *b"OUTRIG";
pub(super) const OEM_TABLE_ID: [u8; 8] = *b"OUTRIGGR";
pub(super) const OEM_REVISION: u32 = 1;
/// Size of a table's header in bytes.
pub(super) const HEADER: u8 = 36;

/// A table of this signature and revision, with its header, length and checksum.
pub(super) fn table(signature: [u8; 4], revision: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::from(HEADER);
    let mut table = Sdt::new(signature, length, revision, OEM_ID, OEM_TABLE_ID, OEM_REVISION);
    table.append_slice(body);
    table.as_slice().to_vec()
}

/// An object's encoding.
pub(super) fn bytes(object: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    object.to_aml_bytes(&mut bytes);
    bytes
}
