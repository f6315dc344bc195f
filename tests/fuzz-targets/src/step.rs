//! What a hostile driver does, as input: mostly what is nearly right, since what is plainly wrong is
//! refused at once.

use arbitrary::{Arbitrary, Unstructured};
use virtio_spec::features::{
    EVENT_IDX, IN_ORDER, INDIRECT_DESC, Negotiated, RING_PACKED, VERSION_1, mask,
};
use virtio_spec::split::{self, DESC_F_INDIRECT, DESC_F_NEXT, DESC_F_WRITE};

use crate::driver::{Driver, Entry, descriptor_at};
use crate::guest::{DATA, DESCRIPTORS, DEVICE, DRIVER, EDGE, FAR, Guest, HIGH, MOST, SEAM, TABLES};

/// An address that is likely to matter.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(crate) enum Place {
    Data(u16),
    MoreData(u16),
    Far(u16),
    High(u16),
    /// Just before the place where two regions meet.
    Seam(u8),
    /// Just before a hole.
    Edge(u8),
    Descriptors(u16),
    Driver(u8),
    Device(u8),
    Table(u16),
    Anywhere(u64),
}

impl Place {
    pub(crate) fn address(self) -> u64 {
        match self {
            Place::Data(offset) | Place::MoreData(offset) => DATA + u64::from(offset % 0x1800),
            Place::Far(offset) => FAR + u64::from(offset % 0x1100),
            Place::High(offset) => HIGH + u64::from(offset % 0x1100),
            Place::Seam(before) => SEAM - u64::from(before),
            Place::Edge(before) => EDGE - u64::from(before),
            Place::Descriptors(offset) => DESCRIPTORS + u64::from(offset % 0x400),
            Place::Driver(offset) => DRIVER + u64::from(offset),
            Place::Device(offset) => DEVICE + u64::from(offset),
            Place::Table(offset) => TABLES + u64::from(offset % 0x1800),
            Place::Anywhere(address) => address,
        }
    }
}

impl Buffer {
    /// The descriptor of it.
    pub(crate) fn entry(self) -> Entry {
        let flags = if self.write { DESC_F_WRITE } else { 0 };
        Entry { addr: self.place.address(), len: self.len.bytes(), flags }
    }

    /// The same in memory that nothing else uses.
    pub(crate) fn tame(self) -> Self {
        let place = match self.place {
            Place::Anywhere(at) => Place::Data(at as u16),
            Place::Edge(before) => Place::Seam(before),
            Place::Descriptors(at) | Place::Table(at) => Place::MoreData(at),
            Place::Driver(at) | Place::Device(at) => Place::Far(at.into()),
            Place::Far(at) => Place::Far(at % 0xe00),
            Place::High(at) => Place::High(at % 0xe00),
            other => other,
        };
        let len = match self.len {
            Length::Entries(n) => Length::Small(n),
            Length::Page(n) => Length::Page(n % 0x200),
            Length::Any(n) => Length::Small(n as u8),
            other => other,
        };
        Buffer { place, len, ..self }
    }
}

/// Does what the rest of an input says, action by action, so many of them at most.
pub(crate) fn each<'a, A: Arbitrary<'a>>(
    input: &mut Unstructured<'a>,
    most: usize,
    mut act: impl FnMut(&A),
) {
    for _ in 0..most {
        let Ok(action) = A::arbitrary(input) else { break };
        act(&action);
        if input.is_empty() {
            break;
        }
    }
}

/// A length, mostly a small one.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(crate) enum Length {
    Zero,
    Small(u8),
    Sector,
    Entries(u8),
    Page(u16),
    Any(u32),
}

impl Length {
    pub(crate) fn bytes(self) -> u32 {
        match self {
            Length::Zero => 0,
            Length::Small(n) => n.into(),
            Length::Sector => 512,
            Length::Entries(n) => u32::from(n) * 16,
            Length::Page(n) => u32::from(n % 0x2000),
            Length::Any(n) => n,
        }
    }
}

/// A buffer of a chain.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(crate) struct Buffer {
    pub(crate) place: Place,
    pub(crate) len: Length,
    pub(crate) write: bool,
}

/// Flags of a descriptor.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(crate) enum Flags {
    Last,
    LastWritable,
    Next,
    NextWritable,
    Indirect,
    IndirectNext,
    Any(u16),
}

impl Flags {
    pub(crate) fn bits(self) -> u16 {
        match self {
            Flags::Last => 0,
            Flags::LastWritable => DESC_F_WRITE,
            Flags::Next => DESC_F_NEXT,
            Flags::NextWritable => DESC_F_NEXT | DESC_F_WRITE,
            Flags::Indirect => DESC_F_INDIRECT,
            Flags::IndirectNext => DESC_F_INDIRECT | DESC_F_NEXT,
            Flags::Any(bits) => bits,
        }
    }
}

