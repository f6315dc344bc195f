//! What the driver and the machine ask of the device. No call waits for the back-end.

use virtio_spec::Offered;
use virtio_spec::features::{Negotiated, VERSION_1};
use virtio_spec::vhost_user::MemoryRegion;

use super::wanted::{MAX_CONFIG_WRITES, Ring, WantedRing};
use super::{Session, config_space};
use crate::{Error, Result};

/// The driver.
impl Session {
    /// The features that the device offers; none before the first handshake.
    #[must_use]
    pub fn offered(&self) -> Offered {
        self.known.as_ref().map_or(Offered::new(0), |known| known.offered)
    }

    /// How many queues there are; none before the first handshake.
    #[must_use]
    pub fn queues(&self) -> u16 {
        self.known.as_ref().map_or(0, |known| known.queues)
    }

    /// The length of the configuration space, bytes.
    #[must_use]
    pub fn config_size(&self) -> u32 {
        let size = self.known.as_ref().map_or(0, |known| known.config.len());
        u32::try_from(size).unwrap_or(u32::MAX)
    }

    /// Copies from the configuration space; past its end are zeroes. Returns its version.
    pub fn read_config(&self, offset: u32, into: &mut [u8]) -> u64 {
        into.fill(0);
        let Some(known) = &self.known else { return 0 };
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let there = known.config.get(start..).unwrap_or_default();
        for (to, from) in into.iter_mut().zip(there) {
            *to = *from;
        }
        known.version
    }

    /// The driver writes to the configuration space. What it reads back is what it wrote, until
    /// the back-end says otherwise.
    pub fn write_config(&mut self, offset: u32, data: &[u8]) {
        let Some(known) = self.known.as_mut().filter(|known| known.from_backend) else { return };
        let size = u32::try_from(known.config.len()).unwrap_or(0);
        let room = usize::try_from(size.saturating_sub(offset)).unwrap_or(0);
        let data = data.get(..data.len().min(room)).unwrap_or_default();
        if data.is_empty() {
            return;
        }
        if self.wanted.config_writes.len() >= MAX_CONFIG_WRITES {
            if let Some(link) = &mut self.link {
                link.config_stale = true;
            }
            return;
        }
        if config_space::overlay(&mut known.config, offset, data) {
            known.version = known.version.wrapping_add(1);
        }
        self.wanted.config_writes.push_back((offset, data.to_vec()));
    }

    /// Whether the device works with these features.
    #[must_use]
    pub fn accepts(&self, features: Negotiated) -> bool {
        let offered = self.offered().accept(features.bits()).is_ok();
        offered && features.has(VERSION_1)
    }

    /// DRIVER_OK.
    pub fn start(&mut self, features: Negotiated, rings: impl IntoIterator<Item = Ring>) {
        self.wanted.features = Some(features);
        for ring in rings {
            self.start_queue(ring);
        }
        self.check_agreed(features);
    }

    /// A back-end that came back between FEATURES_OK and DRIVER_OK may offer less.
    fn check_agreed(&mut self, features: Negotiated) {
        let link = self.link.as_ref().filter(|link| link.established);
        let offered = link.map(|link| self.offered_to_driver(link));
        if offered.is_some_and(|offered| offered.accept(features.bits()).is_err()) {
            self.needs_reset();
        }
    }

    /// The driver enabled a queue of the live device.
    pub fn start_queue(&mut self, ring: Ring) {
        let in_memory = self.is_in_memory(&ring);
        let base = Some(self.wanted.first_base()).filter(|_| in_memory);
        self.wanted.rings.insert(ring.queue, WantedRing { ring, base, survived: false });
        if !in_memory {
            self.needs_reset();
        }
    }

    /// The driver resets a queue.
    pub fn reset_queue(&mut self, queue: u16) {
        if self.wanted.rings.contains_key(&queue) {
            self.wanted.queue_resets.insert(queue);
            self.settle();
        }
    }

    /// Whether the reset of a queue is over.
    #[must_use]
    pub fn queue_is_reset(&self, queue: u16) -> bool {
        !self.wanted.queue_resets.contains(&queue)
    }

    /// The driver resets the device. What a driver wrote and what it was to be told is forgotten.
    pub fn reset(&mut self) {
        self.wanted.features = None;
        self.wanted.rings.clear();
        self.wanted.queue_resets.clear();
        self.wanted.config_writes.clear();
        self.wanted.resetting = true;
        self.broken = false;
        self.region = None;
        self.effects.forget_rings();
        self.settle();
    }

    /// Whether the device's reset is over.
    #[must_use]
    pub fn is_reset(&self) -> bool {
        !self.wanted.resetting
    }
}

/// The machine.
impl Session {
    /// Stops all rings until they are resumed, or resumes them.
    pub fn set_paused(&mut self, paused: bool) {
        self.wanted.paused = paused;
    }

    /// Stops all rings for good.
    pub fn stop_for_good(&mut self) {
        self.wanted.stopping = true;
    }

    /// Guest memory has changed.
    pub fn set_memory(&mut self, memory: Vec<MemoryRegion>) {
        self.wanted.memory = memory;
    }

    /// Logs writes to guest memory in the log with this number, new for each; or no longer.
    ///
    /// # Errors
    /// [`Error::Lacking`] when the back-end of now cannot log.
    pub fn set_log(&mut self, log: Option<u64>) -> Result<()> {
        let able = self.link.as_ref().is_some_and(super::Link::can_log);
        if log.is_some() && !able {
            return Err(Error::Lacking("a dirty log (LOG_SHMFD and LOG_ALL)"));
        }
        self.wanted.log = log;
        Ok(())
    }

    /// Whether what was wanted of the log is so for all rings that run.
    #[must_use]
    pub fn log_is_set(&self) -> bool {
        let wanted = self.wanted.log;
        self.link.as_ref().is_some_and(|link| {
            let rings = link.rings.values().all(|ring| ring.logged == wanted.is_some());
            link.log == wanted && rings
        })
    }

    /// Has the back-end announce a MAC address to the network, if it can (RARP).
    pub fn announce(&mut self, mac: [u8; 6]) {
        self.wanted.announce = Some(mac);
    }
}

/// The back-end.
impl Session {
    /// The back-end says that its configuration space has changed; perhaps because it needs a
    /// reset.
    pub fn config_may_have_changed(&mut self) {
        let live = self.is_live();
        if let Some(link) = &mut self.link {
            link.config_stale = true;
            link.status_stale = live;
        }
    }

    /// The back-end has signalled a ring's error descriptor.
    pub fn ring_failed(&mut self) {
        self.needs_reset();
    }
}
