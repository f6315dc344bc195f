//! The split ring (virtio 1.4, 2.7): descriptor table, available ring, used ring.
//!
//! A queue of `n` entries has three areas:
//!
//! ```text
//! descriptor table  n × { addr: u64, len: u32, flags: u16, next: u16 }          16 n
//! available ring    flags: u16, idx: u16, n × head: u16, used_event: u16         6 + 2 n
//! used ring         flags: u16, idx: u16, n × { id: u32, len: u32 }, avail_event: u16   6 + 8 n
//! ```

/// The longest queue.
pub const MAX_QUEUE_SIZE: u16 = 32768;

/// Alignment of the descriptor table in bytes.
pub const DESC_ALIGN: u64 = 16;
/// Alignment of the available ring in bytes.
pub const AVAIL_ALIGN: u64 = 2;
/// Alignment of the used ring in bytes.
pub const USED_ALIGN: u64 = 4;

/// Bytes of a descriptor.
pub const DESC_SIZE: usize = 16;
/// Bytes of an entry of the available ring: the index of a chain's head.
pub const AVAIL_ELEM_SIZE: usize = 2;
/// Bytes of an entry of the used ring.
pub const USED_ELEM_SIZE: usize = 8;

/// Offset of `flags` in the available ring.
pub const AVAIL_FLAGS_OFFSET: usize = 0;
/// Offset of `idx` in the available ring.
pub const AVAIL_IDX_OFFSET: usize = 2;
/// Offset of the first entry in the available ring.
pub const AVAIL_RING_OFFSET: usize = 4;
/// Offset of `flags` in the used ring.
pub const USED_FLAGS_OFFSET: usize = 0;
/// Offset of `idx` in the used ring.
pub const USED_IDX_OFFSET: usize = 2;
/// Offset of the first entry in the used ring.
pub const USED_RING_OFFSET: usize = 4;

/// Descriptor flag: the chain goes on at `next`.
pub const DESC_F_NEXT: u16 = 1;
/// Descriptor flag: the device writes the buffer; without it the device reads it.
pub const DESC_F_WRITE: u16 = 2;
/// Descriptor flag: the buffer is a table of descriptors.
pub const DESC_F_INDIRECT: u16 = 4;
/// Available ring flag: the driver wants no calls (without the feature `EVENT_IDX`).
pub const AVAIL_F_NO_INTERRUPT: u16 = 1;
/// Used ring flag: the device wants no kicks (without the feature `EVENT_IDX`).
pub const USED_F_NO_NOTIFY: u16 = 1;

/// Bytes of the descriptor table of a queue with `n` entries.
#[must_use]
pub const fn desc_table_size(n: u16) -> usize {
    DESC_SIZE * n as usize
}

/// Bytes of the available ring of a queue with `n` entries, `used_event` included.
#[must_use]
pub const fn avail_ring_size(n: u16) -> usize {
    used_event_offset(n) + size_of::<u16>()
}

/// Bytes of the used ring of a queue with `n` entries, `avail_event` included.
#[must_use]
pub const fn used_ring_size(n: u16) -> usize {
    avail_event_offset(n) + size_of::<u16>()
}

/// Offset of `used_event` in the available ring of a queue with `n` entries.
#[must_use]
pub const fn used_event_offset(n: u16) -> usize {
    AVAIL_RING_OFFSET + AVAIL_ELEM_SIZE * n as usize
}

/// Offset of `avail_event` in the used ring of a queue with `n` entries.
#[must_use]
pub const fn avail_event_offset(n: u16) -> usize {
    USED_RING_OFFSET + USED_ELEM_SIZE * n as usize
}

/// Whether a split queue may have `n` entries: a power of two up to [`MAX_QUEUE_SIZE`].
#[must_use]
pub const fn is_queue_size(n: u16) -> bool {
    n.is_power_of_two()
}

/// Whether a notification is due after an index moved from `old` to `new`, when the other side
/// asked to be told once the entry `event` is written.
///
/// All three are free-running and wrap at 65536 (virtio 1.4, 2.7.7.2 and 2.7.10.1). Nothing is
/// due when the index did not move.
#[inline]
#[must_use]
pub const fn need_event(event: u16, new: u16, old: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}

/// One entry of a descriptor table (2.7.5).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Descriptor {
    /// Guest address of the buffer.
    pub addr: u64,
    /// Bytes in the buffer.
    pub len: u32,
    /// [`DESC_F_NEXT`], [`DESC_F_WRITE`], [`DESC_F_INDIRECT`].
    pub flags: u16,
    /// Index of the chain's next descriptor, if the flags say that there is one.
    pub next: u16,
}

impl Descriptor {
    /// Decodes a descriptor as it stands in memory.
    #[inline]
    #[must_use]
    pub const fn from_le_bytes(bytes: [u8; DESC_SIZE]) -> Self {
        let word = u128::from_le_bytes(bytes);
        #[expect(clippy::cast_possible_truncation, reason = "each cast keeps one field's bits")]
        Self {
            addr: word as u64,
            len: (word >> 64) as u32,
            flags: (word >> 96) as u16,
            next: (word >> 112) as u16,
        }
    }

