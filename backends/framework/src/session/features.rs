//! Negotiation of virtio features and of protocol features.

use virtio_spec::features::{self, Negotiated, Offered, mask};
use virtio_spec::vhost_user::{F_LOG_ALL, F_PROTOCOL_FEATURES, ProtocolFeatures};
use wire::Request;

use super::pending::Then;
use super::{Session, Workers};
use crate::Error;
use crate::device::Device;
use crate::error::Result;
use crate::worker::Command;

/// What is offered beside the device's own features, by choice of the user.
#[derive(Clone, Copy, Debug, Default)]
pub struct RingOffer {
    /// Packed rings.
    pub packed: bool,
    /// Use in the order of availability.
    pub in_order: bool,
    /// Kicks and calls as messages.
    pub inband: bool,
}

/// Bits that are between front-end and back-end: the driver never sees them.
const CONNECTION_BITS: u64 = mask(F_LOG_ALL) | mask(F_PROTOCOL_FEATURES);

/// Bits 0 to 23 and 50 to 63, which belong to device types (virtio 1.4, 2.2).
const DEVICE_BITS: u64 = !(((1 << 26) - 1) << 24);

/// The device's own bits and those of rings and connection.
///
/// ORDER_PLATFORM is not among them: the device is software on the driver's own CPUs with coherent
/// memory, which is the case that the bit's absence describes; its presence would cost the driver
/// heavier barriers (virtio 1.4, 6). Neither is ACCESS_PLATFORM: addresses are physical ones.
pub(super) fn offered(device: u64, offer: RingOffer) -> Offered {
    let mut offered = Offered::new(device & DEVICE_BITS)
        .with(features::VERSION_1)
        .with(features::INDIRECT_DESC)
        .with(features::EVENT_IDX)
        .with(features::RING_RESET)
        .with(F_LOG_ALL)
        .with(F_PROTOCOL_FEATURES);
    if offer.packed {
        offered = offered.with(features::RING_PACKED);
    }
    if offer.in_order {
        offered = offered.with(features::IN_ORDER);
    }
    offered
}

pub(super) fn protocol_offered(network: bool, offer: RingOffer) -> ProtocolFeatures {
    let mut offered = ProtocolFeatures::MQ
        | ProtocolFeatures::CONFIG
        | ProtocolFeatures::REPLY_ACK
        | ProtocolFeatures::BACKEND_REQ
        | ProtocolFeatures::CONFIGURE_MEM_SLOTS
        | ProtocolFeatures::RESET_DEVICE
        | ProtocolFeatures::STATUS
        | ProtocolFeatures::LOG_SHMFD
        | ProtocolFeatures::INFLIGHT_SHMFD
        | ProtocolFeatures::DEVICE_STATE;
    offered.set(ProtocolFeatures::NET_MTU | ProtocolFeatures::RARP, network);
    offered.set(ProtocolFeatures::INBAND_NOTIFICATIONS, offer.inband);
    offered
}

impl Session {
    /// What the driver acknowledged; nothing before SET_FEATURES.
    pub(super) fn driver_features(&self) -> Negotiated {
        Negotiated::assume(self.acked.unwrap_or_default().bits() & !CONNECTION_BITS)
    }

    pub(super) fn is_packed(&self) -> bool {
        self.driver_features().has(features::RING_PACKED)
    }

    pub(super) fn is_inband(&self) -> bool {
        self.protocol.contains(ProtocolFeatures::INBAND_NOTIFICATIONS)
    }

    pub(super) fn set_features<D: Device, W: Workers<D::Service>>(
        &mut self,
        device: &mut D,
        bits: u64,
        workers: &mut W,
    ) -> Result<Then> {
        let acked = self.offered.accept(bits).map_err(Error::UnofferedFeatures)?;
        let before = self.acked.unwrap_or_default();
        // On running rings only the dirty log may be switched (vhost-user, "Migration").
        let changed = (acked.bits() ^ before.bits()) & !CONNECTION_BITS;
        if changed != 0 && !self.is_suspended() {
            return Err(Error::FeaturesFrozen { changed });
        }
        self.acked = Some(acked);
        self.log.set_all(acked.has(F_LOG_ALL));
        if acked.has(F_LOG_ALL) != before.has(F_LOG_ALL) {
            let log = self.log.in_use();
            self.tell_all(workers, || Command::Log(log.clone()));
        }
        if self.is_suspended() {
            device.negotiated(self.driver_features());
        }
        if !acked.has(F_PROTOCOL_FEATURES) {
            // Such a front-end knows no SET_VRING_ENABLE (vhost-user, "Ring states").
            self.enable_all_rings(workers);
        }
        Ok(Then::Ack)
    }

    pub(super) fn set_protocol_features(&mut self, bits: u64) -> Result<Then> {
        let unoffered = bits & !self.protocol_offered.bits();
        if unoffered != 0 {
            return Err(Error::UnofferedProtocolFeatures { bits: unoffered });
        }
        let acked = ProtocolFeatures::from_bits_retain(bits);
        let lacking = acked.lacking_support();
        if !lacking.is_empty() {
            return Err(Error::ProtocolFeaturesLacking { bits: lacking.bits() });
        }
        if self.protocol != acked && !self.is_suspended() {
            return Err(Error::ProtocolFeaturesFrozen);
        }
        self.protocol = acked;
        Ok(Then::Ack)
    }

    /// Refuses messages of extensions that were not negotiated. Where the specification asks only
    /// that an extension be offered, that is enough.
    pub(super) fn check_negotiated(&self, request: &Request) -> Result<()> {
        let Some((needed, acked)) = extension(request) else { return Ok(()) };
        let there = if acked { self.protocol } else { self.protocol_offered };
        if there.contains(needed) {
            return Ok(());
        }
        Err(Error::NotNegotiated { request: request.name(), feature: protocol_name(needed) })
    }
}

/// The extension that a message belongs to, and whether it must have been acknowledged.
fn extension(request: &Request) -> Option<(ProtocolFeatures, bool)> {
    Some(match request {
        Request::GetQueueNum => (ProtocolFeatures::MQ, false),
        Request::SendRarp(_) => (ProtocolFeatures::RARP, false),
        Request::NetSetMtu(_) => (ProtocolFeatures::NET_MTU, false),
        Request::SetBackendReqFd(_) => (ProtocolFeatures::BACKEND_REQ, false),
        Request::ResetDevice => (ProtocolFeatures::RESET_DEVICE, false),
        Request::SetLogBase(..) => (ProtocolFeatures::LOG_SHMFD, true),
        Request::GetConfig(_) | Request::SetConfig { .. } => (ProtocolFeatures::CONFIG, true),
        Request::GetInflightFd(_) | Request::SetInflightFd(..) => {
            (ProtocolFeatures::INFLIGHT_SHMFD, true)
        }
        Request::VringKick { .. } => (ProtocolFeatures::INBAND_NOTIFICATIONS, true),
        Request::GetMaxMemSlots | Request::AddMemReg(..) | Request::RemMemReg(_) => {
            (ProtocolFeatures::CONFIGURE_MEM_SLOTS, true)
        }
        Request::SetStatus(_) | Request::GetStatus => (ProtocolFeatures::STATUS, true),
        Request::SetDeviceStateFd { .. } | Request::CheckDeviceState => {
            (ProtocolFeatures::DEVICE_STATE, true)
        }
        _ => return None,
    })
}

fn protocol_name(feature: ProtocolFeatures) -> &'static str {
    feature.iter_names().next().map_or("unknown", |(name, _)| name)
}
