//! A driver that writes whatever it is told into either kind of ring, and knows as much of the
//! device's progress as it needs in order to leave room for chains that are as they should be.

use std::collections::{HashMap, VecDeque};

use virtio_spec::features::{INDIRECT_DESC, Negotiated, RING_PACKED};
use virtio_spec::packed::{self, Position};
use virtio_spec::split::{self, DESC_F_INDIRECT, DESC_F_NEXT};

use crate::guest::{DESCRIPTORS, DEVICE, DRIVER, Guest, TABLES};

/// Bytes between the starts of two indirect tables.
const TABLE_SPACE: u64 = 0x80;
/// How many tables there are: as many as chains that the device may not have looked at yet.
const TABLE_COUNT: u64 = 64;

/// The driver's side of a ring.
#[derive(Debug)]
pub(crate) struct Driver {
    size: u16,
    /// Whether indirect tables were negotiated.
    pub(crate) indirect: bool,
    ring: Kind,
    tables: u64,
}

#[derive(Debug)]
enum Kind {
    Split {
        free: u16,
        avail: u16,
        /// The used index when it was last looked at.
        used: u16,
        /// How many descriptors each chain has that is not known to be used. Which ones are used
        /// makes no difference: those were looked at, and chains are looked at in order.
        chains: VecDeque<u16>,
    },
    Packed {
        next: Position,
        /// Where the next used descriptor will be.
        reaped: Position,
        /// How many descriptors each list has, by its id.
        lists: HashMap<u16, u16>,
        id: u16,
    },
}

/// A descriptor of either kind of ring; ids and links are the ring's business.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) addr: u64,
    pub(crate) len: u32,
    pub(crate) flags: u16,
}

impl Driver {
    pub(crate) fn new(size: u16, features: Negotiated) -> Self {
        let ring = if features.has(RING_PACKED) {
            let (next, reaped) = (Position::START, Position::START);
            Kind::Packed { next, reaped, lists: HashMap::new(), id: 0 }
        } else {
            Kind::Split { free: 0, avail: 0, used: 0, chains: VecDeque::new() }
        };
        Driver { size, indirect: features.has(INDIRECT_DESC), ring, tables: 0 }
    }

    /// Makes a chain of these descriptors available, which it links, if there is room for it.
    pub(crate) fn offer(&mut self, guest: &Guest, entries: &[Entry], indirect: bool) -> bool {
        let most = if indirect { TABLE_SPACE as usize / 16 } else { self.room(guest) };
        if entries.is_empty() || entries.len() > most || self.room(guest) == 0 {
            return false;
        }
        if indirect {
            let table = self.table(guest, entries);
            self.link(guest, &[table]);
        } else {
            self.link(guest, entries);
        }
        true
    }

    fn link(&mut self, guest: &Guest, entries: &[Entry]) {
        let size = self.size;
        let last = entries.len() - 1;
        match &mut self.ring {
            Kind::Split { free, avail, chains, .. } => {
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
                chains.push_back(entries.len() as u16);
            }
            Kind::Packed { next, lists, id, .. } => {
                *id = id.wrapping_add(1);
                for (n, entry) in entries.iter().enumerate() {
                    let more = if n < last { DESC_F_NEXT } else { 0 };
                    let flags = entry.flags & !0x8080 | more | packed::avail_flags(next.wrap);
                    let Entry { addr, len, .. } = *entry;
                    let desc = packed::Descriptor { addr, len, id: *id, flags };
                    guest.write(descriptor_at(next.index), &desc.to_le_bytes());
                    *next = next.advance(1, size);
                }
                lists.insert(*id, entries.len() as u16);
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
                let event = (event & 0x8000) | ((event & 0x7fff) % self.size);
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
            Kind::Split { used, chains, .. } => {
                let now = guest.u16_at(DEVICE + split::USED_IDX_OFFSET as u64);
                let done = usize::from(now.wrapping_sub(*used)).min(chains.len());
                *used = now;
                chains.drain(..done);
                usize::from(size.saturating_sub(chains.iter().sum()))
            }
            Kind::Packed { reaped, lists, .. } => {
                while !lists.is_empty() {
                    let bytes = guest.array(descriptor_at(reaped.index)).unwrap();
                    let used = packed::Descriptor::from_le_bytes(bytes);
                    if !packed::is_used(used.flags, reaped.wrap) {
                        break;
                    }
                    let Some(count) = lists.remove(&used.id) else { break };
                    *reaped = reaped.advance(count, size);
                }
                usize::from(size.saturating_sub(lists.values().sum()))
            }
        }
    }
}

/// Where a descriptor of the ring is.
pub(crate) fn descriptor_at(index: u16) -> u64 {
    DESCRIPTORS + u64::from(index) * 16
}

fn push_head(guest: &Guest, avail: &mut u16, head: u16, size: u16) {
    let at = split::AVAIL_RING_OFFSET + usize::from(*avail % size) * 2;
    guest.write(DRIVER + at as u64, &head.to_le_bytes());
    *avail = avail.wrapping_add(1);
    guest.write(DRIVER + split::AVAIL_IDX_OFFSET as u64, &avail.to_le_bytes());
}
