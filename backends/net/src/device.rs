//! The control side of the card: features, config space, link, commands of the control socket.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use framework::device::{Assembly, ConfigWriter, Device, Host, Outcome, QueueLimits};
use serde_json::{Value, json};
use virtio_spec::DeviceType;
use virtio_spec::features::Negotiated;
use virtio_spec::net::MAC_LEN;

use crate::counts::Counts;
use crate::driver_state::{DriverState, Shared};
use crate::error::Error;
use crate::offer;
use crate::service::{NetService, Role};
use crate::uplink::Uplink;

/// What the user decided about the card.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The address that the driver is told.
    pub mac: Option<[u8; MAC_LEN]>,
    /// The MTU that the driver is told.
    pub mtu: Option<u16>,
    /// The most queue pairs.
    pub pairs: u16,
    /// The largest queue, a power of two.
    pub queue_size: u16,
    /// Whether checksums and segmentation are offered.
    pub offloads: bool,
}

/// The smallest and the largest MTU (virtio 1.4, 5.1.4.1).
pub const MTU_RANGE: (u16, u16) = (68, 65_535);

/// What both sides of the device know.
#[derive(Debug)]
pub struct Card {
    /// What the card is plugged into.
    pub uplink: Uplink,
    /// What the driver has set.
    pub state: Shared,
}

/// A virtio network card.
#[derive(Debug)]
pub struct NetDevice {
    card: Arc<Card>,
    settings: Settings,
    link_up: bool,
    host: Host,
    /// Counters by worker: they outlive it.
    counts: BTreeMap<u16, Arc<Counts>>,
}

impl NetDevice {
    /// A card that is plugged into `uplink`.
    pub fn new(uplink: Uplink, settings: Settings) -> Self {
        NetDevice {
            card: Arc::new(Card { uplink, state: Shared::default() }),
            settings,
            link_up: true,
            host: Host::default(),
            counts: BTreeMap::new(),
        }
    }

    /// Tells the uplink what its packets may leave to the guest.
    fn tell_offloads(&self) {
        if let Uplink::Tap(tap) = &self.card.uplink
            && let Err(errno) = tap.set_offloads(self.card.state.get().offloads)
        {
            tracing::warn!(tap = tap.name(), %errno, "offloads stay as they were");
        }
    }

    fn set_link(&mut self, arguments: &Value) -> Result<Outcome, framework::Error> {
        let up = match arguments.get("state").and_then(Value::as_str) {
            Some("up") => true,
            Some("down") => false,
            _ => return Err(Error::LinkState.into()),
        };
        let config_changed = up != self.link_up;
        self.link_up = up;
        Ok(Outcome { answer: json!({ "link": up }), config_changed, ..Outcome::default() })
    }
}

impl Device for NetDevice {
    type Service = NetService;

    fn attach(&mut self, host: Host) {
        self.host = host;
    }

    fn device_type(&self) -> DeviceType {
        DeviceType::NET
    }

    fn limits(&self) -> QueueLimits {
        QueueLimits { count: 2 * self.settings.pairs, size: self.settings.queue_size }
    }

    fn features(&self) -> u64 {
        offer::features(&self.settings, self.card.uplink.possible())
    }

    fn negotiated(&mut self, features: Negotiated) {
        if self.card.state.get().features != features {
            self.card.state.change(|state| *state = DriverState::begin(features));
        }
        self.tell_offloads();
    }

    fn config(&self) -> Vec<u8> {
        offer::config(&self.settings, self.link_up).to_bytes().to_vec()
    }

    fn write_config(
        &mut self,
        offset: usize,
        data: &[u8],
        by: ConfigWriter,
    ) -> Result<(), framework::Error> {
        match by {
            // The source's config space is the destination's already.
            ConfigWriter::Migration => Ok(()),
            ConfigWriter::Driver => Err(Error::ConfigWrite { offset, length: data.len() }.into()),
        }
    }

    fn worker_of(&self, queue: u16) -> u16 {
        queue / 2
    }

    fn serves_disabled(&self, queue: u16) -> bool {
        Role::of(queue) == Role::Transmit
    }

    fn service(&mut self, worker: u16) -> Result<Assembly<NetService>, framework::Error> {
        let counts = Arc::clone(self.counts.entry(worker).or_default());
        let files = self.card.uplink.file(worker).into_iter().collect();
        Ok(Assembly { service: NetService::new(Arc::clone(&self.card), counts), files })
    }

    fn reset(&mut self) {
        self.card.state.change(|state| *state = DriverState::default());
        self.tell_offloads();
    }

    fn control(
        &mut self,
        command: &str,
        arguments: &Value,
        _fds: Vec<OwnedFd>,
    ) -> Option<Result<Outcome, framework::Error>> {
        match command {
            "link" => Some(self.set_link(arguments)),
            _ => None,
        }
    }

    fn stats(&self) -> Value {
        let counts: Vec<_> = self.counts.values().cloned().collect();
        let mut stats = Counts::sum(&counts);
        stats.insert("uplink".into(), self.card.uplink.describe().into());
        stats.insert("link".into(), self.link_up.into());
        Value::Object(stats)
    }

    fn set_mtu(&mut self, mtu: u64) -> Result<(), framework::Error> {
        let (min, max) = MTU_RANGE;
        let valid = u16::try_from(mtu).ok().filter(|mtu| (min..=max).contains(mtu));
        self.settings.mtu = Some(valid.ok_or(Error::Mtu { mtu, min, max })?);
        Ok(())
    }

    fn is_network(&self) -> bool {
        true
    }
}
