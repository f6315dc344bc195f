//! What the driver and the machine want of a device. It outlives connections.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use virtio_spec::features::{Negotiated, RING_PACKED};
use virtio_spec::packed::Position;
use virtio_spec::vhost_user::MemoryRegion;

use super::step::Base;

/// The most writes to the configuration space that wait for the back-end. A driver that writes
/// faster than they are taken loses the latest.
pub(super) const MAX_CONFIG_WRITES: usize = 32;

/// A ring as the driver configured it. Addresses are guest addresses, not checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ring {
    /// Index of the queue.
    pub queue: u16,
    /// Entries.
    pub size: u16,
    /// Descriptor area.
    pub descriptors: u64,
    /// Driver area.
    pub driver: u64,
    /// Device area.
    pub device: u64,
}

/// A ring, and where it is to go on.
#[derive(Debug, Clone, Copy)]
pub(super) struct WantedRing {
    pub(super) ring: Ring,
    /// None: nobody knows. The driver has to reset the device.
    pub(super) base: Option<Base>,
    /// Its last back-end died, and no other has served it since.
    pub(super) survived: bool,
}

/// What is wanted.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// What the driver agreed on; `None`: the device is not live.
    pub(super) features: Option<Negotiated>,
    /// The queues that the driver enabled.
    pub(super) rings: BTreeMap<u16, WantedRing>,
    /// A reset of the device is under way.
    pub(super) resetting: bool,
    /// Queues whose reset is under way.
    pub(super) queue_resets: BTreeSet<u16>,
    /// The machine pauses: no ring may run.
    pub(super) paused: bool,
    /// The front-end ends: no ring may run, and nothing is started any more.
    pub(super) stopping: bool,
    /// Writes of the driver to the configuration space.
    pub(super) config_writes: VecDeque<(u32, Vec<u8>)>,
    /// All of guest memory.
    pub(super) memory: Vec<MemoryRegion>,
    /// The dirty log, by a number that is new for each.
    pub(super) log: Option<u64>,
    /// A MAC address to be announced to the network.
    pub(super) announce: Option<[u8; 6]>,
}

impl Wanted {
    /// Whether rings are packed.
    pub(super) fn is_packed(&self) -> bool {
        self.features.is_some_and(|features| features.has(RING_PACKED))
    }

    /// Whether this ring is to run now.
    pub(super) fn runs(&self, queue: u16) -> bool {
        let machine = !self.paused && !self.stopping;
        let driver = self.features.is_some() && !self.resetting;
        machine && driver && self.rings.contains_key(&queue) && !self.queue_resets.contains(&queue)
    }

    /// Where a ring starts that nobody has served: at zero, and with both wrap counters set if it
    /// is packed (vhost-user, "Vring descriptor indices for packed virtqueues"; virtio 1.4, 2.8.1).
    pub(super) fn first_base(&self) -> Base {
        if !self.is_packed() {
            return Base::At(0);
        }
        let start = u32::from(Position::START.to_bits());
        Base::At(start | start << 16)
    }
}

impl Ring {
    /// Bytes of the descriptor, driver and device area (virtio 1.4, 2.7 and 2.8), with the event
    /// fields of a split ring.
    pub(super) fn lengths(&self, packed: bool) -> [u64; 3] {
        let size = u64::from(self.size);
        if packed { [16 * size, 4, 4] } else { [16 * size, 6 + 2 * size, 6 + 8 * size] }
    }
}
