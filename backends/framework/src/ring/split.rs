//! The split ring, from the device's side (virtio 1.4, 2.7).
//!
//! # Theory of operation
//! `next` runs ahead of the driver's heads as they are taken; `used` counts what was written into
//! the used ring, and `published` what the driver has been told of: the used index moves once per
//! batch. All three run freely and wrap at 65536. Between kicks the driver is asked to be silent:
//! with EVENT_IDX by leaving `avail_event` behind, without it by NO_NOTIFY.

use std::sync::atomic::{Ordering, fence};

use virtio_spec::split as spec;
use virtio_spec::split::{Descriptor, UsedElem};

use super::area::Area;
use super::fault::RingFault;
use super::walk::Walk;
use crate::memory::{DirtyLog, GuestAddress, LINE, MemoryTable};
use crate::worker::RingSetup;

/// The device's half of a split ring.
#[derive(Debug)]
pub(super) struct Split {
    size: u16,
    event_idx: bool,
    descriptors: Area,
    avail: Area,
    used: Area,
    /// The driver's index, as last seen.
    avail_idx: u16,
    /// The next head to look at.
    next: u16,
    /// Where the next used element goes.
    used_idx: u16,
    /// The used index that the driver sees.
    published: u16,
    /// The used index at the last call.
    called: u16,
}

impl Split {
    /// Resolves the three areas. Where to go on is not SET_VRING_BASE, which front-ends get wrong
    /// after a crash: it is the used index, past what is `in_flight`.
    pub(super) fn new(setup: &RingSetup, event_idx: bool) -> Result<Self, RingFault> {
        let (descriptors, avail, used) = resolve(setup, &setup.memory)?;
        let used_idx = used.load_u16(spec::USED_IDX_OFFSET);
        Ok(Split {
            size: setup.size,
            event_idx,
            descriptors,
            avail,
            used,
            avail_idx: used_idx,
            next: used_idx,
            used_idx,
            published: used_idx,
            called: used_idx,
        })
    }

    /// Finds the areas again in another memory table. Where they are not all in it the ring has
    /// none: the memory that they were in may be unmapped at any time.
    pub(super) fn relocate(
        &mut self,
        setup: &RingSetup,
        memory: &MemoryTable,
    ) -> Result<(), RingFault> {
        (self.descriptors, self.avail, self.used) = (Area::none(), Area::none(), Area::none());
        (self.descriptors, self.avail, self.used) = resolve(setup, memory)?;
        Ok(())
    }

    /// Goes on behind `taken` chains that are in flight already.
    pub(super) fn skip(&mut self, taken: u16) {
        self.next = self.next.wrapping_add(taken);
        self.avail_idx = self.next;
    }

    pub(super) fn used_idx(&self) -> u16 {
        self.used_idx
    }

    /// Takes back the last look at a head.
    pub(super) fn step_back(&mut self) {
        self.next = self.next.wrapping_sub(1);
    }

    /// The next head to look at: what GET_VRING_BASE replies.
    pub(super) fn base(&self) -> u16 {
        self.next
    }

    /// Whether there is a head that was not looked at.
    #[inline]
    pub(super) fn has_more(&mut self) -> Result<bool, RingFault> {
        if self.next == self.avail_idx { self.look() } else { Ok(true) }
    }

    /// The next head that the driver has made available; there is one.
    #[inline]
    pub(super) fn next_head(&mut self) -> Result<u16, RingFault> {
        let head = self.avail.load_u16(self.avail_slot());
        if head >= self.size {
            return Err(RingFault::BadIndex { index: head, size: self.size });
        }
        self.next = self.next.wrapping_add(1);
        self.prefetch_next();
        Ok(head)
    }

    /// Has the next head's descriptor fetched, which is still in the cache of the driver's CPU.
    #[inline]
    fn prefetch_next(&self) {
        if self.knows_more() {
            let head = self.avail.load_u16(self.avail_slot());
            self.descriptors.prefetch(usize::from(head) * spec::DESC_SIZE);
        }
    }

    /// Where in the avail ring the next head is.
    #[inline]
    fn avail_slot(&self) -> usize {
        spec::AVAIL_RING_OFFSET + usize::from(self.next & (self.size - 1)) * 2
    }

    /// Whether there is a head that was not looked at, as of the last look.
    #[inline]
    pub(super) fn knows_more(&self) -> bool {
        self.next != self.avail_idx
    }

    /// Reads the driver's index. True: there is something new.
    #[inline]
    pub(super) fn look(&mut self) -> Result<bool, RingFault> {
        let idx = self.avail.load_u16(spec::AVAIL_IDX_OFFSET);
        if idx.wrapping_sub(self.next) > self.size {
            return Err(RingFault::IndexJumped { from: self.next, to: idx, size: self.size });
        }
        self.avail_idx = idx;
        Ok(idx != self.next)
    }

