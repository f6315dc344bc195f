//! The packed ring (virtio 1.4, 2.8): one ring of descriptors that both sides write, and an event
//! suppression structure for each side.
//!
//! A descriptor is available or used by how its `AVAIL` and `USED` flags compare with a wrap
//! counter that each side keeps: it starts at 1 (`true`) and is flipped each time the side passes
//! the ring's end. Available: `AVAIL` equals the counter and `USED` does not. Used: both equal it.

use crate::split;

/// The longest queue. Unlike a split queue, it need not be a power of two.
pub const MAX_QUEUE_SIZE: u16 = 32768;

/// Alignment of the descriptor ring in bytes.
pub const DESC_ALIGN: u64 = 16;
/// Alignment of an event suppression structure in bytes.
pub const EVENT_ALIGN: u64 = 4;
/// Bytes of a descriptor.
pub const DESC_SIZE: usize = 16;
/// Bytes of an event suppression structure.
pub const EVENT_SIZE: usize = 4;

/// Offset of `addr` in a descriptor.
pub const DESC_ADDR_OFFSET: usize = 0;
/// Offset of `len` in a descriptor.
pub const DESC_LEN_OFFSET: usize = 8;
/// Offset of `id` in a descriptor.
pub const DESC_ID_OFFSET: usize = 12;
/// Offset of `flags` in a descriptor: written last, read first.
pub const DESC_FLAGS_OFFSET: usize = 14;
/// Offset of `off_wrap` in an event suppression structure.
pub const EVENT_OFF_WRAP_OFFSET: usize = 0;
/// Offset of `flags` in an event suppression structure.
pub const EVENT_FLAGS_OFFSET: usize = 2;

pub use split::{DESC_F_INDIRECT, DESC_F_NEXT, DESC_F_WRITE};
/// Descriptor flag that the driver sets to its wrap counter.
pub const DESC_F_AVAIL: u16 = 1 << 7;
/// Descriptor flag that the device sets to its wrap counter.
pub const DESC_F_USED: u16 = 1 << 15;

/// Event flags: notify for every descriptor.
pub const EVENT_F_ENABLE: u16 = 0;
/// Event flags: do not notify.
pub const EVENT_F_DISABLE: u16 = 1;
/// Event flags: notify for the descriptor that `off_wrap` names (with the feature `EVENT_IDX`).
pub const EVENT_F_DESC: u16 = 2;
/// The bits of `flags` that hold a value; the others are reserved.
pub const EVENT_F_MASK: u16 = 3;
/// Bit of `off_wrap` that holds the wrap counter.
pub const EVENT_WRAP_BIT: u32 = 15;

/// Bytes of the descriptor ring of a queue with `n` entries.
#[must_use]
pub const fn desc_ring_size(n: u16) -> usize {
    DESC_SIZE * n as usize
}

/// Whether a packed queue may have `n` entries.
#[must_use]
pub const fn is_queue_size(n: u16) -> bool {
    n != 0 && n <= MAX_QUEUE_SIZE
}

/// Whether a descriptor with these flags is available to a device whose wrap counter is `wrap`.
#[inline]
#[must_use]
pub const fn is_avail(flags: u16, wrap: bool) -> bool {
    (flags & DESC_F_AVAIL != 0) == wrap && (flags & DESC_F_USED != 0) != wrap
}

/// Whether a descriptor with these flags is used for a driver whose wrap counter is `wrap`.
#[inline]
#[must_use]
pub const fn is_used(flags: u16, wrap: bool) -> bool {
    (flags & DESC_F_AVAIL != 0) == wrap && (flags & DESC_F_USED != 0) == wrap
}

/// The two flag bits by which the driver makes a descriptor available.
#[inline]
#[must_use]
pub const fn avail_flags(wrap: bool) -> u16 {
    if wrap { DESC_F_AVAIL } else { DESC_F_USED }
}

/// The flags by which the device marks a descriptor used; `written` tells whether it wrote into
/// the buffer, without which the driver ignores the length (2.8.4).
#[inline]
#[must_use]
pub const fn used_flags(wrap: bool, written: bool) -> u16 {
    let mark = if wrap { DESC_F_AVAIL | DESC_F_USED } else { 0 };
    if written { mark | DESC_F_WRITE } else { mark }
}

/// One entry of the descriptor ring (2.8.13).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Descriptor {
    /// Guest address of the buffer.
    pub addr: u64,
    /// Bytes in the buffer; in a used descriptor, bytes written.
    pub len: u32,
    /// The buffer's id, valid in the last descriptor of a list and in a used descriptor.
    pub id: u16,
    /// `DESC_F_*`.
    pub flags: u16,
}

