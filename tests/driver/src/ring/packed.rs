//! The driver's side of a packed ring (virtio 1.4, 2.8).
//!
//! Theory of operation: `add` writes all descriptors of a list except the flags of its first one;
//! `publish` writes those, list by list with release ordering, which makes the lists available,
//! and then looks whether the device wants a kick. `reap` looks at the place of the oldest list in
//! flight: when its flags say *used*, that descriptor names the list that is done, and the place
//! moves on by as many descriptors as that list has.

use std::sync::atomic::{Ordering, fence};

use virtio_spec::Negotiated;
use virtio_spec::observer::{PackedBuffer, RingSetup, RingStart, RingStep, Suppress};
use virtio_spec::packed::{
    self, DESC_F_INDIRECT, DESC_F_NEXT, DESC_F_WRITE, DESC_FLAGS_OFFSET, DESC_SIZE, Descriptor,
    EventSuppress, Position,
};

use super::chain::{Chain, InFlight, direct_parts, table, writable};
use super::{Addresses, Part, Placement, RingFeatures, RingWatch, Token, Used};
use crate::{Area, Buffer, Error, Memory, Result, Watch};

/// The driver's side of a packed ring.
#[derive(Debug)]
pub struct Packed {
    memory: Memory,
    features: RingFeatures,
    size: u16,
    descriptors: Buffer,
    driver_event: Buffer,
    device_event: Buffer,
    /// Buffer ids that no list in flight has.
    free_ids: Vec<u16>,
    /// Descriptors that no list in flight has.
    free: u16,
    /// Where the next descriptor goes.
    next: Position,
    /// Where the first list starts that the device does not see yet.
    published: Position,
    /// Lists that the device does not see yet.
    held_back: Vec<HeldBack>,
    /// Where the next used descriptor will be.
    reaped: Position,
    in_flight: InFlight,
    calls: bool,
    pub(super) watch: RingWatch,
}

/// A list that stands in the ring without the flags that make it available.
#[derive(Debug)]
struct HeldBack {
    position: Position,
    id: u16,
    descriptors: Vec<Descriptor>,
    /// Entries of its indirect table.
    table: Vec<Descriptor>,
}

