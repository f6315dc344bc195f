//! MADT: CPUs by their local APICs, and the IOAPIC (ACPI 6.5, 5.2.12).

use hypervisor::layout::{IOAPIC, LOCAL_APIC};

use super::table::table;
use crate::Platform;

/// With x2APIC entries and "online capable" flags.
const REVISION: u8 = 5;
/// There are no 8259s.
const FLAGS: u32 = 0;
/// Of a processor: it is there.
const ENABLED: u32 = 1;
/// All processors, where one is asked for: in entries of 8 and of 32 bits.
const ALL_8: u8 = 0xff;
const ALL_32: u32 = u32::MAX;
/// The local APIC's input that NMIs arrive at.
const LINT1: u8 = 1;

/// The first id that does not fit an entry of 8 bits; it means "all" there.
const FIRST_WIDE: u32 = 0xff;

/// The table.
pub(super) fn madt(platform: &Platform) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(low_32(LOCAL_APIC.start).to_le_bytes());
    body.extend(FLAGS.to_le_bytes());
    for (uid, processor) in (0..).zip(&platform.processors) {
        local_apic(&mut body, uid, processor.apic_id);
    }
    io_apic(&mut body);
    non_maskable(&mut body);
    table(*b"APIC", REVISION, &body)
}

/// Whether a processor has an entry of 8 bits: what fits must have one (5.2.12.12).
pub(super) fn is_narrow(uid: u32, apic_id: u32) -> Option<(u8, u8)> {
    let narrow = |id: u32| u8::try_from(id).ok().filter(|&id| u32::from(id) < FIRST_WIDE);
    Some((narrow(uid)?, narrow(apic_id)?))
}

/// Processor local APIC (5.2.12.2), or processor local x2APIC (5.2.12.12).
fn local_apic(body: &mut Vec<u8>, uid: u32, apic_id: u32) {
    match is_narrow(uid, apic_id) {
        Some((uid, apic_id)) => body.extend([0, 8, uid, apic_id]),
        None => {
            body.extend([9, 16, 0, 0]);
            body.extend(apic_id.to_le_bytes());
        }
    }
    body.extend(ENABLED.to_le_bytes());
    if is_narrow(uid, apic_id).is_none() {
        body.extend(uid.to_le_bytes());
    }
}

/// I/O APIC (5.2.12.3), id 0, whose pins are the interrupts from 0 on.
fn io_apic(body: &mut Vec<u8>) {
    body.extend([1, 12, 0, 0]);
    body.extend(low_32(IOAPIC.start).to_le_bytes());
    body.extend(0_u32.to_le_bytes());
}

/// Local APIC NMI (5.2.12.7) and local x2APIC NMI (5.2.12.13); polarity and trigger as the bus has
/// them.
fn non_maskable(body: &mut Vec<u8>) {
    body.extend([4, 6, ALL_8, 0, 0, LINT1]);
    body.extend([10, 12, 0, 0]);
    body.extend(ALL_32.to_le_bytes());
    body.extend([LINT1, 0, 0, 0]);
}

/// An address below 4 GiB.
fn low_32(address: u64) -> u32 {
    u32::try_from(address).unwrap_or(u32::MAX)
}
