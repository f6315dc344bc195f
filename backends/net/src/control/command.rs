//! Parsing of commands.

use virtio_spec::net::control::{
    Coalesce, CoalesceQueue, Command as Kind, CommandHeader, HashConfigHead, RssHead, RssTail,
};
use virtio_spec::net::{HashTypes, MAC_LEN};

use crate::filter::{Mac, MacTable, Modes};
use crate::hash::{HashSettings, KEY_MAX, SUPPORTED};
use crate::rss::{RssSettings, TABLE_MAX};

/// The longest command that is looked at, bytes: room for about ten thousand addresses.
pub const COMMAND_MAX: usize = 64 * 1024;

/// Why a command is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// There is less of it than it says, or more than anybody needs.
    Length,
    /// There is no such command here.
    Unknown,
    /// It asks for what cannot be.
    Value,
    /// Its feature was not negotiated.
    NotNegotiated,
}

/// A command: it owns what it says, and nothing of it is read from guest memory again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Switch a mode of reception.
    Mode(Modes, bool),
    /// Take these addresses.
    MacTable(MacTable),
    /// The card's own address.
    MacAddress(Mac),
    /// Take a VLAN, or no longer.
    Vlan(u16, bool),
    /// The driver has announced itself.
    AnnounceAck,
    /// Use so many queue pairs.
    Pairs(u16),
    /// Report hashes.
    Hash(HashSettings),
    /// Spread what is received over queues like this.
    Rss(RssSettings),
    /// Which offloads the driver takes: feature bits.
    GuestOffloads(u64),
    /// Hold calls back: of receiving queues, or of transmitting ones.
    CoalesceAll {
        /// Which.
        receive: bool,
        /// How long.
        coalesce: Coalesce,
    },
    /// Hold calls of one queue back.
    CoalesceQueue {
        /// Its index.
        queue: u16,
        /// How long.
        coalesce: Coalesce,
    },
    /// How are calls of one queue held back?
    CoalesceGet {
        /// Its index.
        queue: u16,
    },
}

impl Command {
    /// Parses what a driver sent. What follows a command is passed over.
    ///
    /// # Errors
    /// When it is no command, or one that asks for what cannot be.
    pub fn parse(bytes: &[u8]) -> Result<Self, Refused> {
        let (header, data) = bytes.split_first_chunk().ok_or(Refused::Length)?;
        let kind = Kind::from_header(CommandHeader::from_bytes(header)).ok_or(Refused::Unknown)?;
        let mut data = Data(data);
        Ok(match kind {
            Kind::RxPromisc => Self::mode(Modes::PROMISCUOUS, &mut data)?,
            Kind::RxAllMulti => Self::mode(Modes::ALL_MULTICAST, &mut data)?,
            Kind::RxAllUni => Self::mode(Modes::ALL_UNICAST, &mut data)?,
            Kind::RxNoMulti => Self::mode(Modes::NO_MULTICAST, &mut data)?,
            Kind::RxNoUni => Self::mode(Modes::NO_UNICAST, &mut data)?,
            Kind::RxNoBroadcast => Self::mode(Modes::NO_BROADCAST, &mut data)?,
            Kind::MacTableSet => {
                let (unicast, multicast) = (data.addresses()?, data.addresses()?);
                Command::MacTable(MacTable::new(unicast, multicast))
            }
            Kind::MacAddrSet => Command::MacAddress(data.array()?),
            Kind::VlanAdd => Command::Vlan(data.u16()?, true),
            Kind::VlanDel => Command::Vlan(data.u16()?, false),
            Kind::AnnounceAck => Command::AnnounceAck,
            Kind::MqPairsSet => Command::Pairs(data.u16()?),
            Kind::MqHashConfig => Command::Hash(data.hash()?),
            Kind::GuestOffloadsSet => Command::GuestOffloads(u64::from_le_bytes(data.array()?)),
            Kind::CoalesceTxSet => Self::coalesce_all(false, &mut data)?,
            Kind::CoalesceRxSet => Self::coalesce_all(true, &mut data)?,
            Kind::CoalesceQueueSet => {
                let CoalesceQueue { vq_index, coalesce, .. } =
                    CoalesceQueue::from_bytes(&data.array()?);
                Command::CoalesceQueue { queue: vq_index, coalesce }
            }
            Kind::CoalesceQueueGet => Command::CoalesceGet { queue: data.u16()? },
            Kind::MqRssConfig => Command::Rss(data.rss()?),
            Kind::HashTunnelSet | Kind::StatsQuery | Kind::StatsGet => {
                return Err(Refused::Unknown);
            }
        })
    }

    fn mode(mode: Modes, data: &mut Data<'_>) -> Result<Self, Refused> {
        match data.array()? {
            [0] => Ok(Command::Mode(mode, false)),
            [1] => Ok(Command::Mode(mode, true)),
            [_] => Err(Refused::Value),
        }
    }

    fn coalesce_all(receive: bool, data: &mut Data<'_>) -> Result<Self, Refused> {
        Ok(Command::CoalesceAll { receive, coalesce: Coalesce::from_bytes(&data.array()?) })
    }
}

/// What of a command is still to be parsed.
struct Data<'a>(&'a [u8]);

impl<'a> Data<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], Refused> {
        let (taken, rest) = self.0.split_at_checked(n).ok_or(Refused::Length)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Refused> {
        self.take(N)?.try_into().map_err(|_| Refused::Length)
    }

    fn u16(&mut self) -> Result<u16, Refused> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    /// A count and so many addresses.
    fn addresses(&mut self) -> Result<&'a [Mac], Refused> {
        let count = u32::from_le_bytes(self.array()?);
        let bytes = usize::try_from(count).ok().and_then(|count| count.checked_mul(MAC_LEN));
        let (addresses, _) = self.take(bytes.ok_or(Refused::Length)?)?.as_chunks();
        Ok(addresses)
    }

    fn hash(&mut self) -> Result<HashSettings, Refused> {
        let head = HashConfigHead::from_bytes(&self.array()?);
        self.key(head.hash_types, head.hash_key_length)
    }

    fn key(&mut self, types: u32, length: u8) -> Result<HashSettings, Refused> {
        let types = HashTypes::from_bits(types).ok_or(Refused::Value)?;
        if !SUPPORTED.contains(types) || usize::from(length) > KEY_MAX {
            return Err(Refused::Value);
        }
        Ok(HashSettings { types, key: self.take(length.into())?.to_vec() })
    }

    fn rss(&mut self) -> Result<RssSettings, Refused> {
        let head = RssHead::from_bytes(&self.array()?);
        let length = usize::from(head.indirection_table_mask) + 1;
        if length > TABLE_MAX.into() || !length.is_power_of_two() {
            return Err(Refused::Value);
        }
        let (table, _) = self.take(2 * length)?.as_chunks();
        let table = table.iter().map(|entry| u16::from_le_bytes(*entry)).collect();
        let tail = RssTail::from_bytes(&self.array()?);
        let hash = self.key(head.hash_types, tail.hash_key_length)?;
        let (unclassified, transmit) = (head.unclassified_queue, tail.max_tx_vq);
        Ok(RssSettings { hash, table, unclassified, transmit })
    }
}

#[cfg(test)]
#[path = "command_test.rs"]
mod tests;