impl Packed {
    /// A packed ring of `size` entries.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a size that no ring has, [`Error::NoRoom`].
    pub fn new(memory: &Memory, size: u16, negotiated: Negotiated) -> Result<Self> {
        if !packed::is_queue_size(size) {
            return Err(Error::Unsupported("a packed ring of this size"));
        }
        let event = || memory.alloc_aligned(packed::EVENT_SIZE, packed::EVENT_ALIGN);
        Ok(Self {
            memory: memory.clone(),
            features: RingFeatures::from(negotiated),
            size,
            descriptors: memory.alloc_aligned(packed::desc_ring_size(size), packed::DESC_ALIGN)?,
            driver_event: event()?,
            device_event: event()?,
            free_ids: (0..size).rev().collect(),
            free: size,
            next: Position::START,
            published: Position::START,
            held_back: Vec::new(),
            reaped: Position::START,
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
        if self.next != Position::START || self.in_flight() > 0 {
            return Ok(());
        }
        let areas = self.addresses().areas();
        let setup = RingSetup { size: self.size, areas, start: RingStart::Packed(Position::START) };
        self.watch.start(watch, ring, setup)
    }

    /// See [`Queue::add`](super::Queue::add).
    ///
    /// # Errors
    /// As there.
    pub fn add(&mut self, parts: &[Part], placement: Placement) -> Result<Token> {
        if matches!(placement, Placement::Mixed(_)) {
            return Err(Error::Unsupported(
                "an indirect descriptor behind others in a packed ring",
            ));
        }
        let indirect = direct_parts(parts, placement, self.features)? == 0;
        if !indirect {
            return self.add_list(&listed(parts), writable(parts), None, Vec::new());
        }
        // Within a table the order of entries is the order of the list, and only WRITE counts.
        let entries: Vec<_> = parts.iter().map(descriptor).collect();
        let bytes: Vec<_> = entries.iter().map(|entry| entry.to_le_bytes()).collect();
        let table = table(&self.memory, &bytes)?;
        self.add_list(&[refer_to(&table)], writable(parts), Some(table), entries)
    }

    /// Puts these descriptors into the next places and takes an id for them.
    fn add_list(
        &mut self,
        descriptors: &[Descriptor],
        writable: u64,
        table: Option<Buffer>,
        entries: Vec<Descriptor>,
    ) -> Result<Token> {
        let needed = descriptors.len();
        let free = usize::from(self.free);
        let count = match u16::try_from(needed) {
            Ok(count) if count <= self.free => count,
            _ => return Err(Error::QueueFull { needed, free }),
        };
        let id = self.free_ids.pop().ok_or(Error::QueueFull { needed, free })?;
        self.free -= count;
        let head = self.next;
        let mut indices = Vec::with_capacity(needed);
        let mut list = Vec::with_capacity(needed);
        for descriptor in descriptors {
            let flags = descriptor.flags | packed::avail_flags(self.next.wrap);
            let written = Descriptor { id, flags, ..*descriptor };
            self.put_but_flags(self.next.index, written);
            if self.next != head {
                self.put_flags(self.next.index, flags);
            }
            list.push(written);
            indices.push(self.next.index);
            self.next = self.next.advance(1, self.size);
        }
        self.held_back.push(HeldBack { position: head, id, descriptors: list, table: entries });
        self.in_flight.insert(Token(id), Chain { descriptors: indices, writable, table });
        Ok(Token(id))
    }

    /// Writes a descriptor whose flags still say that it is not available.
    fn put_but_flags(&self, index: u16, descriptor: Descriptor) {
        let bytes = descriptor.to_le_bytes();
        if let Some(body) = bytes.get(..DESC_FLAGS_OFFSET) {
            self.descriptors.write(usize::from(index) * DESC_SIZE, body);
        }
    }

    /// Writes the flags, which makes the descriptor available or takes it back.
    fn put_flags(&self, index: u16, flags: u16) {
        let offset = usize::from(index) * DESC_SIZE + DESC_FLAGS_OFFSET;
        self.descriptors.store_u16(offset, flags, Ordering::Release);
    }

    /// See [`Queue::publish`](super::Queue::publish).
    pub fn publish(&mut self) -> bool {
        for list in std::mem::take(&mut self.held_back) {
            let flags = list.descriptors.first().map_or(0, |head| head.flags);
            self.put_flags(list.position.index, flags);
            self.watch.note(RingStep::PackedAvailable(PackedBuffer {
                position: list.position,
                id: list.id,
                descriptors: &list.descriptors,
                table: &list.table,
            }));
        }
        let (old, new) = (self.published, self.next);
        self.published = new;
        fence(Ordering::SeqCst);
        let wish = self.device_event.load_u32(0, Ordering::Relaxed);
        let wish = EventSuppress::from_le_bytes(wish.to_le_bytes());
        self.watch.note(RingStep::DeviceSuppress(Suppress::Packed(wish)));
        wish.is_due(old, new, self.size)
    }

    /// See [`Queue::reap`](super::Queue::reap).
    ///
    /// # Errors
    /// As there.
    pub fn reap(&mut self) -> Result<Option<Used>> {
        if let Some(used) = self.in_flight.take_ready() {
            return Ok(Some(used));
        }
        if !self.next_is_used() {
            return Ok(None);
        }
        let used = self.read_descriptor(self.reaped.index);
        self.watch.show(RingStep::PackedNext(used))?;
        // Without the flag nothing was written and the length has no meaning (2.8.4).
        let written = if used.is_write() { used.len } else { 0 };
        for (token, chain) in
            self.in_flight.complete(used.id.into(), written, self.features.in_order)?
        {
            let count = u16::try_from(chain.descriptors.len()).unwrap_or_default();
            self.reaped = self.reaped.advance(count, self.size);
            self.free += count;
            self.free_ids.push(token.0);
        }
        if self.calls && self.features.event_idx {
            self.call_at(self.reaped);
        }
        Ok(self.in_flight.take_ready())
    }

    /// Looks at the place of the next used descriptor. That nothing is there is shown here; what is
    /// there, when it is reaped.
    fn next_is_used(&self) -> bool {
        let index = self.reaped.index;
        let offset = usize::from(index) * DESC_SIZE + DESC_FLAGS_OFFSET;
        let flags = self.descriptors.load_u16(offset, Ordering::Acquire);
        let is_used = packed::is_used(flags, self.reaped.wrap);
        if !is_used {
            let descriptor = Descriptor { flags, ..self.read_descriptor(index) };
            self.watch.note(RingStep::PackedNext(descriptor));
        }
        is_used
    }

    /// See [`Queue::has_used`](super::Queue::has_used).
    #[must_use]
    pub fn has_used(&self) -> bool {
        self.in_flight.has_ready() || self.next_is_used()
    }

    /// See [`Queue::enable_calls`](super::Queue::enable_calls).
    pub fn enable_calls(&mut self) -> bool {
        self.calls = true;
        if self.features.event_idx {
            self.call_at(self.reaped);
        } else {
            self.set_driver_event(EventSuppress { off_wrap: 0, flags: packed::EVENT_F_ENABLE });
        }
        fence(Ordering::SeqCst);
        self.has_used()
    }

    /// See [`Queue::disable_calls`](super::Queue::disable_calls).
    pub fn disable_calls(&mut self) {
        self.calls = false;
        self.set_driver_event(EventSuppress { off_wrap: 0, flags: packed::EVENT_F_DISABLE });
    }

    /// Asks for one call when the descriptor at `position` is used (with EVENT_IDX).
    pub fn call_at(&mut self, position: Position) {
        let flags = packed::EVENT_F_DESC;
        self.set_driver_event(EventSuppress { off_wrap: position.to_bits(), flags });
    }

    fn set_driver_event(&self, event: EventSuppress) {
        let bits = u32::from_le_bytes(event.to_le_bytes());
        self.driver_event.store_u32(0, bits, Ordering::Relaxed);
        self.watch.note(RingStep::DriverSuppress(Suppress::Packed(event)));
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
            driver: self.driver_event.addr(),
            device: self.device_event.addr(),
        }
    }

    /// Lists that were added and not yet reaped.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Descriptors that are free.
    #[must_use]
    pub fn free(&self) -> usize {
        self.free.into()
    }

    /// Where the next used descriptor will be.
    #[must_use]
    pub fn reaped(&self) -> Position {
        self.reaped
    }

    /// See [`Queue::reaped_base`](super::Queue::reaped_base).
    #[must_use]
    pub fn reaped_base(&self) -> u32 {
        let bits = u32::from(self.reaped.to_bits());
        bits | bits << 16
    }
}

/// What no well-behaved driver does: for tests of devices with malformed rings. From then on the
/// observer is not shown this ring.
impl Packed {
    /// Writes a descriptor of the ring, whatever it holds.
    pub fn write_descriptor(&mut self, index: u16, descriptor: Descriptor) {
        self.watch.stop();
        self.put_but_flags(index, descriptor);
        self.put_flags(index, descriptor.flags);
    }

