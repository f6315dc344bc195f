//! How long calls of a queue are held back (virtio 1.4, 5.1.6.5.10).
//!
//! The driver names a number of packets and a time; it is called when either is reached, counted from
//! the first packet that it was not called for. Where one of them is 0, nothing is held back. What
//! was used is shown at once in any case; it is the call alone that waits.

use std::collections::BTreeMap;
use std::time::Duration;

use framework::ring::Ring;
use virtio_spec::net::control::Coalesce;

/// What the driver has set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coalescing {
    /// For receiving queues.
    pub receive: Coalesce,
    /// For transmitting queues.
    pub transmit: Coalesce,
    /// For queues that have settings of their own, by index.
    pub queues: BTreeMap<u16, Coalesce>,
}

impl Coalescing {
    /// Sets all queues of a direction: what single ones had of their own is gone.
    pub fn set_all(&mut self, receive: bool, coalesce: Coalesce) {
        self.queues.retain(|queue, _| queue.is_multiple_of(2) != receive);
        *(if receive { &mut self.receive } else { &mut self.transmit }) = coalesce;
    }

    /// What holds for a queue.
    pub fn of(&self, queue: u16) -> Coalesce {
        let usual = if queue.is_multiple_of(2) { self.receive } else { self.transmit };
        self.queues.get(&queue).copied().unwrap_or(usual)
    }

    /// Queues from this one on are disabled: when they are enabled again, they are like all others.
    pub fn forget_from(&mut self, queue: u16) {
        self.queues.retain(|index, _| *index < queue);
    }

    /// Whether calls of any queue are held back.
    pub fn is_on(&self) -> bool {
        let on = |coalesce: &Coalesce| coalesce.max_packets > 0 && coalesce.max_usecs > 0;
        on(&self.receive) || on(&self.transmit) || self.queues.values().any(on)
    }
}

/// When a queue's driver is called at the latest. None: nothing is held back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct HeldCall(pub(crate) Option<Duration>);

impl HeldCall {
    /// Holds the call of a ring back, or lets it go, by what was completed.
    pub(crate) fn update(&mut self, ring: &mut Ring, coalesce: Coalesce, now: Duration) {
        let waiting = ring.uncalled();
        let time = Duration::from_micros(coalesce.max_usecs.into());
        let due = self.0.is_some_and(|due| due <= now);
        if waiting == 0 || time.is_zero() || waiting >= coalesce.max_packets || due {
            self.0 = None;
            ring.release_call();
            return;
        }
        // A time that was made shorter holds at once.
        let until = self.0.map_or(now + time, |due| due.min(now + time));
        self.0 = ring.hold_call().then_some(until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Coalesce = Coalesce { max_packets: 15, max_usecs: 10 };
    const B: Coalesce = Coalesce { max_packets: 8, max_usecs: 100 };

    /// The sequence of commands that 5.1.6.5.10 explains.
    #[test]
    fn the_last_setting_counts_whichever_command_made_it() {
        let mut coalescing = Coalescing::default();
        assert!(!coalescing.is_on());
        coalescing.set_all(true, A);
        assert_eq!([0, 1, 2, 3].map(|queue| coalescing.of(queue) == A), [true, false, true, false]);
        coalescing.queues.insert(0, B);
        assert_eq!((coalescing.of(0), coalescing.of(2)), (B, A));
        coalescing.queues.insert(1, B);
        assert_eq!((coalescing.of(1), coalescing.of(3)), (B, Coalesce::default()));
        coalescing.set_all(false, A);
        assert_eq!((coalescing.of(0), coalescing.of(1), coalescing.of(3)), (B, A, A));
        assert!(coalescing.is_on());
    }

    #[test]
    fn a_queue_that_comes_back_is_like_all_others() {
        let mut coalescing = Coalescing::default();
        coalescing.set_all(true, A);
        coalescing.queues.insert(2, B);
        coalescing.forget_from(2);
        assert_eq!(coalescing.of(2), A);
    }
}
