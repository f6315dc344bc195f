//! A device as its user sees it.

use serde::Serialize;
use virtio_spec::names;

use super::Session;
use super::link::{Link, SetUp};

/// A device, its connection, and its queues.
#[derive(Debug, Clone, Serialize)]
pub struct DeviceReport {
    /// The device's name.
    pub name: String,
    /// Its type, in the specification's word.
    pub device_type: &'static str,
    /// `waiting` for the first connection, `handshake`, `connected`, `lost`, `stopped`.
    pub state: &'static str,
    /// Whether a driver uses it.
    pub live: bool,
    /// Whether it waits for the driver's reset.
    pub needs_reset: bool,
    /// Connections that were lost.
    pub losses: u64,
    /// The last thing that went wrong, in words.
    pub last_error: Option<String>,
    /// The request that waits for its answer.
    pub waiting_for: Option<&'static str>,
    /// Names of the features that driver and device agreed on.
    pub features: Vec<String>,
    /// Names of the protocol features in use.
    pub protocol_features: Vec<&'static str>,
    /// Whether requests in flight outlive the back-end.
    pub tracks_in_flight: bool,
    /// The queues that the driver uses.
    pub queues: Vec<QueueReport>,
}

/// A queue that the driver uses.
#[derive(Debug, Clone, Serialize)]
pub struct QueueReport {
    /// Its index.
    pub index: u16,
    /// Its size, entries.
    pub size: u16,
    /// `running`, `stopped`, `starting`, `resetting`, `refused` by the back-end, `unusable` as the
    /// driver set it up.
    pub state: &'static str,
}

impl Session {
    /// The device as it is now.
    #[must_use]
    pub fn report(&self) -> DeviceReport {
        let protocol = self.link.as_ref().and_then(|link| link.protocol).unwrap_or_default();
        let agreed = self.wanted.features.map_or(0, |features| features.bits());
        DeviceReport {
            name: self.config.name.clone(),
            device_type: self.config.device_type.name(),
            state: self.state(),
            live: self.is_live(),
            needs_reset: self.broken,
            losses: self.losses,
            last_error: self.last_error.clone(),
            waiting_for: self.outstanding().map(super::Step::name),
            features: names(self.config.device_type, agreed),
            protocol_features: protocol.iter_names().map(|(name, _)| name).collect(),
            tracks_in_flight: self.link.as_ref().is_some_and(|link| link.in_flight),
            queues: self.wanted.rings.keys().map(|queue| self.queue_report(*queue)).collect(),
        }
    }

    fn state(&self) -> &'static str {
        match &self.link {
            _ if self.is_stopped() => "stopped",
            Some(link) if link.established => "connected",
            Some(_) => "handshake",
            None if self.connections == 0 => "waiting",
            None => "lost",
        }
    }

    fn queue_report(&self, queue: u16) -> QueueReport {
        let wanted = self.wanted.rings.get(&queue);
        let state = match self.link.as_ref().and_then(|link: &Link| link.rings.get(&queue)) {
            _ if self.wanted.queue_resets.contains(&queue) => "resetting",
            _ if wanted.is_none_or(|wanted| wanted.base.is_none()) => "unusable",
            Some(ring) if ring.next == SetUp::Complete => "running",
            Some(ring) if ring.next == SetUp::Refused => "refused",
            Some(_) => "starting",
            None => "stopped",
        };
        QueueReport { index: queue, size: wanted.map_or(0, |wanted| wanted.ring.size), state }
    }

    /// What the device waits for, for whoever waits for the device.
    #[must_use]
    pub fn trouble(&self) -> String {
        match (&self.last_error, self.outstanding()) {
            (_, Some(step)) => format!("the back-end has not answered {} yet", step.name()),
            (Some(error), None) => error.clone(),
            (None, None) => "there is no connection to its back-end yet".into(),
        }
    }
}
