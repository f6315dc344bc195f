//! Which port a station was heard at last.

use std::collections::HashMap;
use std::time::Duration;

use crate::filter::Mac;

/// After so long without a frame of a station, its place is forgotten (IEEE 802.1D's default).
pub const AGEING: Duration = Duration::from_secs(300);
/// The most stations of a port: a guest that invents addresses takes no other port's room.
pub const STATIONS_MAX: usize = 1024;
/// How often stations are looked for that can be forgotten: a guest that invents an address for each
/// frame would keep the whole switch busy with it.
const SWEEP: Duration = Duration::from_secs(1);

/// The stations that were heard, by port.
#[derive(Debug)]
pub struct Table {
    stations: HashMap<Mac, Station>,
    /// How many stations each port has.
    counts: Vec<usize>,
    /// When stations were looked for that can be forgotten.
    swept: Option<Duration>,
}

#[derive(Clone, Copy, Debug)]
struct Station {
    port: usize,
    heard: Duration,
}

impl Table {
    /// A table of a switch with so many ports, that has heard nobody yet.
    pub fn new(ports: usize) -> Self {
        Table { stations: HashMap::new(), counts: vec![0; ports], swept: None }
    }

    /// A station is heard at a port. Groups are no stations; where a port has too many, this one is
    /// not noted.
    pub fn learn(&mut self, mac: Mac, port: usize, now: Duration) {
        if mac[0] & 1 != 0 {
            return;
        }
        let before = self.stations.get(&mac).map(|station| station.port);
        if before != Some(port) {
            if self.is_full(port) {
                self.forget_old(now);
            }
            if self.is_full(port) {
                return;
            }
            self.count(port, 1);
            before.into_iter().for_each(|before| self.count(before, -1));
        }
        self.stations.insert(mac, Station { port, heard: now });
    }

    /// Where a station was heard, if it was lately.
    pub fn find(&self, mac: Mac, now: Duration) -> Option<usize> {
        let station = self.stations.get(&mac)?;
        (now.saturating_sub(station.heard) < AGEING).then_some(station.port)
    }

    /// Forgets the stations of a port.
    pub fn forget(&mut self, port: usize) {
        self.retain(|station| station.port != port);
    }

    /// How many stations there are, those included that are about to be forgotten.
    pub fn len(&self) -> usize {
        self.stations.len()
    }

    /// Whether nobody was heard.
    pub fn is_empty(&self) -> bool {
        self.stations.is_empty()
    }

    fn is_full(&self, port: usize) -> bool {
        self.counts.get(port).is_none_or(|count| *count >= STATIONS_MAX)
    }

    fn forget_old(&mut self, now: Duration) {
        if self.swept.is_some_and(|swept| now.saturating_sub(swept) < SWEEP) {
            return;
        }
        self.swept = Some(now);
        self.retain(|station| now.saturating_sub(station.heard) < AGEING);
    }

    fn retain(&mut self, keep: impl Fn(&Station) -> bool) {
        self.stations.retain(|_, station| keep(station));
        self.counts.fill(0);
        for station in self.stations.values() {
            if let Some(count) = self.counts.get_mut(station.port) {
                *count += 1;
            }
        }
    }

    fn count(&mut self, port: usize, change: isize) {
        if let Some(count) = self.counts.get_mut(port) {
            *count = count.saturating_add_signed(change);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looking through all stations for each frame would cost the switch more than forwarding it.
    #[test]
    fn a_full_port_is_searched_once_a_second() {
        let mut table = Table::new(1);
        let mut heard = |n: usize, now: Duration| {
            let [.., a, b, c] = n.to_be_bytes();
            table.learn([2, 0, 0, a, b, c], 0, now);
            table.swept
        };
        let begin = Duration::from_secs(1);
        (0..STATIONS_MAX).for_each(|n| assert_eq!(heard(n, begin), None));
        for millis in 0..1000 {
            assert_eq!(heard(5000, begin + Duration::from_millis(millis)), Some(begin));
        }
        assert_eq!(heard(5000, begin + SWEEP), Some(begin + SWEEP));
        // Within a second of their end, those of long ago make room.
        heard(5000, begin + AGEING + SWEEP);
        assert_eq!(table.len(), 1);
    }
}
