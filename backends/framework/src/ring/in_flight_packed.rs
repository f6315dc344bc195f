//! The in-flight region of a packed ring (vhost-user, "Inflight I/O tracking").
//!
//! Used descriptors overwrite available ones, so the region holds copies of the descriptors of
//! every list in flight, and where the device stands in the ring. As hostile as any other input.
//!
//! # Theory of operation
//! Free entries form a list from `free_head`. Taking a list moves entries off it and ends with
//! `old_free_head = free_head`: a kill before that leaves the list untaken. Using a list first puts
//! its entries back and moves `used_idx`, then shows it to the driver, then settles the `old_*`
//! fields: after a kill in between, the ring itself tells whether the driver was shown it. Lists are
//! shown one by one: of a larger batch, a kill could leave used flags in the ring that the driver
//! takes for those of a later one.
//!
//! A ring that has stopped stays in the region, in case that the answer to GET_VRING_BASE gets lost.
//! When the front-end starts it again on the same connection it has got that answer; what it says
//! counts then, and the region begins anew ([`forget`]).

use std::sync::Arc;

use super::area::Area;
use super::fault::RingFault;
use super::packed::Packed;
use crate::memory::{DirtyLog, Mapping};
use crate::worker::InFlightArea;
use virtio_spec::packed::{DESC_F_AVAIL, DESC_F_USED};
use virtio_spec::packed::{Descriptor, Position, avail_flags};
use virtio_spec::vhost_user::inflight::{
    DescStatePacked, QueueRegionPacked, VERSION, packed_region_size,
};

const VERSION_AT: usize = 8;
const DESC_NUM_AT: usize = 10;
const FREE_HEAD_AT: usize = 12;
const OLD_FREE_HEAD_AT: usize = 14;
/// `used_idx`, `old_used_idx`, `used_wrap_counter`, `old_used_wrap_counter`, two bytes of padding.
const USED_AT: usize = 16;
const INFLIGHT_AT: usize = 0;
const NEXT_AT: usize = 2;
const LAST_AT: usize = 4;
const NUM_AT: usize = 6;
const COUNTER_AT: usize = 8;
const ID_AT: usize = 16;
const FLAGS_AT: usize = 18;
const ADDR_AT: usize = 24;

/// One packed ring's part of the region.
#[derive(Debug)]
pub(super) struct PackedTrack {
    area: Area,
    _mapping: Arc<Mapping>,
    size: u16,
    counter: u64,
    /// Lists completed since the last publication, in order.
    completed: Vec<Completed>,
}

/// A list that was completed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Completed {
    /// Its first entry.
    pub(super) first: u16,
    /// The buffer's id.
    pub(super) id: u16,
    /// How many descriptors of the ring it takes.
    pub(super) descriptors: u16,
    /// How many bytes were written.
    pub(super) written: u32,
}

/// What was found in a region.
#[derive(Debug)]
pub(super) struct Recovered {
    /// Where the device goes on using.
    pub(super) used: Position,
    /// Where it goes on taking.
    pub(super) avail: Position,
    /// First entries of the lists in flight, in the order in which they were taken.
    pub(super) lists: Vec<u16>,
}

impl PackedTrack {
    /// Opens a region. `flags_at` gives the flags that stand in the ring at an index. None: the
    /// region says nothing, and `start` is where the ring starts.
    pub(super) fn open(
        from: &InFlightArea,
        size: u16,
        start: Position,
        flags_at: impl Fn(u16) -> u16,
    ) -> Result<(Self, Option<Recovered>), RingFault> {
        let area = Area::of(&from.mapping, from.offset, packed_region_size(from.size))
            .ok_or(RingFault::InFlight { what: "it is too small or not aligned" })?;
        if from.size < size {
            return Err(RingFault::InFlight { what: "it is for a smaller ring" });
        }
        let mapping = Arc::clone(&from.mapping);
        let completed = Vec::with_capacity(size.into());
        let mut track = PackedTrack { area, _mapping: mapping, size, counter: 0, completed };
        match track.area.load_u16(VERSION_AT) {
            0 => {
                track.initialize(start);
                Ok((track, None))
            }
            VERSION if track.area.load_u16(DESC_NUM_AT) != size => {
                Err(RingFault::InFlight { what: "it is for a ring of another size" })
            }
            VERSION => {
                track.settle(flags_at)?;
                let recovered = track.recover()?;
                Ok((track, Some(recovered)))
            }
            _ => Err(RingFault::InFlight { what: "its version is not known" }),
        }
    }