    /// Reads a descriptor of the ring.
    #[must_use]
    pub fn read_descriptor(&self, index: u16) -> Descriptor {
        Descriptor::from_le_bytes(self.descriptors.read_array(usize::from(index) * DESC_SIZE))
    }

    /// Puts descriptors into the next places as one list with flags as they are, except that they
    /// become available and get an id. [`publish`](Self::publish) shows them.
    ///
    /// # Errors
    /// [`Error::QueueFull`].
    pub fn offer(&mut self, descriptors: &[Descriptor]) -> Result<Token> {
        self.watch.stop();
        self.add_list(descriptors, u64::from(u32::MAX), None, Vec::new())
    }

    /// Where the next descriptor goes.
    #[must_use]
    pub fn next(&self) -> Position {
        self.next
    }

    /// The driver's event suppression structure as it stands in memory.
    #[must_use]
    pub fn driver_event_area(&self) -> &Area {
        &self.driver_event
    }

    /// The device's event suppression structure as it stands in memory.
    #[must_use]
    pub fn device_event_area(&self) -> &Area {
        &self.device_event
    }
}

fn descriptor(part: &Part) -> Descriptor {
    let flags = if part.write { DESC_F_WRITE } else { 0 };
    Descriptor { addr: part.addr, len: part.len, id: 0, flags }
}

/// The descriptor that refers to an indirect table.
fn refer_to(table: &Buffer) -> Descriptor {
    let len = u32::try_from(table.len()).unwrap_or(u32::MAX);
    Descriptor { addr: table.addr(), len, id: 0, flags: DESC_F_INDIRECT }
}

/// Descriptors of a list: all but the last say that it goes on.
fn listed(parts: &[Part]) -> Vec<Descriptor> {
    let mut descriptors: Vec<_> = parts.iter().map(descriptor).collect();
    if let Some((_last, others)) = descriptors.split_last_mut() {
        for descriptor in others {
            descriptor.flags |= DESC_F_NEXT;
        }
    }
    descriptors
}

#[cfg(test)]
#[path = "packed_test.rs"]
mod tests;
