//! Which of a port's queue pairs is given a frame.

use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::deliver::Frame;
use crate::hash::{self, LOOKED_AT};
use crate::rss::{Rss, RssSettings};

/// How many flows are told apart.
const FLOWS: usize = 1024;

/// How frames for one port are spread over its queue pairs: as its driver has said (virtio 1.4,
/// 5.1.6.5.7), or else each flow to the pair by which the guest sends what belongs to it (5.1.6.5.6).
#[derive(Debug)]
pub(super) struct Steering {
    pairs: u16,
    /// For each flow, by hash: the pair that its guest used last, counted from 1.
    flows: Vec<AtomicU16>,
    rss: Mutex<Option<Arc<Rss>>>,
}

/// Steering for one batch.
#[derive(Debug)]
pub(super) struct Chooser<'a> {
    steering: &'a Steering,
    rss: Option<Arc<Rss>>,
    /// Which pairs take frames.
    open: Vec<bool>,
}

impl Steering {
    pub(super) fn new(pairs: u16) -> Self {
        let flows = if pairs > 1 { FLOWS } else { 0 };
        Steering {
            pairs: pairs.max(1),
            flows: std::iter::repeat_with(AtomicU16::default).take(flows).collect(),
            rss: Mutex::default(),
        }
    }

    /// What the driver has said, or that it says nothing any more.
    pub(super) fn set_rss(&self, settings: Option<&RssSettings>) {
        let rss = settings.map(Rss::new).map(Arc::new);
        *self.rss.lock().unwrap_or_else(PoisonError::into_inner) = rss;
    }

    /// Whether there is anything to choose.
    pub(super) fn is_needed(&self) -> bool {
        self.pairs > 1
    }

    /// The guest has sent a frame by that pair.
    pub(super) fn note(&self, frame: &(impl Frame + ?Sized), pair: u16) {
        let mut start = [0; LOOKED_AT];
        let seen = frame.start(&mut start);
        if let Some(flow) = self.flow(start.get(..seen).unwrap_or_default()) {
            flow.store(pair + 1, Ordering::Relaxed);
        }
    }

    /// Steering as it is now, to the pairs that are open, and to the first one instead of others.
    pub(super) fn chooser(&self, open: Vec<bool>) -> Chooser<'_> {
        let rss = self.rss.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Chooser { steering: self, rss, open }
    }

    fn flow(&self, start: &[u8]) -> Option<&AtomicU16> {
        self.flows.get(hash::of_both_ways(start)? as usize % FLOWS)
    }
}

impl Chooser<'_> {
    /// The pair that is to have a frame.
    pub(super) fn pair(&self, frame: &(impl Frame + ?Sized)) -> u16 {
        let mut start = [0; LOOKED_AT];
        let seen = frame.start(&mut start);
        let start = start.get(..seen).unwrap_or_default();
        let chosen = match (&self.rss, self.steering.flow(start)) {
            (Some(rss), _) => rss.pair(start),
            (None, Some(flow)) => flow.load(Ordering::Relaxed).saturating_sub(1),
            (None, None) => 0,
        };
        if self.open.get(usize::from(chosen)).is_some_and(|open| *open) { chosen } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use virtio_spec::net::HashTypes;

    use super::*;
    use crate::hash::HashSettings;

    fn frame(from: [u8; 6], to: [u8; 6]) -> Vec<u8> {
        let head = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 0, 40];
        let rest = [0, 0, 0, 0, 64, 6, 0, 0];
        [&head[..], &rest, &from[..4], &to[..4], &from[4..], &to[4..]].concat()
    }

    const HERE: [u8; 6] = [10, 0, 0, 1, 0, 80];
    const THERE: [u8; 6] = [10, 0, 0, 2, 200, 7];

    #[test]
    fn answers_come_by_the_pair_that_asked() {
        let steering = Steering::new(4);
        assert_eq!(steering.chooser(vec![true; 4]).pair(&frame(THERE, HERE)[..]), 0);
        steering.note(&frame(HERE, THERE)[..], 3);
        assert_eq!(steering.chooser(vec![true; 4]).pair(&frame(THERE, HERE)[..]), 3);
        assert_eq!(steering.chooser(vec![true; 4]).pair(&[0; 60][..]), 0);
    }

    #[test]
    fn pairs_that_take_nothing_are_passed_over() {
        let steering = Steering::new(2);
        steering.note(&frame(HERE, THERE)[..], 1);
        for (open, expected) in [(vec![true, true], 1), (vec![true, false], 0)] {
            assert_eq!(steering.chooser(open).pair(&frame(THERE, HERE)[..]), expected);
        }
    }

    #[test]
    fn a_driver_that_chooses_is_obeyed() {
        let steering = Steering::new(4);
        steering.note(&frame(HERE, THERE)[..], 3);
        let hash = HashSettings { types: HashTypes::TCPV4, key: vec![7; 40] };
        let settings = RssSettings { hash, table: vec![2], unclassified: 1, transmit: 4 };
        steering.set_rss(Some(&settings));
        let chooser = steering.chooser(vec![true; 4]);
        assert_eq!((chooser.pair(&frame(THERE, HERE)[..]), chooser.pair(&[0; 60][..])), (2, 1));
        steering.set_rss(None);
        assert_eq!(steering.chooser(vec![true; 4]).pair(&frame(THERE, HERE)[..]), 3);
    }

    #[test]
    fn one_pair_is_no_choice() {
        let steering = Steering::new(1);
        steering.note(&frame(HERE, THERE)[..], 0);
        assert!(
            !steering.is_needed()
                && steering.chooser(vec![true]).pair(&frame(THERE, HERE)[..]) == 0
        );
    }
}
