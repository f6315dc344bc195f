//! What the driver asks for: random requests, laid out at random.

use driver::{Cut, Layout, Operation, Placement};
use fastrand::Rng;
use virtio_spec::Negotiated;
use virtio_spec::block::{DISCARD, FLUSH, RequestHeader, Segment, SegmentFlags, WRITE_ZEROES};
use virtio_spec::features::{INDIRECT_DESC, RING_PACKED};

use crate::model::{SECTOR, data};
use crate::scenario::pick;

/// The longest read or write, sectors.
const LONGEST: u64 = 9;

/// A request for a disk of so many sectors; `id` is its number, which its data bear.
pub(crate) fn operation(
    random: &mut Rng,
    id: u32,
    sectors: u64,
    features: Negotiated,
) -> Operation {
    let (sector, count) = extent(random, sectors);
    match random.u8(..100) {
        0..=39 => Operation::Write { sector, data: data(id, sector, count) },
        40..=74 => Operation::Read { sector, len: bytes(count) },
        75..=84 if features.has(FLUSH) => Operation::Flush,
        85..=89 if features.has(DISCARD) => Operation::Discard(segments(random, sectors, false)),
        90..=96 if features.has(WRITE_ZEROES) => {
            Operation::WriteZeroes(segments(random, sectors, true))
        }
        97..=99 => Operation::GetId,
        _ => Operation::Read { sector, len: bytes(count) },
    }
}

/// A few sectors somewhere; often where others are, too.
fn extent(random: &mut Rng, sectors: u64) -> (u64, u64) {
    let from = if random.bool() { sectors } else { sectors.min(12) };
    let sector = random.u64(..from);
    (sector, random.u64(1..=LONGEST.min(sectors - sector)))
}

fn bytes(count: u64) -> usize {
    usize::try_from(count).unwrap_or(0) * SECTOR
}

fn segments(random: &mut Rng, sectors: u64, may_unmap: bool) -> Vec<Segment> {
    let count = *pick(random, &[1, 1, 1, 2, 3]);
    let segment = |random: &mut Rng| {
        let (sector, count) = extent(random, sectors);
        let unmap = may_unmap && random.bool();
        let flags = if unmap { SegmentFlags::UNMAP.bits() } else { 0 };
        Segment { sector, num_sectors: u32::try_from(count).unwrap_or(1), flags }
    };
    (0..count).map(|_| segment(random)).collect()
}

/// How a request is laid out in a ring of so many entries.
pub(crate) fn layout(
    random: &mut Rng,
    operation: &Operation,
    size: u16,
    features: Negotiated,
) -> Layout {
    let placement = match random.u8(..4) {
        0 | 1 if features.has(INDIRECT_DESC) => Placement::Indirect,
        2 if features.has(INDIRECT_DESC) && !features.has(RING_PACKED) => {
            Placement::Mixed(random.usize(1..=2))
        }
        _ => Placement::Direct,
    };
    Layout { placement, cut: cut(random, operation, size) }
}

/// No chain is longer than the ring, wherever its descriptors stand.
fn cut(random: &mut Rng, operation: &Operation, size: u16) -> Cut {
    let most = usize::from(size);
    let (readable, writable) = lengths(operation);
    // Two rests, and room for whoever else is there.
    let pieces = random.usize(1..=(most / 2).max(1)).min(most.saturating_sub(2)).max(1);
    match random.u8(..4) {
        0 => Cut::Whole,
        1 if most >= 4 => Cut::Every((readable + writable).div_ceil(pieces).max(1)),
        2 if most >= 4 => Cut::At {
            readable: vec![random.usize(1..=readable)],
            writable: vec![random.usize(1..=writable)],
        },
        _ if most >= 3 => Cut::Usual,
        _ => Cut::Whole,
    }
}

/// Bytes that the device reads and writes, header and status included.
fn lengths(operation: &Operation) -> (usize, usize) {
    let (readable, writable) = match operation {
        Operation::Read { len, .. } => (0, *len),
        Operation::Write { data, .. } => (data.len(), 0),
        Operation::Discard(segments)
        | Operation::WriteZeroes(segments)
        | Operation::SecureErase(segments) => (segments.len() * Segment::SIZE, 0),
        Operation::Flush => (0, 0),
        Operation::GetId => (0, virtio_spec::block::ID_LEN),
        Operation::Raw { data, room, .. } => (data.len(), *room),
    };
    (readable + RequestHeader::SIZE, writable + 1)
}
