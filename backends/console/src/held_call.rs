//! When a driver is called for what it has written.
//!
//! # Theory of operation
//! A call costs both sides more than a short write does, and a driver that writes seldom waits for
//! one: Linux's console looks at the ring until its buffer is used, and its other ports look when they
//! write the next time, unless they have run out of buffers. So what was used is shown at once, and the
//! call is held back for a moment, or until the driver may run short. A driver that has looked by
//! itself meanwhile says so in the ring (EVENT_IDX), and is not called at all.

use std::time::Duration;

use framework::ring::Ring;

/// The longest that a call is held back.
const MOMENT: Duration = Duration::from_micros(200);

/// The call of a transmit queue.
#[derive(Debug, Default)]
pub(crate) struct HeldCall {
    /// When the driver is called at the latest. None: nothing is held back.
    pub(crate) due: Option<Duration>,
}

impl HeldCall {
    /// Holds the ring's call back, or lets it go. None: the ring has stopped, which calls by itself.
    pub(crate) fn update(&mut self, ring: Option<&mut Ring>, now: impl FnOnce() -> Duration) {
        let before = self.due.take();
        let Some(ring) = ring.filter(|ring| ring.uncalled() > 0) else { return };
        let now = now();
        let due = before.unwrap_or(now + MOMENT);
        let is_short = ring.uncalled() >= u32::from(ring.size() / 2).max(1);
        self.due = (now < due && !is_short && ring.hold_call()).then_some(due);
        if self.due.is_none() {
            ring.release_call();
        }
    }
}
