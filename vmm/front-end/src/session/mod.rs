//! The front-end's side of vhost-user as a state machine: no socket, no thread, no clock.
//!
//! # Theory of operation
//! A session lives as long as the device, across connections. It holds three things:
//! - what is *wanted* (`wanted.rs`): the driver's features and rings, resets under way, pause, stop,
//!   writes to the configuration space. It is changed by calls from outside, at any time, and by no
//!   back-end;
//! - what is *known* to the driver (`Known`): features, queues, configuration. Learnt from the
//!   first back-end; later ones have to live up to it;
//! - the *link* (`link.rs`): what the back-end of this connection has been told. It starts empty
//!   with each connection.
//!
//! There is no script. [`Session::next_step`] compares link and wanted and gives the one request that is
//! to be made next, so that any call, answer or loss may come at any time; [`Session::answered`]
//! notes in the link what is true now. A reconnection is nothing special: the link is empty, so
//! everything is said again. In order of precedence:
//!
//! ```text
//! handshake   features, protocol features, owner, queues, slots, channel, configuration
//! stop        GET_VRING_BASE for each ring that runs and must not (reset, queue reset, pause, end)
//! reset       RESET_DEVICE, or disable all and SET_STATUS(0)          ─▶ reset is over
//! look        SET_CONFIG, GET_CONFIG, GET_STATUS, SEND_RARP
//! start       features, memory, MTU, log, in-flight region, status, rings, DRIVER_OK
//! ```
//!
//! Events: [`Session::connected`], [`Session::answered`], [`Session::lost`], the back-end's own
//! requests ([`Session::config_may_have_changed`], [`Session::ring_failed`]), and the calls of the
//! driver and the machine (`calls.rs`). What has to be done beside messages is left in the effects.
//!
//! Without a connection a reset is over at once, since nobody touches a ring. A connection that
//! does not answer in time is closed by the thread, which ends any reset with it.
//!
//! Where a ring goes on after a loss: with an in-flight region the back-end knows. Without one, a
//! split ring goes on where its used ring ends, as QEMU does: requests that were completed out of
//! order are made twice, and those before them lost. A packed ring cannot go on: needs reset.
//!
//! Limits: one request outstanding, 256 queues, 32 writes to the configuration space waiting, 256
//! bytes of configuration. What the back-end says is checked here like a guest's input.

mod answers;
mod calls;
mod config_space;
mod effects;
mod handshake;
mod link;
mod rings;
mod start;
mod step;
mod view;
mod wanted;

#[cfg(test)]
mod model;
#[cfg(test)]
mod property_test;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use virtio_spec::Offered;
use virtio_spec::vhost_user::{MemoryRegion, ProtocolFeatures};

pub use self::effects::Effects;
use self::link::Link;
pub use self::step::{Answer, Base, Effect, RingAddress, Step};
pub use self::view::{DeviceReport, QueueReport};
pub use self::wanted::Ring;
use self::wanted::Wanted;
use crate::Error;
use crate::config::Config;

/// The most queues there can be: messages have eight bits for a ring's index.
pub const MAX_QUEUES: u16 = 256;

/// A device and its way to the back-end.
#[derive(Debug)]
pub struct Session {
    config: Config,
    wanted: Wanted,
    known: Option<Known>,
    link: Option<Link>,
    /// The in-flight region that the thread keeps.
    region: Option<Region>,
    /// The device cannot go on without a reset, and the driver was told.
    broken: bool,
    effects: Effects,
    /// Handshakes that succeeded.
    connections: u64,
    /// Connections that were lost after that.
    losses: u64,
    last_error: Option<String>,
    /// What was refused last, until somebody asks.
    refused: Option<&'static str>,
}

/// What the driver knows of the device.
#[derive(Debug)]
struct Known {
    offered: Offered,
    queues: u16,
    config: Vec<u8>,
    /// Changes with each content that the configuration space has; 0 is for when it is not known.
    version: u64,
    /// Whether the back-end has the configuration space; otherwise it is ours.
    from_backend: bool,
}

/// What there is to know of the in-flight region.
#[derive(Debug)]
struct Region {
    packed: bool,
    /// Queues that were reset since their last start: what the region says of them is of the past.
    stale: BTreeSet<u16>,
}

