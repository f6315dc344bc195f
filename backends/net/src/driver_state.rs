//! What the driver has set, and the view that the data side has of it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use virtio_spec::features::Negotiated;
use virtio_spec::net::{
    GUEST_CSUM, GUEST_ECN, GUEST_TSO4, GUEST_TSO6, GUEST_UFO, GUEST_USO4, GUEST_USO6, HASH_REPORT,
    Header, HeaderHash, MRG_RXBUF,
};

use crate::header::Rules;
use crate::uplink::tap::Offloads;

/// What the driver has set: by the features that it accepted, and by commands.
#[derive(Clone, Debug)]
pub struct DriverState {
    /// The features.
    pub features: Negotiated,
    /// What packets for the guest may leave to it.
    pub offloads: Offloads,
}

impl Default for DriverState {
    fn default() -> Self {
        DriverState { features: Negotiated::NONE, offloads: Offloads::empty() }
    }
}

impl DriverState {
    /// The state of a driver that has just accepted these features, and sent no command.
    pub fn begin(features: Negotiated) -> Self {
        let pairs = [
            (GUEST_CSUM, Offloads::CSUM),
            (GUEST_TSO4, Offloads::TSO4),
            (GUEST_TSO6, Offloads::TSO6),
            (GUEST_ECN, Offloads::TSO_ECN),
            (GUEST_UFO, Offloads::UFO),
            (GUEST_USO4, Offloads::USO4),
            (GUEST_USO6, Offloads::USO6),
        ];
        let accepted = pairs.into_iter().filter(|(bit, _)| features.has(*bit));
        DriverState { features, offloads: accepted.map(|(_, offload)| offload).collect() }
    }
}

/// What the data side goes by. Made anew when the state has changed.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) rules: Rules,
    /// The size of the header before each packet, bytes.
    pub(crate) header: usize,
    /// Whether a packet may fill several chains.
    pub(crate) mergeable: bool,
    /// Whether packets longer than the MTU may come.
    pub(crate) long: bool,
}

impl From<&DriverState> for View {
    fn from(state: &DriverState) -> Self {
        let features = state.features;
        let hash = if features.has(HASH_REPORT) { HeaderHash::SIZE } else { 0 };
        View {
            rules: Rules::new(features),
            header: Header::SIZE + hash,
            mergeable: features.has(MRG_RXBUF),
            long: !(state.offloads - Offloads::CSUM).is_empty(),
        }
    }
}

/// The state, for both sides: the control side and the control queue write it, all workers read it.
#[derive(Debug, Default)]
pub struct Shared {
    state: Mutex<DriverState>,
    /// How often it was changed.
    generation: AtomicU32,
}

impl Shared {
    /// The state as it is now.
    pub fn get(&self) -> DriverState {
        self.lock().clone()
    }

    /// Changes the state; workers see it before their next packets.
    pub fn change<T>(&self, change: impl FnOnce(&mut DriverState) -> T) -> T {
        let mut state = self.lock();
        let result = change(&mut state);
        self.generation.fetch_add(1, Ordering::Release);
        result
    }

    /// A view, if the state was changed since the one that `seen` stands for.
    #[inline]
    pub(crate) fn view_if_changed(&self, seen: &mut Option<u32>) -> Option<View> {
        let now = self.generation.load(Ordering::Acquire);
        if seen.replace(now) == Some(now) {
            return None;
        }
        Some(View::from(&*self.lock()))
    }

    fn lock(&self) -> MutexGuard<'_, DriverState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
