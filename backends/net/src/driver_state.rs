//! What the driver has set, and the view that the data side has of it.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use virtio_spec::features::Negotiated;
use virtio_spec::net::{
    CTRL_VLAN, CTRL_VQ, GUEST_CSUM, GUEST_ECN, GUEST_TSO4, GUEST_TSO6, GUEST_UFO, GUEST_USO4,
    GUEST_USO6, MQ, RSS,
};

use crate::coalesce::Coalescing;
use crate::filter::{Filter, Mac, MacTable, Modes, Vlans};
use crate::hash::HashSettings;
use crate::rss::RssSettings;
use crate::uplink::tap::Offloads;
use crate::view::View;

/// The features that let packets for the guest leave something to it.
pub const OFFLOAD_BITS: [(u32, Offloads); 7] = [
    (GUEST_CSUM, Offloads::CSUM),
    (GUEST_TSO4, Offloads::TSO4),
    (GUEST_TSO6, Offloads::TSO6),
    (GUEST_ECN, Offloads::TSO_ECN),
    (GUEST_UFO, Offloads::UFO),
    (GUEST_USO4, Offloads::USO4),
    (GUEST_USO6, Offloads::USO6),
];

/// What the driver has set: by the features that it accepted, and by commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriverState {
    /// The features.
    pub features: Negotiated,
    /// What packets for the guest may leave to it.
    pub offloads: Offloads,
    /// Whether a command was carried out: nothing is filtered before.
    pub commanded: bool,
    /// Modes of reception.
    pub modes: Modes,
    /// The card's own address, if the driver has chosen it.
    pub mac: Option<Mac>,
    /// Further addresses that are received.
    pub table: MacTable,
    /// VLANs that are received.
    pub vlans: Vlans,
    /// How many queue pairs the driver uses, where it can say so.
    pub pairs: u16,
    /// Which hashes are reported.
    pub hash: Option<HashSettings>,
    /// How packets are spread over queues, if the driver has said so.
    pub rss: Option<RssSettings>,
    /// How long calls are held back.
    pub coalescing: Coalescing,
    /// Whether the driver is asked to announce itself, and has not done so yet.
    pub announce: bool,
}

impl Default for DriverState {
    fn default() -> Self {
        DriverState::begin(Negotiated::NONE)
    }
}

impl DriverState {
    /// The state of a driver that has just accepted these features, and sent no command.
    pub fn begin(features: Negotiated) -> Self {
        let accepted = OFFLOAD_BITS.into_iter().filter(|(bit, _)| features.has(*bit));
        DriverState {
            features,
            offloads: accepted.map(|(_, offload)| offload).collect(),
            commanded: false,
            modes: Modes::empty(),
            mac: None,
            table: MacTable::default(),
            vlans: Vlans::default(),
            pairs: 1,
            hash: None,
            rss: None,
            coalescing: Coalescing::default(),
            announce: false,
        }
    }

    /// What the uplink may leave to the guest: there are no segments without checksums.
    pub fn effective_offloads(&self) -> Offloads {
        if self.offloads.contains(Offloads::CSUM) { self.offloads } else { Offloads::empty() }
    }

    /// How many queue pairs are in use. Where the driver's commands do not come here, whoever gets
    /// them enables and disables the rings.
    pub fn pairs_in_use(&self, given: &Given) -> u16 {
        let several = self.features.has(MQ) || self.features.has(RSS);
        match (several, self.features.has(CTRL_VQ)) {
            (true, true) => self.pairs.min(given.max_pairs),
            (true, false) => given.max_pairs,
            (false, _) => 1,
        }
    }

    /// The filter, if anything is filtered.
    pub fn filter(&self, given: &Given) -> Option<Filter> {
        let filtered = self.commanded && !self.modes.contains(Modes::PROMISCUOUS);
        filtered.then(|| Filter {
            modes: self.modes,
            mac: self.mac.or(given.mac),
            table: self.table.clone(),
            vlans: self.features.has(CTRL_VLAN).then(|| self.vlans.clone()),
        })
    }
}

/// What the user has set, and may set anew.
#[derive(Clone, Copy, Debug)]
pub struct Given {
    /// The card's address.
    pub mac: Option<Mac>,
    /// The MTU that the driver is told.
    pub mtu: Option<u16>,
    /// The most queue pairs.
    pub max_pairs: u16,
    /// Whether the link is up.
    pub link_up: bool,
}

/// The state, for both sides: the control side and the control queue write it, all workers read it.
#[derive(Debug)]
pub struct Shared {
    state: Mutex<(DriverState, Given)>,
    /// How often it was changed.
    generation: AtomicU32,
    /// Whether a command has changed the config space, and the front-end was not told yet.
    config_changed: AtomicBool,
}

impl Shared {
    /// The state of a card without a driver.
    pub fn new(given: Given) -> Self {
        Shared {
            state: Mutex::new((DriverState::default(), given)),
            generation: AtomicU32::new(0),
            config_changed: AtomicBool::new(false),
        }
    }

    /// The driver's state as it is now.
    pub fn get(&self) -> DriverState {
        self.lock().0.clone()
    }

    /// What the user has set.
    pub fn given(&self) -> Given {
        self.lock().1
    }

    /// Changes the driver's state; workers see it before their next packets.
    pub fn change<T>(&self, change: impl FnOnce(&mut DriverState, &Given) -> T) -> T {
        let (state, given) = &mut *self.lock();
        let result = change(state, given);
        self.generation.fetch_add(1, Ordering::Release);
        result
    }

    /// Changes what the user has set.
    pub fn give(&self, change: impl FnOnce(&mut Given)) {
        change(&mut self.lock().1);
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// A command has changed the config space.
    pub(crate) fn note_config_change(&self) {
        self.config_changed.store(true, Ordering::Release);
    }

    /// Whether a command has changed the config space since the last call.
    pub(crate) fn take_config_change(&self) -> bool {
        self.config_changed.swap(false, Ordering::AcqRel)
    }

    /// A view, if the state was changed since the one that `seen` stands for.
    #[inline]
    pub(crate) fn view_if_changed(&self, seen: &mut Option<u32>) -> Option<View> {
        let now = self.generation.load(Ordering::Acquire);
        if seen.replace(now) == Some(now) {
            return None;
        }
        Some(self.view())
    }

    /// The view of now.
    pub(crate) fn view(&self) -> View {
        let (state, given) = &*self.lock();
        View::new(state, given)
    }

    fn lock(&self) -> MutexGuard<'_, (DriverState, Given)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