    /// The descriptor as it stands in memory.
    #[inline]
    #[must_use]
    pub const fn to_le_bytes(self) -> [u8; DESC_SIZE] {
        let word = self.addr as u128
            | (self.len as u128) << 64
            | (self.flags as u128) << 96
            | (self.next as u128) << 112;
        word.to_le_bytes()
    }

    /// Whether the chain goes on at `next`.
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

/// One entry of the used ring (2.7.8).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UsedElem {
    /// Index of the chain's head.
    pub id: u32,
    /// Bytes that the device wrote into the chain.
    pub len: u32,
}

impl UsedElem {
    /// Decodes an entry as it stands in memory.
    #[inline]
    #[must_use]
    pub const fn from_le_bytes(bytes: [u8; USED_ELEM_SIZE]) -> Self {
        let word = u64::from_le_bytes(bytes);
        #[expect(clippy::cast_possible_truncation, reason = "each cast keeps one field's bits")]
        Self { id: word as u32, len: (word >> 32) as u32 }
    }

    /// The entry as it stands in memory.
    #[inline]
    #[must_use]
    pub const fn to_le_bytes(self) -> [u8; USED_ELEM_SIZE] {
        (self.id as u64 | (self.len as u64) << 32).to_le_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::mem::offset_of;
    use virtio_bindings::virtio_ring as linux;

    #[test]
    fn layout_agrees_with_linux() {
        assert_eq!(DESC_SIZE, size_of::<linux::vring_desc>());
        assert_eq!(USED_ELEM_SIZE, size_of::<linux::vring_used_elem>());
        assert_eq!(AVAIL_FLAGS_OFFSET, offset_of!(linux::vring_avail, flags));
        assert_eq!(AVAIL_IDX_OFFSET, offset_of!(linux::vring_avail, idx));
        assert_eq!(AVAIL_RING_OFFSET, offset_of!(linux::vring_avail, ring));
        assert_eq!(USED_FLAGS_OFFSET, offset_of!(linux::vring_used, flags));
        assert_eq!(USED_IDX_OFFSET, offset_of!(linux::vring_used, idx));
        assert_eq!(USED_RING_OFFSET, offset_of!(linux::vring_used, ring));
        assert_eq!(DESC_ALIGN, u64::from(linux::VRING_DESC_ALIGN_SIZE));
        assert_eq!(AVAIL_ALIGN, u64::from(linux::VRING_AVAIL_ALIGN_SIZE));
        assert_eq!(USED_ALIGN, u64::from(linux::VRING_USED_ALIGN_SIZE));
    }

    #[test]
    fn flags_agree_with_linux() {
        assert_eq!(u32::from(DESC_F_NEXT), linux::VRING_DESC_F_NEXT);
        assert_eq!(u32::from(DESC_F_WRITE), linux::VRING_DESC_F_WRITE);
        assert_eq!(u32::from(DESC_F_INDIRECT), linux::VRING_DESC_F_INDIRECT);
        assert_eq!(u32::from(AVAIL_F_NO_INTERRUPT), linux::VRING_AVAIL_F_NO_INTERRUPT);
        assert_eq!(u32::from(USED_F_NO_NOTIFY), linux::VRING_USED_F_NO_NOTIFY);
    }

    #[test]
    fn areas_grow_with_the_queue() {
        assert_eq!(desc_table_size(256), 4096);
        assert_eq!(avail_ring_size(256), 6 + 2 * 256);
        assert_eq!(used_ring_size(256), 6 + 8 * 256);
        assert_eq!(used_ring_size(MAX_QUEUE_SIZE), 6 + 8 * 32768);
        assert_eq!(used_event_offset(4), 12);
        assert_eq!(avail_event_offset(4), 36);
    }

    #[test]
    fn queue_sizes_are_powers_of_two() {
        assert!(is_queue_size(1) && is_queue_size(256) && is_queue_size(MAX_QUEUE_SIZE));
        assert!(!is_queue_size(0) && !is_queue_size(3) && !is_queue_size(32769));
    }

    proptest! {
        #[test]
        fn descriptors_round_trip(addr: u64, len: u32, flags: u16, next: u16) {
            let desc = Descriptor { addr, len, flags, next };
            let bytes = desc.to_le_bytes();
            prop_assert_eq!(Descriptor::from_le_bytes(bytes), desc);
            prop_assert_eq!(&bytes[..8], addr.to_le_bytes());
            prop_assert_eq!(&bytes[8..12], len.to_le_bytes());
            prop_assert_eq!(&bytes[12..14], flags.to_le_bytes());
            prop_assert_eq!(&bytes[14..], next.to_le_bytes());
        }

        #[test]
        fn used_elements_round_trip(id: u32, len: u32) {
            let elem = UsedElem { id, len };
            let bytes = elem.to_le_bytes();
            prop_assert_eq!(UsedElem::from_le_bytes(bytes), elem);
            prop_assert_eq!(&bytes[..4], id.to_le_bytes());
        }

        #[test]
        fn an_event_is_due_when_its_entry_was_written(old: u16, moved in 0..1000_u16, event: u16) {
            let new = old.wrapping_add(moved);
            let written = (0..moved).any(|i| old.wrapping_add(i) == event);
            prop_assert_eq!(need_event(event, new, old), written);
        }
    }
}