    fn initialize(&mut self, start: Position) {
        for entry in 0..self.size {
            self.area.store_u8(state(entry) + INFLIGHT_AT, 0);
            self.area.store_u16(state(entry) + NEXT_AT, entry + 1);
        }
        self.area.store_u64(0, 0);
        self.area.store_u16(DESC_NUM_AT, self.size);
        self.area.store_u16(FREE_HEAD_AT, 0);
        self.area.store_u16(OLD_FREE_HEAD_AT, 0);
        self.store_positions(Positions { used: start, old: start });
        self.area.store_u16(VERSION_AT, VERSION);
    }

    /// Ends what a kill left half done: the batch was shown to the driver, or it was not.
    fn settle(&mut self, flags_at: impl Fn(u16) -> u16) -> Result<(), RingFault> {
        let Positions { used, old } = self.positions();
        if used.index >= self.size || old.index >= self.size {
            return Err(RingFault::InFlight { what: "its used index is outside the ring" });
        }
        let marks = DESC_F_AVAIL | DESC_F_USED;
        if used != old && flags_at(old.index) & marks != avail_flags(old.wrap) {
            self.settle_old();
        } else {
            self.area.store_u16(FREE_HEAD_AT, self.area.load_u16(OLD_FREE_HEAD_AT));
            self.store_positions(Positions { used: old, old });
        }
        let mut entry = self.area.load_u16(FREE_HEAD_AT);
        for _ in 0..self.size {
            if entry >= self.size {
                break;
            }
            self.area.store_u8(state(entry) + INFLIGHT_AT, 0);
            entry = self.area.load_u16(state(entry) + NEXT_AT);
        }
        Ok(())
    }

    fn recover(&mut self) -> Result<Recovered, RingFault> {
        let taken = (0..self.size).filter(|e| self.area.load_u8(state(*e) + INFLIGHT_AT) != 0);
        let mut lists: Vec<(u64, u16)> =
            taken.map(|e| (self.area.load_u64(state(e) + COUNTER_AT), e)).collect();
        lists.sort_unstable();
        self.counter = lists.last().map_or(0, |(counter, _)| counter.wrapping_add(1));
        let lists: Vec<u16> = lists.into_iter().map(|(_, entry)| entry).collect();
        let descriptors: usize =
            lists.iter().map(|e| usize::from(self.area.load_u16(state(*e) + NUM_AT))).sum();
        let descriptors = u16::try_from(descriptors).ok().filter(|n| *n <= self.size);
        let Some(descriptors) = descriptors else {
            return Err(RingFault::InFlight { what: "more is in flight than the ring holds" });
        };
        let used = self.positions().used;
        Ok(Recovered { used, avail: used.advance(descriptors, self.size), lists })
    }

    /// The descriptors of a list in flight, copied out and checked for their number.
    pub(super) fn descriptors(&self, first: u16) -> Result<Vec<Descriptor>, RingFault> {
        let broken = RingFault::InFlight { what: "a list in flight is broken" };
        let num = self.area.load_u16(state(first) + NUM_AT);
        if num == 0 || num > self.size {
            return Err(broken);
        }
        let mut list = Vec::with_capacity(num.into());
        let mut entry = first;
        for _ in 0..num {
            if entry >= self.size {
                return Err(broken);
            }
            let at = state(entry);
            let id_flags_len = self.area.load_u64(at + ID_AT).to_le_bytes();
            let [i0, i1, f0, f1, l0, l1, l2, l3] = id_flags_len;
            list.push(Descriptor {
                addr: self.area.load_u64(at + ADDR_AT),
                len: u32::from_le_bytes([l0, l1, l2, l3]),
                id: u16::from_le_bytes([i0, i1]),
                flags: u16::from_le_bytes([f0, f1]),
            });
            entry = self.area.load_u16(at + NEXT_AT);
        }
        Ok(list)
    }

