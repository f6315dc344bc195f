//! A learning switch: the guests of one daemon among each other, with no kernel in between.
//!
//! # Theory of operation
//! Each guest has a port, and each queue pair of it a worker, an [`outlet`] and an [`attachment`]. The
//! worker of a sending guest takes a batch of chains and makes a [`parcel`] of it: the frames stay where
//! they are, in that guest's memory. It asks the switch once where all of them go, and leaves each of
//! the workers concerned its share of the parcel. These copy frames straight to chains of their own
//! guests, which is the only copy there is: a ring belongs to its worker, and nobody else may touch it.
//! When the last of them lets go of the parcel, the sender hears of it and completes its chains.
//!
//! So that no guest can hold up another, workers take what they are given at once: frames for which a
//! guest has no buffers now are copied aside, within bounds, and what exceeds those is dropped and
//! counted.
//!
//! A frame keeps what it leaves to its receiver: segmentation and checksum. For a receiver that does not
//! take these, TCP is cut into segments and checksums are completed; of UDP, what such a receiver does
//! not take is dropped (`rx_unnegotiated`).
//!
//! - `table.rs` and `forwarding.rs` are the switch proper, without any I/O; `steering.rs` chooses among
//!   the queue pairs of a port,
//! - `checksum.rs` and `segments.rs` do for a receiver what its device does not,
//! - `outlet.rs` is a worker's letter box, `attachment.rs` a port as a worker has it,
//! - `trunk.rs` is the port that leads outside.

pub(crate) mod attachment;
mod checksum;
mod delivery;
pub mod forwarding;
mod outlet;
mod parcel;
mod segments;
mod steering;
pub mod table;
pub mod trunk;

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use framework::program::rate_limit::now;
use serde_json::{Value, json};

use crate::counts::Counts;
use crate::deliver::Frame;
use crate::error::Error;
use crate::rss::RssSettings;
use forwarding::{Forwarding, Rules, Target};
use outlet::{Outlet, Share};
use parcel::Parcel;
use steering::{Chooser, Steering};
use trunk::{Outside, Trunk};

/// A switch.
#[derive(Debug)]
pub struct Switch {
    forwarding: Mutex<Forwarding>,
    /// For each port, those that its frames reach.
    reached: Vec<Vec<usize>>,
    places: Vec<Place>,
    /// What leads outside, as `stats` shows it.
    uplink: Option<(String, Arc<Counts>)>,
}

/// What a switch has of a port.
#[derive(Debug)]
struct Place {
    /// One for each queue pair.
    outlets: Vec<Arc<Outlet>>,
    steering: Steering,
}

/// A port of a switch.
#[derive(Clone, Debug)]
pub struct Port {
    switch: Arc<Switch>,
    number: usize,
}

/// Where the frames of a parcel go; kept from one to the next for its memory.
#[derive(Debug, Default)]
pub(super) struct Routes {
    targets: Vec<Target>,
    /// Frames by port and pair, as far as there are any.
    shares: Vec<(usize, u16, Vec<u16>)>,
}

impl Switch {
    /// The ports of a new switch, with so many queue pairs each, and one more that leads outside, if
    /// it leads anywhere.
    ///
    /// # Errors
    /// When the system has no descriptors left.
    pub fn ports(
        count: usize,
        pairs: u16,
        rules: &Rules,
        outside: Option<Outside>,
    ) -> Result<(Vec<Port>, Option<Trunk>), Error> {
        let all = count + usize::from(outside.is_some());
        let place = |port| Place::new(if port < count { pairs } else { 1 });
        let places = (0..all).map(place).collect::<Result<_, _>>()?;
        let forwarding = Forwarding::new(all, rules, now());
        let reaches = |from| (0..all).filter(|to| forwarding.reaches(from, *to)).collect();
        let reached = (0..all).map(reaches).collect();
        let counts = Arc::new(Counts::default());
        let uplink = outside.as_ref().map(|outside| (outside.describe(), Arc::clone(&counts)));
        let forwarding = Mutex::new(forwarding);
        let switch = Arc::new(Switch { forwarding, reached, places, uplink });
        let port = |number| Port { switch: Arc::clone(&switch), number };
        let trunk = outside.map(|outside| Trunk::new(port(count), outside, counts));
        Ok(((0..count).map(port).collect(), trunk))
    }

    fn forwarding(&self) -> MutexGuard<'_, Forwarding> {
        self.forwarding.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    fn new(pairs: u16) -> Result<Self, Error> {
        let outlets = (0..pairs.max(1)).map(|_| Outlet::new().map(Arc::new));
        let outlets = outlets.collect::<Result<_, _>>();
        let outlets = outlets.map_err(|errno| Error::Switch { source: errno.into() })?;
        Ok(Place { outlets, steering: Steering::new(pairs) })
    }
}

impl Port {
    /// What becomes readable when there is something for this pair's worker.
    pub fn bell(&self, pair: u16) -> Option<&Arc<OwnedFd>> {
        self.outlet(pair).map(|outlet| outlet.bell())
    }

