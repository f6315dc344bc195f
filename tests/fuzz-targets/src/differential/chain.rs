//! What a chain is, and when it is none: the rules, once more, as plainly as can be.

use virtio_spec::features::{INDIRECT_DESC, Negotiated};
use virtio_spec::{packed, split};

use crate::driver::descriptor_at;
use crate::guest::{DEVICE, Guest};
use crate::stand::Seen;

/// The longest indirect table that is followed.
const LONGEST_TABLE: u32 = 1024;
/// The first bytes that are compared.
const COMPARED: usize = 64 << 10;

/// A buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) addr: u64,
    pub(super) len: u32,
    pub(super) write: bool,
}

/// A chain, and how many descriptors of the ring it has.
#[derive(Clone, Debug)]
pub(super) struct Chain {
    pub(super) id: u16,
    pub(super) descriptors: u16,
    pub(super) pieces: Vec<Piece>,
}

/// The chain with this head in a split ring; None if it is none.
pub(super) fn split(guest: &Guest, head: u16, size: u16, features: Negotiated) -> Option<Chain> {
    let mut pieces = Vec::new();
    let mut index = Some(head);
    let mut descriptors = 0;
    while let Some(at) = index.take() {
        if at >= size || descriptors == size {
            return None;
        }
        descriptors += 1;
        let desc = split::Descriptor::from_le_bytes(guest.array(descriptor_at(at))?);
        if desc.is_indirect() {
            let entries = table_length(desc.len, desc.has_next(), features)?;
            split_table(guest, desc.addr, entries, &mut pieces)?;
        } else {
            pieces.push(Piece { addr: desc.addr, len: desc.len, write: desc.is_write() });
            index = desc.has_next().then_some(desc.next);
        }
    }
    whole(guest, &pieces).then_some(Chain { id: head, descriptors, pieces })
}

fn split_table(guest: &Guest, table: u64, entries: u32, pieces: &mut Vec<Piece>) -> Option<()> {
    let mut index = Some(0);
    for _ in 0..entries {
        let Some(at) = index else { break };
        let entry = table.checked_add(u64::from(at) * 16)?;
        let desc = split::Descriptor::from_le_bytes(guest.array(entry)?);
        let out = desc.has_next() && u32::from(desc.next) >= entries;
        if desc.is_indirect() || out {
            return None;
        }
        pieces.push(Piece { addr: desc.addr, len: desc.len, write: desc.is_write() });
        index = desc.has_next().then_some(desc.next);
    }
    index.is_none().then_some(())
}

/// The list at this place of a packed ring; None if it is none.
pub(super) fn packed(
    guest: &Guest,
    start: packed::Position,
    size: u16,
    features: Negotiated,
) -> Option<Chain> {
    let mut pieces = Vec::new();
    for n in 0..size {
        let at = descriptor_at((start.index + n) % size);
        let desc = packed::Descriptor::from_le_bytes(guest.array(at)?);
        if desc.is_indirect() {
            let entries = table_length(desc.len, desc.has_next(), features)?;
            for entry in 0..u64::from(entries) {
                let entry = guest.array(desc.addr.checked_add(entry * 16)?)?;
                let desc = packed::Descriptor::from_le_bytes(entry);
                if desc.is_indirect() {
                    return None;
                }
                pieces.push(Piece { addr: desc.addr, len: desc.len, write: desc.is_write() });
            }
        } else {
            pieces.push(Piece { addr: desc.addr, len: desc.len, write: desc.is_write() });
        }
        if !desc.has_next() {
            let chain = Chain { id: desc.id, descriptors: n + 1, pieces };
            return whole(guest, &chain.pieces).then_some(chain);
        }
    }
    None
}

/// How many entries an indirect table has, if it may be one.
fn table_length(len: u32, next: bool, features: Negotiated) -> Option<u32> {
    let right = features.has(INDIRECT_DESC) && !next && len.is_multiple_of(16);
    Some(len / 16).filter(|entries| right && (1..=LONGEST_TABLE).contains(entries))
}

/// Whether the buffers are in memory, not too long, and those to be read come first.
fn whole(guest: &Guest, pieces: &[Piece]) -> bool {
    let total: u64 = pieces.iter().map(|piece| u64::from(piece.len)).sum();
    let mapped = |piece: &Piece| {
        let mut probe = piece.addr;
        let mut left = u64::from(piece.len);
        // Page by page: all regions are whole pages.
        while left > 0 {
            if guest.array::<1>(probe).is_none() {
                return false;
            }
            let step = left.min(4096 - probe % 4096);
            (probe, left) = (probe.saturating_add(step), left - step);
        }
        true
    };
    total <= u32::MAX.into()
        && pieces.is_sorted_by_key(|piece| piece.write)
        && pieces.iter().all(mapped)
}

impl Chain {
    /// What a device sees of it.
    pub(super) fn seen(&self, guest: &Guest) -> Seen {
        let mut seen = Seen { readable: Vec::new(), readable_len: 0, writable_len: 0 };
        for Piece { addr, len, write } in &self.pieces {
            let len = *len as usize;
            if *write {
                seen.writable_len += len;
            } else {
                seen.readable_len += len;
                let start = seen.readable.len();
                seen.readable.resize((start + len).min(COMPARED), 0);
                guest.read(*addr, &mut seen.readable[start..]);
            }
        }
        seen
    }

    /// Whether a buffer lies in the region of the device's area.
    pub(super) fn touches_device(&self) -> bool {
        self.pieces.iter().any(|piece| piece.addr / 0x1000 == DEVICE / 0x1000)
    }

    /// How many bytes there are to be written.
    pub(super) fn room(&self) -> u32 {
        self.pieces.iter().filter(|piece| piece.write).map(|piece| piece.len).sum()
    }

    /// Where the first `written` bytes to be written go: address and length.
    pub(super) fn written(&self, written: usize) -> Vec<(u64, usize)> {
        let mut left = written.min(COMPARED);
        let mut ranges = Vec::new();
        for piece in self.pieces.iter().filter(|piece| piece.write) {
            let n = left.min(piece.len as usize);
            ranges.push((piece.addr, n));
            left -= n;
        }
        ranges
    }
}
