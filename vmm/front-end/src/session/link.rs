//! What one connection's back-end has been told, and has told.

use std::collections::{BTreeMap, BTreeSet};

use virtio_spec::features::mask;
use virtio_spec::vhost_user::{F_LOG_ALL, F_PROTOCOL_FEATURES, MemoryRegion, ProtocolFeatures};

use super::step::Step;

/// A connection.
#[derive(Debug, Default)]
pub(super) struct Link {
    /// The request that was sent and not yet answered.
    pub(super) outstanding: Option<Step>,
    /// The handshake is over, and what was found is good.
    pub(super) established: bool,
    pub(super) offered: Option<u64>,
    pub(super) protocol_offered: Option<ProtocolFeatures>,
    pub(super) protocol: Option<ProtocolFeatures>,
    pub(super) owned: bool,
    pub(super) queues: Option<u64>,
    pub(super) slots: Option<u64>,
    pub(super) channel_open: bool,
    /// Lengths of the configuration space that were tried in vain.
    pub(super) config_tries: usize,
    /// None: it was not read on this connection.
    pub(super) config: Option<Vec<u8>>,
    /// The back-end said, or we suspect, that it has changed.
    pub(super) config_stale: bool,
    /// The device may have set DEVICE_NEEDS_RESET.
    pub(super) status_stale: bool,
    pub(super) features: Option<u64>,
    pub(super) memory: Vec<MemoryRegion>,
    pub(super) mtu_set: bool,
    /// The in-flight region was handed over.
    pub(super) in_flight: bool,
    pub(super) log: Option<u64>,
    pub(super) status: u8,
    pub(super) rings: BTreeMap<u16, RingLink>,
    pub(super) enabled: BTreeSet<u16>,
}

/// The next message of a ring's set-up. A ring is enabled before it is started, and takes it to heart
/// then (vhost-user, "Ring states"): of one that is started first, a network card drops what is there
/// already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum SetUp {
    #[default]
    Size,
    Base,
    Address,
    Error,
    Call,
    Enable,
    Kick,
    /// Nothing is missing.
    Complete,
    /// The back-end refused it: nothing more is tried until it is reset.
    Refused,
}

/// A ring on this connection.
#[derive(Debug, Default)]
pub(super) struct RingLink {
    pub(super) next: SetUp,
    /// SET_VRING_KICK was sent: it has to be stopped.
    pub(super) started: bool,
    /// Writes to its device area are logged.
    pub(super) logged: bool,
}

impl Link {
    /// The protocol features in use.
    pub(super) fn has(&self, feature: ProtocolFeatures) -> bool {
        self.protocol.is_some_and(|protocol| protocol.contains(feature))
    }

    /// Whether the back-end offers this virtio feature.
    pub(super) fn offers(&self, bit: u32) -> bool {
        self.offered.is_some_and(|offered| offered & mask(bit) != 0)
    }

    /// Whether there are protocol features, and with them SET_VRING_ENABLE.
    pub(super) fn has_protocol(&self) -> bool {
        self.offers(F_PROTOCOL_FEATURES)
    }

    /// Whether the back-end can keep a dirty log.
    pub(super) fn can_log(&self) -> bool {
        self.has(ProtocolFeatures::LOG_SHMFD) && self.offers(F_LOG_ALL)
    }

    /// A ring that was started and not stopped, if it fulfils the condition.
    pub(super) fn started(&self, is_it: impl Fn(u16) -> bool) -> Option<u16> {
        let mut started = self.rings.iter().filter(|(_, ring)| ring.started);
        started.find(|(queue, _)| is_it(**queue)).map(|(queue, _)| *queue)
    }

    /// Whether this ring runs, is enabled, or is being set up.
    pub(super) fn is_concerned_with(&self, queue: u16) -> bool {
        let outstanding = self.outstanding.as_ref().and_then(Step::queue) == Some(queue);
        let started = self.rings.get(&queue).is_some_and(|ring| ring.started);
        outstanding || started || self.enabled.contains(&queue)
    }

    /// Whether the driver's reset has something to undo.
    pub(super) fn is_touched(&self) -> bool {
        self.features.is_some() || self.status != 0 || !self.enabled.is_empty()
    }

    /// The device was reset: what it was told for its driver is gone. Memory, which belongs to the
    /// machine, stays.
    pub(super) fn forget_driver(&mut self) {
        (self.features, self.status) = (None, 0);
        (self.mtu_set, self.in_flight, self.log) = (false, false, None);
        self.rings.clear();
        self.enabled.clear();
    }
}

impl SetUp {
    /// What follows once this was done; `enable`: there is SET_VRING_ENABLE.
    pub(super) fn after(self, enable: bool) -> Self {
        match self {
            Self::Size => Self::Base,
            Self::Base => Self::Address,
            Self::Address => Self::Error,
            Self::Error => Self::Call,
            Self::Call if enable => Self::Enable,
            Self::Call | Self::Enable => Self::Kick,
            Self::Kick | Self::Complete => Self::Complete,
            Self::Refused => Self::Refused,
        }
    }
}