/// One thing that a driver does, or lets the device do.
#[derive(Arbitrary, Clone, Debug)]
pub(crate) enum Step {
    /// A chain as it should be: readable buffers first, all of them in memory.
    Chain {
        first: Buffer,
        buffers: Vec<Buffer>,
        indirect: bool,
    },
    OtherChain {
        first: Buffer,
        buffers: Vec<Buffer>,
        indirect: bool,
    },
    /// A chain whose order, places and lengths are as they come.
    RawChain {
        buffers: Vec<Buffer>,
        indirect: bool,
    },
    /// One descriptor of the ring, or of the first indirect table.
    Descriptor {
        in_table: bool,
        index: u8,
        place: Place,
        len: Length,
        flags: Flags,
        next: u8,
    },
    /// The next descriptor, whatever it says, becomes available.
    Head(u8),
    /// The driver's index moves by so much.
    Jump(u16),
    /// Bytes anywhere.
    Scribble(Place, [u8; 8]),
    /// When the driver wants to be called.
    Event {
        flags: u8,
        event: u16,
    },
    /// The device goes on, and takes so many chains.
    Turn {
        take: u8,
    },
    MoreTurns {
        take: u8,
    },
    /// It completes one of those that it has.
    Complete {
        which: u8,
        written: u16,
    },
    CompleteAll,
    /// Memory with one region missing, or with all of them.
    Memory {
        without: u8,
        release: bool,
    },
    Enable(bool),
    Restart,
}

impl Step {
    /// Whether no well-behaved driver does this.
    pub(crate) fn is_hostile(&self) -> bool {
        matches!(
            self,
            Step::RawChain { .. }
                | Step::Descriptor { .. }
                | Step::Head(_)
                | Step::Jump(_)
                | Step::Scribble(..)
        )
    }

    /// Whether it makes a chain available.
    pub(crate) fn offers(&self) -> bool {
        matches!(self, Step::Chain { .. } | Step::OtherChain { .. } | Step::RawChain { .. })
    }

    /// Does what the driver has to do with it. The device's part is left out.
    pub(crate) fn drive(&self, driver: &mut Driver, guest: &Guest) {
        match self {
            Step::Chain { first, buffers, indirect }
            | Step::OtherChain { first, buffers, indirect } => {
                let buffers = std::iter::once(first).chain(buffers).map(|buffer| buffer.tame());
                let mut entries: Vec<Entry> = buffers.map(Buffer::entry).collect();
                entries.sort_by_key(|entry| entry.flags & DESC_F_WRITE);
                let indirect = *indirect && driver.indirect;
                driver.offer(guest, &entries, indirect);
            }
            Step::RawChain { buffers, indirect } => {
                let entries: Vec<Entry> = buffers.iter().map(|buffer| buffer.entry()).collect();
                driver.offer(guest, &entries, *indirect);
            }
            Step::Descriptor { in_table, index, place, len, flags, next } => {
                let (addr, len, flags) = (place.address(), len.bytes(), flags.bits());
                let desc = split::Descriptor { addr, len, flags, next: u16::from(*next) % 70 };
                let index = u16::from(*index) % MOST;
                let at =
                    if *in_table { TABLES + u64::from(index) * 16 } else { descriptor_at(index) };
                guest.write(at, &desc.to_le_bytes());
            }
            Step::Head(head) => driver.show(guest, u16::from(*head) % 70),
            Step::Jump(by) => driver.jump(guest, *by),
            Step::Scribble(place, bytes) => {
                guest.write(place.address(), bytes);
            }
            Step::Event { flags, event } => driver.want_calls(guest, *flags, *event),
            _ => {}
        }
    }
}

/// The shape of a ring.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(crate) struct Shape {
    size: u8,
    event_idx: bool,
    indirect: bool,
    in_order: bool,
    scruples: Scruples,
}

/// How long a driver behaves.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Scruples {
    Always,
    /// For so many steps.
    AtFirst(u8),
    Never,
}

impl Shape {
    /// A power of two for split rings, anything for packed ones.
    pub(crate) fn size(self, packed: bool) -> u16 {
        if packed { u16::from(self.size) % MOST + 1 } else { 1 << (self.size % 7) }
    }

    pub(crate) fn features(self, packed: bool) -> Negotiated {
        let bits = [
            (VERSION_1, true),
            (RING_PACKED, packed),
            (EVENT_IDX, self.event_idx),
            (INDIRECT_DESC, self.indirect),
            (IN_ORDER, self.in_order),
        ];
        Negotiated::assume(bits.iter().filter(|(_, on)| *on).map(|(bit, _)| mask(*bit)).sum())
    }

    /// Whether the driver does this, as its n-th step.
    pub(crate) fn allows(self, step: &Step, n: usize) -> bool {
        !step.is_hostile()
            || match self.scruples {
                Scruples::Always => false,
                Scruples::AtFirst(steps) => n >= usize::from(steps % 64),
                Scruples::Never => true,
            }
    }

    /// The same without use in order.
    pub(crate) fn in_any_order(self) -> Self {
        Shape { in_order: false, ..self }
    }
}
