//! Descriptor chains that were taken, and the table of their segments.

use virtio_spec::packed::Position;

use crate::memory::Segment;

/// A descriptor chain that was taken from a ring, to be completed exactly once: it is not `Clone`,
/// and completing it consumes it.
#[derive(Debug)]
#[must_use = "a chain that is taken must be completed"]
pub struct Chain {
    pub(super) slot: u16,
}

impl Chain {
    /// A number that no other chain of the ring has while this one is in flight; less than the
    /// ring's size.
    pub fn slot(&self) -> u16 {
        self.slot
    }
}

/// How many segments a chain has without a spill: header, two of data, status.
const INLINE: usize = 4;

/// How many segments' room a slot keeps from one chain to the next: what well-behaved drivers send.
const MOST_KEPT: usize = 256;

/// What the ring knows of a chain. Two cache lines.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Slot {
    /// Split: index of the head. Packed: buffer id.
    pub(super) id: u16,
    /// Packed: how many descriptors of the ring it takes.
    pub(super) descriptors: u16,
    /// Packed: its entry in the in-flight region.
    pub(super) track: u16,
    /// Packed: where it starts in the ring.
    pub(super) position: Position,
    /// Whether it was in flight at a crash, and is given out again.
    pub(super) resumed: bool,
    /// What it was called then: head, or entry of the in-flight region.
    pub(super) origin: u16,
    /// In-order: completed, waiting for its turn.
    pub(super) done: bool,
    /// Whether the slot belongs to a chain at all.
    pub(super) live: bool,
    /// Which memory table resolved it.
    pub(super) epoch: u32,
    /// In-order: what to write when its turn comes.
    pub(super) written: u32,
    /// First segment still to be read, first not to be read: indexes into the segments.
    readable: (u16, u16),
    /// The same for writing.
    writable: (u16, u16),
    status: Segment,
    inline: [Segment; INLINE],
    spill: Vec<Segment>,
    count: u16,
}

impl Slot {
    fn new() -> Self {
        Slot {
            id: 0,
            descriptors: 0,
            track: 0,
            position: Position::START,
            resumed: false,
            origin: 0,
            done: false,
            live: false,
            epoch: 0,
            written: 0,
            readable: (0, 0),
            writable: (0, 0),
            status: Segment::EMPTY,
            inline: [const { Segment::EMPTY }; INLINE],
            spill: Vec::new(),
            count: 0,
        }
    }

    /// Forgets the chain: whoever still has its number sees no memory.
    fn clear(&mut self) {
        self.live = false;
        self.done = false;
        self.count = 0;
        self.readable = (0, 0);
        self.writable = (0, 0);
        self.status = Segment::EMPTY;
        if !self.spill.is_empty() {
            self.clear_spill();
        }
    }

    #[cold]
    fn clear_spill(&mut self) {
        self.spill.clear();
        // A driver that sends the longest chains must not have every slot keep room for one.
        self.spill.shrink_to(MOST_KEPT);
    }

    /// Appends a segment. Readable ones come before writable ones; the walk has checked that.
    #[inline]
    pub(super) fn push(&mut self, segment: Segment, writable: bool) {
        let index = usize::from(self.count);
        if let Some(place) = self.inline.get_mut(index) {
            *place = segment;
        } else {
            if self.spill.is_empty() {
                self.spill.extend(self.inline.iter().map(Segment::again));
            }
            self.spill.push(segment);
        }
        self.count += 1;
        if !writable {
            self.readable.1 = self.count;
            self.writable.0 = self.count;
        }
        self.writable.1 = self.count;
    }

    /// How many segments there are.
    pub(super) fn count(&self) -> usize {
        self.count.into()
    }

    #[inline]
    fn segments(&self, (from, to): (u16, u16)) -> &[Segment] {
        let all = if self.spill.is_empty() { self.inline.as_slice() } else { &self.spill };
        all.get(from.into()..to.into()).unwrap_or(&[])
    }

    #[inline]
    fn segments_mut(&mut self, (from, to): (u16, u16)) -> &mut [Segment] {
        let all = if self.spill.is_empty() { self.inline.as_mut_slice() } else { &mut self.spill };
        all.get_mut(from.into()..to.into()).unwrap_or(&mut [])
    }

    #[inline]
    pub(super) fn readable(&self) -> &[Segment] {
        self.segments(self.readable)
    }

    #[inline]
    pub(super) fn writable(&self) -> &[Segment] {
        self.segments(self.writable)
    }

    pub(super) fn status(&self) -> &Segment {
        &self.status
    }

    /// Takes the first N readable bytes out, if they lie in one segment.
    #[inline]
    pub(super) fn take_start<const N: usize>(&mut self) -> Option<[u8; N]> {
        let first = self.segments_mut(self.readable).first_mut()?;
        let bytes = first.read_array()?;
        first.advance(N);
        let emptied = first.is_empty();
        self.readable.0 += u16::from(emptied);
        Some(bytes)
    }

    /// Drops the first `n` readable bytes.
    #[inline]
    pub(super) fn advance_readable(&mut self, n: usize) {
        let skip = advance(self.segments_mut(self.readable), n);
        self.readable.0 += skip;
    }

    /// Drops the first `n` writable bytes.
    #[inline]
    pub(super) fn advance_writable(&mut self, n: usize) {
        let skip = advance(self.segments_mut(self.writable), n);
        self.writable.0 += skip;
    }

    /// Sets the last writable byte aside as the status.
    #[inline]
    pub(super) fn take_status(&mut self) -> bool {
        let (from, to) = self.writable;
        let Some(last) = self.segments_mut((from, to)).last_mut() else { return false };
        let Some(status) = last.split_last() else { return false };
        if last.is_empty() {
            self.writable.1 = to - 1;
        }
        self.status = status;
        true
    }
}

/// Drops `n` bytes from the front of `segments`; says how many segments are now empty.
#[inline]
fn advance(segments: &mut [Segment], mut n: usize) -> u16 {
    let mut emptied = 0;
    for segment in segments {
        n -= segment.advance(n);
        if !segment.is_empty() {
            break;
        }
        emptied += 1;
    }
    emptied
}

/// All slots of a ring: as many as it has descriptors, so that what is in flight is bounded.
#[derive(Debug)]
pub(super) struct Slots {
    slots: Box<[Slot]>,
    free: Vec<u16>,
}

impl Slots {
    pub(super) fn new(size: u16) -> Self {
        Slots { slots: (0..size).map(|_| Slot::new()).collect(), free: (0..size).rev().collect() }
    }

    /// A cleared slot. None: as many chains are in flight as there are descriptors.
    #[inline]
    pub(super) fn claim(&mut self, epoch: u32) -> Option<u16> {
        let index = self.free.pop()?;
        let slot = self.slots.get_mut(usize::from(index))?;
        slot.live = true;
        slot.epoch = epoch;
        Some(index)
    }

    #[inline]
    pub(super) fn release(&mut self, index: u16) {
        if let Some(slot) = self.slots.get_mut(usize::from(index)).filter(|slot| slot.live) {
            slot.clear();
            self.free.push(index);
        }
    }

    #[inline]
    pub(super) fn get(&self, index: u16) -> Option<&Slot> {
        self.slots.get(usize::from(index))
    }

    #[inline]
    pub(super) fn get_mut(&mut self, index: u16) -> Option<&mut Slot> {
        self.slots.get_mut(usize::from(index))
    }

    pub(super) fn claimed(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}
