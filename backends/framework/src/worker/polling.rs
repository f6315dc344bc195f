//! When a worker spins and when it sleeps.
//!
//! # Theory of operation
//! After work, a worker goes on looking for more for a *window* of time, with kicks suppressed, and
//! then sleeps without any time limit. A fixed window stays as it was set. An automatic one learns:
//! a wake-up that came so soon that a longer window would have caught it doubles the window, up to a
//! limit; one that came later than any window would have lasted halves it, down to none. So a busy
//! queue is polled, an idle one costs nothing, and a slow one is left to its kicks.

use std::time::Duration;

/// How long to spin after work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PollWindow {
    /// This long; zero for never.
    Fixed(Duration),
    /// As long as it pays.
    Auto,
}

const LONGEST: Duration = Duration::from_micros(200);
const SHORTEST: Duration = Duration::from_micros(10);

/// The state of a worker's polling. Times are those of the engine's clock.
#[derive(Debug)]
pub(super) struct Polling {
    setting: PollWindow,
    window: Duration,
    last_work: Duration,
    slept: bool,
    /// Looks since the clock was read.
    looks: u32,
}

/// The clock is read once in so many looks: reading it takes as long as a look does.
const LOOKS: u32 = 8;

impl Polling {
    pub(super) fn new(setting: PollWindow) -> Self {
        let window = match setting {
            PollWindow::Fixed(window) => window,
            PollWindow::Auto => Duration::ZERO,
        };
        Polling { setting, window, last_work: Duration::ZERO, slept: false, looks: 0 }
    }

    /// Whether the clock is needed at all.
    #[inline]
    pub(super) fn is_off(&self) -> bool {
        self.setting == PollWindow::Fixed(Duration::ZERO)
    }

    /// There was something to do.
    #[inline]
    pub(super) fn worked(&mut self, now: Duration) {
        if std::mem::take(&mut self.slept) && self.setting == PollWindow::Auto {
            self.learn(now.saturating_sub(self.last_work));
        }
        self.last_work = now;
        self.looks = 0;
    }

    /// Whether to look once more before sleeping.
    #[inline]
    pub(super) fn spins(&mut self, now: impl FnOnce() -> Duration) -> bool {
        if self.window.is_zero() {
            return false;
        }
        self.looks = (self.looks + 1) % LOOKS;
        self.looks != 0 || now().saturating_sub(self.last_work) < self.window
    }

    /// The worker is going to sleep.
    pub(super) fn sleeps(&mut self) {
        self.slept = true;
    }

    /// The last pause between work and work was `pause`, too long for the window.
    fn learn(&mut self, pause: Duration) {
        self.window = if pause <= LONGEST {
            (self.window * 2).clamp(SHORTEST, LONGEST)
        } else if self.window > SHORTEST {
            self.window / 2
        } else {
            Duration::ZERO
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: Duration = Duration::from_micros(1);

    /// Work at the given distance, again and again: does the worker spin until it comes?
    fn catches(polling: &mut Polling, distance: Duration, times: u32) -> bool {
        let mut now = polling.last_work;
        let mut caught = false;
        for _ in 0..times {
            now += distance;
            caught = (0..LOOKS).all(|_| polling.spins(|| now));
            if !caught {
                polling.sleeps();
            }
            polling.worked(now);
        }
        caught
    }

    #[test]
    fn a_busy_queue_is_polled_after_a_few_wakes() {
        let mut polling = Polling::new(PollWindow::Auto);
        assert!(!catches(&mut polling, 90 * US, 1));
        assert!(catches(&mut polling, 90 * US, 8));
    }

    #[test]
    fn a_slow_queue_is_not_polled_any_more() {
        let mut polling = Polling::new(PollWindow::Auto);
        assert!(catches(&mut polling, 90 * US, 8));
        assert!(!catches(&mut polling, 900 * US, 8));
        assert_eq!(polling.window, Duration::ZERO);
    }

    #[test]
    fn a_fixed_window_stays() {
        let mut polling = Polling::new(PollWindow::Fixed(50 * US));
        catches(&mut polling, 900 * US, 100);
        assert!(catches(&mut polling, 40 * US, 1));
        assert!(!catches(&mut polling, 60 * US, 1));
    }

    #[test]
    fn without_a_window_there_is_no_spinning() {
        let mut polling = Polling::new(PollWindow::Fixed(Duration::ZERO));
        assert!(polling.is_off());
        assert!(!catches(&mut polling, Duration::ZERO, 10));
    }
}
