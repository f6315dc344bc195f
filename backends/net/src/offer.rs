//! Which features a card offers, and its config space (virtio 1.4, 5.1.3 and 5.1.4).

use virtio_spec::features::Offered;
use virtio_spec::net::{
    CSUM, Config, ConfigStatus, GUEST_CSUM, GUEST_ECN, GUEST_TSO4, GUEST_TSO6, GUEST_UFO,
    GUEST_USO4, GUEST_USO6, HOST_ECN, HOST_TSO4, HOST_TSO6, HOST_UFO, HOST_USO, MAC, MQ, MRG_RXBUF,
    MTU, SPEED_DUPLEX, STATUS,
};

use crate::device::Settings;
use crate::uplink::tap::Offloads;

/// A link that is neither known to be slow nor fast (`speed` and `duplex`).
const UNKNOWN_SPEED: u32 = u32::MAX;
const FULL_DUPLEX: u8 = 1;

/// The card's own feature bits: each is there only if the uplink can honour it.
pub fn features(settings: &Settings, possible: Offloads) -> u64 {
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
    ];
    let there = sometimes.into_iter().filter(|(_, there)| *there);
    there.fold(Offered::of(&always), |offered, (bit, _)| offered.with(bit)).bits()
}

/// The config space.
pub fn config(settings: &Settings, link_up: bool) -> Config {
    Config {
        mac: settings.mac.unwrap_or_default(),
        status: if link_up { ConfigStatus::LINK_UP.bits() } else { 0 },
        max_virtqueue_pairs: settings.pairs,
        mtu: settings.mtu.unwrap_or_default(),
        speed: UNKNOWN_SPEED,
        duplex: FULL_DUPLEX,
        ..Config::default()
    }
}
