//! Event counters of the kernel: how a kick or a call gets from one process to another.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::{Errno, ReadWriteFlags, preadv2, read, write};

/// An eventfd that never blocks.
///
/// It is made once for each queue and direction, and stays the same for as long as the device
/// exists: across resets by the driver, and across back-ends that come and go.
///
/// It is made not to block; but a back-end has the same open file, and could change that. A vCPU
/// would then wait with a function's registers locked. So nothing is read without saying that there is
/// no time to wait, and nothing written without asking first whether it can be. Between asking and
/// writing a back-end may still fill the counter; a thread that it has caught so goes on when it is
/// interrupted, as vCPUs are for a pause, a reset and the end.
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
        while self.is(PollFlags::OUT) && self.stays_non_blocking() {
            if write(&self.0, &1_u64.to_ne_bytes()) != Err(Errno::INTR) {
                return;
            }
        }
    }

    /// Undoes what a back-end may have done to the open file.
    fn stays_non_blocking(&self) -> bool {
        fcntl_getfl(&self.0).is_ok_and(|flags| {
            flags.contains(OFlags::NONBLOCK)
                || fcntl_setfl(&self.0, flags | OFlags::NONBLOCK).is_ok()
        })
    }

    /// Whether somebody signalled and nobody took it yet.
    #[must_use]
    pub fn is_signalled(&self) -> bool {
        self.is(PollFlags::IN)
    }

    /// Takes what was signalled; says whether there was anything.
    pub fn take(&self) -> bool {
        let mut count = [0; 8];
        loop {
            let mut into = [IoSliceMut::new(&mut count)];
            // The offset that means none, as for every file that has no positions.
            match preadv2(&self.0, &mut into, u64::MAX, ReadWriteFlags::NOWAIT) {
                Err(Errno::INTR) => {}
                // Before Linux 5.8.
                Err(Errno::OPNOTSUPP) => {
                    return self.is_signalled() && read(&self.0, &mut count).is_ok();
                }
                taken => return taken.is_ok(),
            }
        }
    }

    fn is(&self, ready: PollFlags) -> bool {
        let mut fds = [PollFd::new(&self.0, ready)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        loop {
            match poll(&mut fds, Some(&now)) {
                Err(Errno::INTR) => {}
                ready => return ready.is_ok_and(|count| count > 0),
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

    /// Class: a call fd that blocks.
    #[test]
    fn an_event_that_was_made_to_block_does_not_block_us() {
        let event = Event::new().unwrap();
        fcntl_setfl(&event, OFlags::empty()).unwrap();
        assert!(!event.take());
        write(&event, &(u64::MAX - 1).to_ne_bytes()).unwrap();
        event.signal();
        assert!(event.take() && !event.take());
        event.signal();
        assert!(event.take());
    }
}
