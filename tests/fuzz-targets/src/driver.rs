//! A driver that writes whatever it is told into either kind of ring, and knows as much of the
//! device's progress as it needs in order to leave room for chains that are as they should be.

use std::collections::HashMap;

use virtio_spec::packed::{self, Position};
use virtio_spec::split::{self, DESC_F_INDIRECT, DESC_F_NEXT, DESC_F_WRITE};

use crate::guest::{DESCRIPTORS, DEVICE, DRIVER, Guest, TABLES};
use crate::step::Buffer;

/// Bytes between the starts of two indirect tables.
const TABLE_SPACE: u64 = 0x200;
/// How many tables there are: a chain in flight keeps its own.
const TABLE_COUNT: u64 = 8;

/// The driver's side of a ring.
#[derive(Debug)]
pub(crate) struct Driver {
    size: u16,
    ring: Kind,
    tables: u64,
}

#[derive(Debug)]
enum Kind {
    Split { free: u16, avail: u16 },
    Packed { next: Position, reaped: Position, lists: HashMap<u16, u16>, in_flight: u16, id: u16 },
}

/// A descriptor of either kind of ring; ids and links are the ring's business.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) addr: u64,
    pub(crate) len: u32,
    pub(crate) flags: u16,
}

impl Driver {
    pub(crate) fn new(packed: bool, size: u16) -> Self {
        let (next, reaped, lists) = (Position::START, Position::START, HashMap::new());
        let ring = if packed {
            Kind::Packed { next, reaped, lists, in_flight: 0, id: 0 }
        } else {
            Kind::Split { free: 0, avail: 0 }
        };
        Driver { size, ring, tables: 0 }
    }

    /// Makes a chain of these buffers available: linked, and, if `tidy`, readable ones first. Not if
    /// that would be more than the ring holds.
    pub(crate) fn chain(
        &mut self,
        guest: &Guest,
        mut buffers: Vec<Buffer>,
        indirect: bool,
        tidy: bool,
    ) {
        if tidy {
            buffers.truncate(if indirect { TABLE_SPACE as usize / 16 } else { self.size.into() });
            buffers.sort_by_key(|buffer| buffer.write);
        }
        let mut entries: Vec<Entry> = buffers.iter().map(entry).collect();
        if indirect {
            entries = vec![self.table(guest, &entries)];
        }
        self.make_available(guest, &entries);
    }

    /// Makes linked descriptors available, if the ring has room for them.
    pub(crate) fn make_available(&mut self, guest: &Guest, entries: &[Entry]) {
        if self.room(guest) < entries.len() || entries.is_empty() {
            return;
        }
        let size = self.size;
        let last = entries.len() - 1;
        match &mut self.ring {
            Kind::Split { free, avail } => {
                let head = *free;
                for (n, entry) in entries.iter().enumerate() {
                    let index = *free;
                    *free = (index + 1) % size;
                    let flags = entry.flags | if n < last { DESC_F_NEXT } else { 0 };
                    let Entry { addr, len, .. } = *entry;
                    let desc = split::Descriptor { addr, len, flags, next: *free };
                    guest.write(descriptor_at(index), &desc.to_le_bytes());
                }
                push_head(guest, avail, head, size);
            }
            Kind::Packed { next, lists, in_flight, id, .. } => {
                *id = (*id + 1) % size;
                for (n, entry) in entries.iter().enumerate() {
                    let more = if n < last { DESC_F_NEXT } else { 0 };
                    let flags = entry.flags & !0x8080 | more | packed::avail_flags(next.wrap);
                    let Entry { addr, len, .. } = *entry;
                    let desc = packed::Descriptor { addr, len, id: *id, flags };
                    guest.write(descriptor_at(next.index), &desc.to_le_bytes());
                    *next = next.advance(1, size);
                }
                lists.insert(*id, entries.len() as u16);
                *in_flight += entries.len() as u16;
            }
        }
    }

    /// Shows whatever stands at that index (split), or at the next place (packed).
    pub(crate) fn show(&mut self, guest: &Guest, head: u16) {
        let size = self.size;
        match &mut self.ring {
            Kind::Split { avail, .. } => push_head(guest, avail, head, size),
            Kind::Packed { next, .. } => {
                let at = descriptor_at(next.index) + packed::DESC_FLAGS_OFFSET as u64;
                let flags = guest.u16_at(at) & !0x8080 | packed::avail_flags(next.wrap);
                guest.write(at, &flags.to_le_bytes());
                *next = next.advance(1, size);
            }
        }
    }

