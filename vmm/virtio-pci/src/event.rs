//! Event counters of the kernel: how a kick or a call gets from one process to another.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::{Errno, read, write};

/// An eventfd that never blocks.
///
/// It is made once for each queue and direction, and stays the same for as long as the device
/// exists: across resets by the driver, and across back-ends that come and go.
#[derive(Debug)]
pub struct Event(OwnedFd);

impl Event {
    /// An event that was not signalled yet.
    ///
    /// # Errors
    /// Those of `eventfd(2)`: the process or the system has no descriptors left.
    pub fn new() -> io::Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// Signals once. A counter that is full stays signalled, which is all that it has to say.
    pub fn signal(&self) {
        while let Err(Errno::INTR) = write(&self.0, &1_u64.to_ne_bytes()) {}
    }

    /// Whether somebody signalled and nobody took it yet.
    #[must_use]
    pub fn is_signalled(&self) -> bool {
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        loop {
            match poll(&mut fds, Some(&now)) {
                Err(Errno::INTR) => {}
                ready => return ready.is_ok_and(|count| count > 0),
            }
        }
    }

    /// Takes what was signalled; says whether there was anything.
    pub fn take(&self) -> bool {
        let mut count = [0; 8];
        loop {
            match read(&self.0, &mut count) {
                Err(Errno::INTR) => {}
                taken => return taken.is_ok(),
            }
        }
    }
}

impl AsFd for Event {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_signalled_is_taken_once() {
        let event = Event::new().unwrap();
        assert!(!event.is_signalled());
        assert!(!event.take());
        event.signal();
        event.signal();
        assert!(event.is_signalled());
        assert!(event.take());
        assert!(!event.take());
    }

    #[test]
    fn a_full_counter_does_not_block() {
        let event = Event::new().unwrap();
        write(&event, &(u64::MAX - 1).to_ne_bytes()).unwrap();
        event.signal();
        assert!(event.take());
    }
}
