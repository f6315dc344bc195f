//! The back-end's requests to the front-end.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use rustix::event::PollFlags;
use virtio_spec::vhost_user::ProtocolFeatures;
use wire::{BackendRequest, Channel, Reply, Request};

use super::FrontEnd;
use crate::{Deadline, Error, Result};

/// The channel on which the back-end sends requests.
#[derive(Debug)]
pub struct BackendChannel(Channel);

impl BackendChannel {
    fn new(socket: OwnedFd) -> Self {
        Self(Channel::new(socket))
    }

    /// Waits for the next request and acknowledges it if the back-end wants that; `None` when
    /// none came.
    ///
    /// # Errors
    /// [`Error::Wire`], [`Error::Timeout`] when the back-end does not take the acknowledgement.
    pub fn next(&mut self, deadline: Deadline) -> Result<Option<BackendRequest>> {
        let frame = loop {
            match self.0.receive()? {
                Some(frame) => break frame,
                None if deadline.wait(&self.0, PollFlags::IN)? => {}
                None => return Ok(None),
            }
        };
        let need_reply = frame.need_reply;
        let request = BackendRequest::decode(frame)?;
        if need_reply {
            self.0.queue(Reply::ack(true).encode(request.code()))?;
            while !self.0.flush()? {
                if !deadline.wait(&self.0, PollFlags::OUT)? {
                    return Err(Error::Timeout("the back-end to take an acknowledgement".into()));
                }
            }
        }
        Ok(Some(request))
    }
}

impl FrontEnd {
    /// Gives the back-end a channel for requests of its own.
    ///
    /// # Errors
    /// [`Error::NotOffered`] without BACKEND_REQ.
    pub fn open_back_channel(&mut self) -> Result<()> {
        self.require(ProtocolFeatures::BACKEND_REQ)?;
        let (ours, theirs) =
            UnixStream::pair().map_err(|error| Error::System("socketpair", error))?;
        self.call(Request::SetBackendReqFd(theirs.into()))?;
        self.back_channel = Some(BackendChannel::new(ours.into()));
        Ok(())
    }

    /// Waits for the back-end's next request and acknowledges it if that is wanted.
    ///
    /// # Errors
    /// [`Error::NotSetUp`] without a channel, [`Error::Timeout`] when no request came.
    pub fn next_backend_request(&mut self) -> Result<BackendRequest> {
        let deadline = self.deadline();
        let channel = self.back_channel.as_mut();
        let channel = channel.ok_or(Error::NotSetUp("the back-end's channel"))?;
        let request = channel.next(deadline)?;
        request.ok_or_else(|| Error::Timeout("a request from the back-end".into()))
    }

    /// Waits until the back-end says that the configuration space changed. Calls and errors that
    /// come in between are passed over.
    ///
    /// # Errors
    /// As for [`next_backend_request`](Self::next_backend_request).
    pub fn wait_for_config_change(&mut self) -> Result<()> {
        while self.next_backend_request()? != BackendRequest::ConfigChange {}
        Ok(())
    }
}
