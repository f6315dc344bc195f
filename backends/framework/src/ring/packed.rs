//! The packed ring, from the device's side (virtio 1.4, 2.8).
//!
//! # Theory of operation
//! Both sides go round one ring of descriptors. `avail` is where the next available list would
//! start, `used` where the next used descriptor goes; each carries its wrap counter. The used
//! descriptors of a batch are kept until it is published, and then written from the last to the
//! first: the driver looks at them in order, so it sees none or all of them. Until then its CPU and
//! ours do not take the cache lines away from each other, four descriptors each.

use std::sync::atomic::{Ordering, fence};

use virtio_spec::packed as spec;
use virtio_spec::packed::{Descriptor, EventSuppress, Position};
use virtio_spec::split::need_event;

use super::area::Area;
use super::fault::RingFault;
use super::walk::Walk;
use crate::memory::{DirtyLog, GuestAddress, MemoryTable};
use crate::worker::RingSetup;

/// The device's half of a packed ring.
#[derive(Debug)]
pub(super) struct Packed {
    size: u16,
    event_idx: bool,
    ring: Area,
    driver: Area,
    device: Area,
    /// Where the next available list starts.
    pub(super) avail: Position,
    /// Where the next used descriptor goes.
    pub(super) used: Position,
    /// The used descriptors of the batch, still to be written. Never more than the ring has.
    batch: Vec<Used>,
    /// How many descriptors of the ring were used since the last call.
    uncalled: u16,
}

/// A used descriptor: where it goes, and what is written there (virtio 1.4, 2.8.13): all but the
/// first half, which stays as the driver wrote it.
#[derive(Debug)]
struct Used {
    at: u16,
    id: u16,
    flags: u16,
    len: u32,
}

impl Used {
    /// Length, id and flags as they stand in memory: a single store.
    #[inline]
    fn bits(&self) -> u64 {
        const _: () = assert!(spec::DESC_ID_OFFSET == spec::DESC_LEN_OFFSET + 4);
        const _: () = assert!(spec::DESC_FLAGS_OFFSET == spec::DESC_LEN_OFFSET + 6);
        u64::from(self.len) | u64::from(self.id) << 32 | u64::from(self.flags) << 48
    }
}

/// A list of descriptors that was found in the ring.
pub(super) struct List {
    pub(super) id: u16,
    pub(super) descriptors: u16,
}

impl Packed {
    /// Resolves the three areas and starts at `avail` and `used`.
    pub(super) fn new(
        setup: &RingSetup,
        event_idx: bool,
        avail: Position,
        used: Position,
    ) -> Result<Self, RingFault> {
        for position in [avail, used] {
            if position.index >= setup.size {
                return Err(RingFault::BadIndex { index: position.index, size: setup.size });
            }
        }
        let (ring, driver, device) = resolve(setup, &setup.memory)?;
        let size = setup.size;
        let batch = Vec::with_capacity(size.into());
        Ok(Packed { size, event_idx, ring, driver, device, avail, used, batch, uncalled: 0 })
    }

    /// Finds the areas again in another memory table. Where they are not all in it the ring has
    /// none: the memory that they were in may be unmapped at any time.
    pub(super) fn relocate(
        &mut self,
        setup: &RingSetup,
        memory: &MemoryTable,
    ) -> Result<(), RingFault> {
        (self.ring, self.driver, self.device) = (Area::none(), Area::none(), Area::none());
        (self.ring, self.driver, self.device) = resolve(setup, memory)?;
        Ok(())
    }

    /// Whether a list is available.
    #[inline]
    pub(super) fn look(&self) -> bool {
        spec::is_avail(self.ring.load_u16(flags_offset(self.avail.index)), self.avail.wrap)
    }

    /// Follows the list at `avail`, and moves past it. `each` sees every descriptor, in order.
    #[inline]
    pub(super) fn next_list(&mut self, walk: &mut Walk<'_>) -> Result<List, RingFault> {
        let mut position = self.avail;
        for descriptors in 1..=self.size {
            let desc = self.read(position.index);
            position = position.advance(1, self.size);
            walk.add(as_split(&desc), true)?;
            if !desc.has_next() {
                self.avail = position;
                return Ok(List { id: desc.id, descriptors });
            }
        }
        Err(RingFault::TooLong { most: self.size })
    }

