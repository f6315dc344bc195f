//! What the worker waits for beside kicks: one timer serves it all.

use std::time::Duration;

use framework::engine::Io;

/// The times that the worker waits for.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    /// When statistics are asked for.
    poll: Option<Duration>,
    /// When the pilot looks.
    look: Option<Duration>,
    /// When work goes on that was cut short.
    go_on: Option<Duration>,
    /// What the engine was told.
    armed: Option<Duration>,
}

impl Timers {
    /// Whether it is time to ask for statistics, which is done so often.
    pub(crate) fn poll_is_due(&mut self, now: Duration, period: Option<Duration>) -> bool {
        is_due(&mut self.poll, now, period)
    }

    /// Whether it is time for the pilot to look, which it does so often.
    pub(crate) fn look_is_due(&mut self, now: Duration, period: Option<Duration>) -> bool {
        is_due(&mut self.look, now, period)
    }

    /// There is more to be done then.
    pub(crate) fn go_on_at(&mut self, at: Option<Duration>) {
        self.go_on = at;
    }

    /// The engine's timer has rung, and is off now.
    pub(crate) fn rang(&mut self) {
        self.armed = None;
    }

    /// Sets the engine's timer to what comes first.
    pub(crate) fn arm(&mut self, io: &mut impl Io) {
        let first = [self.poll, self.look, self.go_on].into_iter().flatten().min();
        if first != self.armed {
            self.armed = first;
            io.set_timer(first);
        }
    }
}

/// Whether `next` has come; it is one period later then. Without a period it never comes; a shorter
/// period than before counts at once.
fn is_due(next: &mut Option<Duration>, now: Duration, period: Option<Duration>) -> bool {
    let Some(period) = period else {
        *next = None;
        return false;
    };
    let at = next.get_or_insert(now + period);
    *at = (*at).min(now + period);
    if *at > now {
        return false;
    }
    *at = now + period;
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_period_begins_when_it_is_set_and_can_be_shortened() {
        let mut timers = Timers::default();
        assert!(!timers.poll_is_due(s(100), None));
        assert!(!timers.poll_is_due(s(100), Some(s(60))));
        assert!(!timers.poll_is_due(s(101), Some(s(5))));
        assert!(!timers.poll_is_due(s(105), Some(s(5))));
        assert!(timers.poll_is_due(s(106), Some(s(5))));
        assert!(!timers.poll_is_due(s(107), Some(s(5))));
        assert!(!timers.poll_is_due(s(200), None));
    }
}
