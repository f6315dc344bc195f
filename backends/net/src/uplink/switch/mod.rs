//! A learning switch: the guests of one daemon among each other, with no kernel in between.
//!
//! # Theory of operation
//! Each guest has a port. The worker of the sending guest copies a frame once, out of guest memory,
//! asks the switch where it goes, and leaves it in the queues of these ports; the worker of each
//! receiving guest copies it to that guest's chains. For a ring belongs to its worker, and nobody else
//! may touch it. Queues are bounded: what a guest does not take is dropped there, and counted.
//!
//! A frame keeps what it leaves to its receiver: segmentation and checksum. For a receiver that does not
//! take these, TCP is cut into segments and checksums are completed; of UDP, what such a receiver does
//! not take is dropped (`rx_unnegotiated`).
//!
//! - `table.rs` and `forwarding.rs` are the switch proper, without any I/O,
//! - `checksum.rs` and `segments.rs` do for a receiver what its device does not,
//! - `outlet.rs` is a port's queue, `attachment.rs` a port as its worker has it.

pub(crate) mod attachment;
mod checksum;
pub mod forwarding;
mod outlet;
mod segments;
pub mod table;

use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use framework::program::rate_limit::now;
use serde_json::{Value, json};
use virtio_spec::net::Header;

use crate::error::Error;
use forwarding::{Forwarding, Rules, Target};
use outlet::{Outlet, Packet};

/// A switch.
#[derive(Debug)]
pub struct Switch {
    forwarding: Mutex<Forwarding>,
    outlets: Vec<Outlet>,
}

/// A port of a switch.
#[derive(Clone, Debug)]
pub struct Port {
    switch: Arc<Switch>,
    number: usize,
}

impl Switch {
    /// The ports of a new switch.
    ///
    /// # Errors
    /// When the system has no descriptors left.
    pub fn ports(count: usize, rules: &Rules) -> Result<Vec<Port>, Error> {
        let outlets = (0..count).map(|_| Outlet::new()).collect::<Result<Vec<_>, _>>();
        let outlets = outlets.map_err(|errno| Error::Switch { source: errno.into() })?;
        let forwarding = Mutex::new(Forwarding::new(count, rules, now()));
        let switch = Arc::new(Switch { forwarding, outlets });
        Ok((0..count).map(|number| Port { switch: Arc::clone(&switch), number }).collect())
    }

    fn forwarding(&self) -> MutexGuard<'_, Forwarding> {
        self.forwarding.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Port {
    /// What becomes readable when there are frames for this port.
    pub fn bell(&self) -> Option<&Arc<OwnedFd>> {
        self.outlet().map(Outlet::bell)
    }

    fn outlet(&self) -> Option<&Outlet> {
        self.switch.outlets.get(self.number)
    }

    /// Sends a frame from this port. Workers that sleep are woken by [`Port::wake_others`]. False: this
    /// port has had too many frames flooded.
    pub(crate) fn send(&self, header: Header, bytes: Vec<u8>) -> bool {
        let packet = Arc::new(Packet { header, bytes });
        let mut forwarding = self.switch.forwarding();
        match forwarding.decide(self.number, &packet.bytes, now()) {
            Target::Port(port) => {
                drop(forwarding);
                self.switch.outlets.get(port).into_iter().for_each(|outlet| outlet.push(&packet));
            }
            Target::All => {
                for (port, outlet) in self.switch.outlets.iter().enumerate() {
                    if forwarding.reaches(self.number, port) {
                        outlet.push(&packet);
                    }
                }
            }
            Target::Nowhere => {}
            Target::Suppressed => return false,
        }
        true
    }

    /// Wakes the workers that sleep and have frames now.
    pub(crate) fn wake_others(&self) {
        self.switch.outlets.iter().for_each(Outlet::wake_if_any);
    }

    /// For messages and `stats`.
    pub fn describe(&self) -> String {
        format!("switch, port {} of {}", self.number, self.switch.outlets.len())
    }

    /// What `stats` shows.
    pub fn to_json(&self) -> Value {
        let overflowed = self.outlet().map(|outlet| outlet.overflowed.load(Ordering::Relaxed));
        json!({ "stations": self.switch.forwarding().table.len(), "overflowed": overflowed })
    }
}
