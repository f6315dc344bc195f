//! Names of feature bits, for people.

use crate::features::{self, mask};
use crate::{DeviceType, balloon, block, console, net, vhost_user};

const COMMON: &[(u32, &str)] = &[
    (features::NOTIFY_ON_EMPTY, "NOTIFY_ON_EMPTY"),
    (features::ANY_LAYOUT, "ANY_LAYOUT"),
    (vhost_user::F_LOG_ALL, "LOG_ALL"),
    (features::INDIRECT_DESC, "INDIRECT_DESC"),
    (features::EVENT_IDX, "EVENT_IDX"),
    (vhost_user::F_PROTOCOL_FEATURES, "PROTOCOL_FEATURES"),
    (features::VERSION_1, "VERSION_1"),
    (features::ACCESS_PLATFORM, "ACCESS_PLATFORM"),
    (features::RING_PACKED, "RING_PACKED"),
    (features::IN_ORDER, "IN_ORDER"),
    (features::ORDER_PLATFORM, "ORDER_PLATFORM"),
    (features::SR_IOV, "SR_IOV"),
    (features::NOTIFICATION_DATA, "NOTIFICATION_DATA"),
    (features::NOTIF_CONFIG_DATA, "NOTIF_CONFIG_DATA"),
    (features::RING_RESET, "RING_RESET"),
    (features::ADMIN_VQ, "ADMIN_VQ"),
    (features::SUSPEND, "SUSPEND"),
];

/// Names of the bits that are set, in the order of their numbers, without the specifications'
/// prefixes. A bit without a name in this crate shows as `BIT_n`.
#[must_use]
pub fn names(device: DeviceType, bits: u64) -> Vec<String> {
    (0..u64::BITS).filter(|&bit| bits & mask(bit) != 0).map(|bit| name(device, bit)).collect()
}

fn name(device: DeviceType, bit: u32) -> String {
    let own = match device {
        DeviceType::NET => net::NAMES,
        DeviceType::BLOCK => block::NAMES,
        DeviceType::CONSOLE => console::NAMES,
        DeviceType::BALLOON => balloon::NAMES,
        _ => &[],
    };
    let mut known = own.iter().chain(COMMON);
    match known.find(|(number, _)| *number == bit) {
        Some((_, name)) => (*name).to_owned(),
        None => format!("BIT_{bit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_depend_on_the_device_type() {
        let bits = mask(5) | mask(features::VERSION_1) | mask(vhost_user::F_PROTOCOL_FEATURES);
        let block = names(DeviceType::BLOCK, bits);
        assert_eq!(block, ["RO", "PROTOCOL_FEATURES", "VERSION_1"]);
        let net = names(DeviceType::NET, bits);
        assert_eq!(net, ["MAC", "PROTOCOL_FEATURES", "VERSION_1"]);
        assert_eq!(names(DeviceType::FS, mask(5)), ["BIT_5"]);
    }

    #[test]
    fn no_bit_has_two_names() {
        for own in [net::NAMES, block::NAMES, console::NAMES, balloon::NAMES] {
            let mut numbers: Vec<_> = own.iter().chain(COMMON).map(|(bit, _)| bit).collect();
            numbers.sort_unstable();
            let count = numbers.len();
            numbers.dedup();
            assert_eq!(numbers.len(), count);
        }
    }
}
