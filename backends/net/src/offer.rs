//! Which features a card offers, and its config space (virtio 1.4, 5.1.3 and 5.1.4).

use virtio_spec::features::Offered;
use virtio_spec::net::{
    CSUM, CTRL_GUEST_OFFLOADS, CTRL_MAC_ADDR, CTRL_RX, CTRL_RX_EXTRA, CTRL_VLAN, CTRL_VQ, Config,
    ConfigStatus, GUEST_ANNOUNCE, GUEST_CSUM, GUEST_ECN, GUEST_TSO4, GUEST_TSO6, GUEST_UFO,
    GUEST_USO4, GUEST_USO6, HASH_REPORT, HOST_ECN, HOST_TSO4, HOST_TSO6, HOST_UFO, HOST_USO, MAC,
    MQ, MRG_RXBUF, MTU, NOTF_COAL, RSS, SPEED_DUPLEX, STATUS, VQ_NOTF_COAL,
};

use crate::device::Settings;
use crate::driver_state::{DriverState, Given};
use crate::hash;
use crate::rss;
use crate::uplink::Uplink;
use crate::uplink::tap::Offloads;

/// A link of which neither is known (`speed` and `duplex`).
const UNKNOWN_SPEED: u32 = u32::MAX;
const UNKNOWN_DUPLEX: u8 = u8::MAX;

/// What goes with a control queue.
const BY_COMMAND: [u32; 9] = [
    CTRL_VQ,
    CTRL_RX,
    CTRL_RX_EXTRA,
    CTRL_VLAN,
    CTRL_MAC_ADDR,
    GUEST_ANNOUNCE,
    HASH_REPORT,
    NOTF_COAL,
    VQ_NOTF_COAL,
];

/// The card's own feature bits: each is there only if the uplink can honour it.
///
/// RSS is honoured where the daemon itself chooses the queue: at a switch. Packets of a tap are read
/// straight into the buffers of the queue that the kernel has chosen, which steers by flow (5.1.6.5.6).
/// The kernel would choose by the driver's table if it were given a program that does
/// (`TUNSETSTEERINGEBPF`); to load one takes a right over the whole machine (`CAP_BPF`) for as long as
/// the driver may set tables, and a confined daemon keeps no such right. So it is not offered there.
pub fn features(settings: &Settings, uplink: &Uplink) -> u64 {
    let possible = uplink.possible();
    let always = [MRG_RXBUF, STATUS, SPEED_DUPLEX];
    let has = |offload| settings.offloads && possible.contains(offload);
    let sometimes = [
        (MAC, settings.mac.is_some()),
        (MTU, settings.mtu.is_some()),
        (MQ, settings.pairs > 1),
        (CSUM, has(Offloads::CSUM)),
        (HOST_TSO4, has(Offloads::CSUM)),
        (HOST_TSO6, has(Offloads::CSUM)),
        (HOST_ECN, has(Offloads::TSO_ECN)),
        (HOST_UFO, has(Offloads::UFO)),
        (HOST_USO, has(Offloads::USO4)),
        (GUEST_CSUM, has(Offloads::CSUM)),
        (GUEST_TSO4, has(Offloads::TSO4)),
        (GUEST_TSO6, has(Offloads::TSO6)),
        (GUEST_ECN, has(Offloads::TSO_ECN)),
        (GUEST_UFO, has(Offloads::UFO)),
        (GUEST_USO4, has(Offloads::USO4)),
        (GUEST_USO6, has(Offloads::USO6)),
        (RSS, settings.ctrl_vq && settings.pairs > 1 && uplink.steers()),
        (CTRL_GUEST_OFFLOADS, settings.ctrl_vq && has(Offloads::CSUM)),
    ];
    let sometimes = sometimes.into_iter().chain(BY_COMMAND.map(|bit| (bit, settings.ctrl_vq)));
    let there = sometimes.filter(|(_, there)| *there);
    there.fold(Offered::of(&always), |offered, (bit, _)| offered.with(bit)).bits()
}

/// The config space.
pub fn config(given: &Given, state: &DriverState) -> Config {
    let mut status = ConfigStatus::empty();
    status.set(ConfigStatus::LINK_UP, given.link_up);
    status.set(ConfigStatus::ANNOUNCE, state.announce);
    let chosen = state.mac.filter(|_| state.features.has(MAC));
    Config {
        mac: chosen.or(given.mac).unwrap_or_default(),
        status: status.bits(),
        max_virtqueue_pairs: given.max_pairs,
        mtu: given.mtu.unwrap_or_default(),
        speed: UNKNOWN_SPEED,
        duplex: UNKNOWN_DUPLEX,
        rss_max_key_size: u8::try_from(hash::KEY_MAX).unwrap_or(u8::MAX),
        rss_max_indirection_table_length: rss::TABLE_MAX,
        supported_hash_types: hash::SUPPORTED.bits(),
        ..Config::default()
    }
}
