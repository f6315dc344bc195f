//! The header in front of every packet (virtio 1.4, 5.1.6).

use crate::layout::le_struct;

bitflags::bitflags! {
    /// Flags of a [`Header`].
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
    pub struct HeaderFlags: u8 {
        /// The checksum at `csum_start + csum_offset` is still to be completed.
        const NEEDS_CSUM = 1;
        /// The checksum was checked.
        const DATA_VALID = 2;
        /// The checksum fields count merged segments and acknowledgements.
        const RSC_INFO = 4;
        /// The outer header's checksum counts too (tunnels).
        const UDP_TUNNEL_CSUM = 8;
        // What the other side sets beyond these is kept, to be looked at.
        const _ = !0;
    }
}

/// How a packet is still to be cut, without the ECN bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum GsoType {
    /// Not at all.
    None = 0,
    /// Into TCP segments over IPv4.
    TcpV4 = 1,
    /// Into fragments of a UDP packet.
    Udp = 3,
    /// Into TCP segments over IPv6.
    TcpV6 = 4,
    /// Into UDP packets.
    UdpL4 = 5,
}

impl GsoType {
    /// Bit beside the type: a TCP segment has the congestion-window-reduced flag.
    pub const ECN: u8 = 0x80;
    /// Bit beside the type: in a UDP tunnel over IPv4.
    pub const UDP_TUNNEL_IPV4: u8 = 0x20;
    /// Bit beside the type: in a UDP tunnel over IPv6.
    pub const UDP_TUNNEL_IPV6: u8 = 0x40;

    /// The type in `gso_type`, whatever its ECN bit is; `None` if there is no such type.
    #[must_use]
    pub const fn from_u8(gso_type: u8) -> Option<Self> {
        Some(match gso_type & !Self::ECN {
            0 => Self::None,
            1 => Self::TcpV4,
            3 => Self::Udp,
            4 => Self::TcpV6,
            5 => Self::UdpL4,
            _ => return None,
        })
    }
}

le_struct! {
    /// The header. Before version 1 without `MRG_RXBUF`, `num_buffers` was absent.
    #[derive(Default)]
    pub struct Header {
        /// [`HeaderFlags`].
        pub flags: u8,
        /// A [`GsoType`]'s number and the ECN bit.
        pub gso_type: u8,
        /// Bytes of the headers that every piece repeats; a hint.
        pub hdr_len: u16,
        /// Bytes of payload in each piece.
        pub gso_size: u16,
        /// First byte that the checksum covers.
        pub csum_start: u16,
        /// Where from there the checksum lies.
        pub csum_offset: u16,
        /// Buffers that a received packet takes (`MRG_RXBUF`); 1 without that feature.
        pub num_buffers: u16,
    }
}

le_struct! {
    /// What follows the [`Header`] with the feature `HASH_REPORT`.
    #[derive(Default)]
    pub struct HeaderHash {
        /// The hash.
        pub hash_value: u32,
        /// A [`HashReport`]'s number.
        pub hash_report: u16,
        /// Zero.
        pub padding_reserved: u16,
    }
}

/// What a reported hash was computed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum HashReport {
    /// Nothing; there is no hash.
    None = 0,
    /// IPv4 addresses.
    Ipv4 = 1,
    /// IPv4 addresses and TCP ports.
    TcpV4 = 2,
    /// IPv4 addresses and UDP ports.
    UdpV4 = 3,
    /// IPv6 addresses.
    Ipv6 = 4,
    /// IPv6 addresses and TCP ports.
    TcpV6 = 5,
    /// IPv6 addresses and UDP ports.
    UdpV6 = 6,
    /// IPv6 addresses from extension headers.
    Ipv6Ex = 7,
    /// The same and TCP ports.
    TcpV6Ex = 8,
    /// The same and UDP ports.
    UdpV6Ex = 9,
}

bitflags::bitflags! {
    /// Kinds of packets that are hashed (5.1.6.4.3).
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
    pub struct HashTypes: u32 {
        /// IPv4 addresses.
        const IPV4 = 1 << 0;
        /// IPv4 addresses and TCP ports.
        const TCPV4 = 1 << 1;
        /// IPv4 addresses and UDP ports.
        const UDPV4 = 1 << 2;
        /// IPv6 addresses.
        const IPV6 = 1 << 3;
        /// IPv6 addresses and TCP ports.
        const TCPV6 = 1 << 4;
        /// IPv6 addresses and UDP ports.
        const UDPV6 = 1 << 5;
        /// IPv6 addresses from extension headers.
        const IP_EX = 1 << 6;
        /// The same and TCP ports.
        const TCP_EX = 1 << 7;
        /// The same and UDP ports.
        const UDP_EX = 1 << 8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use virtio_bindings::virtio_net as linux;

    #[test]
    fn layout_agrees_with_linux() {
        assert_eq!(Header::SIZE, size_of::<linux::virtio_net_hdr_v1>());
        assert_eq!(Header::SIZE + HeaderHash::SIZE, size_of::<linux::virtio_net_hdr_v1_hash>());
    }

    #[test]
    fn numbers_agree_with_linux() {
        let flags = |f: HeaderFlags| u32::from(f.bits());
        assert_eq!(flags(HeaderFlags::NEEDS_CSUM), linux::VIRTIO_NET_HDR_F_NEEDS_CSUM);
        assert_eq!(flags(HeaderFlags::DATA_VALID), linux::VIRTIO_NET_HDR_F_DATA_VALID);
        assert_eq!(flags(HeaderFlags::RSC_INFO), linux::VIRTIO_NET_HDR_F_RSC_INFO);
        assert_eq!(GsoType::TcpV4 as u32, linux::VIRTIO_NET_HDR_GSO_TCPV4);
        assert_eq!(GsoType::Udp as u32, linux::VIRTIO_NET_HDR_GSO_UDP);
        assert_eq!(GsoType::TcpV6 as u32, linux::VIRTIO_NET_HDR_GSO_TCPV6);
        assert_eq!(GsoType::UdpL4 as u32, linux::VIRTIO_NET_HDR_GSO_UDP_L4);
        assert_eq!(u32::from(GsoType::ECN), linux::VIRTIO_NET_HDR_GSO_ECN);
        assert_eq!(HashReport::UdpV6Ex as u32, linux::VIRTIO_NET_HASH_REPORT_UDPv6_EX);
        assert_eq!(HashTypes::UDP_EX.bits(), linux::VIRTIO_NET_RSS_HASH_TYPE_UDP_EX);
    }

    #[test]
    fn gso_types_are_known_by_number() {
        for known in [GsoType::None, GsoType::TcpV4, GsoType::Udp, GsoType::TcpV6, GsoType::UdpL4] {
            assert_eq!(GsoType::from_u8(known as u8), Some(known));
            assert_eq!(GsoType::from_u8(known as u8 | GsoType::ECN), Some(known));
        }
        assert_eq!(GsoType::from_u8(2), None);
    }

    proptest! {
        #[test]
        fn headers_round_trip(bytes: [u8; Header::SIZE]) {
            prop_assert_eq!(Header::from_bytes(&bytes).to_bytes(), bytes);
        }
    }
}
