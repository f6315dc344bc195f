//! The configuration space: how long it is, and what is in it when the back-end has none.

use virtio_spec::features::mask;
use virtio_spec::{DeviceType, net};

use crate::config::Config;

/// Features whose only substance is the configuration space, so that the front-end can offer them
/// itself for a back-end without one.
pub(super) const OWN_FEATURES: u64 = mask(net::feature::MAC) | mask(net::feature::MTU);

/// Lengths of the configuration space to be tried, longest first: it has grown with the
/// specification's versions.
pub(super) fn sizes(device_type: DeviceType) -> &'static [u32] {
    match device_type {
        DeviceType::NET => &[28, 24, 20, 12, 10, 8, 6],
        DeviceType::BLOCK => &[96, 72, 60, 36, 24, 8],
        DeviceType::CONSOLE => &[12, 8, 4],
        DeviceType::BALLOON => &[16, 12, 8],
        DeviceType::VSOCK => &[8],
        DeviceType::FS => &[44, 40],
        DeviceType::ENTROPY => &[],
        _ => &[256, 128, 96, 64, 48, 44, 40, 36, 32, 28, 24, 20, 16, 12, 8, 4],
    }
}

/// The configuration space of a device whose back-end has none.
pub(super) fn own(config: &Config) -> Vec<u8> {
    let mut bytes = match config.device_type {
        DeviceType::NET => net::Config {
            mac: config.mac.unwrap_or_default(),
            mtu: config.mtu.unwrap_or_default(),
            ..net::Config::default()
        }
        .to_bytes()
        .to_vec(),
        _ => config.own_config.clone(),
    };
    bytes.truncate(virtio_spec::vhost_user::MAX_CONFIG_SIZE);
    if let Some(size) = config.config_size.and_then(|size| usize::try_from(size).ok()) {
        bytes.resize(size.min(virtio_spec::vhost_user::MAX_CONFIG_SIZE), 0);
    }
    bytes
}

/// The features that go with it.
pub(super) fn own_features(config: &Config) -> u64 {
    let mac = config.mac.map_or(0, |_| mask(net::feature::MAC));
    let mtu = config.mtu.map_or(0, |_| mask(net::feature::MTU));
    mac | mtu
}

/// Puts bytes into the space; what lies past its end is dropped. Says whether that changed it.
pub(super) fn overlay(space: &mut [u8], offset: u32, data: &[u8]) -> bool {
    let start = usize::try_from(offset).unwrap_or(usize::MAX);
    let Some(there) = space.get_mut(start..) else { return false };
    let mut changed = false;
    for (old, new) in there.iter_mut().zip(data) {
        changed |= *old != *new;
        *old = *new;
    }
    changed
}

/// The MTU in a network card's configuration space.
pub(super) fn mtu(space: &[u8]) -> u16 {
    let at = net::Config::FIELDS.iter().find(|field| field.name == "mtu").map_or(0, |f| f.offset);
    match space.get(at..) {
        Some([low, high, ..]) => u16::from_le_bytes([*low, *high]),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_past_the_end_are_dropped() {
        let mut space = [1, 2, 3, 4];
        assert!(overlay(&mut space, 3, &[9, 9]));
        assert_eq!(space, [1, 2, 3, 9]);
        assert!(!overlay(&mut space, 4, &[9]));
        assert!(!overlay(&mut space, u32::MAX, &[9]));
        assert!(!overlay(&mut space, 0, &[1, 2]));
    }

    #[test]
    fn the_sizes_that_are_tried_fit_in_a_message() {
        for number in 0..64 {
            let sizes = sizes(DeviceType(number));
            assert!(sizes.is_sorted_by(|a, b| a > b));
            assert!(sizes.iter().all(|size| (1..=256).contains(size)));
        }
    }

    #[test]
    fn a_network_card_without_a_back_ends_configuration_has_the_users() {
        let mut config = Config::new("net0", DeviceType::NET);
        assert_eq!(own_features(&config), 0);
        (config.mac, config.mtu) = (Some([2, 0, 0, 0, 0, 1]), Some(1400));
        let space = own(&config);
        assert_eq!(space.get(..6), Some(&[2, 0, 0, 0, 0, 1][..]));
        assert_eq!(mtu(&space), 1400);
        assert_eq!(own_features(&config), OWN_FEATURES);
        assert_eq!(mtu(&[0; 4]), 0);
    }
}