impl Descriptor {
    /// Decodes a descriptor as it stands in memory.
    #[inline]
    #[must_use]
    pub const fn from_le_bytes(bytes: [u8; DESC_SIZE]) -> Self {
        // The same widths in the same places as in the split ring.
        let split::Descriptor { addr, len, flags: id, next: flags } =
            split::Descriptor::from_le_bytes(bytes);
        Self { addr, len, id, flags }
    }

    /// The descriptor as it stands in memory.
    #[inline]
    #[must_use]
    pub const fn to_le_bytes(self) -> [u8; DESC_SIZE] {
        let Self { addr, len, id, flags } = self;
        split::Descriptor { addr, len, flags: id, next: flags }.to_le_bytes()
    }

    /// Whether the list goes on in the next entry.
    #[inline]
    #[must_use]
    pub const fn has_next(self) -> bool {
        self.flags & DESC_F_NEXT != 0
    }

    /// Whether the device writes the buffer.
    #[inline]
    #[must_use]
    pub const fn is_write(self) -> bool {
        self.flags & DESC_F_WRITE != 0
    }

    /// Whether the buffer is a table of descriptors.
    #[inline]
    #[must_use]
    pub const fn is_indirect(self) -> bool {
        self.flags & DESC_F_INDIRECT != 0
    }
}

/// A place in the ring together with the wrap counter that holds there.
///
/// This is also the form in which vhost-user carries ring positions, and that of `off_wrap`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Position {
    /// Index of a descriptor.
    pub index: u16,
    /// Wrap counter of the side whose position it is.
    pub wrap: bool,
}

impl Position {
    /// Where both sides start.
    pub const START: Self = Self { index: 0, wrap: true };

    /// Splits the 16 bits that hold index (0 to 14) and wrap counter (15).
    #[inline]
    #[must_use]
    pub const fn from_bits(bits: u16) -> Self {
        Self { index: bits & !(1 << EVENT_WRAP_BIT), wrap: bits >> EVENT_WRAP_BIT == 1 }
    }

    /// Index and wrap counter in 16 bits.
    #[inline]
    #[must_use]
    pub const fn to_bits(self) -> u16 {
        self.index | (self.wrap as u16) << EVENT_WRAP_BIT
    }

    /// The place `count` descriptors on, in a ring of `size`; `count` is at most `size`.
    #[inline]
    #[must_use]
    pub const fn advance(self, count: u16, size: u16) -> Self {
        let to_end = size.saturating_sub(self.index);
        if count < to_end {
            Self { index: self.index + count, wrap: self.wrap }
        } else {
            Self { index: count - to_end, wrap: !self.wrap }
        }
    }
}

/// An event suppression structure (2.8.14).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EventSuppress {
    /// The descriptor to notify for, as [`Position::to_bits`]; valid with [`EVENT_F_DESC`].
    pub off_wrap: u16,
    /// [`EVENT_F_ENABLE`], [`EVENT_F_DISABLE`] or [`EVENT_F_DESC`].
    pub flags: u16,
}

impl EventSuppress {
    /// Decodes the structure as it stands in memory.
    #[inline]
    #[must_use]
    pub const fn from_le_bytes(bytes: [u8; EVENT_SIZE]) -> Self {
        let word = u32::from_le_bytes(bytes);
        #[expect(clippy::cast_possible_truncation, reason = "each cast keeps one field's bits")]
        Self { off_wrap: word as u16, flags: (word >> 16) as u16 }
    }

    /// The structure as it stands in memory.
    #[inline]
    #[must_use]
    pub const fn to_le_bytes(self) -> [u8; EVENT_SIZE] {
        (self.off_wrap as u32 | (self.flags as u32) << 16).to_le_bytes()
    }

    /// Whether a notification is due to the side that wrote this structure, after the other side
    /// moved from `old` to `new` in a ring of `size` descriptors.
    ///
    /// `new` is at most one turn ahead of `old`. The reserved value of `flags` counts as
    /// [`EVENT_F_ENABLE`]: a notification too many does no harm.
    #[inline]
    #[must_use]
    pub const fn is_due(self, old: Position, new: Position, size: u16) -> bool {
        match self.flags & EVENT_F_MASK {
            EVENT_F_DISABLE => false,
            EVENT_F_DESC => {
                let event = Position::from_bits(self.off_wrap);
                // Places on the turn before `new`'s lie one ring's length behind it.
                let here = new.index as i32;
                let event = place_relative(event, new.wrap, size);
                let old = place_relative(old, new.wrap, size);
                old <= event && event < here
            }
            _ => old.index != new.index || old.wrap != new.wrap,
        }
    }
}

