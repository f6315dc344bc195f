//! How often a back-end may make the device's thread, and the driver, do something unasked.
//!
//! Each message on the back-end's own channel and each signal of a ring's failure costs the thread a
//! turn, and may cost the driver an interrupt. A few at once are usual: a disk was resized, all rings
//! have failed. Who goes on like that is served at a slow pace; in between nobody looks.

use std::time::{Duration, Instant};

/// So many at once are served without delay.
const BURST: u32 = 16;
/// How long it takes until one more is.
const REFILL: Duration = Duration::from_millis(20);

/// What is left of it.
#[derive(Debug)]
pub(crate) struct Allowance {
    left: u32,
    /// Up to when `left` was made up for.
    since: Instant,
}

impl Allowance {
    /// All of it.
    pub(crate) fn new(now: Instant) -> Self {
        Self { left: BURST, since: now }
    }

    /// Uses some of it up, if there is any; otherwise it is not yet time.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        self.refill(now);
        let some = self.left > 0;
        self.left = self.left.saturating_sub(1);
        some
    }

    /// How long there is none.
    pub(crate) fn pause(&mut self, now: Instant) -> Option<Duration> {
        self.refill(now);
        let next = self.since + REFILL;
        (self.left == 0).then(|| next.saturating_duration_since(now))
    }

    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.since);
        let more = u32::try_from(passed.as_nanos() / REFILL.as_nanos()).unwrap_or(u32::MAX);
        self.left = self.left.saturating_add(more).min(BURST);
        self.since = if self.left == BURST { now } else { self.since + REFILL * more };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_served_at_once_and_what_follows_slowly() {
        let start = Instant::now();
        let mut allowance = Allowance::new(start);
        assert!((0..BURST).all(|_| allowance.take(start)));
        assert!(!allowance.take(start));
        assert_eq!(allowance.pause(start), Some(REFILL));
        let later = start + REFILL * 3;
        assert_eq!(allowance.pause(later), None);
        assert_eq!((0..BURST).filter(|_| allowance.take(later)).count(), 3);
    }

    #[test]
    fn no_more_than_a_burst_is_saved_up() {
        let start = Instant::now();
        let mut allowance = Allowance::new(start);
        let later = start + REFILL * 1000;
        assert_eq!((0..1000).filter(|_| allowance.take(later)).count(), 16);
    }

    #[test]
    fn parts_of_the_time_are_not_lost() {
        let start = Instant::now();
        let mut allowance = Allowance::new(start);
        while allowance.take(start) {}
        let steps = (1..=100).map(|step| start + REFILL * step / 10);
        let served = steps.filter(|now| allowance.take(*now)).count();
        assert_eq!(served, 10);
    }
}
