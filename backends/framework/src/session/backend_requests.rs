//! What the back-end says of its own accord, on the channel that SET_BACKEND_REQ_FD gave it.
//!
//! Nothing is ever waited for on this channel by the connection: the front-end may be waiting for
//! us. What could not be sent yet is remembered as a flag, so that it is said once, however often it
//! happened. While the device is suspended it is kept (vhost-user, "Suspended device state").

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;

use virtio_spec::vhost_user::ProtocolFeatures;
use wire::BackendRequest;

use super::Session;

/// What is to be said.
#[derive(Debug, Default)]
pub(super) struct BackendRequests {
    channel: Option<OwnedFd>,
    config_change: bool,
    /// The ring whose call is looked at first.
    next_ring: usize,
    errors: BTreeSet<u16>,
}

impl BackendRequests {
    pub(super) fn set_channel(&mut self, fd: OwnedFd) {
        self.channel = Some(fd);
    }

    pub(super) fn ring_error(&mut self, queue: u16) {
        self.errors.insert(queue);
    }
}

impl Session {
    /// The channel for requests of the back-end's own, once for each time that it is set; it takes
    /// the place of the one before.
    pub fn take_backend_channel(&mut self) -> Option<OwnedFd> {
        self.requests.channel.take()
    }

    /// The configuration space has changed: the front-end is to be told.
    pub fn config_changed(&mut self) {
        self.requests.config_change = true;
    }

    /// The next thing to be said to the front-end, if there is one and it may be said now.
    pub fn next_backend_request(&mut self) -> Option<BackendRequest> {
        // Calls come from rings that run, or ran until a moment ago: they are never late.
        // Each ring has its turn, and a changed configuration comes before all of them.
        if !self.is_suspended()
            && std::mem::take(&mut self.requests.config_change)
            && self.protocol.contains(ProtocolFeatures::CONFIG)
        {
            return Some(BackendRequest::ConfigChange);
        }
        let first = self.requests.next_ring.min(self.rings.len());
        let (before, from) = self.rings.split_at(first);
        let mut in_turn = from.iter().chain(before);
        if let Some(queue) = in_turn.find(|ring| ring.take_message_call()).map(|r| r.queue()) {
            self.requests.next_ring = usize::from(queue) + 1;
            return Some(BackendRequest::VringCall { index: queue.into() });
        }
        if self.is_suspended() {
            return None;
        }
        let queue = self.requests.errors.pop_first()?;
        Some(BackendRequest::VringErr { index: queue.into() })
    }
}