    fn place(&self) -> Option<&Place> {
        self.switch.places.get(self.number)
    }

    fn outlet(&self, pair: u16) -> Option<&Arc<Outlet>> {
        self.place()?.outlets.get(usize::from(pair))
    }

    /// How the driver wants its frames spread over its queues.
    pub fn steer(&self, settings: Option<&RssSettings>) {
        self.place().into_iter().for_each(|place| place.steering.set_rss(settings));
    }

    /// Sends a frame of our own.
    pub fn announce(&self, frame: &[u8]) {
        let parcel = Parcel::of(frame);
        if let Some(parcel) = parcel {
            let _ = self.send(parcel, 0, &mut Routes::default());
        }
    }

    /// Has the frames of a parcel, which this pair of the port sends, go where they are to. Says which
    /// of them do not because the port has had too many flooded: how many, and their bytes.
    fn send(&self, parcel: Parcel, pair: u16, routes: &mut Routes) -> (usize, usize) {
        self.decide(&parcel, routes);
        let parcel = Arc::new(parcel);
        let mut suppressed = (0, 0);
        let mut choosers = Choosers::default();
        let own = self.place().map(|place| &place.steering).filter(|own| own.is_needed());
        let reached = self.switch.reached.get(self.number).map_or(&[][..], Vec::as_slice);
        for (number, target) in (0..).zip(routes.targets.iter()) {
            let Some(frame) = parcel.frame(number) else { break };
            if let Some(own) = own {
                own.note(&frame, pair);
            }
            let ports = match target {
                Target::Port(port) => std::slice::from_ref(port),
                Target::All => reached,
                Target::Nowhere => &[],
                Target::Suppressed => {
                    suppressed = (suppressed.0 + 1, suppressed.1 + frame.length());
                    &[]
                }
            };
            for port in ports {
                let pair = choosers.pair(&self.switch, *port, &frame);
                share_out(&mut routes.shares, *port, pair, number);
            }
        }
        for (port, pair, frames) in routes.shares.drain(..) {
            let outlets = self.switch.places.get(port).map(|place| &place.outlets);
            if let Some(outlet) = outlets.and_then(|outlets| outlets.get(usize::from(pair))) {
                outlet.push(Share { parcel: Arc::clone(&parcel), frames });
            }
        }
        suppressed
    }

    /// Asks where they go: the one time that all ports take turns, once for all the frames.
    fn decide(&self, parcel: &Parcel, routes: &mut Routes) {
        routes.targets.clear();
        let now = now();
        let mut forwarding = self.switch.forwarding();
        let mut last = None;
        for sent in parcel.frames() {
            // Most frames are for whom the one before was for.
            let target = match last {
                Some((ends, target @ Target::Port(_))) if ends == sent.ends => target,
                _ => forwarding.decide(self.number, sent.ends, now),
            };
            last = Some((sent.ends, target));
            routes.targets.push(target);
        }
    }

    /// For messages and `stats`.
    pub fn describe(&self) -> String {
        format!("switch, port {} of {}", self.number, self.switch.places.len())
    }

    /// What `stats` shows.
    pub fn to_json(&self) -> Value {
        let outlets = self.place().map_or(&[][..], |place| &place.outlets);
        let overflowed: u64 = outlets.iter().map(|outlet| outlet.overflowed()).sum();
        let uplink = self.switch.uplink.as_ref().map(|(name, counts)| {
            let mut uplink = Counts::sum(&[Arc::clone(counts)]);
            uplink.insert("uplink".into(), name.as_str().into());
            uplink.insert("uplink_error".into(), counts.last_error().into());
            uplink
        });
        json!({
            "stations": self.switch.forwarding().table.len(),
            "overflowed": overflowed,
            // Counted as for a guest at that port: what it sends comes from outside.
            "uplink": uplink,
        })
    }
}

/// What was found out about the steering of ports during one batch.
#[derive(Debug, Default)]
struct Choosers<'a>(Vec<(usize, Chooser<'a>)>);

impl<'a> Choosers<'a> {
    /// The pair of a port that is to have a frame.
    fn pair(&mut self, switch: &'a Switch, port: usize, frame: &impl Frame) -> u16 {
        if let Some((_, chooser)) = self.0.iter().find(|(known, _)| *known == port) {
            return chooser.pair(frame);
        }
        let Some(place) = switch.places.get(port).filter(|place| place.steering.is_needed()) else {
            return 0;
        };
        let open = place.outlets.iter().map(|outlet| outlet.is_open()).collect();
        let chooser = place.steering.chooser(open);
        let pair = chooser.pair(frame);
        self.0.push((port, chooser));
        pair
    }
}

fn share_out(shares: &mut Vec<(usize, u16, Vec<u16>)>, port: usize, pair: u16, number: u16) {
    match shares.iter_mut().find(|(p, q, _)| (*p, *q) == (port, pair)) {
        Some((.., frames)) => frames.push(number),
        None => shares.push((port, pair, vec![number])),
    }
}

#[cfg(test)]
#[path = "switch_test.rs"]
mod tests;
