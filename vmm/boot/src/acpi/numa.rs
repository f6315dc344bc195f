//! SRAT and SLIT: which CPU and which memory belong to which node, and how far apart nodes are
//! (ACPI 6.5, 5.2.16 and 5.2.17).

use super::interrupts::is_narrow;
use super::table::table;
use crate::Platform;

const SRAT_REVISION: u8 = 3;
const SLIT_REVISION: u8 = 1;
/// Of an affinity structure: it is to be used.
const ENABLED: u32 = 1;
/// Distance of a node to itself, and to others if nobody says.
const LOCAL: u8 = 10;
const REMOTE: u8 = 20;

/// Both tables, or none where there are no nodes.
pub(super) fn tables(platform: &Platform) -> Vec<Vec<u8>> {
    if platform.nodes.is_empty() { Vec::new() } else { vec![srat(platform), slit(platform)] }
}

fn srat(platform: &Platform) -> Vec<u8> {
    let mut body = Vec::new();
    // Reserved; the first must be 1.
    body.extend(1_u32.to_le_bytes());
    body.extend(0_u64.to_le_bytes());
    for (uid, processor) in (0..).zip(&platform.processors) {
        processor_affinity(&mut body, uid, processor.apic_id, processor.node);
    }
    for (domain, node) in (0_u32..).zip(&platform.nodes) {
        for range in &node.ram {
            memory_affinity(&mut body, domain, range.start, range.end.saturating_sub(range.start));
        }
    }
    table(*b"SRAT", SRAT_REVISION, &body)
}

/// Processor local APIC affinity (5.2.16.1), or processor local x2APIC affinity (5.2.16.3).
fn processor_affinity(body: &mut Vec<u8>, uid: u32, apic_id: u32, domain: u32) {
    let [low, high @ ..] = domain.to_le_bytes();
    if let Some((_, apic_id)) = is_narrow(uid, apic_id) {
        body.extend([0, 16, low, apic_id]);
        body.extend(ENABLED.to_le_bytes());
        body.push(0);
        body.extend(high);
    } else {
        body.extend([2, 24, 0, 0]);
        body.extend(domain.to_le_bytes());
        body.extend(apic_id.to_le_bytes());
        body.extend(ENABLED.to_le_bytes());
    }
    // Clock domain; the longer structure has four reserved bytes behind it.
    body.extend(0_u32.to_le_bytes());
    if is_narrow(uid, apic_id).is_none() {
        body.extend([0; 4]);
    }
}

/// Memory affinity (5.2.16.2).
fn memory_affinity(body: &mut Vec<u8>, domain: u32, base: u64, length: u64) {
    body.extend([1, 40]);
    body.extend(domain.to_le_bytes());
    body.extend([0; 2]);
    body.extend(base.to_le_bytes());
    body.extend(length.to_le_bytes());
    body.extend([0; 4]);
    body.extend(ENABLED.to_le_bytes());
    body.extend([0; 8]);
}

fn slit(platform: &Platform) -> Vec<u8> {
    let nodes = platform.nodes.len();
    let mut body = (nodes as u64).to_le_bytes().to_vec();
    for (from, node) in platform.nodes.iter().enumerate() {
        let default = |to| if from == to { LOCAL } else { REMOTE };
        body.extend((0..nodes).map(|to| node.distances.get(to).copied().unwrap_or(default(to))));
    }
    table(*b"SLIT", SLIT_REVISION, &body)
}
