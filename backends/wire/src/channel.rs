//! Framing on a socket, without ever blocking.
//!
//! Receiving reads exactly one message at a time: first the rest of its header, then the rest of
//! its payload, as much as has arrived. Since no byte of the next message is read early, a file
//! descriptor can only belong to the message at hand. Sending works on a bounded queue whose first
//! message may be half sent; its descriptors leave with its first byte.
//!
//! Non-blocking is asked for with each call, not set on the socket: an inherited socket's flags
//! are shared with whoever else holds it.

use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut};
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use virtio_spec::vhost_user::{HEADER_SIZE, Header, MAX_PAYLOAD_SIZE};

use crate::frame::parse_header;
use crate::{Error, Frame, MAX_FDS, Result};

/// Most messages that wait to be sent. A peer that reads is never this far behind.
pub const MAX_QUEUED: usize = 256;

/// A vhost-user socket.
///
/// After a fatal error ([`Error::is_fatal`]) every further [`receive`](Self::receive) fails.
#[derive(Debug)]
pub struct Channel {
    socket: OwnedFd,
    incoming: Incoming,
    outgoing: VecDeque<Outgoing>,
    out_of_step: bool,
}

/// The part of a message that has arrived.
#[derive(Debug, Default)]
struct Incoming {
    header_bytes: [u8; HEADER_SIZE],
    header: Option<Header>,
    /// Allocated to its full size when the header is known.
    payload: Vec<u8>,
    /// Bytes filled: of the header while that is incomplete, then of the payload.
    filled: usize,
    fds: Vec<OwnedFd>,
}

/// A message of which `sent` bytes are gone.
#[derive(Debug)]
struct Outgoing {
    bytes: Vec<u8>,
    sent: usize,
    fds: Vec<OwnedFd>,
}

impl Channel {
    /// A channel on a connected Unix stream socket.
    #[must_use]
    pub fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            incoming: Incoming::default(),
            outgoing: VecDeque::new(),
            out_of_step: false,
        }
    }

    /// Receives the next message, or `None` when it has not arrived in whole.
    ///
    /// # Errors
    /// [`Error::Closed`] when the peer is gone, and everything that makes the stream unreadable.
    pub fn receive(&mut self) -> Result<Option<Frame>> {
        if self.out_of_step {
            return Err(Error::OutOfStep);
        }
        let received = self.receive_rest();
        self.out_of_step = received.is_err();
        received
    }

    fn receive_rest(&mut self) -> Result<Option<Frame>> {
        loop {
            if let Some(frame) = self.incoming.take_complete()? {
                return Ok(Some(frame));
            }
            if !self.incoming.read_from(self.socket.as_fd())? {
                return Ok(None);
            }
        }
    }

    /// Puts a message at the end of the queue; [`flush`](Self::flush) sends it.
    ///
    /// # Errors
    /// [`Error::QueueFull`] when [`MAX_QUEUED`] messages wait, [`Error::TooLong`] and
    /// [`Error::TooManyFds`] for a message that no peer would take.
    pub fn queue(&mut self, frame: Frame) -> Result<()> {
        if self.outgoing.len() >= MAX_QUEUED {
            return Err(Error::QueueFull(MAX_QUEUED));
        }
        if frame.payload.len() > MAX_PAYLOAD_SIZE {
            let size = u32::try_from(frame.payload.len()).unwrap_or(u32::MAX);
            return Err(Error::TooLong { code: frame.code, size, limit: MAX_PAYLOAD_SIZE });
        }
        if frame.fds.len() > MAX_FDS {
            return Err(Error::TooManyFds(MAX_FDS));
        }
        self.outgoing.push_back(Outgoing { bytes: frame.to_bytes(), sent: 0, fds: frame.fds });
        Ok(())
    }

    /// Sends what the socket takes now; `true` when nothing is left to send.
    ///
    /// # Errors
    /// [`Error::Closed`] when the peer is gone, [`Error::Send`] otherwise.
    pub fn flush(&mut self) -> Result<bool> {
        while let Some(message) = self.outgoing.front_mut() {
            match message.send_to(self.socket.as_fd()) {
                Ok(()) if message.sent == message.bytes.len() => {
                    self.outgoing.pop_front();
                }
                Ok(()) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(false),
                Err(Errno::PIPE | Errno::CONNRESET) => return Err(Error::Closed),
                Err(error) => return Err(Error::Send(error.into())),
            }
        }
        Ok(true)
    }

    /// Whether messages wait to be sent, so that the socket is to be polled for writing too.
    #[must_use]
    pub fn wants_write(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Messages that wait to be sent, at most [`MAX_QUEUED`].
    #[must_use]
    pub fn queued(&self) -> usize {
        self.outgoing.len()
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Incoming {
    /// The bytes that are still to be filled.
    fn missing(&mut self) -> &mut [u8] {
        let buffer = match self.header {
            None => &mut self.header_bytes[..],
            Some(_) => &mut self.payload[..],
        };
        buffer.get_mut(self.filled..).unwrap_or_default()
    }

    /// Reads the header once it is there, and gives the message away once all of it is.
    fn take_complete(&mut self) -> Result<Option<Frame>> {
        if !self.missing().is_empty() {
            return Ok(None);
        }
        let header = match self.header {
            Some(header) => header,
            None => {
                let (header, size) = parse_header(&self.header_bytes)?;
                self.header = Some(header);
                self.payload = vec![0; size];
                self.filled = 0;
                if size > 0 {
                    return Ok(None);
                }
                header
            }
        };
        let done = mem::take(self);
        Ok(Some(Frame {
            code: header.request,
            reply: header.flags.is_reply(),
            need_reply: header.flags.needs_reply(),
            payload: done.payload,
            fds: done.fds,
        }))
    }

    /// One `recvmsg` for what is missing; `false` when nothing is there.
    fn read_from(&mut self, socket: BorrowedFd<'_>) -> Result<bool> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let mut buffers = [IoSliceMut::new(self.missing())];
        let received = match recvmsg(socket, &mut buffers, &mut control, flags) {
            Ok(received) => received,
            Err(Errno::AGAIN) => return Ok(false),
            Err(Errno::INTR) => return Ok(true),
            // The peer died with messages in its socket that it had not read.
            Err(Errno::CONNRESET) => return Err(self.closed()),
            Err(error) => return Err(Error::Receive(error.into())),
        };
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                self.fds.extend(fds);
            }
        }
        if received.flags.contains(ReturnFlags::CTRUNC) || self.fds.len() > MAX_FDS {
            return Err(Error::TooManyFds(MAX_FDS));
        }
        if received.bytes == 0 {
            return Err(self.closed());
        }
        self.filled += received.bytes;
        Ok(true)
    }

    fn closed(&self) -> Error {
        if self.header.is_none() && self.filled == 0 {
            Error::Closed
        } else {
            Error::ClosedInMessage
        }
    }
}

impl Outgoing {
    fn send_to(&mut self, socket: BorrowedFd<'_>) -> rustix::io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds: Vec<BorrowedFd<'_>> = self.fds.iter().map(AsFd::as_fd).collect();
        // The buffer holds MAX_FDS and `queue` lets no more pass.
        if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&fds)) {
            return Err(Errno::MSGSIZE);
        }
        let rest = self.bytes.get(self.sent..).unwrap_or_default();
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let sent = sendmsg(socket, &[IoSlice::new(rest)], &mut control, flags)?;
        self.sent += sent;
        if sent > 0 {
            self.fds.clear();
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "channel_test.rs"]
mod tests;
