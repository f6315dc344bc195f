//! Receive-side scaling: the driver says which queue gets which packets (virtio 1.4, 5.1.6.5.7).

use virtio_spec::net::HashReport;

use crate::hash::{HashSettings, Hasher};

/// The longest indirection table that is taken, entries.
pub const TABLE_MAX: u16 = 128;

/// What the driver has chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RssSettings {
    /// What is hashed, and with which key.
    pub hash: HashSettings,
    /// Pairs by the low bits of the hash: a power of two of them, at most [`TABLE_MAX`].
    pub table: Vec<u16>,
    /// The pair of packets that have no hash.
    pub unclassified: u16,
    /// How many queues transmit.
    pub transmit: u16,
}

impl RssSettings {
    /// Whether a card with so many pairs can do that.
    pub fn is_possible(&self, pairs: u16) -> bool {
        let length = self.table.len();
        length.is_power_of_two()
            && length <= usize::from(TABLE_MAX)
            && self.table.iter().chain([&self.unclassified]).all(|pair| *pair < pairs)
            && (1..=pairs).contains(&self.transmit)
    }

    /// How many pairs are in use, counted from the first one.
    pub fn pairs(&self) -> u16 {
        let receiving = self.table.iter().chain([&self.unclassified]).max();
        receiving.map_or(1, |last| last.saturating_add(1)).max(self.transmit)
    }
}

/// Settings that were made ready.
#[derive(Debug)]
pub struct Rss {
    hasher: Hasher,
    table: Vec<u16>,
    unclassified: u16,
}

impl Rss {
    /// Makes settings ready.
    pub fn new(settings: &RssSettings) -> Self {
        Rss {
            hasher: Hasher::new(&settings.hash),
            table: settings.table.clone(),
            unclassified: settings.unclassified,
        }
    }

    /// The pair of a frame that starts with these bytes ([`crate::hash::LOOKED_AT`] of them).
    pub fn pair(&self, start: &[u8]) -> u16 {
        let hash = self.hasher.hash(start);
        let index = hash.value as usize & self.table.len().saturating_sub(1);
        let chosen = (hash.report != HashReport::None).then(|| self.table.get(index)).flatten();
        chosen.copied().unwrap_or(self.unclassified)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use virtio_spec::net::HashTypes;

    use super::*;

    fn settings(table: Vec<u16>) -> RssSettings {
        let hash = HashSettings { types: HashTypes::UDPV4, key: (0..40).collect() };
        RssSettings { hash, table, unclassified: 3, transmit: 1 }
    }

    /// Ethernet, IPv4, UDP or something else.
    fn frame(protocol: u8, source: u16) -> Vec<u8> {
        let mut frame = vec![2; 12];
        frame.extend([8, 0, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, protocol, 0, 0]);
        frame.extend([10, 0, 0, 1, 10, 0, 0, 2]);
        frame.extend(source.to_be_bytes());
        frame.extend([0, 7, 0, 8, 0, 0]);
        frame
    }

    proptest! {
        #[test]
        fn the_low_bits_of_the_hash_choose(source: u16, bits in 0..8_u32) {
            let table: Vec<u16> = (0..1 << bits).collect();
            let settings = settings(table.clone());
            let hash = Hasher::new(&settings.hash).hash(&frame(17, source)).value;
            let expected = hash & ((1 << bits) - 1);
            prop_assert_eq!(u32::from(Rss::new(&settings).pair(&frame(17, source))), expected);
        }
    }

    #[test]
    fn what_has_no_hash_goes_where_the_driver_said() {
        let rss = Rss::new(&settings(vec![0]));
        assert_eq!((rss.pair(&frame(17, 9)), rss.pair(&frame(6, 9)), rss.pair(&[])), (0, 3, 3));
    }

    #[test]
    fn tables_that_cannot_be_are_none() {
        for (table, pairs, possible) in [
            (vec![0, 3], 4, true),
            (vec![], 4, false),
            (vec![0, 1, 2], 4, false),
            (vec![0, 4], 4, false),
            (vec![0, 1], 3, false),
            (vec![0; 256], 4, false),
        ] {
            assert_eq!(settings(table.clone()).is_possible(pairs), possible, "{table:?}");
        }
        let none = RssSettings { transmit: 0, ..settings(vec![0]) };
        assert!(!none.is_possible(4) && !RssSettings { transmit: 5, ..none }.is_possible(4));
        assert_eq!((settings(vec![0, 1]).pairs(), settings(vec![0, 6]).pairs()), (4, 7));
    }
}
