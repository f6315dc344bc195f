//! A session in words, for the control socket.

use serde_json::{Value, json};
use virtio_spec::DeviceType;
use virtio_spec::vhost_user::ProtocolFeatures;

use super::Session;
use super::vring::{Run, Vring};

impl Session {
    /// What was negotiated and set up, as JSON.
    pub fn describe(&self, device: DeviceType) -> Value {
        let regions: Vec<Value> = self.memory.regions().iter().map(region).collect();
        let rings: Vec<Value> =
            self.rings.iter().filter(|ring| ring.size.is_some()).map(describe_ring).collect();
        let acked = self.acked.unwrap_or_default();
        json!({
            "features": virtio_spec::names(device, acked.bits()),
            "offered_features": virtio_spec::names(device, self.offered.bits()),
            "protocol_features": protocol_names(self.protocol),
            "status": self.status.iter_names().map(|(name, _)| name).collect::<Vec<_>>(),
            "suspended": self.is_suspended(),
            "memory": regions,
            "in_flight_region": self.in_flight.is_some(),
            "dirty_log": self.log.in_use().is_some(),
            "rings": rings,
        })
    }
}

fn region(region: &crate::memory::Region) -> Value {
    json!({
        "guest_address": region.guest.0,
        "user_address": region.user.0,
        "size": region.size,
    })
}

fn describe_ring(ring: &Vring) -> Value {
    let state = match ring.run() {
        Run::Stopped => "stopped",
        Run::Waiting => "waiting",
        Run::Starting => "starting",
        Run::Running => "running",
        Run::Stopping => "stopping",
    };
    json!({
        "queue": ring.queue(),
        "state": state,
        "enabled": ring.enabled,
        "size": ring.size,
        "worker": ring.worker(),
        "failure": ring.failure(),
    })
}

fn protocol_names(features: ProtocolFeatures) -> Vec<&'static str> {
    features.iter_names().map(|(name, _)| name).collect()
}
