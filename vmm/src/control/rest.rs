//! A listening socket's rest: when no descriptor is left for who has come, accepting fails for as long as
//! that lasts, and a listener that is waited for all the same would keep its thread busy with nothing.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

/// How long it rests.
const LENGTH: Timespec = Timespec { tv_sec: 0, tv_nsec: 500_000_000 };
const NEVER: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// Readable when a rest is over, until [`Rest::look`] has seen that.
#[derive(Debug)]
pub struct Rest {
    timer: OwnedFd,
    is_on: bool,
}

impl Rest {
    /// None yet.
    ///
    /// # Errors
    /// When the kernel has no timer left for this process.
    pub fn new() -> rustix::io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        Ok(Self { timer: timerfd_create(TimerfdClockId::Monotonic, flags)?, is_on: false })
    }

    /// Begins one if accepting has failed for want of descriptors or memory. Other failures concern only who
    /// has come, and has gone meanwhile.
    pub fn after(&mut self, failure: Errno) {
        if matches!(failure, Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) {
            let once = Itimerspec { it_interval: NEVER, it_value: LENGTH };
            self.is_on = timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once).is_ok();
        }
    }

    /// Ends the rest if its time is over.
    pub fn look(&mut self) {
        if rustix::io::read(&self.timer, &mut [0; 8]).is_ok() {
            self.is_on = false;
        }
    }

    /// Whether the listener is not to be waited for.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.is_on
    }
}

impl AsFd for Rest {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }
}
