//! The control side of the card: features, config space, link, commands of the control socket.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use framework::device::{Assembly, ConfigWriter, Device, Host, Outcome, QueueLimits};
use serde_json::{Value, json};
use virtio_spec::DeviceType;
use virtio_spec::features::Negotiated;
use virtio_spec::net::{CTRL_VQ, GUEST_ANNOUNCE, MAC_LEN};

use crate::announce::rarp;
use crate::capture::Capture;
use crate::counts::Counts;
use crate::driver_state::{DriverState, Given, Shared};
use crate::error::Error;
use crate::filter::Mac;
use crate::limits::Limits;
use crate::offer;
use crate::rate::Limit;
use crate::service::NetService;
use crate::uplink::Uplink;
use crate::uplink::switch::trunk::Trunk;

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
    /// Whether there is a control queue.
    pub ctrl_vq: bool,
}

/// The smallest and the largest MTU (virtio 1.4, 5.1.4.1).
pub const MTU_RANGE: (u16, u16) = (68, 65_535);

/// What both sides of the device know.
#[derive(Debug)]
pub struct Card {
    /// What the card is plugged into.
    pub uplink: Uplink,
    /// What the driver and the user have set.
    pub state: Shared,
    /// How fast frames may cross.
    pub limits: Limits,
    /// What crosses is written down there.
    pub capture: Option<Arc<Capture>>,
    /// Whether it was said that the uplink does not do as it is told: a driver tells it as often as it
    /// likes.
    complained: AtomicBool,
}

impl Card {
    /// Tells the uplink what its packets may leave to the guest, and how long their headers are.
    pub(crate) fn tell_uplink(&self) {
        let offloads = self.state.get().effective_offloads();
        if let Err(errno) = self.uplink.set(offloads, self.state.view().header)
            && !self.complained.swap(true, Ordering::Relaxed)
        {
            let uplink = self.uplink.describe();
            tracing::warn!(uplink, %errno, "the uplink's offloads stay as they were");
        }
        self.steer();
    }

    /// Tells the uplink how the driver wants packets spread over its queues.
    pub(crate) fn steer(&self) {
        self.uplink.steer(self.state.get().rss.as_ref());
    }
}

/// A virtio network card.
#[derive(Debug)]
pub struct NetDevice {
    card: Arc<Card>,
    settings: Settings,
    host: Host,
    /// Counters by worker: they outlive it.
    counts: BTreeMap<u16, Arc<Counts>>,
    /// What the switch leads to, until it is started.
    trunk: Option<Trunk>,
}

impl NetDevice {
    /// A card that is plugged into `uplink`.
    pub fn new(uplink: Uplink, settings: Settings) -> Self {
        let (mac, mtu, max_pairs) = (settings.mac, settings.mtu, settings.pairs);
        let state = Shared::new(Given { mac, mtu, max_pairs, link_up: true });
        let card = Card {
            uplink,
            state,
            limits: Limits::default(),
            capture: None,
            complained: AtomicBool::new(false),
        };
        NetDevice {
            card: Arc::new(card),
            settings,
            host: Host::default(),
            counts: BTreeMap::new(),
            trunk: None,
        }
    }

    /// The same card, which starts what the switch leads to.
    #[must_use]
    pub fn leading_outside(mut self, trunk: Option<Trunk>) -> Self {
        self.trunk = trunk;
        self
    }

    /// The same card, through which frames cross no faster than this.
    #[must_use]
    pub fn limited(mut self, receive: Limit, transmit: Limit) -> Self {
        if let Some(card) = Arc::get_mut(&mut self.card) {
            card.limits = Limits::new(receive, transmit);
        }
        self
    }

    /// The same card, whose frames are written down.
    #[must_use]
    pub fn captured(mut self, capture: Option<Arc<Capture>>) -> Self {
        if let Some(card) = Arc::get_mut(&mut self.card) {
            card.capture = capture;
        }
        self
    }

    fn set_link(&mut self, arguments: &Value) -> Result<Outcome, framework::Error> {
        let up = match arguments.get("state").and_then(Value::as_str) {
            Some("up") => true,
            Some("down") => false,
            _ => return Err(Error::LinkState.into()),
        };
        let changed = up != self.card.state.given().link_up;
        self.card.state.give(|given| given.link_up = up);
        self.card.uplink.set_carrier(up);
        Ok(Outcome {
            answer: json!({ "link": up }),
            config_changed: changed,
            nudge: changed,
            ..Outcome::default()
        })
    }

    fn set_rate(&mut self, arguments: &Value) -> Result<Outcome, Error> {
        let limits = self.card.limits.command(arguments)?;
        Ok(Outcome { answer: limits, nudge: true, ..Outcome::default() })
    }

    /// Whether the driver announces itself when it is asked to.
    fn announces(&self) -> bool {
        let features = self.card.state.get().features;
        features.has(GUEST_ANNOUNCE) && features.has(CTRL_VQ)
    }

    /// Has the driver announce where it is now, or does so for it.
    fn announce(&mut self, mac: Option<Mac>) -> Result<Outcome, Error> {
        if self.announces() {
            self.card.state.change(|state, _| state.announce = true);
            let answer = json!({ "announced_by": "driver" });
            return Ok(Outcome {
                answer,
                config_changed: true,
                state_changed: true,
                ..Outcome::default()
            });
        }
        let given = self.card.state.given().mac;
        let mac = mac.or(self.card.state.get().mac).or(given).ok_or(Error::UnknownMac)?;
        let header = self.card.state.view().header;
        self.card
            .uplink
            .send(&rarp(mac), header)
            .map_err(|errno| Error::Announcement { source: errno.into() })?;
        Ok(Outcome { answer: json!({ "announced_by": "card" }), ..Outcome::default() })
    }
}

