//! Feature bits of the network card (virtio 1.4, 5.1.3).

/// The driver may leave checksums to the device.
pub const CSUM: u32 = 0;
/// The device may leave checksums to the driver.
pub const GUEST_CSUM: u32 = 1;
/// Offloads towards the driver can be switched.
pub const CTRL_GUEST_OFFLOADS: u32 = 2;
/// The configuration holds the MTU.
pub const MTU: u32 = 3;
/// The configuration holds the MAC address.
pub const MAC: u32 = 5;
/// Legacy: the device takes every kind of GSO packet.
pub const GSO: u32 = 6;
/// The driver takes TSO over IPv4.
pub const GUEST_TSO4: u32 = 7;
/// The driver takes TSO over IPv6.
pub const GUEST_TSO6: u32 = 8;
/// The driver takes TSO with ECN.
pub const GUEST_ECN: u32 = 9;
/// The driver takes fragmented UDP.
pub const GUEST_UFO: u32 = 10;
/// The device takes TSO over IPv4.
pub const HOST_TSO4: u32 = 11;
/// The device takes TSO over IPv6.
pub const HOST_TSO6: u32 = 12;
/// The device takes TSO with ECN.
pub const HOST_ECN: u32 = 13;
/// The device takes fragmented UDP.
pub const HOST_UFO: u32 = 14;
/// A received packet may lie in several buffers.
pub const MRG_RXBUF: u32 = 15;
/// The configuration holds the link's status.
pub const STATUS: u32 = 16;
/// There is a control queue.
pub const CTRL_VQ: u32 = 17;
/// Receive modes can be set.
pub const CTRL_RX: u32 = 18;
/// VLANs can be filtered.
pub const CTRL_VLAN: u32 = 19;
/// More receive modes can be set.
pub const CTRL_RX_EXTRA: u32 = 20;
/// The driver announces itself when it is asked to.
pub const GUEST_ANNOUNCE: u32 = 21;
/// There are several queue pairs.
pub const MQ: u32 = 22;
/// The MAC address can be set by a command.
pub const CTRL_MAC_ADDR: u32 = 23;
/// The device counts what it does.
pub const DEVICE_STATS: u32 = 50;
/// Packets in tunnels are hashed by their inner header.
pub const HASH_TUNNEL: u32 = 51;
/// Calls of one queue can be held back.
pub const VQ_NOTF_COAL: u32 = 52;
/// Calls can be held back.
pub const NOTF_COAL: u32 = 53;
/// The driver takes segmented UDP over IPv4.
pub const GUEST_USO4: u32 = 54;
/// The driver takes segmented UDP over IPv6.
pub const GUEST_USO6: u32 = 55;
/// The device takes segmented UDP.
pub const HOST_USO: u32 = 56;
/// A packet's header holds its hash.
pub const HASH_REPORT: u32 = 57;
/// The driver gives exact header lengths.
pub const GUEST_HDRLEN: u32 = 59;
/// Receive queues are chosen by hash.
pub const RSS: u32 = 60;
/// The device tells of merged acknowledgements.
pub const RSC_EXT: u32 = 61;
/// The card stands in for another with the same MAC address.
pub const STANDBY: u32 = 62;
/// The configuration holds speed and duplex.
pub const SPEED_DUPLEX: u32 = 63;

