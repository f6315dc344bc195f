//! The driver's state as bytes: for a daemon that comes after this one, and for a migration's
//! destination.
//!
//! A version, then each field, little-endian, lists with a count before them. Whoever reads believes
//! nothing: what does not hold together is refused as a whole.

use std::collections::BTreeMap;

use virtio_spec::features::Negotiated;
use virtio_spec::net::control::Coalesce;
use virtio_spec::net::{HashTypes, MAC_LEN};

use crate::coalesce::Coalescing;
use crate::driver_state::DriverState;
use crate::error::{Error, Result};
use crate::filter::{Mac, MacTable, Modes, Vlans};
use crate::hash::{HashSettings, KEY_MAX, SUPPORTED};
use crate::rss::{RssSettings, TABLE_MAX};
use crate::uplink::tap::Offloads;

/// The version that is written; there is no other yet.
const VERSION: u8 = 1;

const COMMANDED: u8 = 1;
const ANNOUNCE: u8 = 2;
const HAS_MAC: u8 = 4;
const HAS_HASH: u8 = 8;
const ANY_UNICAST: u8 = 0x10;
const ANY_MULTICAST: u8 = 0x20;
const HAS_RSS: u8 = 0x40;

impl DriverState {
    /// The state as bytes: a few hundred, and a few thousand at most.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        let flags = [
            (COMMANDED, self.commanded),
            (ANNOUNCE, self.announce),
            (HAS_MAC, self.mac.is_some()),
            (HAS_HASH, self.hash.is_some()),
            (HAS_RSS, self.rss.is_some()),
            (ANY_UNICAST, self.table.any_unicast),
            (ANY_MULTICAST, self.table.any_multicast),
        ];
        bytes.push(flags.iter().filter(|(_, on)| *on).map(|(flag, _)| flag).sum());
        bytes.extend(self.features.bits().to_le_bytes());
        bytes.extend(self.offloads.bits().to_le_bytes());
        bytes.push(self.modes.bits());
        bytes.extend(self.pairs.to_le_bytes());
        bytes.extend(self.mac.iter().flatten());
        put_list(&mut bytes, self.table.addresses());
        bytes.extend(self.vlans.words().iter().flat_map(|word| word.to_le_bytes()));
        self.hash.iter().for_each(|hash| put_hash(&mut bytes, hash));
        bytes.extend(self.coalescing.receive.to_bytes());
        bytes.extend(self.coalescing.transmit.to_bytes());
        let queues = self.coalescing.queues.iter();
        let queues = queues.map(|(queue, coalesce)| {
            let mut entry = [0; 2 + Coalesce::SIZE];
            let (index, rest) = entry.split_at_mut(2);
            index.copy_from_slice(&queue.to_le_bytes());
            rest.copy_from_slice(&coalesce.to_bytes());
            entry
        });
        put_list(&mut bytes, &queues.collect::<Vec<_>>());
        if let Some(rss) = &self.rss {
            put_hash(&mut bytes, &rss.hash);
            let table = rss.table.iter().map(|pair| pair.to_le_bytes());
            put_list(&mut bytes, &table.collect::<Vec<_>>());
            bytes.extend([rss.unclassified.to_le_bytes(), rss.transmit.to_le_bytes()].concat());
        }
        bytes
    }

    /// Reads what [`DriverState::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`Error::State`] when it is something else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let refused = || Error::State { version: bytes.first().copied() };
        let (version, rest) = bytes.split_first().ok_or_else(refused)?;
        let mut input = Input(rest);
        let state = (*version == VERSION).then(|| input.state()).flatten();
        state.filter(|_| input.0.is_empty()).ok_or_else(refused)
    }
}

fn put_list<const N: usize>(bytes: &mut Vec<u8>, list: &[[u8; N]]) {
    // Every list is bounded far below.
    bytes.extend(u16::try_from(list.len()).unwrap_or(u16::MAX).to_le_bytes());
    bytes.extend(list.iter().flatten());
}

