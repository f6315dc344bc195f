//! The driver's side of a split ring (virtio 1.4, 2.7).
//!
//! Theory of operation: `add` writes descriptors and an entry of the available ring; `publish`
//! moves the available index over all of them at once, with release ordering, and then looks
//! whether the device wants a kick (a full fence between the two, as the device does the same the
//! other way round). `reap` follows the used index, with acquire ordering.

use std::sync::atomic::{Ordering, fence};

use virtio_spec::Negotiated;
use virtio_spec::observer::{RingSetup, RingStart, RingStep, SplitBuffer, Suppress};
use virtio_spec::split::{self, DESC_F_INDIRECT, DESC_F_NEXT, DESC_F_WRITE, DESC_SIZE, Descriptor};

use super::chain::{Chain, InFlight, direct_parts, table, writable};
use super::free::Free;
use super::{Addresses, Part, Placement, RingFeatures, RingWatch, Token, Used};
use crate::{Area, Buffer, Error, Memory, Result, Watch};

/// The driver's side of a split ring.
#[derive(Debug)]
pub struct Split {
    memory: Memory,
    features: RingFeatures,
    size: u16,
    descriptors: Buffer,
    available: Buffer,
    used: Buffer,
    /// Indices of free descriptors. In order, the device expects ascending ones.
    free: Free,
    /// The available index with all that was added.
    added: u16,
    /// The available index that the device sees.
    published: u16,
    /// The used index up to which was reaped.
    reaped: u16,
    in_flight: InFlight,
    calls: bool,
    pub(super) watch: RingWatch,
}

impl Split {
    /// A split ring of `size` entries, a power of two.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for another size, [`Error::NoRoom`].
    pub fn new(memory: &Memory, size: u16, negotiated: Negotiated) -> Result<Self> {
        if !split::is_queue_size(size) {
            return Err(Error::Unsupported("a split ring whose size is not a power of two"));
        }
        let features = RingFeatures::from(negotiated);
        let area = |len, align| memory.alloc_aligned(len, align);
        Ok(Self {
            memory: memory.clone(),
            features,
            size,
            descriptors: area(split::desc_table_size(size), split::DESC_ALIGN)?,
            available: area(split::avail_ring_size(size), split::AVAIL_ALIGN)?,
            used: area(split::used_ring_size(size), split::USED_ALIGN)?,
            free: Free::new(size, features.in_order),
            added: 0,
            published: 0,
            reaped: 0,
            in_flight: InFlight::default(),
            calls: true,
            watch: RingWatch::default(),
        })
    }

    /// See [`Queue::watch`](super::Queue::watch).
    ///
    /// # Errors
    /// As there.
    pub fn watch(&self, watch: &Watch, ring: u16) -> Result<()> {
        if self.added != 0 {
            return Ok(());
        }
        let areas = self.addresses().areas();
        let setup = RingSetup { size: self.size, areas, start: RingStart::Split(0) };
        self.watch.start(watch, ring, setup)
    }

    /// See [`Queue::add`](super::Queue::add).
    ///
    /// # Errors
    /// As there.
    pub fn add(&mut self, parts: &[Part], placement: Placement) -> Result<Token> {
        let direct = direct_parts(parts, placement, self.features)?;
        let (in_ring, in_table) = parts.split_at(direct);
        let needed = in_ring.len() + usize::from(!in_table.is_empty());
        let table = self.indirect_table(in_table)?;
        let mut descriptors: Vec<Descriptor> = in_ring.iter().map(descriptor).collect();
        if let Some(table) = &table {
            descriptors.push(refer_to(table));
        }
        let indices = self.free.take(needed, self.size)?;
        let (linked, head) = link(descriptors, &indices);
        for (index, descriptor) in &linked {
            self.put_descriptor(*index, *descriptor);
        }
        let position = self.added;
        self.push_available(head);
        let table_entries = linked_parts(in_table);
        self.watch.show(RingStep::SplitAvailable(SplitBuffer {
            position,
            head,
            descriptors: &linked,
            table: &table_entries,
        }))?;
        let chain = Chain { descriptors: indices, writable: writable(parts), table };
        self.in_flight.insert(Token(head), chain);
        Ok(Token(head))
    }

    fn indirect_table(&self, parts: &[Part]) -> Result<Option<Buffer>> {
        if parts.is_empty() {
            return Ok(None);
        }
        let entries = linked_parts(parts);
        let bytes: Vec<_> = entries.into_iter().map(Descriptor::to_le_bytes).collect();
        table(&self.memory, &bytes).map(Some)
    }

