//! What a simulated engine does to the operations that it is given.

use std::ops::RangeInclusive;
use std::time::Duration;

use fastrand::Rng;
use rustix::io::Errno;

/// How often things go wrong, as probabilities from 0 to 1, and how long they take.
#[derive(Clone, Debug)]
pub struct Faults {
    /// An operation ends when it is submitted, instead of later.
    pub at_once: f64,
    /// A read or a write transfers only a part, at least one byte.
    pub short: f64,
    /// An operation fails with EIO. A write may have written a part.
    pub error: f64,
    /// A write, or what allocates, fails with ENOSPC. A write may have written a part.
    pub no_space: f64,
    /// An operation fails with EINTR and has done nothing.
    pub interrupted: f64,
    /// At a turn, one of the effects lands that a killed engine has left behind.
    pub late: f64,
    /// How long an operation takes. The wider, the more they overtake each other.
    pub delay: RangeInclusive<Duration>,
}

impl Faults {
    /// Nothing goes wrong, and all operations take equally long: they end in order.
    pub fn none() -> Self {
        let delay = Duration::from_micros(50);
        Faults {
            at_once: 0.0,
            short: 0.0,
            error: 0.0,
            no_space: 0.0,
            interrupted: 0.0,
            late: 0.0,
            delay: delay..=delay,
        }
    }

    /// Everything is slow, reordered and cut short, but nothing fails.
    pub fn reordering() -> Self {
        Faults {
            at_once: 0.1,
            short: 0.2,
            late: 0.2,
            delay: Duration::from_micros(1)..=Duration::from_millis(5),
            ..Faults::none()
        }
    }

    /// As [`Faults::reordering`], and operations fail.
    pub fn failing() -> Self {
        Faults { error: 0.05, no_space: 0.05, interrupted: 0.05, ..Faults::reordering() }
    }

    pub(super) fn delay(&self, random: &mut Rng) -> Duration {
        let nanos = |time: &Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let (least, most) = (nanos(self.delay.start()), nanos(self.delay.end()));
        Duration::from_nanos(random.u64(least..=most.max(least)))
    }

    /// Decides how an operation will end that could transfer `whole` bytes.
    pub(super) fn fate(&self, random: &mut Rng, whole: usize, kind: Kind) -> Fate {
        let transfers = kind != Kind::Other;
        if happens(random, self.interrupted) {
            return Fate { transferred: 0, error: Some(Errno::INTR) };
        }
        let no_space = happens(random, self.no_space) && kind != Kind::Read;
        if no_space || happens(random, self.error) {
            let error = if no_space { Errno::NOSPC } else { Errno::IO };
            let part = if kind == Kind::Write { random.usize(..=whole) } else { 0 };
            return Fate { transferred: part, error: Some(error) };
        }
        if happens(random, self.short) && transfers && whole > 1 {
            return Fate { transferred: random.usize(1..whole), error: None };
        }
        Fate { transferred: whole, error: None }
    }
}

/// What matters of an operation to its fate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Read,
    Write,
    Other,
}

/// How an operation will end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fate {
    /// The bytes that are transferred, even if it fails in the end.
    pub(super) transferred: usize,
    pub(super) error: Option<Errno>,
}

/// Throws the dice.
pub(super) fn happens(random: &mut Rng, probability: f64) -> bool {
    random.f64() < probability
}
