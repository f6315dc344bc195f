//! Time limits. No wait of the fake driver or front-end is without one.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::{Error, Result};

/// When to give up waiting.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(Instant);

impl Deadline {
    /// The limit unless a test sets another one.
    pub const DEFAULT: Duration = Duration::from_secs(5);

    /// A deadline so far from now.
    #[must_use]
    pub fn after(limit: Duration) -> Self {
        Self(Instant::now() + limit)
    }

    /// The moment itself.
    #[must_use]
    pub fn instant(self) -> Instant {
        self.0
    }

    /// Whether it has passed.
    #[must_use]
    pub fn is_past(self) -> bool {
        self.left().is_zero()
    }

    /// Time left.
    #[must_use]
    pub fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// Waits until `fd` is ready for `flags` or has hung up; `false` when the deadline came first.
    ///
    /// # Errors
    /// [`Error::System`] when waiting itself fails.
    pub fn wait(self, fd: impl AsFd, flags: PollFlags) -> Result<bool> {
        self.poll(&mut [PollFd::new(&fd, flags)])
    }

    /// Waits until one of two can be read; `false` when the deadline came first.
    ///
    /// # Errors
    /// [`Error::System`] when waiting itself fails.
    pub fn wait_either(self, one: impl AsFd, other: impl AsFd) -> Result<bool> {
        self.poll(&mut [PollFd::new(&one, PollFlags::IN), PollFd::new(&other, PollFlags::IN)])
    }

    fn poll(self, fds: &mut [PollFd<'_>]) -> Result<bool> {
        loop {
            let limit = Timespec::try_from(self.left())
                .unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 });
            match poll(fds, Some(&limit)) {
                Ok(0) if !self.is_past() => {}
                Ok(ready) => return Ok(ready > 0),
                Err(Errno::INTR) => {}
                Err(error) => return Err(Error::System("poll", error.into())),
            }
        }
    }
}
