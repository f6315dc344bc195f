//! Which received frames a driver wants: by destination address, by kind, by VLAN (virtio 1.4,
//! 5.1.6.5.1 to 5.1.6.5.3).
//!
//! Nothing is filtered before the driver's first command: a front-end that serves the control queue
//! itself filters by itself, or not at all.

use virtio_spec::net::MAC_LEN;

/// An Ethernet address.
pub type Mac = [u8; MAC_LEN];

/// How many bytes of a frame decide: addresses, and the VLAN tag if there is one.
pub const DECISIVE: usize = 16;

const BROADCAST: Mac = [0xff; MAC_LEN];
/// The EtherType of a VLAN tag (IEEE 802.1Q).
const TAG: [u8; 2] = [0x81, 0x00];
/// Bits of a tag that name the VLAN.
const VLAN_BITS: u16 = 0x0fff;

bitflags::bitflags! {
    /// The modes of reception (5.1.6.5.1).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Modes: u8 {
        /// Everything, whatever else is said.
        const PROMISCUOUS = 1;
        /// Every multicast frame.
        const ALL_MULTICAST = 2;
        /// Every unicast frame.
        const ALL_UNICAST = 4;
        /// No multicast frame, except broadcasts.
        const NO_MULTICAST = 8;
        /// No unicast frame.
        const NO_UNICAST = 0x10;
        /// No broadcast.
        const NO_BROADCAST = 0x20;
    }
}

/// The table of addresses: sorted, and bounded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MacTable {
    addresses: Vec<Mac>,
    /// There were more unicast addresses than are kept: all of them pass.
    pub(crate) any_unicast: bool,
    /// The same for multicast addresses.
    pub(crate) any_multicast: bool,
}

impl MacTable {
    /// How many addresses of either kind are kept.
    pub const MOST: usize = 256;

    /// A table of these addresses.
    pub fn new(unicast: &[Mac], multicast: &[Mac]) -> Self {
        let fits = |addresses: &[Mac]| addresses.len() <= Self::MOST;
        let kept = [unicast, multicast].into_iter().filter(|addresses| fits(addresses));
        let mut addresses = kept.flatten().copied().collect::<Vec<_>>();
        addresses.sort_unstable();
        addresses.dedup();
        MacTable { addresses, any_unicast: !fits(unicast), any_multicast: !fits(multicast) }
    }

    /// The addresses that are kept, sorted.
    pub fn addresses(&self) -> &[Mac] {
        &self.addresses
    }

    fn has(&self, address: &Mac) -> bool {
        self.addresses.binary_search(address).is_ok()
    }
}

/// The set of VLANs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vlans([u64; Self::WORDS]);

impl Default for Vlans {
    fn default() -> Self {
        Vlans([0; Self::WORDS])
    }
}

impl Vlans {
    pub(crate) const WORDS: usize = 64;

    /// Adds a VLAN, or removes it. False: there is no such VLAN.
    #[must_use]
    pub fn set(&mut self, vlan: u16, there: bool) -> bool {
        let Some(word) = self.0.get_mut(usize::from(vlan / 64)) else { return false };
        let bit = 1 << (vlan % 64);
        *word = if there { *word | bit } else { *word & !bit };
        true
    }

    /// Whether the VLAN is in the set.
    pub fn has(&self, vlan: u16) -> bool {
        self.0.get(usize::from(vlan / 64)).is_some_and(|word| word & 1 << (vlan % 64) != 0)
    }

    pub(crate) fn words(&self) -> &[u64; Self::WORDS] {
        &self.0
    }

    pub(crate) fn from_words(words: [u64; Self::WORDS]) -> Self {
        Vlans(words)
    }
}

/// A filter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// The modes.
    pub modes: Modes,
    /// The card's own address. None: nobody has said which.
    pub mac: Option<Mac>,
    /// Further addresses.
    pub table: MacTable,
    /// The VLANs whose frames pass. None: all.
    pub vlans: Option<Vlans>,
}

impl Filter {
    /// Whether a frame that starts with these bytes ([`DECISIVE`] of them, or the whole frame) is
    /// for the driver.
    #[inline]
    pub fn accepts(&self, start: &[u8]) -> bool {
        if self.modes.contains(Modes::PROMISCUOUS) {
            return true;
        }
        let Some((destination, _)) = start.split_first_chunk::<MAC_LEN>() else { return false };
        self.accepts_destination(destination) && self.accepts_vlan(start)
    }

    fn accepts_destination(&self, destination: &Mac) -> bool {
        let on = |mode| self.modes.contains(mode);
        if *destination == BROADCAST {
            return !on(Modes::NO_BROADCAST);
        }
        if destination[0] & 1 == 1 {
            let wanted = on(Modes::ALL_MULTICAST) || self.table.any_multicast;
            return !on(Modes::NO_MULTICAST) && (wanted || self.table.has(destination));
        }
        let own = self.mac.is_none_or(|mac| mac == *destination);
        let wanted = own || on(Modes::ALL_UNICAST) || self.table.any_unicast;
        !on(Modes::NO_UNICAST) && (wanted || self.table.has(destination))
    }

    /// VLAN 0 is none: such a tag gives a priority alone (IEEE 802.1Q).
    fn accepts_vlan(&self, start: &[u8]) -> bool {
        let (Some(vlans), Some([t0, t1, v0, v1])) = (&self.vlans, start.get(12..DECISIVE)) else {
            return true;
        };
        let vlan = u16::from_be_bytes([*v0, *v1]) & VLAN_BITS;
        [*t0, *t1] != TAG || vlan == 0 || vlans.has(vlan)
    }
}

#[cfg(test)]
#[path = "filter_test.rs"]
mod tests;