    /// A list was taken; gives its first entry. None: the free list is broken, which only a
    /// front-end that writes into the region can do.
    pub(super) fn taken(&mut self, list: impl Iterator<Item = Descriptor>) -> Option<u16> {
        let first = self.area.load_u16(OLD_FREE_HEAD_AT);
        let (mut free, mut last, mut num) = (first, first, 0u16);
        if first >= self.size {
            return None;
        }
        self.area.store_u16(state(first) + NUM_AT, 0);
        self.area.store_u64(state(first) + COUNTER_AT, self.counter);
        self.counter = self.counter.wrapping_add(1);
        self.area.store_u8(state(first) + INFLIGHT_AT, 1);
        for desc in list {
            if free >= self.size {
                return None;
            }
            let at = state(free);
            num = num.saturating_add(1);
            self.area.store_u64(at + ADDR_AT, desc.addr);
            self.area.store_u16(at + ID_AT, desc.id);
            self.area.store_u16(at + FLAGS_AT, desc.flags);
            self.area.write_4(at + FLAGS_AT + 2, desc.len.to_le_bytes());
            last = free;
            free = self.area.load_u16(at + NEXT_AT);
        }
        self.area.store_u16(state(first) + NUM_AT, num);
        self.area.store_u16(state(first) + LAST_AT, last);
        self.area.store_u16(FREE_HEAD_AT, free);
        self.area.store_u16(OLD_FREE_HEAD_AT, free);
        Some(first)
    }

    /// A list was completed, not yet published.
    pub(super) fn completed(&mut self, list: Completed) {
        self.completed.push(list);
    }

    /// Writes what was completed into the ring, list by list. True: there was something.
    pub(super) fn publish(&mut self, ring: &mut Packed, log: Option<&DirtyLog>) -> bool {
        for index in 0..self.completed.len() {
            let Some(&list) = self.completed.get(index) else { break };
            ring.write_used(list.id, list.written, list.descriptors);
            self.put_back(list.first);
            let old = self.positions().old;
            self.store_positions(Positions { used: ring.used, old });
            ring.publish(log);
            self.area.store_u8(state(list.first) + INFLIGHT_AT, 0);
            self.settle_old();
        }
        let any = !self.completed.is_empty();
        self.completed.clear();
        any
    }

    /// Puts a list's entries back into the free list.
    fn put_back(&mut self, first: u16) {
        let last = self.area.load_u16(state(first) + LAST_AT);
        let free = self.area.load_u16(FREE_HEAD_AT);
        if last < self.size {
            self.area.store_u16(state(last) + NEXT_AT, free);
        }
        self.area.store_u16(FREE_HEAD_AT, first);
    }

    fn settle_old(&mut self) {
        self.area.store_u16(OLD_FREE_HEAD_AT, self.area.load_u16(FREE_HEAD_AT));
        let used = self.positions().used;
        self.store_positions(Positions { used, old: used });
    }

    fn positions(&self) -> Positions {
        let [u0, u1, o0, o1, used_wrap, old_wrap, _, _] = self.area.load_u64(USED_AT).to_le_bytes();
        Positions {
            used: Position { index: u16::from_le_bytes([u0, u1]), wrap: used_wrap != 0 },
            old: Position { index: u16::from_le_bytes([o0, o1]), wrap: old_wrap != 0 },
        }
    }

    /// Both positions and their wrap counters in one store: a kill in between would leave an index
    /// with the wrong wrap counter.
    fn store_positions(&mut self, Positions { used, old }: Positions) {
        let [u0, u1] = used.index.to_le_bytes();
        let [o0, o1] = old.index.to_le_bytes();
        let bytes = [u0, u1, o0, o1, used.wrap.into(), old.wrap.into(), 0, 0];
        self.area.store_u64(USED_AT, u64::from_le_bytes(bytes));
    }
}

/// Lets a ring's part of the region say nothing.
pub(super) fn forget(from: &InFlightArea) {
    if let Some(area) = Area::of(&from.mapping, from.offset, QueueRegionPacked::SIZE) {
        area.store_u16(VERSION_AT, 0);
    }
}

/// `used_idx` and `old_used_idx` with their wrap counters.
#[derive(Clone, Copy)]
struct Positions {
    used: Position,
    old: Position,
}

fn state(entry: u16) -> usize {
    QueueRegionPacked::SIZE + usize::from(entry) * DescStatePacked::SIZE
}