/// The bits' names.
pub(crate) const NAMES: &[(u32, &str)] = &[
    (CSUM, "CSUM"),
    (GUEST_CSUM, "GUEST_CSUM"),
    (CTRL_GUEST_OFFLOADS, "CTRL_GUEST_OFFLOADS"),
    (MTU, "MTU"),
    (MAC, "MAC"),
    (GSO, "GSO"),
    (GUEST_TSO4, "GUEST_TSO4"),
    (GUEST_TSO6, "GUEST_TSO6"),
    (GUEST_ECN, "GUEST_ECN"),
    (GUEST_UFO, "GUEST_UFO"),
    (HOST_TSO4, "HOST_TSO4"),
    (HOST_TSO6, "HOST_TSO6"),
    (HOST_ECN, "HOST_ECN"),
    (HOST_UFO, "HOST_UFO"),
    (MRG_RXBUF, "MRG_RXBUF"),
    (STATUS, "STATUS"),
    (CTRL_VQ, "CTRL_VQ"),
    (CTRL_RX, "CTRL_RX"),
    (CTRL_VLAN, "CTRL_VLAN"),
    (CTRL_RX_EXTRA, "CTRL_RX_EXTRA"),
    (GUEST_ANNOUNCE, "GUEST_ANNOUNCE"),
    (MQ, "MQ"),
    (CTRL_MAC_ADDR, "CTRL_MAC_ADDR"),
    (DEVICE_STATS, "DEVICE_STATS"),
    (HASH_TUNNEL, "HASH_TUNNEL"),
    (VQ_NOTF_COAL, "VQ_NOTF_COAL"),
    (NOTF_COAL, "NOTF_COAL"),
    (GUEST_USO4, "GUEST_USO4"),
    (GUEST_USO6, "GUEST_USO6"),
    (HOST_USO, "HOST_USO"),
    (HASH_REPORT, "HASH_REPORT"),
    (GUEST_HDRLEN, "GUEST_HDRLEN"),
    (RSS, "RSS"),
    (RSC_EXT, "RSC_EXT"),
    (STANDBY, "STANDBY"),
    (SPEED_DUPLEX, "SPEED_DUPLEX"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use virtio_bindings::virtio_net as linux;

    #[test]
    fn numbers_agree_with_linux() {
        let pairs = [
            (CSUM, linux::VIRTIO_NET_F_CSUM),
            (GUEST_CSUM, linux::VIRTIO_NET_F_GUEST_CSUM),
            (CTRL_GUEST_OFFLOADS, linux::VIRTIO_NET_F_CTRL_GUEST_OFFLOADS),
            (MTU, linux::VIRTIO_NET_F_MTU),
            (MAC, linux::VIRTIO_NET_F_MAC),
            (GSO, linux::VIRTIO_NET_F_GSO),
            (GUEST_TSO4, linux::VIRTIO_NET_F_GUEST_TSO4),
            (GUEST_TSO6, linux::VIRTIO_NET_F_GUEST_TSO6),
            (GUEST_ECN, linux::VIRTIO_NET_F_GUEST_ECN),
            (GUEST_UFO, linux::VIRTIO_NET_F_GUEST_UFO),
            (HOST_TSO4, linux::VIRTIO_NET_F_HOST_TSO4),
            (HOST_TSO6, linux::VIRTIO_NET_F_HOST_TSO6),
            (HOST_ECN, linux::VIRTIO_NET_F_HOST_ECN),
            (HOST_UFO, linux::VIRTIO_NET_F_HOST_UFO),
            (MRG_RXBUF, linux::VIRTIO_NET_F_MRG_RXBUF),
            (STATUS, linux::VIRTIO_NET_F_STATUS),
            (CTRL_VQ, linux::VIRTIO_NET_F_CTRL_VQ),
            (CTRL_RX, linux::VIRTIO_NET_F_CTRL_RX),
            (CTRL_VLAN, linux::VIRTIO_NET_F_CTRL_VLAN),
            (CTRL_RX_EXTRA, linux::VIRTIO_NET_F_CTRL_RX_EXTRA),
            (GUEST_ANNOUNCE, linux::VIRTIO_NET_F_GUEST_ANNOUNCE),
            (MQ, linux::VIRTIO_NET_F_MQ),
            (CTRL_MAC_ADDR, linux::VIRTIO_NET_F_CTRL_MAC_ADDR),
            (DEVICE_STATS, linux::VIRTIO_NET_F_DEVICE_STATS),
            (VQ_NOTF_COAL, linux::VIRTIO_NET_F_VQ_NOTF_COAL),
            (NOTF_COAL, linux::VIRTIO_NET_F_NOTF_COAL),
            (GUEST_USO4, linux::VIRTIO_NET_F_GUEST_USO4),
            (GUEST_USO6, linux::VIRTIO_NET_F_GUEST_USO6),
            (HOST_USO, linux::VIRTIO_NET_F_HOST_USO),
            (HASH_REPORT, linux::VIRTIO_NET_F_HASH_REPORT),
            (GUEST_HDRLEN, linux::VIRTIO_NET_F_GUEST_HDRLEN),
            (RSS, linux::VIRTIO_NET_F_RSS),
            (RSC_EXT, linux::VIRTIO_NET_F_RSC_EXT),
            (STANDBY, linux::VIRTIO_NET_F_STANDBY),
            (SPEED_DUPLEX, linux::VIRTIO_NET_F_SPEED_DUPLEX),
        ];
        for (ours, theirs) in pairs {
            assert_eq!(ours, theirs);
        }
    }
}
