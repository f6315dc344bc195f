//! Where a frame goes: the rules of a learning switch.

use std::time::Duration;

use super::table::Table;
use crate::filter::Mac;
use crate::rate::Bucket;

/// What the user has decided about a switch.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Ports that reach only those that are not isolated.
    pub isolated: Vec<usize>,
    /// How many frames a port may have flooded in a second. None: all.
    pub floods_per_second: Option<u64>,
}

/// Where a frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// To one port.
    Port(usize),
    /// To all that the port reaches ([`Forwarding::reaches`]).
    All,
    /// Nowhere: it is for a station at its own port, or for one that may not be reached.
    Nowhere,
    /// Nowhere: its port has had too many flooded.
    Suppressed,
}

/// What a switch knows, and goes by.
#[derive(Debug)]
pub struct Forwarding {
    pub(super) table: Table,
    isolated: Vec<bool>,
    floods: Option<Vec<Bucket>>,
}

impl Forwarding {
    /// A switch with so many ports.
    pub fn new(ports: usize, rules: &Rules, now: Duration) -> Self {
        let bucket = |rate| vec![Bucket::new(rate, 16, now); ports];
        Forwarding {
            table: Table::new(ports),
            isolated: (0..ports).map(|port| rules.isolated.contains(&port)).collect(),
            floods: rules.floods_per_second.map(bucket),
        }
    }

    /// Whether frames go from one port to another.
    pub fn reaches(&self, from: usize, to: usize) -> bool {
        let isolated = |port: usize| self.isolated.get(port).copied().unwrap_or(true);
        from != to && !(isolated(from) && isolated(to))
    }

    /// Learns from a frame with this destination and source, and says where it goes.
    pub fn decide(&mut self, from: usize, (to, source): (Mac, Mac), now: Duration) -> Target {
        self.table.learn(source, from, now);
        let known = if to[0] & 1 == 0 { self.table.find(to, now) } else { None };
        match known {
            Some(port) if self.reaches(from, port) => Target::Port(port),
            Some(_) => Target::Nowhere,
            None if self.may_flood(from, now) => Target::All,
            None => Target::Suppressed,
        }
    }

    fn may_flood(&mut self, from: usize, now: Duration) -> bool {
        let Some(floods) = &mut self.floods else { return true };
        let Some(bucket) = floods.get_mut(from) else { return false };
        let may = bucket.available(now) > 0;
        bucket.take(u64::from(may));
        may
    }
}

#[cfg(test)]
#[path = "forwarding_test.rs"]
mod tests;