    /// The descriptors of a list that was found at `start`: for the in-flight region, where they
    /// are checked again before they are used.
    pub(super) fn list(
        &self,
        start: Position,
        descriptors: u16,
    ) -> impl Iterator<Item = Descriptor> + '_ {
        (0..descriptors).map(move |i| self.read(start.advance(i, self.size).index))
    }

    fn read(&self, index: u16) -> Descriptor {
        Descriptor::from_le_bytes(self.ring.read_16(usize::from(index) * spec::DESC_SIZE))
    }

    /// The flags that stand in the ring at `index`: for recovery.
    pub(super) fn flags_at(&self, index: u16) -> u16 {
        self.ring.load_u16(flags_offset(index))
    }

    /// Notes a used descriptor for a list of `descriptors`; the driver sees it when it is published.
    #[inline]
    pub(super) fn write_used(&mut self, id: u16, len: u32, descriptors: u16) {
        let at = self.used.index;
        self.ring.prefetch_to_write(usize::from(at) * spec::DESC_SIZE);
        let flags = spec::used_flags(self.used.wrap, len > 0);
        self.batch.push(Used { at, id, flags, len });
        self.used = self.used.advance(descriptors, self.size);
        self.uncalled = self.uncalled.saturating_add(descriptors);
    }

    /// Whether the batch is to be published before anything is added: only a driver that makes
    /// available what is in use already gets so far.
    #[inline]
    pub(super) fn is_batch_full(&self) -> bool {
        self.batch.len() >= self.size.into()
    }

    /// Shows the driver all that was used. False: there was nothing new.
    #[inline]
    pub(super) fn publish(&mut self, log: Option<&DirtyLog>) -> bool {
        let Some(first) = self.batch.first().map(|used| used.at) else { return false };
        for used in self.batch.iter().rev() {
            let at = usize::from(used.at) * spec::DESC_SIZE + spec::DESC_LEN_OFFSET;
            self.ring.store_u64(at, used.bits());
        }
        self.batch.clear();
        if let Some(log) = log {
            self.log_used(log, first);
        }
        true
    }

    /// Marks the used descriptors of this batch.
    #[cold]
    fn log_used(&self, log: &DirtyLog, first: u16) {
        let mut index = first;
        for _ in 0..self.size {
            let offset = u64::from(index) * spec::DESC_SIZE as u64;
            let at = GuestAddress(self.ring.guest.0.saturating_add(offset));
            log.mark(at, spec::DESC_SIZE as u64);
            index = if index + 1 == self.size { 0 } else { index + 1 };
            if index == self.used.index {
                break;
            }
        }
    }

    /// Whether the driver wants to be called for what was used since the last call (2.8.10).
    #[inline]
    pub(super) fn wants_call(&mut self) -> bool {
        let uncalled = std::mem::take(&mut self.uncalled);
        if uncalled == 0 {
            return false;
        }
        fence(Ordering::SeqCst);
        let flags = self.driver.load_u16(spec::EVENT_FLAGS_OFFSET) & spec::EVENT_F_MASK;
        if flags != spec::EVENT_F_DESC || !self.event_idx {
            return flags != spec::EVENT_F_DISABLE;
        }
        let event = Position::from_bits(self.driver.load_u16(spec::EVENT_OFF_WRAP_OFFSET));
        // Before the wrap that we have passed: count it as that much earlier.
        let offset = if event.wrap == self.used.wrap {
            event.index
        } else {
            event.index.wrapping_sub(self.size)
        };
        need_event(offset, self.used.index, self.used.index.wrapping_sub(uncalled))
    }

    /// Whether the driver may want to be called, whatever for.
    pub(super) fn takes_calls(&self) -> bool {
        let flags = self.driver.load_u16(spec::EVENT_FLAGS_OFFSET) & spec::EVENT_F_MASK;
        flags != spec::EVENT_F_DISABLE
    }

    /// Asks the driver to kick. True: something has come meanwhile, and no kick for it (2.8.10).
    ///
    /// `declined`: there are lists that nobody takes for now. Then a kick for one position would be
    /// for one that has passed: any new list is to bring one.
    pub(super) fn enable_kicks(&mut self, declined: bool) -> bool {
        let event = if self.event_idx && !declined {
            EventSuppress { off_wrap: self.avail.to_bits(), flags: spec::EVENT_F_DESC }
        } else {
            EventSuppress { off_wrap: 0, flags: spec::EVENT_F_ENABLE }
        };
        self.device.store_u16(spec::EVENT_OFF_WRAP_OFFSET, event.off_wrap);
        self.device.store_u16(spec::EVENT_FLAGS_OFFSET, event.flags);
        fence(Ordering::SeqCst);
        self.look()
    }

    /// Asks the driver not to kick.
    pub(super) fn disable_kicks(&mut self) {
        self.device.store_u16(spec::EVENT_FLAGS_OFFSET, spec::EVENT_F_DISABLE);
    }

    /// Marks the event structure, which is the device's to write.
    pub(super) fn log_event(&self, log: &DirtyLog) {
        log.mark(self.device.guest, spec::EVENT_SIZE as u64);
    }
}

fn flags_offset(index: u16) -> usize {
    usize::from(index) * spec::DESC_SIZE + spec::DESC_FLAGS_OFFSET
}

/// The same buffer as a descriptor of a split ring: `Walk` takes these.
pub(super) fn as_split(desc: &Descriptor) -> virtio_spec::split::Descriptor {
    let Descriptor { addr, len, flags, .. } = *desc;
    virtio_spec::split::Descriptor { addr, len, flags, next: 0 }
}

fn resolve(setup: &RingSetup, memory: &MemoryTable) -> Result<(Area, Area, Area), RingFault> {
    let area = |at, len, align: u64| {
        let align = usize::try_from(align).unwrap_or(usize::MAX);
        Area::resolve(memory, at, len, align).ok_or(RingFault::RingNotMapped)
    };
    Ok((
        area(setup.descriptors, spec::desc_ring_size(setup.size), spec::DESC_ALIGN)?,
        area(setup.driver, spec::EVENT_SIZE, spec::EVENT_ALIGN)?,
        area(setup.device, spec::EVENT_SIZE, spec::EVENT_ALIGN)?,
    ))
}
