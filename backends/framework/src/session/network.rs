//! Messages that only network devices have.

use super::pending::Then;
use crate::device::Device;

/// NET_SET_MTU.
pub(super) fn set_mtu<D: Device>(device: &mut D, mtu: u64) -> Then {
    device.set_mtu(mtu).map_or_else(Then::Refuse, |()| Then::Ack)
}

/// SEND_RARP.
pub(super) fn send_rarp<D: Device>(device: &mut D, mac: [u8; 6]) -> Then {
    device.send_rarp(mac).map_or_else(Then::Refuse, |()| Then::Ack)
}