    /// Follows the chain from `head`. Each descriptor is read once.
    #[inline]
    pub(super) fn walk(&self, head: u16, walk: &mut Walk<'_>) -> Result<(), RingFault> {
        let mut index = head;
        for _ in 0..self.size {
            if index >= self.size {
                return Err(RingFault::BadIndex { index, size: self.size });
            }
            let at = usize::from(index) * spec::DESC_SIZE;
            let desc = Descriptor::from_le_bytes(self.descriptors.read_16(at));
            walk.add(desc, false)?;
            if !desc.has_next() {
                return Ok(());
            }
            index = desc.next;
        }
        Err(RingFault::TooLong { most: self.size })
    }

    /// Writes a used element; the driver sees it when it is published.
    #[inline]
    pub(super) fn write_used(&mut self, head: u16, written: u32) {
        let at = spec::USED_RING_OFFSET
            + usize::from(self.used_idx & (self.size - 1)) * spec::USED_ELEM_SIZE;
        // The elements of the next line are written soon, and the driver has read it a lap ago.
        self.used.prefetch_to_write(at + LINE);
        self.used.write_8(at, UsedElem { id: head.into(), len: written }.to_le_bytes());
        self.used_idx = self.used_idx.wrapping_add(1);
    }

    /// Shows the driver all that was used. False: there was nothing new.
    #[inline]
    pub(super) fn publish(&mut self, log: Option<(&DirtyLog, u64)>) -> bool {
        if self.published == self.used_idx {
            return false;
        }
        self.used.store_u16(spec::USED_IDX_OFFSET, self.used_idx);
        if let Some((log, at)) = log {
            self.log_used(log, at);
        }
        self.published = self.used_idx;
        true
    }

    /// Marks the elements of this batch and the index, counted from the used ring's log address.
    #[cold]
    fn log_used(&self, log: &DirtyLog, at: u64) {
        log.mark(GuestAddress(at), spec::USED_RING_OFFSET as u64);
        let mut idx = self.published;
        while idx != self.used_idx {
            let element = usize::from(idx & (self.size - 1)) * spec::USED_ELEM_SIZE;
            let offset = (spec::USED_RING_OFFSET + element) as u64;
            log.mark(GuestAddress(at.saturating_add(offset)), spec::USED_ELEM_SIZE as u64);
            idx = idx.wrapping_add(1);
        }
    }

    /// Whether the driver wants to be called for what was published since the last call (2.7.7).
    #[inline]
    pub(super) fn wants_call(&mut self) -> bool {
        if self.called == self.published {
            return false;
        }
        // The driver writes its event, then looks at the used index; we do it the other way round.
        fence(Ordering::SeqCst);
        let old = std::mem::replace(&mut self.called, self.published);
        if self.event_idx {
            let event = self.avail.load_u16(spec::used_event_offset(self.size));
            spec::need_event(event, self.published, old)
        } else {
            self.avail.load_u16(spec::AVAIL_FLAGS_OFFSET) & spec::AVAIL_F_NO_INTERRUPT == 0
        }
    }

    /// Whether the driver may want to be called, whatever for.
    pub(super) fn takes_calls(&self) -> bool {
        self.event_idx
            || self.avail.load_u16(spec::AVAIL_FLAGS_OFFSET) & spec::AVAIL_F_NO_INTERRUPT == 0
    }

    /// Marks what asking for kicks writes: flags and event, counted from the log address.
    pub(super) fn log_event(&self, log: &DirtyLog, at: u64) {
        let event = spec::avail_event_offset(self.size) as u64;
        log.mark(GuestAddress(at), spec::USED_RING_OFFSET as u64);
        log.mark(GuestAddress(at.saturating_add(event)), 2);
    }

    /// Asks the driver to kick for what comes next, whether or not all that came before was taken.
    /// True: something has come meanwhile, and no kick for it (2.7.10).
    pub(super) fn enable_kicks(&mut self) -> Result<bool, RingFault> {
        let seen = self.avail_idx;
        if self.event_idx {
            self.used.store_u16(spec::avail_event_offset(self.size), seen);
        } else {
            self.used.store_u16(spec::USED_FLAGS_OFFSET, 0);
        }
        fence(Ordering::SeqCst);
        self.look()?;
        Ok(self.avail_idx != seen)
    }

    /// Asks the driver not to kick. With EVENT_IDX there is nothing to do: the event that was asked
    /// for is in the past as soon as something was taken.
    pub(super) fn disable_kicks(&mut self) {
        if !self.event_idx {
            self.used.store_u16(spec::USED_FLAGS_OFFSET, spec::USED_F_NO_NOTIFY);
        }
    }
}

fn resolve(setup: &RingSetup, memory: &MemoryTable) -> Result<(Area, Area, Area), RingFault> {
    let n = setup.size;
    let area = |at, len, align: u64| {
        let align = usize::try_from(align).unwrap_or(usize::MAX);
        Area::resolve(memory, at, len, align).ok_or(RingFault::RingNotMapped)
    };
    Ok((
        area(setup.descriptors, spec::desc_table_size(n), spec::DESC_ALIGN)?,
        area(setup.driver, spec::avail_ring_size(n), spec::AVAIL_ALIGN)?,
        area(setup.device, spec::used_ring_size(n), spec::USED_ALIGN)?,
    ))
}
