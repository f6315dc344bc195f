//! What a live device needs: features, memory, the in-flight region, rings. And what may be looked
//! at or written in between.

use virtio_spec::features::{Negotiated, RING_RESET, mask};
use virtio_spec::net;
use virtio_spec::status::Status;
use virtio_spec::vhost_user::{F_LOG_ALL, F_PROTOCOL_FEATURES, ProtocolFeatures};

use super::link::{Link, SetUp};
use super::step::{RingAddress, Step};
use super::wanted::{Ring, WantedRing};
use super::{Session, config_space};
use crate::memory::user_address;

impl Session {
    /// Reads and writes that need no ring.
    pub(super) fn look(&self, link: &Link) -> Option<Step> {
        if link.has(ProtocolFeatures::CONFIG) {
            if let Some((offset, data)) = self.wanted.config_writes.front() {
                return Some(Step::SetConfig { offset: *offset, data: data.clone() });
            }
            if let (true, Some(config)) = (link.config_stale, &link.config) {
                return u32::try_from(config.len()).ok().map(Step::GetConfig);
            }
        }
        if link.status_stale && link.has(ProtocolFeatures::STATUS) {
            return Some(Step::GetStatus);
        }
        let announce = self.wanted.announce.filter(|_| link.has(ProtocolFeatures::RARP));
        announce.map(Step::Announce)
    }

    pub(super) fn start_step(&self, link: &Link) -> Option<Step> {
        let live = self.wanted.features.filter(|_| !self.wanted.paused && !self.wanted.resetting);
        if live.is_none() && link.memory.is_empty() {
            return None;
        }
        // A device that is not live gives up memory that is taken away, too.
        let Some(features) = live else { return self.share_memory(link) };
        self.agree(link, features)
            .or_else(|| self.share_memory(link))
            .or_else(|| self.set_mtu(link, features))
            .or_else(|| self.track(link))
            .or_else(|| status(link, Status::ACKNOWLEDGE | Status::DRIVER | Status::FEATURES_OK))
            .or_else(|| self.wanted.rings.iter().find_map(|(_, ring)| self.set_up(link, ring)))
            .or_else(|| status(link, Status::DRIVER_OK))
    }

    /// Features, with the log that one of them is about.
    fn agree(&self, link: &Link, features: Negotiated) -> Option<Step> {
        let logs = self.logs(link);
        if let Some(log) = self.wanted.log.filter(|log| logs && link.log != Some(*log)) {
            return Some(Step::SetLog(log));
        }
        let mut bits = features.bits() | mask(F_PROTOCOL_FEATURES);
        if logs {
            bits |= mask(F_LOG_ALL);
        }
        // What the front-end itself has offered to the driver is not the back-end's.
        let bits = bits & link.offered.unwrap_or(0);
        (link.features != Some(bits)).then_some(Step::SetFeatures(bits))
    }

    /// Whether what is written to guest memory is to be logged.
    fn logs(&self, link: &Link) -> bool {
        self.wanted.log.is_some() && link.can_log()
    }

    fn share_memory(&self, link: &Link) -> Option<Step> {
        let wanted = &self.wanted.memory;
        if link.memory == *wanted {
            return None;
        }
        if !link.has(ProtocolFeatures::CONFIGURE_MEM_SLOTS) {
            return Some(Step::SetMemTable(wanted.clone()));
        }
        if let Some(gone) = link.memory.iter().find(|region| !wanted.contains(region)) {
            return Some(Step::RemoveRegion(*gone));
        }
        let new = wanted.iter().find(|region| !link.memory.contains(region));
        new.map(|region| Step::AddRegion(*region))
    }

    fn set_mtu(&self, link: &Link, features: Negotiated) -> Option<Step> {
        let told = link.mtu_set || !link.has(ProtocolFeatures::NET_MTU);
        if told || !self.is_net() || !features.has(net::feature::MTU) {
            return None;
        }
        let mtu = self.known.as_ref().map_or(0, |known| config_space::mtu(&known.config));
        (mtu > 0).then_some(Step::SetMtu(mtu))
    }

    /// The in-flight region: a new one is asked for and handed back, an old one handed over.
    fn track(&self, link: &Link) -> Option<Step> {
        if link.in_flight || !link.has(ProtocolFeatures::INFLIGHT_SHMFD) {
            return None;
        }
        if let Some(region) = &self.region {
            let clear = region.stale.iter().copied().collect();
            return Some(Step::SetInFlight { clear, packed: region.packed });
        }
        let sizes = self.wanted.rings.values().map(|wanted| wanted.ring.size);
        // A queue that is reset by itself may come back larger, and the region stays.
        let may_grow = self.wanted.features.is_some_and(|features| features.has(RING_RESET));
        let size = sizes.max().filter(|_| !may_grow).unwrap_or(self.config.queue_size);
        let queues = self.known.as_ref().map_or(1, |known| known.queues);
        Some(Step::GetInFlight { queues, size })
    }

    /// What this ring lacks.
    fn set_up(&self, link: &Link, wanted: &WantedRing) -> Option<Step> {
        let ring = &wanted.ring;
        let queue = ring.queue;
        if !self.wanted.runs(queue) {
            return None;
        }
        // Of a ring that cannot run the driver was told when that was found.
        let base = wanted.base?;
        let address = Step::RingAddress(self.address(ring, self.logs(link))?);
        let there = link.rings.get(&queue);
        match there.map_or(SetUp::Size, |ring| ring.next) {
            SetUp::Size => Some(Step::RingSize(queue, ring.size)),
            SetUp::Base => Some(Step::RingBase(queue, base)),
            SetUp::Address => Some(address),
            SetUp::Error => Some(Step::RingError(queue)),
            SetUp::Call => Some(Step::RingCall(queue)),
            SetUp::Enable => Some(Step::RingEnable(queue, true)),
            SetUp::Kick => Some(Step::RingKick(queue)),
            SetUp::Complete => {
                let logged = there.is_some_and(|ring| ring.logged);
                (logged != self.logs(link)).then_some(address)
            }
            SetUp::Refused => None,
        }
    }

    /// The ring's user addresses, if each of its areas is in one region of guest memory.
    pub(super) fn address(&self, ring: &Ring, log: bool) -> Option<RingAddress> {
        let [descriptors, driver, device] = ring.lengths(self.wanted.is_packed());
        let at = |addr, len| user_address(&self.wanted.memory, addr, len);
        Some(RingAddress {
            queue: ring.queue,
            descriptors: at(ring.descriptors, descriptors)?,
            driver: at(ring.driver, driver)?,
            device: at(ring.device, device)?,
            log: log.then_some(ring.device),
        })
    }
}

/// Tells the status, with these bits added to it.
fn status(link: &Link, bits: Status) -> Option<Step> {
    let status = link.status | bits.bits();
    (link.has(ProtocolFeatures::STATUS) && status != link.status).then_some(Step::SetStatus(status))
}
