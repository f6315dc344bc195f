//! What the port's epoll descriptor waits for.

use std::os::fd::{AsFd, OwnedFd};

use rustix::event::epoll::{self, EventData, EventFlags};

/// Whether and how one descriptor is waited for.
///
/// Descriptors that one cannot wait for (files) are always ready: they are read and written
/// whenever the guest is.
#[derive(Debug, Default)]
pub(super) struct Watch(Option<EventFlags>);

impl Watch {
    /// Waits for these events (for errors and the other's hanging up at least), or for nothing.
    pub(super) fn set(&mut self, epoll: &OwnedFd, fd: impl AsFd, events: Option<EventFlags>) {
        let data = EventData::new_u64(0);
        match (self.0, events) {
            (before, after) if before == after => {}
            (None, Some(events)) => {
                self.0 = epoll::add(epoll, fd, data, events).is_ok().then_some(events);
            }
            (Some(_), Some(events)) => {
                if epoll::modify(epoll, fd, data, events).is_ok() {
                    self.0 = Some(events);
                }
            }
            (_, None) => {
                let _ = epoll::delete(epoll, fd);
                self.0 = None;
            }
        }
    }
}