    /// Moves the index by so much (split), or goes on elsewhere in the ring (packed).
    pub(crate) fn jump(&mut self, guest: &Guest, by: u16) {
        match &mut self.ring {
            Kind::Split { avail, .. } => {
                *avail = avail.wrapping_add(by);
                guest.write(DRIVER + split::AVAIL_IDX_OFFSET as u64, &avail.to_le_bytes());
            }
            Kind::Packed { next, .. } => *next = next.advance(by % self.size, self.size),
        }
    }

    /// Says when calls are wanted: by flag, or at an event.
    pub(crate) fn want_calls(&self, guest: &Guest, flags: u8, event: u16) {
        let flags = u16::from(flags % 4);
        match self.ring {
            Kind::Split { .. } => {
                guest.write(DRIVER, &(flags & 1).to_le_bytes());
                let at = DRIVER + split::used_event_offset(self.size) as u64;
                guest.write(at, &event.to_le_bytes());
            }
            Kind::Packed { .. } => {
                let event = event & 0x8000 | event & 0x7fff % self.size;
                let suppress = packed::EventSuppress { off_wrap: event, flags };
                guest.write(DRIVER, &suppress.to_le_bytes());
            }
        }
    }

    /// An indirect table of these entries.
    fn table(&mut self, guest: &Guest, entries: &[Entry]) -> Entry {
        let start = TABLES + self.tables % TABLE_COUNT * TABLE_SPACE;
        self.tables += 1;
        let last = entries.len().saturating_sub(1);
        for (n, entry) in entries.iter().enumerate() {
            let linked = if n < last { DESC_F_NEXT } else { 0 };
            let Entry { addr, len, flags } = *entry;
            let bytes = match self.ring {
                Kind::Split { .. } => {
                    let next = n as u16 + 1;
                    split::Descriptor { addr, len, flags: flags | linked, next }.to_le_bytes()
                }
                Kind::Packed { .. } => packed::Descriptor { addr, len, flags, id: 0 }.to_le_bytes(),
            };
            guest.write(start + n as u64 * 16, &bytes);
        }
        let len = entries.len() as u32 * 16;
        Entry { addr: start, len, flags: DESC_F_INDIRECT }
    }

    /// How many descriptors may be made available.
    fn room(&mut self, guest: &Guest) -> usize {
        let size = self.size;
        match &mut self.ring {
            Kind::Split { avail, .. } => {
                let used = guest.u16_at(DEVICE + split::USED_IDX_OFFSET as u64);
                usize::from(size.saturating_sub(avail.wrapping_sub(used)))
            }
            Kind::Packed { reaped, lists, in_flight, .. } => {
                while *in_flight > 0 {
                    let bytes = guest.array(descriptor_at(reaped.index)).unwrap();
                    let used = packed::Descriptor::from_le_bytes(bytes);
                    if !packed::is_used(used.flags, reaped.wrap) {
                        break;
                    }
                    let Some(count) = lists.remove(&used.id) else { break };
                    *in_flight -= count;
                    *reaped = reaped.advance(count, size);
                }
                usize::from(size - *in_flight)
            }
        }
    }
}

/// Where a descriptor of the ring is.
pub(crate) fn descriptor_at(index: u16) -> u64 {
    DESCRIPTORS + u64::from(index) * 16
}

fn entry(buffer: &Buffer) -> Entry {
    let flags = if buffer.write { DESC_F_WRITE } else { 0 };
    Entry { addr: buffer.place.address(), len: buffer.len.bytes(), flags }
}

fn push_head(guest: &Guest, avail: &mut u16, head: u16, size: u16) {
    let at = split::AVAIL_RING_OFFSET + usize::from(*avail % size) * 2;
    guest.write(DRIVER + at as u64, &head.to_le_bytes());
    *avail = avail.wrapping_add(1);
    guest.write(DRIVER + split::AVAIL_IDX_OFFSET as u64, &avail.to_le_bytes());
}
