//! What is said first on each connection, before anything is asked for by a driver.

use virtio_spec::features::{self, VERSION_1, mask};
use virtio_spec::vhost_user::{MAX_MEM_TABLE_REGIONS, ProtocolFeatures};
use virtio_spec::{DeviceType, Offered, net};

use super::config_space;
use super::link::Link;
use super::step::{Effect, Step};
use super::{Known, MAX_QUEUES, Session};
use crate::{Error, Result};

/// The extensions that are used if the back-end has them.
const PROTOCOL: ProtocolFeatures = ProtocolFeatures::MQ
    .union(ProtocolFeatures::CONFIG)
    .union(ProtocolFeatures::REPLY_ACK)
    .union(ProtocolFeatures::BACKEND_REQ)
    .union(ProtocolFeatures::CONFIGURE_MEM_SLOTS)
    .union(ProtocolFeatures::RESET_DEVICE)
    .union(ProtocolFeatures::STATUS)
    .union(ProtocolFeatures::INFLIGHT_SHMFD)
    .union(ProtocolFeatures::LOG_SHMFD);

/// Those that only network cards have.
const NET_PROTOCOL: ProtocolFeatures = ProtocolFeatures::NET_MTU.union(ProtocolFeatures::RARP);

/// Bits below 24 and above 49 belong to device types, 24 to 49 to rings and transports, of which
/// these are known here and harmless (virtio 1.4, 6). Others are not passed on: the back-end could
/// promise the driver what only a transport can keep.
const RING_BITS: u64 = mask(features::INDIRECT_DESC)
    | mask(features::EVENT_IDX)
    | mask(VERSION_1)
    | mask(features::RING_PACKED)
    | mask(features::IN_ORDER)
    | mask(features::ORDER_PLATFORM)
    | mask(features::RING_RESET);
const DEVICE_BITS: u64 = !(((1 << 26) - 1) << 24);

/// Features of network cards that stand on a configuration space or a control queue, which another
/// front-end would serve itself for a back-end without CONFIG. This one does not.
const NET_SERVED_ELSEWHERE: &[u32] = &[
    net::feature::CTRL_GUEST_OFFLOADS,
    net::feature::STATUS,
    net::feature::CTRL_VQ,
    net::feature::CTRL_RX,
    net::feature::CTRL_VLAN,
    net::feature::CTRL_RX_EXTRA,
    net::feature::GUEST_ANNOUNCE,
    net::feature::MQ,
    net::feature::CTRL_MAC_ADDR,
];

impl Session {
    pub(super) fn handshake(&self, link: &Link) -> Option<Step> {
        if link.offered.is_none() {
            return Some(Step::GetFeatures);
        }
        if link.has_protocol() {
            let Some(theirs) = link.protocol_offered else {
                return Some(Step::GetProtocolFeatures);
            };
            if link.protocol.is_none() {
                return Some(Step::SetProtocolFeatures(theirs & self.protocol_wanted()));
            }
        }
        if !link.owned {
            return Some(Step::SetOwner);
        }
        if link.has(ProtocolFeatures::MQ) && link.queues.is_none() {
            return Some(Step::GetQueueNum);
        }
        if link.has(ProtocolFeatures::CONFIGURE_MEM_SLOTS) && link.slots.is_none() {
            return Some(Step::GetMaxMemSlots);
        }
        if link.has(ProtocolFeatures::BACKEND_REQ) && !link.channel_open {
            return Some(Step::OpenChannel);
        }
        if link.has(ProtocolFeatures::CONFIG) && link.config.is_none() {
            return self.config_size_to_try(link).map(Step::GetConfig);
        }
        None
    }

    fn protocol_wanted(&self) -> ProtocolFeatures {
        if self.is_net() { PROTOCOL | NET_PROTOCOL } else { PROTOCOL }
    }

    /// How many bytes of configuration to ask for. Back-ends refuse to be asked for more than they
    /// have, and have what was in the specification when they were written.
    fn config_size_to_try(&self, link: &Link) -> Option<u32> {
        let known = self.known.as_ref().filter(|known| known.from_backend);
        let size = known.and_then(|known| u32::try_from(known.config.len()).ok());
        match size.or(self.config.config_size) {
            // What was not there once is not asked for again.
            Some(0) => None,
            Some(size) => (link.config_tries == 0).then_some(size),
            None => config_space::sizes(self.config.device_type).get(link.config_tries).copied(),
        }
    }

