//! The driver's side of a virtqueue (virtio 1.4, 2.6 to 2.8).

mod chain;
mod free;
mod packed;
mod split;

use std::sync::OnceLock;

use virtio_spec::observer::{BlockRequest, RingSetup, RingStep};
use virtio_spec::{Negotiated, features};

pub use self::packed::Packed;
pub use self::split::Split;
use crate::{Memory, Result, Watch};

/// A piece of a buffer: one descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Guest address.
    pub addr: u64,
    /// Bytes.
    pub len: u32,
    /// Whether the device writes it; otherwise it reads it.
    pub write: bool,
}

impl Part {
    /// A part that the device reads.
    #[must_use]
    pub const fn readable(addr: u64, len: u32) -> Self {
        Self { addr, len, write: false }
    }

    /// A part that the device writes.
    #[must_use]
    pub const fn writable(addr: u64, len: u32) -> Self {
        Self { addr, len, write: true }
    }
}

/// Where the descriptors of a chain stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Placement {
    /// In the ring.
    #[default]
    Direct,
    /// In a table of their own, to which one descriptor of the ring refers.
    Indirect,
    /// So many in the ring, the others in a table to which the last in the ring refers. Only for
    /// the split ring (2.7.5.3).
    Mixed(usize),
}

/// Names a chain in flight: its head in a split ring, its buffer id in a packed one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(pub u16);

/// A chain that the device has used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Used {
    /// Which one.
    pub token: Token,
    /// Bytes that the device says it wrote.
    pub written: u32,
    /// Used as part of an in-order batch by which the device named only a later chain, so that
    /// `written` is not known and zero.
    pub batched: bool,
}

/// Guest addresses of a queue's three areas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// Descriptor table, or descriptor ring.
    pub descriptor: u64,
    /// Driver area: available ring, or driver event suppression.
    pub driver: u64,
    /// Device area: used ring, or device event suppression.
    pub device: u64,
}

/// Shows what happens in one ring, once it is known under which index.
#[derive(Debug, Default)]
struct RingWatch(OnceLock<(Watch, u16)>);

impl RingWatch {
    /// Shows this ring's set-up and everything from now on, unless it is shown already.
    fn start(&self, watch: &Watch, ring: u16, setup: RingSetup) -> Result<()> {
        match self.0.set((watch.clone(), ring)) {
            Ok(()) => self.show(RingStep::Configured(setup)),
            Err(_) => Ok(()),
        }
    }

    fn show(&self, step: RingStep<'_>) -> Result<()> {
        self.0.get().map_or(Ok(()), |(watch, ring)| watch.show((*ring, step)))
    }

    fn note(&self, step: RingStep<'_>) {
        if let Some((watch, ring)) = self.0.get() {
            watch.note((*ring, step));
        }
    }

    fn is_on(&self) -> bool {
        self.0.get().is_some_and(|(watch, _)| watch.is_on())
    }

    /// The observer, if there is one.
    fn watch(&self) -> Watch {
        self.0.get().map_or(Watch::none(), |(watch, _)| watch.clone())
    }

    /// Shows nothing more: the test does what no driver may.
    fn stop(&mut self) {
        self.0 = OnceLock::from((Watch::none(), 0));
    }
}

impl Addresses {
    fn areas(self) -> [u64; 3] {
        [self.descriptor, self.driver, self.device]
    }
}

/// What of the negotiated features concerns a ring.
#[derive(Debug, Clone, Copy)]
struct RingFeatures {
    event_idx: bool,
    indirect: bool,
    in_order: bool,
}

impl From<Negotiated> for RingFeatures {
    fn from(negotiated: Negotiated) -> Self {
        Self {
            event_idx: negotiated.has(features::EVENT_IDX),
            indirect: negotiated.has(features::INDIRECT_DESC),
            in_order: negotiated.has(features::IN_ORDER),
        }
    }
}

/// The driver's side of a queue of either kind.
#[derive(Debug)]
pub enum Queue {
    /// A split ring.
    Split(Split),
    /// A packed ring.
    Packed(Packed),
}

/// Calls the same method of either kind.
macro_rules! either {
    ($queue:expr, $ring:ident => $call:expr) => {
        match $queue {
            Queue::Split($ring) => $call,
            Queue::Packed($ring) => $call,
        }
    };
}

