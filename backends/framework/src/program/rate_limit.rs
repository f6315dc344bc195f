//! A limit for log messages that a guest or a peer can trigger (DESIGN: "nothing that a guest can
//! trigger repeatedly is logged more than at a limited rate").

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};

/// The time on the monotonic clock, for [`RateLimit::admit`].
#[must_use]
pub fn now() -> Duration {
    let time = clock_gettime(ClockId::Monotonic);
    // The monotonic clock is never negative, and nanoseconds are below a second.
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Lets a number of messages through per interval and counts the rest.
///
/// Intervals are those of the clock (it does not begin with the first message), so at worst twice the
/// number comes close together. Any thread may use it; it never waits.
#[derive(Debug)]
pub struct RateLimit {
    burst: u32,
    interval: Duration,
    /// The interval's number in the upper half, the messages let through in it in the lower half.
    window: AtomicU64,
    suppressed: AtomicU64,
}

impl RateLimit {
    /// At most `burst` messages in each `interval`.
    #[must_use]
    pub const fn new(burst: u32, interval: Duration) -> Self {
        Self { burst, interval, window: AtomicU64::new(0), suppressed: AtomicU64::new(0) }
    }

    /// Whether a message may be logged at the time `now`. If so, it comes with the number of those that
    /// were suppressed since the last one that was let through, to be logged with it.
    pub fn admit(&self, now: Duration) -> Option<u64> {
        let index = self.index(now);
        let counted = self.window.fetch_update(Relaxed, Relaxed, |window| {
            let used = if window >> 32 == index { window & u64::from(u32::MAX) } else { 0 };
            (used < u64::from(self.burst)).then_some(index << 32 | (used + 1))
        });
        if counted.is_err() {
            self.suppressed.fetch_add(1, Relaxed);
            return None;
        }
        Some(self.suppressed.swap(0, Relaxed))
    }

    /// Takes the number of messages that were suppressed and not yet told; for the end of a connection
    /// or of the program.
    pub fn take_suppressed(&self) -> u64 {
        self.suppressed.swap(0, Relaxed)
    }

    /// The number of the interval, in 32 bits: only "the same or another" matters.
    fn index(&self, now: Duration) -> u64 {
        let intervals = now.as_nanos().checked_div(self.interval.as_nanos()).unwrap_or(0);
        u64::try_from(intervals & u128::from(u32::MAX)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use proptest::{collection::vec, prelude::*};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_rest_is_counted_and_told_with_the_next() {
        let limit = RateLimit::new(2, SECOND);
        assert_eq!(limit.admit(SECOND * 10), Some(0));
        assert_eq!(limit.admit(SECOND * 10), Some(0));
        for _ in 0..5 {
            assert_eq!(limit.admit(SECOND * 10 + SECOND / 2), None);
        }
        assert_eq!(limit.admit(SECOND * 11), Some(5));
        assert_eq!(limit.admit(SECOND * 11), Some(0));
        assert_eq!(limit.admit(SECOND * 11), None);
        assert_eq!(limit.take_suppressed(), 1);
        assert_eq!(limit.take_suppressed(), 0);
    }

    #[test]
    fn a_limit_of_none_and_an_interval_of_none_are_no_panic() {
        assert_eq!(RateLimit::new(0, SECOND).admit(SECOND), None);
        let once = RateLimit::new(1, Duration::ZERO);
        assert_eq!(once.admit(SECOND), Some(0));
        assert_eq!(once.admit(Duration::MAX), None);
    }

    #[test]
    fn threads_share_the_limit() {
        let limit = RateLimit::new(100, SECOND);
        let passed = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        if limit.admit(SECOND).is_some() {
                            passed.fetch_add(1, Relaxed);
                        }
                    }
                });
            }
        });
        assert_eq!(passed.into_inner(), 100);
    }

    #[test]
    fn the_clock_goes_on() {
        let before = now();
        assert!(now() >= before && before > Duration::ZERO);
    }

    proptest! {
        #[test]
        fn all_are_either_let_through_or_counted(steps in vec(0..700_u64, 1..200), burst in 1..4_u32) {
            let limit = RateLimit::new(burst, SECOND);
            let mut time = Duration::ZERO;
            let (mut passed, mut told) = (0, 0);
            for step in &steps {
                time += Duration::from_millis(*step);
                if let Some(suppressed) = limit.admit(time) {
                    passed += 1;
                    told += suppressed;
                }
            }
            told += limit.take_suppressed();
            prop_assert_eq!(passed + told, steps.len() as u64);
            prop_assert!(passed <= u64::from(burst) * (time.as_secs() + 1));
        }
    }
}