    /// After each answer: the handshake may be complete. Then what was found is judged.
    ///
    /// # Errors
    /// When this back-end does not do.
    pub(super) fn establish_if_complete(&mut self) -> Result<()> {
        let complete = |link: &&Link| !link.established && self.handshake(link).is_none();
        let Some(link) = self.link.as_ref().filter(complete) else { return Ok(()) };
        self.check_back_end(link)?;
        let (offered, queues) = (self.offered_to_driver(link), self.queues_of(link)?);
        let found = link.config.clone();
        match &self.known {
            None => self.learn(offered, queues, found),
            Some(known) => {
                let same = !known.from_backend || found.as_ref() == Some(&known.config);
                // As long as no driver has looked closer, the new back-end's offer is the device's.
                if self.wanted.features.is_none()
                    && let Some(known) = &mut self.known
                {
                    known.offered = offered;
                }
                if let (false, Some(found)) = (same, found) {
                    self.config_found(found);
                }
            }
        }
        if let Some(link) = &mut self.link {
            link.established = true;
        }
        self.connections = self.connections.saturating_add(1);
        if self.losses == 0 {
            // To wait for the first back-end is no error.
            self.last_error = None;
        }
        Ok(())
    }

    fn learn(&mut self, offered: Offered, queues: u16, found: Option<Vec<u8>>) {
        let from_backend = found.is_some();
        let config = found.unwrap_or_else(|| config_space::own(&self.config));
        self.known = Some(Known { offered, queues, config, version: 1, from_backend });
    }

    /// Whether this back-end can serve what the driver was promised, and guest memory.
    fn check_back_end(&self, link: &Link) -> Result<()> {
        if !link.offers(VERSION_1) {
            return Err(Error::Legacy);
        }
        let agreed = self.wanted.features.map_or(0, |features| features.bits());
        let lost = agreed & !self.offered_to_driver(link).bits();
        if lost != 0 {
            return Err(Error::FeaturesLost { bits: lost });
        }
        if let Some(known) = self.known.as_ref().filter(|known| known.from_backend)
            && link.config.as_ref().map(Vec::len) != Some(known.config.len())
        {
            return Err(Error::ConfigLost { size: known.config.len() });
        }
        if let Some(size) = self.config.config_size.filter(|size| *size > 0)
            && link.has(ProtocolFeatures::CONFIG)
            && link.config.is_none()
        {
            return Err(Error::ConfigLost { size: usize::try_from(size).unwrap_or(usize::MAX) });
        }
        let most = match link.slots {
            Some(slots) => slots,
            None => MAX_MEM_TABLE_REGIONS as u64,
        };
        let needed = self.wanted.memory.len();
        if u64::try_from(needed).is_ok_and(|needed| needed > most) {
            return Err(Error::TooFewSlots { found: most, needed });
        }
        Ok(())
    }

    /// The bits that this back-end lets us offer to the driver.
    pub(super) fn offered_to_driver(&self, link: &Link) -> Offered {
        let bits = link.offered.unwrap_or(0) & (DEVICE_BITS | RING_BITS) & !self.config.withheld;
        let offered = Offered::new(bits);
        if !self.is_net() || link.has(ProtocolFeatures::CONFIG) {
            return offered;
        }
        let own = config_space::own_features(&self.config);
        let without = NET_SERVED_ELSEWHERE.iter().fold(offered, |o, bit| o.without(*bit));
        Offered::new(without.bits() & !config_space::OWN_FEATURES | own)
    }

    /// How many queues the device has: those asked for, or those of the back-end.
    fn queues_of(&self, link: &Link) -> Result<u16> {
        let fixed = self.known.as_ref().map(|known| known.queues).or(self.config.queues);
        // A network back-end without CONFIG counts what the machine's other parts would have to
        // make use of; more than one pair has to be asked for.
        let plain = self.is_net() && !link.has(ProtocolFeatures::CONFIG) && fixed.is_none();
        let Some(found) = link.queues.filter(|_| !plain) else {
            return Ok(fixed.unwrap_or_else(|| usual_queues(self.config.device_type)));
        };
        let needed = fixed.unwrap_or(1).min(MAX_QUEUES);
        // Some network back-ends count pairs.
        let enough = if self.is_net() { found.saturating_mul(2) } else { found };
        if enough < u64::from(needed) {
            return Err(Error::TooFewQueues { found, needed });
        }
        let all = u16::try_from(found).unwrap_or(MAX_QUEUES).min(MAX_QUEUES);
        Ok(fixed.map_or(all, |fixed| fixed.min(MAX_QUEUES)))
    }

    /// The configuration space has this content now.
    pub(super) fn config_found(&mut self, mut found: Vec<u8>) {
        let Some(known) = &mut self.known else { return };
        // What the driver wrote and the back-end has not heard of yet is not undone.
        for (offset, data) in &self.wanted.config_writes {
            config_space::overlay(&mut found, *offset, data);
        }
        if known.config != found {
            known.config = found;
            known.version = known.version.wrapping_add(1);
            self.effects.add(Effect::ConfigChanged);
        }
    }
}

/// For back-ends that do not tell: the queues that every device of the type has.
fn usual_queues(device_type: DeviceType) -> u16 {
    match device_type {
        DeviceType::NET | DeviceType::CONSOLE | DeviceType::INPUT | DeviceType::FS => 2,
        DeviceType::GPU | DeviceType::CRYPTO | DeviceType::IOMMU => 2,
        DeviceType::VSOCK | DeviceType::BALLOON | DeviceType::SCSI => 3,
        DeviceType::SOUND => 4,
        _ => 1,
    }
}
