//! The channel for the back-end's own requests, given by SET_BACKEND_REQ_FD.

use std::os::fd::OwnedFd;

use rustix::event::epoll::EventFlags;
use wire::{BackendRequest, Channel};

use super::interest::{Interest, Poller, Source};
use crate::error::Result;

/// Requests that were sent and have not left yet, at most: a front-end that reads slowly hears of
/// everything else once, when it is there again.
const MOST_QUEUED: usize = 4;

/// Answers that are read in one go.
const BURST: usize = 64;

/// The channel.
#[derive(Debug)]
pub(super) struct BackendChannel {
    channel: Channel,
    /// Acknowledgements that are still to come.
    unanswered: usize,
    interest: Interest,
    over: bool,
}

impl BackendChannel {
    pub(super) fn new(fd: OwnedFd) -> Self {
        BackendChannel {
            channel: Channel::new(fd),
            unanswered: 0,
            interest: Interest::default(),
            over: false,
        }
    }

    /// Whether another request may be sent now.
    pub(super) fn has_room(&self) -> bool {
        !self.over && self.unanswered == 0 && self.channel.queued() < MOST_QUEUED
    }

    /// Whether the channel is of no use any more.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// Sends a request. Calls and errors ask for an answer if they may, as in-band notifications are
    /// to (vhost-user, "In-band notifications"); the answer is never waited for, but no other request
    /// is sent before it.
    pub(super) fn send(&mut self, request: BackendRequest, reply_ack: bool) {
        let acknowledged = reply_ack && !matches!(request, BackendRequest::ConfigChange);
        self.unanswered += usize::from(acknowledged);
        let queued = self.channel.queue(request.encode().needing_reply(acknowledged));
        let sent = queued.and_then(|()| self.channel.flush());
        self.note(sent.map(drop));
    }

    /// Reads what the front-end has answered, in which nothing matters, and sends what is left.
    pub(super) fn go_on(&mut self) {
        let outcome = self.receive().and_then(|()| self.channel.flush().map(drop));
        self.note(outcome);
    }

    fn receive(&mut self) -> wire::Result<()> {
        // The rest of a flood is reported again, after everybody else had a turn.
        for _ in 0..BURST {
            let Some(frame) = self.channel.receive()? else { break };
            if frame.reply {
                self.unanswered = self.unanswered.saturating_sub(1);
            }
        }
        Ok(())
    }

    fn note(&mut self, outcome: wire::Result<()>) {
        if let Err(error) = outcome {
            tracing::debug!(%error, "the back-end's own channel ends");
            self.over = true;
        }
    }

    /// Has the loop look at it.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) fn watch(&mut self, poller: &Poller, port: u32) -> Result<()> {
        let mut wanted = EventFlags::IN;
        wanted.set(EventFlags::OUT, self.channel.wants_write());
        let wanted = if self.over { EventFlags::empty() } else { wanted };
        self.interest.set(poller, &self.channel, Source::Backend(port), wanted)
    }

    /// Takes it out of the event loop, and closes it.
    pub(super) fn leave(mut self, poller: &Poller, port: u32) {
        self.interest.clear(poller, &self.channel, Source::Backend(port));
    }
}
