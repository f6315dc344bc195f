//! The in-flight region of a split ring (vhost-user, "Inflight I/O tracking").
//!
//! Shared memory that outlives this process: which heads were taken and not yet completed. It comes
//! back from the front-end after a crash, and is as hostile as any other input: every index in it is
//! checked, every walk bounded. The order of the stores is what makes a kill at any point
//! recoverable; a process that dies leaves all stores that it had made, in program order.

use std::sync::Arc;

use super::area::Area;
use super::fault::RingFault;
use crate::memory::Mapping;
use crate::worker::InFlightArea;
use virtio_spec::vhost_user::inflight::{
    DescStateSplit, QueueRegionSplit, VERSION, split_region_size,
};

const VERSION_AT: usize = 8;
const DESC_NUM_AT: usize = 10;
const LAST_BATCH_HEAD_AT: usize = 12;
const USED_IDX_AT: usize = 14;
const INFLIGHT_AT: usize = 0;
const NEXT_AT: usize = 6;
const COUNTER_AT: usize = 8;

/// One split ring's part of the region.
#[derive(Debug)]
pub(super) struct SplitTrack {
    area: Area,
    _mapping: Arc<Mapping>,
    counter: u64,
    /// Heads completed since the used index was last published.
    batch: Vec<u16>,
}

impl SplitTrack {
    /// Opens a region, mends what a crash left half done, and lists the heads in flight in the order
    /// in which they were taken. `used_idx` is the used ring's. None: nobody has used the region yet.
    pub(super) fn open(
        from: &InFlightArea,
        size: u16,
        used_idx: u16,
    ) -> Result<(Self, Option<Vec<u16>>), RingFault> {
        let area = Area::of(&from.mapping, from.offset, split_region_size(from.size))
            .ok_or(RingFault::InFlight { what: "it is too small or not aligned" })?;
        let mapping = Arc::clone(&from.mapping);
        let batch = Vec::with_capacity(size.into());
        let mut track = SplitTrack { area, _mapping: mapping, counter: 0, batch };
        match track.area.load_u16(VERSION_AT) {
            0 => {
                track.initialize(from.size, used_idx);
                Ok((track, None))
            }
            VERSION => {
                if track.area.load_u16(DESC_NUM_AT) < size || from.size < size {
                    return Err(RingFault::InFlight { what: "it is for a smaller ring" });
                }
                track.finish_batch(size, used_idx);
                let heads = track.in_flight(size);
                Ok((track, Some(heads)))
            }
            _ => Err(RingFault::InFlight { what: "its version is not known" }),
        }
    }

    fn initialize(&mut self, size: u16, used_idx: u16) {
        for head in 0..size {
            self.area.store_u8(state(head) + INFLIGHT_AT, 0);
        }
        self.area.store_u64(0, 0);
        self.area.store_u16(DESC_NUM_AT, size);
        self.area.store_u16(LAST_BATCH_HEAD_AT, 0);
        self.area.store_u16(USED_IDX_AT, used_idx);
        self.area.store_u16(VERSION_AT, VERSION);
    }

    /// The last batch was published, but perhaps not struck off.
    fn finish_batch(&mut self, size: u16, used_idx: u16) {
        let batch = used_idx.wrapping_sub(self.area.load_u16(USED_IDX_AT));
        let mut head = self.area.load_u16(LAST_BATCH_HEAD_AT);
        for _ in 0..batch.min(size) {
            if head >= size {
                break;
            }
            self.area.store_u8(state(head) + INFLIGHT_AT, 0);
            head = self.area.load_u16(state(head) + NEXT_AT);
        }
        self.area.store_u16(USED_IDX_AT, used_idx);
    }

    fn in_flight(&mut self, size: u16) -> Vec<u16> {
        let taken = (0..size).filter(|h| self.area.load_u8(state(*h) + INFLIGHT_AT) != 0);
        let mut heads: Vec<(u64, u16)> =
            taken.map(|h| (self.area.load_u64(state(h) + COUNTER_AT), h)).collect();
        heads.sort_unstable();
        self.counter = heads.last().map_or(0, |(counter, _)| counter.wrapping_add(1));
        heads.into_iter().map(|(_, head)| head).collect()
    }

    /// A chain was taken.
    pub(super) fn taken(&mut self, head: u16) {
        self.area.store_u64(state(head) + COUNTER_AT, self.counter);
        self.counter = self.counter.wrapping_add(1);
        self.area.store_u8(state(head) + INFLIGHT_AT, 1);
    }

    /// A chain was written into the used ring, not yet published.
    pub(super) fn used(&mut self, head: u16) {
        let last = self.area.load_u16(LAST_BATCH_HEAD_AT);
        self.area.store_u16(state(head) + NEXT_AT, last);
        self.area.store_u16(LAST_BATCH_HEAD_AT, head);
        self.batch.push(head);
    }

    /// The used index was published.
    pub(super) fn published(&mut self, used_idx: u16) {
        for head in self.batch.drain(..) {
            self.area.store_u8(state(head) + INFLIGHT_AT, 0);
        }
        self.area.store_u16(USED_IDX_AT, used_idx);
    }
}

fn state(head: u16) -> usize {
    QueueRegionSplit::SIZE + usize::from(head) * DescStateSplit::SIZE
}
