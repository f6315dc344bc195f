//! The network card's configuration space (virtio 1.4, 5.1.4).

use crate::layout::le_struct;

/// Bytes of a MAC address.
pub const MAC_LEN: usize = 6;

bitflags::bitflags! {
    /// Bits of the configuration's `status`.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
    pub struct ConfigStatus: u16 {
        /// The link is up.
        const LINK_UP = 1;
        /// The driver is asked to announce itself.
        const ANNOUNCE = 2;
    }
}

le_struct! {
    /// The whole configuration space. Fields whose feature is absent are zero.
    #[derive(Default)]
    pub struct Config {
        /// MAC address (`MAC`).
        pub mac: [u8; MAC_LEN],
        /// [`ConfigStatus`] (`STATUS`).
        pub status: u16,
        /// Most queue pairs (`MQ` or `RSS`).
        pub max_virtqueue_pairs: u16,
        /// MTU in bytes (`MTU`).
        pub mtu: u16,
        /// Speed in Mbit/s; all ones: not known (`SPEED_DUPLEX`).
        pub speed: u32,
        /// 0: half, 1: full, 255: not known (`SPEED_DUPLEX`).
        pub duplex: u8,
        /// Bytes in the longest hash key (`RSS` or `HASH_REPORT`).
        pub rss_max_key_size: u8,
        /// Entries in the longest indirection table (`RSS`).
        pub rss_max_indirection_table_length: u16,
        /// [`super::HashTypes`] that the device computes (`RSS` or `HASH_REPORT`).
        pub supported_hash_types: u32,
        /// Tunnels whose inner header can be hashed (`HASH_TUNNEL`).
        pub supported_tunnel_types: u32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::mem::offset_of;
    use virtio_bindings::virtio_net as linux;

    #[test]
    fn layout_agrees_with_linux() {
        let offsets: Vec<_> = Config::FIELDS.iter().map(|f| f.offset).collect();
        let theirs = [
            offset_of!(linux::virtio_net_config, mac),
            offset_of!(linux::virtio_net_config, status),
            offset_of!(linux::virtio_net_config, max_virtqueue_pairs),
            offset_of!(linux::virtio_net_config, mtu),
            offset_of!(linux::virtio_net_config, speed),
            offset_of!(linux::virtio_net_config, duplex),
            offset_of!(linux::virtio_net_config, rss_max_key_size),
            offset_of!(linux::virtio_net_config, rss_max_indirection_table_length),
            offset_of!(linux::virtio_net_config, supported_hash_types),
        ];
        assert_eq!(offsets[..theirs.len()], theirs);
        // Linux does not know the last field yet.
        assert_eq!(Config::SIZE, size_of::<linux::virtio_net_config>() + 4);
        assert_eq!(u32::from(ConfigStatus::LINK_UP.bits()), linux::VIRTIO_NET_S_LINK_UP);
        assert_eq!(u32::from(ConfigStatus::ANNOUNCE.bits()), linux::VIRTIO_NET_S_ANNOUNCE);
    }

    proptest! {
        #[test]
        fn every_pattern_round_trips(bytes: [u8; Config::SIZE]) {
            prop_assert_eq!(Config::from_bytes(&bytes).to_bytes(), bytes);
        }
    }
}
