//! The network card (virtio 1.4, 5.1): features, configuration space, packet headers, control
//! commands.

mod config;
pub mod control;
pub mod feature;
mod header;

pub use config::{Config, ConfigStatus, MAC_LEN};
pub use feature::{
    CSUM, CTRL_GUEST_OFFLOADS, CTRL_MAC_ADDR, CTRL_RX, CTRL_RX_EXTRA, CTRL_VLAN, CTRL_VQ,
    GUEST_ANNOUNCE, GUEST_CSUM, GUEST_ECN, GUEST_TSO4, GUEST_TSO6, GUEST_UFO, GUEST_USO4,
    GUEST_USO6, HASH_REPORT, HOST_ECN, HOST_TSO4, HOST_TSO6, HOST_UFO, HOST_USO, MAC, MQ,
    MRG_RXBUF, MTU, NOTF_COAL, RSS, SPEED_DUPLEX, STATUS, VQ_NOTF_COAL,
};
pub use header::{GsoType, HashReport, HashTypes, Header, HeaderFlags, HeaderHash};

pub(crate) use feature::NAMES;