    fn push_available(&mut self, head: u16) {
        let slot = usize::from(self.added % self.size);
        let offset = split::AVAIL_RING_OFFSET + slot * split::AVAIL_ELEM_SIZE;
        self.available.store_u16(offset, head, Ordering::Relaxed);
        self.added = self.added.wrapping_add(1);
    }

    /// See [`Queue::publish`](super::Queue::publish).
    pub fn publish(&mut self) -> bool {
        let (old, new) = (self.published, self.added);
        self.available.store_u16(split::AVAIL_IDX_OFFSET, new, Ordering::Release);
        self.published = new;
        self.watch.note(RingStep::AvailIdx(new));
        fence(Ordering::SeqCst);
        let event = self.used.load_u16(split::avail_event_offset(self.size), Ordering::Relaxed);
        let flags = self.used.load_u16(split::USED_FLAGS_OFFSET, Ordering::Relaxed);
        self.watch.note(RingStep::DeviceSuppress(Suppress::Split { flags, event }));
        if self.features.event_idx {
            split::need_event(event, new, old)
        } else {
            old != new && flags & split::USED_F_NO_NOTIFY == 0
        }
    }

    /// See [`Queue::reap`](super::Queue::reap).
    ///
    /// # Errors
    /// As there.
    pub fn reap(&mut self) -> Result<Option<Used>> {
        if let Some(used) = self.in_flight.take_ready() {
            return Ok(Some(used));
        }
        let index = self.used_index();
        self.watch.show(RingStep::UsedIdx(index))?;
        let pending = index.wrapping_sub(self.reaped);
        if pending == 0 {
            return Ok(None);
        }
        if usize::from(pending) > self.in_flight.len() {
            return Err(Error::Device(format!(
                "its used index went {pending} ahead while {} chains are in flight",
                self.in_flight.len()
            )));
        }
        let slot = usize::from(self.reaped % self.size);
        let offset = split::USED_RING_OFFSET + slot * split::USED_ELEM_SIZE;
        let element = split::UsedElem::from_le_bytes(self.used.read_array(offset));
        self.watch.show(RingStep::Used(element))?;
        let done = self.in_flight.complete(element.id, element.len, self.features.in_order)?;
        if done.len() > usize::from(pending) {
            return Err(Error::Device(format!(
                "it used a batch of {} chains but moved its used index by {pending}",
                done.len()
            )));
        }
        for (_, chain) in done {
            self.reaped = self.reaped.wrapping_add(1);
            self.free.give_back(chain.descriptors);
        }
        if self.calls {
            self.set_used_event(self.reaped);
        }
        Ok(self.in_flight.take_ready())
    }

    /// See [`Queue::has_used`](super::Queue::has_used).
    #[must_use]
    pub fn has_used(&self) -> bool {
        let index = self.used_index();
        self.watch.note(RingStep::UsedIdx(index));
        self.in_flight.has_ready() || index != self.reaped
    }

    /// The device's used index.
    #[must_use]
    pub fn used_index(&self) -> u16 {
        self.used.load_u16(split::USED_IDX_OFFSET, Ordering::Acquire)
    }

    /// See [`Queue::enable_calls`](super::Queue::enable_calls).
    pub fn enable_calls(&mut self) -> bool {
        self.calls = true;
        self.set_used_event(self.reaped);
        self.set_flags(0);
        fence(Ordering::SeqCst);
        self.has_used()
    }

    /// Asks for one call only when `count` more chains are used (with EVENT_IDX).
    pub fn call_after(&mut self, count: u16) {
        self.calls = false;
        self.set_used_event(self.reaped.wrapping_add(count).wrapping_sub(1));
    }

    /// See [`Queue::disable_calls`](super::Queue::disable_calls).
    pub fn disable_calls(&mut self) {
        self.calls = false;
        // An event that lies behind comes last.
        self.set_used_event(self.reaped.wrapping_sub(1));
        self.set_flags(split::AVAIL_F_NO_INTERRUPT);
    }

    /// Asks for a call by index, if that was agreed on.
    fn set_used_event(&self, event: u16) {
        if self.features.event_idx {
            let offset = split::used_event_offset(self.size);
            self.available.store_u16(offset, event, Ordering::Relaxed);
            self.watch.note(RingStep::DriverSuppress(Suppress::Split { flags: 0, event }));
        }
    }

