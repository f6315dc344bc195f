//! The in-flight region: shared memory in which a back-end records what it has taken from its
//! rings, so that a successor can go on (section "Inflight I/O tracking").
//!
//! The region holds one part per ring, one after the other, each rounded up to [`ALIGN`] bytes as
//! other back-ends round it. A part is a header and an array of states, one per ring entry.
//! These are layouts: the region is written field by field, in place, in the order that the
//! specification sets.

use crate::layout::le_struct;

/// Each ring's part starts at a multiple of this many bytes.
pub const ALIGN: usize = 64;
/// The version of the layout. Zero: nobody has written the part yet.
pub const VERSION: u16 = 1;

le_struct! {
    /// The state of one descriptor of a split ring; only that of a chain's head counts.
    #[derive(Default)]
    pub struct DescStateSplit {
        /// 1: taken and not completed.
        pub inflight: u8,
        /// Zero.
        pub padding: [u8; 5],
        /// The next head in the last batch of used chains.
        pub next: u16,
        /// Order in which chains were taken.
        pub counter: u64,
    }
}

le_struct! {
    /// Header of a split ring's part; [`DescStateSplit`]s follow.
    #[derive(Default)]
    pub struct QueueRegionSplit {
        /// Zero.
        pub features: u64,
        /// [`VERSION`].
        pub version: u16,
        /// Number of states: the ring's size.
        pub desc_num: u16,
        /// The first head in the last batch of used chains.
        pub last_batch_head: u16,
        /// The used index after the last batch that was finished.
        pub used_idx: u16,
    }
}

le_struct! {
    /// The state of one descriptor of a packed ring.
    #[derive(Default)]
    pub struct DescStatePacked {
        /// 1: taken and not completed (of a list's first state).
        pub inflight: u8,
        /// Zero.
        pub padding: u8,
        /// The next free state.
        pub next: u16,
        /// The list's last state (of a list's first state).
        pub last: u16,
        /// Number of descriptors in the list (of a list's first state).
        pub num: u16,
        /// Order in which lists were taken.
        pub counter: u64,
        /// The buffer's id.
        pub id: u16,
        /// The descriptor's flags.
        pub flags: u16,
        /// Bytes in the buffer.
        pub len: u32,
        /// Guest address of the buffer.
        pub addr: u64,
    }
}

le_struct! {
    /// Header of a packed ring's part; [`DescStatePacked`]s follow.
    #[derive(Default)]
    pub struct QueueRegionPacked {
        /// Zero.
        pub features: u64,
        /// [`VERSION`].
        pub version: u16,
        /// Number of states: the ring's size.
        pub desc_num: u16,
        /// The first free state.
        pub free_head: u16,
        /// The first free state before the batch in progress.
        pub old_free_head: u16,
        /// Where the next used descriptor goes.
        pub used_idx: u16,
        /// Where the next used descriptor went before the batch in progress.
        pub old_used_idx: u16,
        /// Wrap counter that belongs to `used_idx`.
        pub used_wrap_counter: u8,
        /// Wrap counter that belongs to `old_used_idx`.
        pub old_used_wrap_counter: u8,
        ..10
    }
}

/// Bytes of the part of a split ring with `queue_size` entries, rounded up to [`ALIGN`].
#[must_use]
pub const fn split_region_size(queue_size: u16) -> usize {
    part_size(QueueRegionSplit::SIZE, DescStateSplit::SIZE, queue_size)
}

/// Bytes of the part of a packed ring with `queue_size` entries, rounded up to [`ALIGN`].
#[must_use]
pub const fn packed_region_size(queue_size: u16) -> usize {
    part_size(QueueRegionPacked::SIZE, DescStatePacked::SIZE, queue_size)
}

/// Bytes of one ring's part in a region for rings with these features.
#[must_use]
pub const fn region_size(packed: bool, queue_size: u16) -> usize {
    if packed { packed_region_size(queue_size) } else { split_region_size(queue_size) }
}

const fn part_size(header: usize, state: usize, queue_size: u16) -> usize {
    (header + state * queue_size as usize).next_multiple_of(ALIGN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offsets(fields: &[crate::Field]) -> Vec<(&str, usize)> {
        fields.iter().map(|f| (f.name, f.offset)).collect()
    }

    #[test]
    fn split_states_lie_where_other_back_ends_put_them() {
        assert_eq!(DescStateSplit::SIZE, 16);
        assert_eq!(
            offsets(DescStateSplit::FIELDS),
            [("inflight", 0), ("padding", 1), ("next", 6), ("counter", 8)]
        );
        assert_eq!(QueueRegionSplit::SIZE, 16);
        assert_eq!(
            QueueRegionSplit::FIELDS.last().map(|f| (f.name, f.offset)),
            Some(("used_idx", 14))
        );
    }

    #[test]
    fn packed_states_lie_where_other_back_ends_put_them() {
        assert_eq!(DescStatePacked::SIZE, 32);
        assert_eq!(
            offsets(DescStatePacked::FIELDS)[5..],
            [("counter", 8), ("id", 16), ("flags", 18), ("len", 20), ("addr", 24)]
        );
        assert_eq!(QueueRegionPacked::SIZE, 32);
        assert_eq!(
            offsets(QueueRegionPacked::FIELDS)[7..9],
            [("used_wrap_counter", 20), ("old_used_wrap_counter", 21)]
        );
    }

    #[test]
    fn parts_are_rounded_up() {
        assert_eq!(split_region_size(1), 64);
        assert_eq!(split_region_size(3), 64);
        assert_eq!(split_region_size(4), 128);
        assert_eq!(split_region_size(256), 4160);
        assert_eq!(packed_region_size(128), 4160);
        assert_eq!(region_size(true, 1), 64);
    }
}
