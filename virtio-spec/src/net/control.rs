//! Commands on the network card's control queue (virtio 1.4, 5.1.6.5).
//!
//! A command is a [`CommandHeader`], the command's own data, and one acknowledgement byte that the
//! device writes; some commands have a result after that.

use crate::layout::le_struct;

/// The device did it.
pub const ACK_OK: u8 = 0;
/// The device did not do it.
pub const ACK_ERR: u8 = 1;

le_struct! {
    /// What every command starts with.
    #[derive(Default)]
    pub struct CommandHeader {
        /// The command's class.
        pub class: u8,
        /// The command within its class.
        pub command: u8,
    }
}

/// A class and a command of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Command {
    /// Take every packet; one byte, 0 or 1 (`CTRL_RX`).
    RxPromisc,
    /// Take every multicast packet; one byte (`CTRL_RX`).
    RxAllMulti,
    /// Take every unicast packet; one byte (`CTRL_RX_EXTRA`).
    RxAllUni,
    /// Take no multicast packet; one byte (`CTRL_RX_EXTRA`).
    RxNoMulti,
    /// Take no unicast packet; one byte (`CTRL_RX_EXTRA`).
    RxNoUni,
    /// Take no broadcast packet; one byte (`CTRL_RX_EXTRA`).
    RxNoBroadcast,
    /// Take these addresses: a unicast table, then a multicast table, each a 32-bit count and
    /// that many addresses (`CTRL_RX`).
    MacTableSet,
    /// The card's own address (`CTRL_MAC_ADDR`).
    MacAddrSet,
    /// Take this VLAN; 16 bits (`CTRL_VLAN`).
    VlanAdd,
    /// Take this VLAN no longer; 16 bits (`CTRL_VLAN`).
    VlanDel,
    /// The driver announced itself (`GUEST_ANNOUNCE`).
    AnnounceAck,
    /// Use so many queue pairs; 16 bits (`MQ`).
    MqPairsSet,
    /// Choose receive queues by hash: an [`RssHead`] and what follows it (`RSS`).
    MqRssConfig,
    /// Report hashes: a [`HashConfigHead`] and the key (`HASH_REPORT`).
    MqHashConfig,
    /// Which offloads the driver takes: feature bits as 64 bits (`CTRL_GUEST_OFFLOADS`).
    GuestOffloadsSet,
    /// Hold calls of transmit queues back: a [`Coalesce`] (`NOTF_COAL`).
    CoalesceTxSet,
    /// Hold calls of receive queues back: a [`Coalesce`] (`NOTF_COAL`).
    CoalesceRxSet,
    /// Hold calls of one queue back: a [`CoalesceQueue`] (`VQ_NOTF_COAL`).
    CoalesceQueueSet,
    /// How are calls of one queue held back? a [`CoalesceQueue`] (`VQ_NOTF_COAL`).
    CoalesceQueueGet,
    /// Which tunnels are hashed by their inner header; 32 bits (`HASH_TUNNEL`).
    HashTunnelSet,
    /// Which statistics are there? (`DEVICE_STATS`)
    StatsQuery,
    /// Statistics (`DEVICE_STATS`).
    StatsGet,
}

/// Each command with its class and number.
const NUMBERS: [(Command, u8, u8); 22] = [
    (Command::RxPromisc, 0, 0),
    (Command::RxAllMulti, 0, 1),
    (Command::RxAllUni, 0, 2),
    (Command::RxNoMulti, 0, 3),
    (Command::RxNoUni, 0, 4),
    (Command::RxNoBroadcast, 0, 5),
    (Command::MacTableSet, 1, 0),
    (Command::MacAddrSet, 1, 1),
    (Command::VlanAdd, 2, 0),
    (Command::VlanDel, 2, 1),
    (Command::AnnounceAck, 3, 0),
    (Command::MqPairsSet, 4, 0),
    (Command::MqRssConfig, 4, 1),
    (Command::MqHashConfig, 4, 2),
    (Command::GuestOffloadsSet, 5, 0),
    (Command::CoalesceTxSet, 6, 0),
    (Command::CoalesceRxSet, 6, 1),
    (Command::CoalesceQueueSet, 6, 2),
    (Command::CoalesceQueueGet, 6, 3),
    (Command::HashTunnelSet, 7, 0),
    (Command::StatsQuery, 8, 0),
    (Command::StatsGet, 8, 1),
];

impl Command {
    /// The command that a header names; `None` if there is no such command.
    #[must_use]
    pub fn from_header(header: CommandHeader) -> Option<Self> {
        NUMBERS
            .iter()
            .find(|(_, class, command)| (*class, *command) == (header.class, header.command))
            .map(|(known, _, _)| *known)
    }

    /// The header that names the command.
    #[must_use]
    pub fn header(self) -> CommandHeader {
        NUMBERS
            .iter()
            .find(|(known, _, _)| *known == self)
            .map(|(_, class, command)| CommandHeader { class: *class, command: *command })
            .unwrap_or_default()
    }
}