impl Queue {
    /// A queue of `size` entries in `memory`, of the kind that the features say.
    ///
    /// # Errors
    /// [`Error::NoRoom`](crate::Error::NoRoom).
    pub fn new(memory: &Memory, size: u16, negotiated: Negotiated) -> Result<Self> {
        if negotiated.has(features::RING_PACKED) {
            Packed::new(memory, size, negotiated).map(Self::Packed)
        } else {
            Split::new(memory, size, negotiated).map(Self::Split)
        }
    }

    /// Shows the observer this ring from now on, under this index. A ring that is watched already
    /// or in which something has happened is left alone.
    ///
    /// # Errors
    /// [`Error::Violation`](crate::Error::Violation) for a ring that no driver may set up.
    pub fn watch(&self, watch: &Watch, ring: u16) -> Result<()> {
        either!(self, queue => queue.watch(watch, ring))
    }

    /// Puts a chain into the ring. The device sees it after [`publish`](Self::publish).
    ///
    /// # Errors
    /// [`Error::QueueFull`](crate::Error::QueueFull), or
    /// [`Error::Unsupported`](crate::Error::Unsupported) for a placement that the features or the
    /// kind of ring exclude.
    pub fn add(&mut self, parts: &[Part], placement: Placement) -> Result<Token> {
        either!(self, ring => ring.add(parts, placement))
    }

    /// Shows the device the chains that were added; `true` when it wants a kick for them.
    pub fn publish(&mut self) -> bool {
        either!(self, ring => ring.publish())
    }

    /// The next chain that the device has used.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) when what the device wrote makes no sense.
    pub fn reap(&mut self) -> Result<Option<Used>> {
        either!(self, ring => ring.reap())
    }

    /// Whether [`reap`](Self::reap) would find something.
    #[must_use]
    pub fn has_used(&self) -> bool {
        either!(self, ring => ring.has_used())
    }

    /// Asks for a call for the next used chain; `true` when there is one already, for which none
    /// may come.
    pub fn enable_calls(&mut self) -> bool {
        either!(self, ring => ring.enable_calls())
    }

    /// Asks for no calls. The device may still call.
    pub fn disable_calls(&mut self) {
        either!(self, ring => ring.disable_calls());
    }

    /// Number of entries.
    #[must_use]
    pub fn size(&self) -> u16 {
        either!(self, ring => ring.size())
    }

    /// Whether the observer is shown this ring.
    #[must_use]
    pub fn is_watched(&self) -> bool {
        either!(self, ring => ring.watch.is_on())
    }

    /// Shows the observer a step in this ring that the queue does not see: a kick or a call by a
    /// [`Notifier`](crate::Notifier) of the test's own, or what it found in memory.
    ///
    /// # Errors
    /// [`Error::Violation`](crate::Error::Violation) when the step breaks a clause.
    pub fn show(&self, step: RingStep<'_>) -> Result<()> {
        either!(self, ring => ring.watch.show(step))
    }

    /// Shows the observer a completed block request, if this ring is watched.
    ///
    /// # Errors
    /// [`Error::Violation`](crate::Error::Violation) when it breaks a clause.
    pub(crate) fn show_request(&self, request: BlockRequest<'_>) -> Result<()> {
        either!(self, ring => ring.watch.watch().show(request))
    }

    /// Where its areas are.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        either!(self, ring => ring.addresses())
    }

    /// Chains that were added and not yet reaped.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        either!(self, ring => ring.in_flight())
    }

    /// Descriptors that are free.
    #[must_use]
    pub fn free(&self) -> usize {
        either!(self, ring => ring.free())
    }

    /// The base (as SET_VRING_BASE has it) from which a device goes on that has lost its own
    /// position: what the driver has reaped. Zero for a new split queue, both wrap counters set
    /// for a new packed one.
    #[must_use]
    pub fn reaped_base(&self) -> u32 {
        either!(self, ring => ring.reaped_base())
    }

    /// The split ring, for tests of one.
    #[must_use]
    pub fn as_split(&mut self) -> Option<&mut Split> {
        match self {
            Self::Split(split) => Some(split),
            Self::Packed(_) => None,
        }
    }

    /// The packed ring, for tests of one.
    #[must_use]
    pub fn as_packed(&mut self) -> Option<&mut Packed> {
        match self {
            Self::Split(_) => None,
            Self::Packed(packed) => Some(packed),
        }
    }
}