fn put_hash(bytes: &mut Vec<u8>, hash: &HashSettings) {
    bytes.extend(hash.types.bits().to_le_bytes());
    put_list(bytes, hash.key.as_chunks::<1>().0);
}

/// What is still to be read.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn list<const N: usize>(&mut self, most: usize) -> Option<&'a [[u8; N]]> {
        let count = usize::from(self.u16()?);
        let (taken, rest) = self.0.split_at_checked(count.checked_mul(N)?)?;
        self.0 = rest;
        (count <= most).then_some(taken.as_chunks().0)
    }

    fn state(&mut self) -> Option<DriverState> {
        let [flags] = self.array()?;
        let on = |flag| flags & flag != 0;
        let mut state =
            DriverState::begin(Negotiated::assume(self.array().map(u64::from_le_bytes)?));
        let offloads = Offloads::from_bits(self.array().map(u32::from_le_bytes)?)?;
        if !state.offloads.contains(offloads) {
            return None;
        }
        let [modes] = self.array()?;
        state.offloads = offloads;
        state.modes = Modes::from_bits(modes)?;
        state.pairs = self.u16().filter(|pairs| *pairs > 0)?;
        state.mac = if on(HAS_MAC) { Some(self.array()?) } else { None };
        state.table = self.table(on(ANY_UNICAST), on(ANY_MULTICAST))?;
        state.vlans = self.vlans()?;
        state.hash = if on(HAS_HASH) { Some(self.hash()?) } else { None };
        state.coalescing = self.coalescing()?;
        state.rss = if on(HAS_RSS) { Some(self.rss()?) } else { None };
        (state.commanded, state.announce) = (on(COMMANDED), on(ANNOUNCE));
        Some(state)
    }

    fn table(&mut self, any_unicast: bool, any_multicast: bool) -> Option<MacTable> {
        let addresses: &[Mac] = self.list::<MAC_LEN>(2 * MacTable::MOST)?;
        let half = addresses.len().min(MacTable::MOST);
        let (one, other) = addresses.split_at_checked(half)?;
        let mut table = MacTable::new(one, other);
        (table.any_unicast, table.any_multicast) = (any_unicast, any_multicast);
        Some(table)
    }

    fn vlans(&mut self) -> Option<Vlans> {
        let mut words = [0; Vlans::WORDS];
        for word in &mut words {
            *word = u64::from_le_bytes(self.array()?);
        }
        Some(Vlans::from_words(words))
    }

    fn hash(&mut self) -> Option<HashSettings> {
        let types = HashTypes::from_bits(self.array().map(u32::from_le_bytes)?)?;
        let key = self.list::<1>(KEY_MAX)?.as_flattened().to_vec();
        SUPPORTED.contains(types).then_some(HashSettings { types, key })
    }

    fn rss(&mut self) -> Option<RssSettings> {
        let hash = self.hash()?;
        let table = self.list::<2>(TABLE_MAX.into())?;
        let table = table.iter().map(|pair| u16::from_le_bytes(*pair)).collect();
        let rss = RssSettings { hash, table, unclassified: self.u16()?, transmit: self.u16()? };
        rss.is_possible(u16::MAX).then_some(rss)
    }

    fn coalescing(&mut self) -> Option<Coalescing> {
        let mut coalesce = || self.array().map(|bytes| Coalesce::from_bytes(&bytes));
        let (receive, transmit) = (coalesce()?, coalesce()?);
        let entries = self.list::<{ 2 + Coalesce::SIZE }>(u16::MAX.into())?;
        let mut queues = BTreeMap::new();
        for entry in entries {
            let (queue, coalesce) = entry.split_first_chunk()?;
            let coalesce = Coalesce::from_bytes(coalesce.first_chunk()?);
            queues.insert(u16::from_le_bytes(*queue), coalesce);
        }
        Some(Coalescing { receive, transmit, queues })
    }
}

#[cfg(test)]
#[path = "saved_test.rs"]
mod tests;
