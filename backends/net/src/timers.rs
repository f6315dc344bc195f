//! What a worker waits for beside kicks and packets: one timer serves it all.

use std::time::Duration;

use framework::engine::Io;
use framework::ring::Ring;
use virtio_spec::net::control::Coalesce;

use crate::coalesce::HeldCall;

/// How long an uplink that has failed is left alone, at first and at most: an interface that was
/// deleted costs next to nothing, and one that is back is noticed soon.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// The times that a worker waits for.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    /// When the uplink is asked again.
    retry: Option<Duration>,
    /// How long it was left alone last.
    pause: Duration,
    /// Held calls of the receiving and the transmitting ring.
    held: [HeldCall; 2],
    /// When the connection of a stream is tried again.
    pub(crate) link: Option<Duration>,
    /// When receiving and transmitting may go on, where they are limited.
    pub(crate) limits: [Option<Duration>; 2],
    /// What the engine was told.
    armed: Option<Duration>,
}

impl Timers {
    /// The uplink has failed: it is left alone for a while, longer each time.
    pub(crate) fn pause(&mut self, now: Duration) {
        let (first, most) = PAUSE;
        self.pause = (2 * self.pause).clamp(first, most);
        self.retry = Some(now + self.pause);
    }

    /// Whether the uplink is to be asked again.
    pub(crate) fn pause_is_over(&mut self, now: Duration) -> bool {
        self.retry.take_if(|at| *at <= now).is_some()
    }

    /// Holds a ring's call back or lets it go.
    pub(crate) fn hold_call(
        &mut self,
        queue: usize,
        ring: &mut Ring,
        coalesce: Coalesce,
        now: Duration,
    ) {
        if let Some(held) = self.held.get_mut(queue) {
            held.update(ring, coalesce, now);
        }
    }

    /// Whether a direction may go on that was held up by its limit.
    pub(crate) fn limit_is_over(&mut self, now: Duration) -> bool {
        let over = |at: &mut Option<Duration>| at.take_if(|at| *at <= now).is_some();
        self.limits.iter_mut().fold(false, |any, at| over(at) | any)
    }

    /// The engine's timer has rung, and is off now.
    pub(crate) fn rang(&mut self) {
        self.armed = None;
    }

    /// Sets the engine's timer to what comes first.
    #[inline]
    pub(crate) fn arm(&mut self, io: &mut impl Io) {
        let [receive, transmit] = self.held;
        let [limit, other] = self.limits;
        let times = [self.retry, receive.0, transmit.0, self.link, limit, other];
        let first = times.into_iter().flatten().min();
        if first != self.armed {
            self.armed = first;
            io.set_timer(first);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_become_longer_up_to_a_limit() {
        let mut timers = Timers::default();
        let mut pauses = Vec::new();
        let mut now = Duration::ZERO;
        for _ in 0..10 {
            timers.pause(now);
            let at = timers.retry.unwrap();
            assert!(!timers.pause_is_over(at - Duration::from_millis(1)));
            assert!(timers.pause_is_over(at));
            pauses.push(at - now);
            now = at;
        }
        assert_eq!((pauses[0], pauses[1], pauses[9]), (PAUSE.0, 2 * PAUSE.0, PAUSE.1));
    }
}