/// The index of `position` as seen from a side on the turn `wrap`.
const fn place_relative(position: Position, wrap: bool, size: u16) -> i32 {
    let index = position.index as i32;
    if position.wrap == wrap { index } else { index - size as i32 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::mem::offset_of;
    use virtio_bindings::virtio_ring as linux;

    #[test]
    fn layout_agrees_with_linux() {
        assert_eq!(DESC_SIZE, size_of::<linux::vring_packed_desc>());
        assert_eq!(EVENT_SIZE, size_of::<linux::vring_packed_desc_event>());
        assert_eq!(DESC_ADDR_OFFSET, offset_of!(linux::vring_packed_desc, addr));
        assert_eq!(DESC_LEN_OFFSET, offset_of!(linux::vring_packed_desc, len));
        assert_eq!(DESC_ID_OFFSET, offset_of!(linux::vring_packed_desc, id));
        assert_eq!(DESC_FLAGS_OFFSET, offset_of!(linux::vring_packed_desc, flags));
        assert_eq!(EVENT_OFF_WRAP_OFFSET, offset_of!(linux::vring_packed_desc_event, off_wrap));
        assert_eq!(EVENT_FLAGS_OFFSET, offset_of!(linux::vring_packed_desc_event, flags));
    }

    #[test]
    fn flags_agree_with_linux() {
        assert_eq!(DESC_F_AVAIL, 1 << linux::VRING_PACKED_DESC_F_AVAIL);
        assert_eq!(DESC_F_USED, 1 << linux::VRING_PACKED_DESC_F_USED);
        assert_eq!(u32::from(EVENT_F_ENABLE), linux::VRING_PACKED_EVENT_FLAG_ENABLE);
        assert_eq!(u32::from(EVENT_F_DISABLE), linux::VRING_PACKED_EVENT_FLAG_DISABLE);
        assert_eq!(u32::from(EVENT_F_DESC), linux::VRING_PACKED_EVENT_FLAG_DESC);
        assert_eq!(EVENT_WRAP_BIT, linux::VRING_PACKED_EVENT_F_WRAP_CTR);
    }

    #[test]
    fn a_descriptor_goes_from_avail_to_used_to_avail_again() {
        for wrap in [true, false] {
            assert!(is_avail(avail_flags(wrap), wrap) && !is_used(avail_flags(wrap), wrap));
            assert!(!is_avail(avail_flags(wrap), !wrap));
            let used = used_flags(wrap, true);
            assert!(is_used(used, wrap) && !is_avail(used, wrap) && !is_avail(used, !wrap));
        }
        assert!(!is_avail(0, true), "a ring of zeroes holds nothing");
    }

    #[test]
    fn positions_wrap_at_the_end() {
        let last = Position { index: 2, wrap: true };
        assert_eq!(last.advance(1, 3), Position { index: 0, wrap: false });
        assert_eq!(Position::START.advance(3, 3), Position { index: 0, wrap: false });
        assert_eq!(Position::START.advance(2, 3), last);
    }

    proptest! {
        #[test]
        fn descriptors_round_trip(addr: u64, len: u32, id: u16, flags: u16) {
            let desc = Descriptor { addr, len, id, flags };
            let bytes = desc.to_le_bytes();
            prop_assert_eq!(Descriptor::from_le_bytes(bytes), desc);
            prop_assert_eq!(&bytes[DESC_ID_OFFSET..DESC_FLAGS_OFFSET], id.to_le_bytes());
        }

        #[test]
        fn suppression_round_trips(off_wrap: u16, flags: u16) {
            let event = EventSuppress { off_wrap, flags };
            prop_assert_eq!(EventSuppress::from_le_bytes(event.to_le_bytes()), event);
            prop_assert_eq!(Position::from_bits(off_wrap).to_bits(), off_wrap);
        }

        #[test]
        fn an_event_is_due_when_its_descriptor_was_passed(
            size in 1..40_u16, start in 0..40_u16, wrap: bool, moved in 0..=40_u16, ahead in 0..40_u16,
        ) {
            let old = Position { index: start % size, wrap };
            let moved = moved.min(size);
            let new = old.advance(moved, size);
            // The driver names a place that is at most one turn ahead of where it stands.
            let event = old.advance(ahead % size, size);
            let suppress = EventSuppress { off_wrap: event.to_bits(), flags: EVENT_F_DESC };
            prop_assert_eq!(suppress.is_due(old, new, size), ahead % size < moved);
        }
    }
}