impl Device for NetDevice {
    type Service = NetService;

    fn attach(&mut self, host: Host) {
        self.host = host;
        if let Some(Err(error)) = self.card.capture.as_ref().map(|capture| capture.start()) {
            tracing::error!(%error, "nothing is captured: there can be no thread for it");
        }
        if let Some(Err(error)) = self.trunk.take().map(Trunk::start) {
            tracing::error!(%error, "nothing leads outside: there can be no thread for it");
        }
    }

    /// A command of the driver has had an effect on this side, or on other workers.
    fn rung(&mut self) -> Outcome {
        let config_changed = self.card.state.take_config_change();
        Outcome { config_changed, state_changed: config_changed, nudge: true, ..Outcome::default() }
    }

    fn device_type(&self) -> DeviceType {
        DeviceType::NET
    }

    fn limits(&self) -> QueueLimits {
        let control = u16::from(self.settings.ctrl_vq);
        QueueLimits { count: 2 * self.settings.pairs + control, size: self.settings.queue_size }
    }

    fn features(&self) -> u64 {
        offer::features(&self.settings, &self.card.uplink)
    }

    fn negotiated(&mut self, features: Negotiated) {
        self.card.state.change(|state, _| {
            // The same features after a restart of this program: the driver goes on.
            if state.features != features {
                *state = DriverState::begin(features);
            }
        });
        self.card.tell_uplink();
    }

    fn config(&self) -> Vec<u8> {
        offer::config(&self.card.state.given(), &self.card.state.get()).to_bytes().to_vec()
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

    /// The control queue's index is that of a further pair, whatever was negotiated.
    fn worker_of(&self, queue: u16) -> u16 {
        queue / 2
    }

    /// What is transmitted on a disabled ring is discarded. A disabled receiving ring is looked at
    /// too, so that its queue of the uplink is unplugged; nothing is taken from it.
    fn serves_disabled(&self, queue: u16) -> bool {
        queue < 2 * self.settings.pairs
    }

    fn service(&mut self, worker: u16) -> Result<Assembly<NetService>, framework::Error> {
        let counts = Arc::clone(self.counts.entry(worker).or_default());
        let files = self.card.uplink.file(worker).into_iter().collect();
        let (card, host) = (Arc::clone(&self.card), self.host.clone());
        Ok(Assembly { service: NetService::new(card, host, counts, worker), files })
    }

    fn reset(&mut self) {
        self.card.state.change(|state, _| *state = DriverState::default());
        self.card.tell_uplink();
    }

    fn save(&self) -> Vec<u8> {
        self.card.state.get().to_bytes()
    }

    fn load(&mut self, state: &[u8]) -> Result<(), framework::Error> {
        if state.is_empty() {
            return Ok(());
        }
        let loaded = DriverState::from_bytes(state)?;
        self.card.state.change(|state, _| *state = loaded);
        self.card.tell_uplink();
        Ok(())
    }

    fn control(
        &mut self,
        command: &str,
        arguments: &Value,
        _fds: Vec<OwnedFd>,
    ) -> Option<Result<Outcome, framework::Error>> {
        match command {
            "link" => Some(self.set_link(arguments)),
            "rate" => Some(self.set_rate(arguments).map_err(Into::into)),
            "announce" => Some(self.announce(None).map_err(Into::into)),
            _ => None,
        }
    }

    fn stats(&self) -> Value {
        let counts: Vec<_> = self.counts.values().cloned().collect();
        let (state, given) = (self.card.state.get(), self.card.state.given());
        let mut stats = Counts::sum(&counts);
        let last_error = counts.iter().find_map(|counts| counts.last_error());
        stats.insert("uplink".into(), self.card.uplink.describe().into());
        stats.insert("uplink_error".into(), last_error.into());
        let capture = self.card.capture.as_ref().map(|capture| capture.to_json());
        stats.insert("capture".into(), capture.into());
        if let Uplink::Switch(port) = &self.card.uplink {
            stats.insert("switch".into(), port.to_json());
        }
        stats.insert("limits".into(), self.card.limits.to_json());
        stats.insert("link".into(), given.link_up.into());
        stats.insert("pairs_in_use".into(), state.pairs_in_use(&given).into());
        stats.insert("filtering".into(), state.filter(&given).is_some().into());
        Value::Object(stats)
    }

    fn set_mtu(&mut self, mtu: u64) -> Result<(), framework::Error> {
        let (min, max) = MTU_RANGE;
        let valid = u16::try_from(mtu).ok().filter(|mtu| (min..=max).contains(mtu));
        let mtu = valid.ok_or(Error::Mtu { mtu, min, max })?;
        self.settings.mtu = Some(mtu);
        self.card.state.give(|given| given.mtu = Some(mtu));
        Ok(())
    }

    fn send_rarp(&mut self, mac: Mac) -> Result<(), framework::Error> {
        // The front-end tells a driver that announces itself on its own (vhost-user, SEND_RARP).
        let outcome = self.announce(Some(mac))?;
        if outcome.config_changed {
            self.card.state.note_config_change();
            self.host.ring();
        }
        Ok(())
    }

    fn is_network(&self) -> bool {
        true
    }
}

#[cfg(test)]
#[path = "device_test.rs"]
mod tests;

#[cfg(test)]
#[path = "messages_test.rs"]
mod messages;
