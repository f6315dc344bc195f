//! Which features need which others.

use crate::features::{VERSION_1, mask};
use crate::{DeviceType, block, names, net};

/// A feature and the ones of which it needs at least one.
type Rule = (u32, &'static [u32]);

/// Virtio 1.4, 5.1.3.1. A feature that needs several stands several times.
const NET: &[Rule] = &[
    (net::GUEST_TSO4, &[net::GUEST_CSUM]),
    (net::GUEST_TSO6, &[net::GUEST_CSUM]),
    (net::GUEST_ECN, &[net::GUEST_TSO4, net::GUEST_TSO6]),
    (net::GUEST_UFO, &[net::GUEST_CSUM]),
    (net::GUEST_USO4, &[net::GUEST_CSUM]),
    (net::GUEST_USO6, &[net::GUEST_CSUM]),
    (net::HOST_TSO4, &[net::CSUM]),
    (net::HOST_TSO6, &[net::CSUM]),
    (net::HOST_ECN, &[net::HOST_TSO4, net::HOST_TSO6]),
    (net::HOST_UFO, &[net::CSUM]),
    (net::HOST_USO, &[net::CSUM]),
    (net::CTRL_RX, &[net::CTRL_VQ]),
    (net::CTRL_VLAN, &[net::CTRL_VQ]),
    (net::GUEST_ANNOUNCE, &[net::CTRL_VQ]),
    (net::MQ, &[net::CTRL_VQ]),
    (net::CTRL_MAC_ADDR, &[net::CTRL_VQ]),
    (net::NOTF_COAL, &[net::CTRL_VQ]),
    (net::VQ_NOTF_COAL, &[net::CTRL_VQ]),
    (net::RSS, &[net::CTRL_VQ]),
    (net::feature::RSC_EXT, &[net::HOST_TSO4, net::HOST_TSO6]),
    (net::feature::HASH_TUNNEL, &[net::RSS, net::HASH_REPORT]),
    (net::feature::HASH_TUNNEL, &[net::CTRL_VQ]),
];

/// Virtio 1.4, 5.2.5.2. It binds the device's offer only: a driver may well accept CONFIG_WCE
/// without FLUSH.
const BLOCK_OFFER: &[Rule] = &[(block::CONFIG_WCE, &[block::FLUSH])];

/// What is missing from an offer, in words; `None` if it is whole.
pub(super) fn missing_in_offer(device: DeviceType, bits: u64) -> Option<String> {
    let rules = match device {
        DeviceType::NET => NET,
        DeviceType::BLOCK => BLOCK_OFFER,
        _ => &[],
    };
    missing(rules, device, bits)
}

/// What is missing from what a driver accepted, in words; `None` if it is whole.
pub(super) fn missing_in_acceptance(device: DeviceType, bits: u64) -> Option<String> {
    let rules = if device == DeviceType::NET { NET } else { &[] };
    missing(rules, device, bits)
}

/// Whether these bits say that the device is not a legacy one.
pub(super) const fn is_modern(bits: u64) -> bool {
    bits & mask(VERSION_1) != 0
}

fn missing(rules: &[Rule], device: DeviceType, bits: u64) -> Option<String> {
    let has = |bit: u32| bits & mask(bit) != 0;
    let (feature, needs) =
        rules.iter().find(|(feature, needs)| has(*feature) && !needs.iter().any(|n| has(*n)))?;
    let needs = needs.iter().fold(0, |all, n| all | mask(*n));
    let name = |bits| names(device, bits).join(" or ");
    Some(format!("{} needs {}", name(mask(*feature)), name(needs)))
}