    /// Asks for calls or none by the flag, unless it was agreed to do so by index.
    fn set_flags(&self, flags: u16) {
        if !self.features.event_idx {
            self.available.store_u16(split::AVAIL_FLAGS_OFFSET, flags, Ordering::Relaxed);
            self.watch.note(RingStep::DriverSuppress(Suppress::Split { flags, event: 0 }));
        }
    }

    fn put_descriptor(&self, index: u16, descriptor: Descriptor) {
        self.descriptors.write(usize::from(index) * DESC_SIZE, &descriptor.to_le_bytes());
    }

    /// Number of entries.
    #[must_use]
    pub fn size(&self) -> u16 {
        self.size
    }

    /// Where its areas are.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        Addresses {
            descriptor: self.descriptors.addr(),
            driver: self.available.addr(),
            device: self.used.addr(),
        }
    }

    /// Chains that were added and not yet reaped.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Descriptors that are free.
    #[must_use]
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// See [`Queue::reaped_base`](super::Queue::reaped_base).
    #[must_use]
    pub fn reaped_base(&self) -> u32 {
        self.reaped.into()
    }
}

/// What no well-behaved driver does: for tests of devices with malformed rings. From then on the
/// observer is not shown this ring.
impl Split {
    /// Writes a descriptor of the table, whatever it holds.
    pub fn write_descriptor(&mut self, index: u16, descriptor: Descriptor) {
        self.watch.stop();
        self.put_descriptor(index, descriptor);
    }

    /// Reads a descriptor of the table.
    #[must_use]
    pub fn read_descriptor(&self, index: u16) -> Descriptor {
        Descriptor::from_le_bytes(self.descriptors.read_array(usize::from(index) * DESC_SIZE))
    }

    /// Puts `head` into the available ring, whatever chain it is or is not the head of.
    /// [`publish`](Self::publish) shows it. Descriptors stay as free as they were.
    pub fn offer(&mut self, head: u16) -> Token {
        self.watch.stop();
        let chain = Chain { descriptors: Vec::new(), writable: u64::from(u32::MAX), table: None };
        self.in_flight.insert(Token(head), chain);
        self.push_available(head);
        Token(head)
    }

    /// Sets the available index that the device sees.
    pub fn set_available_index(&mut self, index: u16) {
        self.watch.stop();
        (self.added, self.published) = (index, index);
        self.available.store_u16(split::AVAIL_IDX_OFFSET, index, Ordering::Release);
    }

    /// The available ring as it stands in memory.
    #[must_use]
    pub fn available_area(&self) -> &Area {
        &self.available
    }

    /// The used ring as it stands in memory.
    #[must_use]
    pub fn used_area(&self) -> &Area {
        &self.used
    }
}

fn descriptor(part: &Part) -> Descriptor {
    let flags = if part.write { DESC_F_WRITE } else { 0 };
    Descriptor { addr: part.addr, len: part.len, flags, next: 0 }
}

/// The descriptor that refers to an indirect table.
fn refer_to(table: &Buffer) -> Descriptor {
    let len = u32::try_from(table.len()).unwrap_or(u32::MAX);
    Descriptor { addr: table.addr(), len, flags: DESC_F_INDIRECT, next: 0 }
}

/// The entries of an indirect table for these parts.
fn linked_parts(parts: &[Part]) -> Vec<Descriptor> {
    let indices: Vec<u16> = (0..).take(parts.len()).collect();
    let (linked, _) = link(parts.iter().map(descriptor).collect(), &indices);
    linked.into_iter().map(|(_, descriptor)| descriptor).collect()
}

/// Chains descriptors at these indices, and returns the head too.
fn link(descriptors: Vec<Descriptor>, indices: &[u16]) -> (Vec<(u16, Descriptor)>, u16) {
    let nexts = indices.iter().skip(1).map(Some).chain([None]);
    let linked = descriptors
        .into_iter()
        .zip(indices.iter().zip(nexts))
        .map(|(descriptor, (&index, next))| match next {
            Some(&next) => {
                let flags = descriptor.flags | DESC_F_NEXT;
                (index, Descriptor { flags, next, ..descriptor })
            }
            None => (index, descriptor),
        })
        .collect();
    (linked, indices.first().copied().unwrap_or_default())
}

#[cfg(test)]
#[path = "split_test.rs"]
mod tests;
