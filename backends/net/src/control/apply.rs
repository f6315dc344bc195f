//! What commands do to the state of the driver.

use virtio_spec::net::control::Coalesce;
use virtio_spec::net::{
    CTRL_GUEST_OFFLOADS, CTRL_MAC_ADDR, CTRL_RX, CTRL_RX_EXTRA, CTRL_VLAN, GUEST_ANNOUNCE,
    HASH_REPORT, MAC, MQ, NOTF_COAL, RSS, VQ_NOTF_COAL,
};

use super::{Command, Refused};
use crate::driver_state::{DriverState, Given, OFFLOAD_BITS};
use crate::filter::Modes;

/// What follows from a command beside its acknowledgement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effect {
    /// What the device answers.
    pub result: Option<Coalesce>,
    /// Whether the config space is another now.
    pub config_changed: bool,
    /// Whether what the uplink may leave to the guest has changed.
    pub offloads_changed: bool,
    /// Whether other queues are used than before.
    pub pairs_changed: bool,
    /// Whether packets are spread over them in another way.
    pub steering_changed: bool,
}

/// The modes that need [`CTRL_RX_EXTRA`].
const EXTRA: Modes = Modes::ALL_UNICAST
    .union(Modes::NO_MULTICAST)
    .union(Modes::NO_UNICAST)
    .union(Modes::NO_BROADCAST);

impl Command {
    /// The feature bit without which there is no such command.
    fn feature(&self) -> u32 {
        match self {
            Command::Mode(mode, _) if EXTRA.contains(*mode) => CTRL_RX_EXTRA,
            Command::Mode(..) | Command::MacTable(_) => CTRL_RX,
            Command::MacAddress(_) => CTRL_MAC_ADDR,
            Command::Vlan(..) => CTRL_VLAN,
            Command::AnnounceAck => GUEST_ANNOUNCE,
            Command::Pairs(_) => MQ,
            Command::Hash(_) => HASH_REPORT,
            Command::Rss(_) => RSS,
            Command::GuestOffloads(_) => CTRL_GUEST_OFFLOADS,
            Command::CoalesceAll { .. } => NOTF_COAL,
            Command::CoalesceQueue { .. } | Command::CoalesceGet { .. } => VQ_NOTF_COAL,
        }
    }

    /// Does what the command says.
    ///
    /// # Errors
    /// When it cannot be done; nothing has changed then.
    pub fn apply(self, state: &mut DriverState, given: &Given) -> Result<Effect, Refused> {
        if !state.features.has(self.feature()) {
            return Err(Refused::NotNegotiated);
        }
        let mut effect = Effect::default();
        match self {
            Command::Mode(mode, on) => state.modes.set(mode, on),
            Command::MacTable(table) => state.table = table,
            Command::MacAddress(mac) => {
                // A group's address is nobody's own.
                if mac[0] & 1 == 1 {
                    return Err(Refused::Value);
                }
                effect.config_changed = state.features.has(MAC) && state.mac != Some(mac);
                state.mac = Some(mac);
            }
            Command::Vlan(vlan, there) => {
                if !state.vlans.set(vlan, there) {
                    return Err(Refused::Value);
                }
            }
            Command::AnnounceAck => effect.config_changed = std::mem::take(&mut state.announce),
            Command::Pairs(pairs) => {
                if pairs == 0 || pairs > given.max_pairs {
                    return Err(Refused::Value);
                }
                effect.pairs_changed = set_pairs(state, pairs);
                // The queues are chosen as if nothing had been said (5.1.6.5.6).
                effect.steering_changed = state.rss.take().is_some();
            }
            Command::Hash(hash) => state.hash = Some(hash),
            Command::Rss(rss) => {
                if !rss.is_possible(given.max_pairs) {
                    return Err(Refused::Value);
                }
                effect.pairs_changed = set_pairs(state, rss.pairs());
                effect.steering_changed = true;
                state.hash = Some(rss.hash.clone());
                state.rss = Some(rss);
            }
            Command::GuestOffloads(bits) => {
                effect.offloads_changed = set_offloads(state, bits)?;
            }
            Command::CoalesceAll { receive, coalesce } => {
                state.coalescing.set_all(receive, coalesce);
            }
            Command::CoalesceQueue { queue, coalesce } => {
                check_queue(state, given, queue)?;
                state.coalescing.queues.insert(queue, coalesce);
            }
            Command::CoalesceGet { queue } => {
                check_queue(state, given, queue)?;
                effect.result = Some(state.coalescing.of(queue));
            }
        }
        state.commanded = true;
        Ok(effect)
    }
}

/// Whether the number of pairs has changed.
fn set_pairs(state: &mut DriverState, pairs: u16) -> bool {
    state.coalescing.forget_from(pairs.saturating_mul(2));
    std::mem::replace(&mut state.pairs, pairs) != pairs
}

/// Whether the offloads have changed.
fn set_offloads(state: &mut DriverState, bits: u64) -> Result<bool, Refused> {
    let negotiated = OFFLOAD_BITS.into_iter().filter(|(bit, _)| state.features.has(*bit));
    let (mut offloads, mut left) = (Default::default(), bits);
    for (bit, offload) in negotiated {
        if bits & 1 << bit != 0 {
            offloads |= offload;
            left &= !(1 << bit);
        }
    }
    if left != 0 {
        return Err(Refused::NotNegotiated);
    }
    Ok(std::mem::replace(&mut state.offloads, offloads) != offloads)
}

/// Only queues that transmit or receive, and that are enabled, have calls to hold back.
fn check_queue(state: &DriverState, given: &Given, queue: u16) -> Result<(), Refused> {
    if queue / 2 < state.pairs_in_use(given) { Ok(()) } else { Err(Refused::Value) }
}

#[cfg(test)]
#[path = "apply_test.rs"]
mod tests;
