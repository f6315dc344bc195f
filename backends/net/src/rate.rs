//! How fast frames may cross the card.
//!
//! A bucket holds what may be used at once, and is filled at a constant rate. It may be overdrawn by
//! the last frame: so a frame that is longer than the bucket is deep passes too, and what it took too
//! much is waited for afterwards. In the long run the rate holds to the byte.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;

/// How much may be used at once: what comes in this time.
const BURST: Duration = Duration::from_millis(50);
/// No wait is shorter: a timer that rang for each frame would cost more than it is worth.
const SHORTEST_WAIT: Duration = Duration::from_micros(500);
const NANOS: u128 = 1_000_000_000;

/// What may be used up, and comes again with time. Units are bytes or packets.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    /// Units per second.
    rate: u64,
    /// How much there is at most, in billionths of a unit.
    depth: i128,
    /// How much there is, in billionths of a unit; below zero, what was used too much.
    level: i128,
    /// When it was filled last.
    filled_at: Duration,
}

impl Bucket {
    /// A full bucket; a rate of 0 is taken for 1.
    pub fn new(rate: u64, smallest_burst: u64, now: Duration) -> Self {
        let rate = rate.max(1);
        let burst = u128::from(rate) * BURST.as_nanos();
        let depth = signed(burst.max(u128::from(smallest_burst) * NANOS));
        Bucket { rate, depth, level: depth, filled_at: now }
    }

    /// How many units may be used now.
    pub fn available(&mut self, now: Duration) -> u64 {
        let passed = now.saturating_sub(self.filled_at);
        self.filled_at = self.filled_at.max(now);
        let more = signed(u128::from(self.rate).saturating_mul(passed.as_nanos()));
        self.level = self.level.saturating_add(more).min(self.depth);
        let whole = self.level.div_euclid(signed(NANOS));
        u64::try_from(whole.max(0)).unwrap_or(u64::MAX)
    }

    /// So many units have been used, perhaps more than there were.
    pub fn take(&mut self, units: u64) {
        self.level = self.level.saturating_sub(signed(u128::from(units) * NANOS));
    }

    /// How long until a unit may be used again. To be asked after [`Bucket::available`].
    pub fn wait(&self) -> Duration {
        let missing = signed(NANOS).saturating_sub(self.level).max(0).unsigned_abs();
        let nanos = missing.div_ceil(self.rate.into());
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

fn signed(value: u128) -> i128 {
    i128::try_from(value).unwrap_or(i128::MAX)
}

/// What the user allows in one direction. None: as much as comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Limit {
    /// Bytes of frames per second.
    pub bytes_per_second: Option<u64>,
    /// Frames per second.
    pub packets_per_second: Option<u64>,
}

impl Limit {
    /// Whether there is any.
    pub fn is_any(&self) -> bool {
        self.bytes_per_second.is_some() || self.packets_per_second.is_some()
    }
}

/// A direction's limit, shared by the workers of all queue pairs.
#[derive(Debug, Default)]
pub struct Meter(Mutex<Metered>);

#[derive(Debug, Default)]
struct Metered {
    limit: Limit,
    bytes: Option<Bucket>,
    packets: Option<Bucket>,
}

/// A burst holds at least one of the longest frames, or some of the usual length.
const SMALLEST_BURST: u64 = 65_536;
const SMALLEST_PACKETS: u64 = 4;
/// The length of frames by which a byte limit is turned into a number of frames.
const USUAL_LENGTH: u64 = 1514;

/// What may cross now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// So many frames, 1 or more.
    Frames(usize),
    /// Nothing for so long.
    Wait(Duration),
}

impl Meter {
    /// Sets another limit. Buckets begin full at the first use.
    pub fn set(&self, limit: Limit) {
        *self.lock() = Metered { limit, bytes: None, packets: None };
    }

    /// The limit.
    pub fn limit(&self) -> Limit {
        self.lock().limit
    }

    /// What may cross now, at most `most` frames.
    pub fn admit(&self, most: usize, now: Duration) -> Admission {
        let Metered { limit, bytes, packets } = &mut *self.lock();
        let mut wait = Duration::ZERO;
        let mut frames = u64::try_from(most).unwrap_or(u64::MAX);
        if let Some(rate) = limit.bytes_per_second {
            let bucket = bytes.get_or_insert_with(|| Bucket::new(rate, SMALLEST_BURST, now));
            match bucket.available(now) {
                0 => wait = bucket.wait(),
                some => frames = frames.min(some.div_ceil(USUAL_LENGTH)),
            }
        }
        if let Some(rate) = limit.packets_per_second {
            let bucket = packets.get_or_insert_with(|| Bucket::new(rate, SMALLEST_PACKETS, now));
            match bucket.available(now) {
                0 => wait = wait.max(bucket.wait()),
                some => frames = frames.min(some),
            }
        }
        match wait {
            Duration::ZERO => Admission::Frames(usize::try_from(frames).unwrap_or(most).max(1)),
            wait => Admission::Wait(wait.max(SHORTEST_WAIT)),
        }
    }

    /// This has crossed.
    pub fn charge(&self, frames: u64, bytes: u64) {
        let metered = &mut *self.lock();
        if let Some(bucket) = &mut metered.bytes {
            bucket.take(bytes);
        }
        if let Some(bucket) = &mut metered.packets {
            bucket.take(frames);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Metered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[path = "rate_test.rs"]
mod tests;
