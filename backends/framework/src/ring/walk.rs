//! From descriptors to segments: every check that a chain must pass.

use virtio_spec::packed;
use virtio_spec::split::Descriptor;

use super::chain::Slot;
use super::fault::RingFault;
use super::packed::as_split;
use crate::memory::MemoryTable;

/// The longest indirect table, in descriptors. Drivers use longer ones than the ring has entries.
const MAX_INDIRECT: u16 = 1024;

/// Bytes of a descriptor.
const DESC_SIZE: u32 = 16;
const _: () = assert!(DESC_SIZE as usize == virtio_spec::split::DESC_SIZE);

/// The most segments of a chain: a descriptor that lies across regions has several.
const MAX_SEGMENTS: usize = 2048;

/// Gathers one chain into a slot.
pub(super) struct Walk<'a> {
    memory: &'a MemoryTable,
    slot: &'a mut Slot,
    /// The region of the last look-up.
    region: &'a mut usize,
    /// Whether indirect tables were negotiated.
    indirect: bool,
    bytes: u64,
    writing: bool,
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        memory: &'a MemoryTable,
        slot: &'a mut Slot,
        region: &'a mut usize,
        indirect: bool,
    ) -> Self {
        Walk { memory, slot, region, indirect, bytes: 0, writing: false }
    }

    /// Adds a descriptor of the ring itself: a buffer, or an indirect table.
    #[inline]
    pub(super) fn add(&mut self, desc: Descriptor, packed: bool) -> Result<(), RingFault> {
        if desc.is_indirect() { self.table(desc, packed) } else { self.buffer(desc) }
    }

    /// Adds the buffer that a descriptor names (virtio 1.4, 2.7.5 and 2.8.5).
    #[inline(always)]
    #[expect(
        clippy::inline_always,
        reason = "once for each buffer: a call costs as much as a check"
    )]
    fn buffer(&mut self, desc: Descriptor) -> Result<(), RingFault> {
        let writable = desc.is_write();
        if self.writing && !writable {
            return Err(RingFault::WrongOrder);
        }
        self.writing = writable;
        self.bytes += u64::from(desc.len);
        if self.bytes > u64::from(u32::MAX) {
            return Err(RingFault::TooManyBytes);
        }
        // Nearly all of them lie in the region of the one before.
        let whole = self.memory.whole(desc.addr, desc.len as usize, *self.region);
        match whole.filter(|_| desc.len > 0 && self.slot.count() < MAX_SEGMENTS) {
            Some(segment) => {
                self.slot.push(segment, writable);
                Ok(())
            }
            None => self.pieces(desc),
        }
    }

    /// Adds the buffer that a descriptor names, piece by piece.
    #[cold]
    fn pieces(&mut self, desc: Descriptor) -> Result<(), RingFault> {
        let not_mapped = RingFault::NotMapped { address: desc.addr, len: desc.len };
        let (mut at, mut left) = (desc.addr, desc.len as usize);
        while left > 0 {
            // A second piece, where adjacent regions meet. The count of pieces is bounded by that
            // of the regions.
            let piece = self.memory.piece(at, left, self.region).ok_or(not_mapped)?;
            left -= piece.len();
            at = at.checked_add(piece.len() as u64).ok_or(not_mapped)?;
            if self.slot.count() >= MAX_SEGMENTS {
                return Err(RingFault::TooLong { most: MAX_INDIRECT });
            }
            self.slot.push(piece, desc.is_write());
        }
        Ok(())
    }

    /// Adds all buffers of an indirect table (2.7.5.3, 2.8.7). Each descriptor is read once.
    fn table(&mut self, head: Descriptor, packed: bool) -> Result<(), RingFault> {
        if !self.indirect {
            return Err(RingFault::IndirectNotNegotiated);
        }
        if head.has_next() {
            return Err(RingFault::IndirectNested);
        }
        let entries = head.len / DESC_SIZE;
        if entries == 0 || entries > MAX_INDIRECT.into() || !head.len.is_multiple_of(DESC_SIZE) {
            return Err(RingFault::IndirectLength { len: head.len });
        }
        let mut index = 0;
        for _ in 0..entries {
            let bytes = self.entry(&head, index)?;
            let desc = if packed {
                as_split(&packed::Descriptor::from_le_bytes(bytes))
            } else {
                Descriptor::from_le_bytes(bytes)
            };
            if desc.is_indirect() {
                return Err(RingFault::IndirectNested);
            }
            self.buffer(desc)?;
            // A packed table is read from first to last and has no links.
            index = if packed { index + 1 } else { u32::from(desc.next) };
            if !packed && !desc.has_next() {
                return Ok(());
            }
            if !packed && index >= entries {
                #[expect(clippy::cast_possible_truncation, reason = "entries is at most 1024")]
                let size = entries as u16;
                return Err(RingFault::BadIndex { index: desc.next, size });
            }
        }
        #[expect(clippy::cast_possible_truncation, reason = "entries is at most 1024")]
        let most = entries as u16;
        if packed { Ok(()) } else { Err(RingFault::TooLong { most }) }
    }

    /// One descriptor of an indirect table, which may lie across two regions.
    fn entry(
        &mut self,
        head: &Descriptor,
        index: u32,
    ) -> Result<[u8; DESC_SIZE as usize], RingFault> {
        let not_mapped = RingFault::NotMapped { address: head.addr, len: head.len };
        let mut bytes = [0; DESC_SIZE as usize];
        let mut at =
            head.addr.checked_add(u64::from(index) * u64::from(DESC_SIZE)).ok_or(not_mapped)?;
        let mut done = 0;
        while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let piece = self.memory.piece(at, rest.len(), self.region).ok_or(not_mapped)?;
            let n = piece.read(0, rest);
            done += n;
            at = at.checked_add(n as u64).ok_or(not_mapped)?;
        }
        Ok(bytes)
    }
}