/// Fewest queue pairs that [`Command::MqPairsSet`] sets.
pub const MQ_PAIRS_MIN: u16 = 1;
/// Most queue pairs that [`Command::MqPairsSet`] sets.
pub const MQ_PAIRS_MAX: u16 = 0x8000;

le_struct! {
    /// What [`Command::MqRssConfig`] starts with. There follow `indirection_table_mask + 1` entries
    /// of the kind of `unclassified_queue`, then an [`RssTail`] and the key.
    #[derive(Default)]
    pub struct RssHead {
        /// [`super::HashTypes`] to compute.
        pub hash_types: u32,
        /// Entries of the indirection table, a power of two, less one.
        pub indirection_table_mask: u16,
        /// Receive queue of packets without a hash, as half its queue index.
        pub unclassified_queue: u16,
    }
}

le_struct! {
    /// What follows the indirection table; the key follows it.
    #[derive(Default)]
    pub struct RssTail {
        /// Number of transmit queues.
        pub max_tx_vq: u16,
        /// Bytes of the key.
        pub hash_key_length: u8,
    }
}

le_struct! {
    /// What [`Command::MqHashConfig`] starts with; the key follows it.
    #[derive(Default)]
    pub struct HashConfigHead {
        /// [`super::HashTypes`] to report.
        pub hash_types: u32,
        /// Zero.
        pub reserved: [u16; 4],
        /// Bytes of the key.
        pub hash_key_length: u8,
    }
}

le_struct! {
    /// How long calls are held back.
    #[derive(Default)]
    pub struct Coalesce {
        /// Packets after which the device calls.
        pub max_packets: u32,
        /// Microseconds after which the device calls.
        pub max_usecs: u32,
    }
}

le_struct! {
    /// How long calls of one queue are held back.
    #[derive(Default)]
    pub struct CoalesceQueue {
        /// Index of the queue.
        pub vq_index: u16,
        /// Zero.
        pub reserved: u16,
        /// How long.
        pub coalesce: Coalesce,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use virtio_bindings::virtio_net as linux;

    #[test]
    fn commands_agree_with_linux() {
        let linux = [
            (Command::RxNoBroadcast, linux::VIRTIO_NET_CTRL_RX, linux::VIRTIO_NET_CTRL_RX_NOBCAST),
            (Command::MacAddrSet, linux::VIRTIO_NET_CTRL_MAC, linux::VIRTIO_NET_CTRL_MAC_ADDR_SET),
            (Command::VlanDel, linux::VIRTIO_NET_CTRL_VLAN, linux::VIRTIO_NET_CTRL_VLAN_DEL),
            (
                Command::AnnounceAck,
                linux::VIRTIO_NET_CTRL_ANNOUNCE,
                linux::VIRTIO_NET_CTRL_ANNOUNCE_ACK,
            ),
            (
                Command::MqHashConfig,
                linux::VIRTIO_NET_CTRL_MQ,
                linux::VIRTIO_NET_CTRL_MQ_HASH_CONFIG,
            ),
            (
                Command::GuestOffloadsSet,
                linux::VIRTIO_NET_CTRL_GUEST_OFFLOADS,
                linux::VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET,
            ),
            (
                Command::CoalesceQueueGet,
                linux::VIRTIO_NET_CTRL_NOTF_COAL,
                linux::VIRTIO_NET_CTRL_NOTF_COAL_VQ_GET,
            ),
            (Command::StatsGet, linux::VIRTIO_NET_CTRL_STATS, linux::VIRTIO_NET_CTRL_STATS_GET),
        ];
        for (ours, class, command) in linux {
            let header = ours.header();
            assert_eq!((u32::from(header.class), u32::from(header.command)), (class, command));
        }
        assert_eq!(u32::from(MQ_PAIRS_MAX), linux::VIRTIO_NET_CTRL_MQ_VQ_PAIRS_MAX);
    }

    #[test]
    fn layouts_agree_with_linux() {
        assert_eq!(CommandHeader::SIZE, size_of::<linux::virtio_net_ctrl_hdr>());
        assert_eq!(Coalesce::SIZE, size_of::<linux::virtio_net_ctrl_coal>());
        assert_eq!(CoalesceQueue::SIZE, size_of::<linux::virtio_net_ctrl_coal_vq>());
        assert_eq!(RssHead::SIZE, 8);
        assert_eq!(RssTail::SIZE, 3);
        assert_eq!(HashConfigHead::SIZE, 13);
    }

    #[test]
    fn commands_round_trip_through_their_headers() {
        for (command, ..) in NUMBERS {
            assert_eq!(Command::from_header(command.header()), Some(command));
        }
        assert_eq!(Command::from_header(CommandHeader { class: 0, command: 9 }), None);
    }
}
