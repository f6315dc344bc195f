//! The three things a test does with an eventfd.
//!
//! The system refuses none of them but when it has no descriptors left, which ends a test.
#![expect(clippy::expect_used, reason = "only tests are here, and they end when this fails")]

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// A new eventfd, not signalled.
///
/// # Panics
/// When the process has no descriptors left.
#[must_use]
pub fn eventfd() -> OwnedFd {
    rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).expect("a descriptor")
}

/// Signals an eventfd, once.
///
/// # Panics
/// When it is not an eventfd.
pub fn signal(fd: BorrowedFd<'_>) {
    match rustix::io::write(fd, &1_u64.to_ne_bytes()) {
        // Full: it is signalled already.
        Ok(8) | Err(Errno::AGAIN) => {}
        other => {
            other.expect("an eventfd");
        }
    }
}

/// How often an eventfd was signalled since the last time; never waits.
///
/// # Panics
/// When it is not an eventfd.
#[must_use]
pub fn take(fd: BorrowedFd<'_>) -> u64 {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    if poll(&mut fds, Some(&now)).expect("an eventfd") == 0 {
        return 0;
    }
    let mut count = [0; 8];
    match rustix::io::read(fd, &mut count) {
        Err(Errno::AGAIN) => 0,
        read => {
            read.expect("an eventfd");
            u64::from_ne_bytes(count)
        }
    }
}