impl Session {
    /// A device without a back-end yet, with this guest memory.
    #[must_use]
    pub fn new(config: Config, memory: Vec<MemoryRegion>) -> Self {
        Self {
            config,
            wanted: Wanted { memory, ..Wanted::default() },
            known: None,
            link: None,
            region: None,
            broken: false,
            effects: Effects::default(),
            connections: 0,
            losses: 0,
            last_error: None,
            refused: None,
        }
    }

    /// A connection was made.
    pub fn connected(&mut self) {
        self.link = Some(Link::default());
    }

    /// The connection is gone, or was closed by us. Says whether all rings can go on; if not, the
    /// driver has to reset the device.
    pub fn lost(&mut self, error: &Error) -> bool {
        let Some(link) = self.link.take() else { return true };
        self.last_error = Some(match &link.outstanding {
            Some(step) => format!("at {}: {error}", step.name()),
            None => error.to_string(),
        });
        if link.established {
            self.losses = self.losses.saturating_add(1);
        }
        // One that was being started may have run: the back-end serves it before we have the answer.
        let starting = match &link.outstanding {
            Some(Step::RingKick(queue)) => Some(*queue),
            _ => None,
        };
        let started = link.rings.iter().filter(|(_, ring)| ring.started).map(|(queue, _)| *queue);
        let mut all = true;
        for queue in started.chain(starting) {
            all &= self.ring_lost(queue, link.in_flight);
        }
        self.settle();
        all
    }

    /// We have closed the connection, with all rings stopped.
    pub fn closed(&mut self) {
        self.link = None;
        self.settle();
    }

    /// An attempt to connect failed. Says whether that is news.
    pub fn not_connected(&mut self, error: &Error) -> bool {
        let error = Some(error.to_string());
        let news = self.last_error != error;
        self.last_error = error;
        news
    }

    /// The in-flight region cannot be used any more.
    pub fn forget_region(&mut self) {
        self.region = None;
    }

    /// The next request to the back-end. `None`: an answer is to come first, or there is nothing
    /// to say.
    pub fn next_step(&mut self) -> Option<Step> {
        let link = self.link.as_ref().filter(|link| link.outstanding.is_none())?;
        let step = self.decide(link)?;
        if let Some(link) = &mut self.link {
            link.outstanding = Some(step.clone());
        }
        Some(step)
    }

    fn decide(&self, link: &Link) -> Option<Step> {
        if !link.established {
            return self.handshake(link);
        }
        if let Some(step) = self.stop(link) {
            return Some(step);
        }
        if self.wanted.stopping {
            return None;
        }
        self.reset_step(link).or_else(|| self.look(link)).or_else(|| self.start_step(link))
    }

    /// What is to be done beside messages.
    pub fn effects(&mut self) -> &mut Effects {
        &mut self.effects
    }

    /// The request that waits for its answer.
    #[must_use]
    pub fn outstanding(&self) -> Option<&Step> {
        self.link.as_ref()?.outstanding.as_ref()
    }

    /// What the back-end has refused since the last time, though the connection goes on.
    pub fn take_refusal(&mut self) -> Option<&'static str> {
        self.refused.take()
    }

    /// Whether there was a handshake, so that all the constants of the device are known.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.known.is_some()
    }

    /// Whether the handshake of this connection is over.
    #[must_use]
    pub fn is_established(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.established)
    }

    /// Whether requests are acknowledged (REPLY_ACK).
    #[must_use]
    pub fn acknowledges(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.has(ProtocolFeatures::REPLY_ACK))
    }

    /// Whether the front-end was told to stop.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.wanted.stopping
    }

    /// Whether the front-end was told to stop and no ring runs any more.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.wanted.stopping && self.nothing_runs()
    }

    /// Whether the machine pauses and no ring runs.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.wanted.paused && self.nothing_runs()
    }

    /// Whether the driver uses the device.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.wanted.features.is_some()
    }

    fn nothing_runs(&self) -> bool {
        let link = self.link.as_ref();
        link.is_none_or(|link| {
            let starting = matches!(link.outstanding, Some(Step::RingKick(_)));
            !starting && link.started(|_| true).is_none()
        })
    }

    /// The configuration of this device.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    fn is_net(&self) -> bool {
        self.config.device_type == virtio_spec::DeviceType::NET
    }

    /// Tells the driver, once until its reset, that the device cannot go on.
    fn needs_reset(&mut self) {
        if self.is_live() && !std::mem::replace(&mut self.broken, true) {
            self.effects.add(Effect::NeedsReset);
        }
    }

    /// The policy is to tell the driver of the loss.
    pub fn fail(&mut self) {
        self.needs_reset();
    }
}
