//! The back-end's requests to the front-end.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use rustix::event::PollFlags;
use virtio_spec::observer::{DeviceStep, Message};
use virtio_spec::vhost_user::ProtocolFeatures;
use wire::{BackendRequest, Channel, Reply, Request};

use super::FrontEnd;
use crate::{Deadline, Error, Result, Watch};

/// The channel on which the back-end sends requests. Each is acknowledged, if that is wanted, as
/// soon as it is seen.
#[derive(Debug)]
pub struct BackendChannel {
    channel: Channel,
    /// Requests that were seen and that nobody has asked for yet.
    seen: VecDeque<BackendRequest>,
    watch: Watch,
}

impl BackendChannel {
    fn new(socket: OwnedFd, watch: &Watch) -> Self {
        let (channel, watch) = (Channel::new(socket), watch.clone());
        Self { channel, seen: VecDeque::new(), watch }
    }

    /// Sees what has come, without waiting for more.
    ///
    /// # Errors
    /// [`Error::Wire`], [`Error::Violation`] for a request that the back-end may not send.
    pub fn look(&mut self) -> Result<()> {
        while let Some(frame) = self.channel.receive()? {
            self.watch.backend_request(&frame)?;
            let need_reply = frame.need_reply;
            let request = BackendRequest::decode(frame)?;
            if need_reply {
                self.acknowledge(request)?;
            }
            if request == BackendRequest::ConfigChange {
                self.watch.show(DeviceStep::ConfigChanged)?;
            }
            self.seen.push_back(request);
        }
        Ok(())
    }

    fn acknowledge(&mut self, request: BackendRequest) -> Result<()> {
        let reply = Reply::ack(true).encode(request.code());
        self.watch.show(Message::BackendReply { payload: &reply.payload })?;
        self.channel.queue(reply)?;
        // An acknowledgement has few bytes and the back-end waits for it.
        if self.channel.flush()? {
            return Ok(());
        }
        Err(Error::Timeout("the back-end to take an acknowledgement".into()))
    }

    /// Waits for the next request; `None` when none came.
    ///
    /// # Errors
    /// As for [`look`](Self::look).
    pub fn next(&mut self, deadline: Deadline) -> Result<Option<BackendRequest>> {
        loop {
            self.look()?;
            if let Some(request) = self.seen.pop_front() {
                return Ok(Some(request));
            }
            if !deadline.wait(&self.channel, PollFlags::IN)? {
                return Ok(None);
            }
        }
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
        self.back_channel = Some(BackendChannel::new(ours.into(), &self.watch));
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
