//! Eventfds that are shared with a back-end.
//!
//! They do not block; but the back-end has the same open file, and could make it block. So nothing
//! is read or written without asking first whether it can be.

use std::io::IoSliceMut;
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use virtio_pci::Event;

/// Signals, unless the counter is full: then it is signalled enough.
pub(crate) fn signal(event: &Event) {
    let mut fds = [PollFd::new(event, PollFlags::OUT)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    if poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0) {
        event.signal();
    }
}

/// Takes what was signalled; says whether there was anything.
pub(crate) fn take(event: &Event) -> bool {
    let mut count = [0; 8];
    let mut into = [IoSliceMut::new(&mut count)];
    // The offset that means none, as for every file that has no positions.
    match preadv2(event.as_fd(), &mut into, u64::MAX, ReadWriteFlags::NOWAIT) {
        Err(Errno::OPNOTSUPP) => event.take(),
        taken => taken.is_ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{OFlags, fcntl_setfl};
    use rustix::io::write;

    #[test]
    fn an_event_that_was_made_to_block_does_not_block_us() {
        let event = Event::new().unwrap();
        fcntl_setfl(&event, OFlags::empty()).unwrap();
        assert!(!take(&event));
        write(&event, &(u64::MAX - 1).to_ne_bytes()).unwrap();
        signal(&event);
        assert!(take(&event));
        assert!(!take(&event));
        signal(&event);
        assert!(take(&event));
    }
}
