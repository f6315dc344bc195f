//! One message as it stands on the wire: header, payload, file descriptors.

use std::os::fd::OwnedFd;

use virtio_spec::vhost_user::{HEADER_SIZE, Header, MAX_PAYLOAD_SIZE, MessageFlags, VERSION};

use crate::{Error, Result};

/// Most file descriptors that one message may carry; a memory table carries one for each region.
pub const MAX_FDS: usize = 32;

/// A message, not yet interpreted. What it means depends on which side sent it.
#[derive(Debug)]
pub struct Frame {
    /// Code of the request, or of the request that this is the reply to.
    pub code: u32,
    /// Whether this is a reply.
    pub reply: bool,
    /// Whether the sender asks for a reply where the request has none of its own (REPLY_ACK).
    pub need_reply: bool,
    /// The payload, at most [`MAX_PAYLOAD_SIZE`] bytes.
    pub payload: Vec<u8>,
    /// The file descriptors, at most [`MAX_FDS`]. Dropping the frame closes them.
    pub fds: Vec<OwnedFd>,
}

impl Frame {
    /// A request without descriptors that asks for no acknowledgement.
    #[must_use]
    pub fn request(code: u32, payload: Vec<u8>) -> Self {
        Self { code, reply: false, need_reply: false, payload, fds: Vec::new() }
    }

    /// A reply without descriptors.
    #[must_use]
    pub fn reply(code: u32, payload: Vec<u8>) -> Self {
        Self { code, reply: true, need_reply: false, payload, fds: Vec::new() }
    }

    /// The same message with descriptors.
    #[must_use]
    pub fn with_fds(mut self, fds: Vec<OwnedFd>) -> Self {
        self.fds = fds;
        self
    }

    /// The same message with the need_reply flag set or cleared.
    #[must_use]
    pub fn needing_reply(mut self, need_reply: bool) -> Self {
        self.need_reply = need_reply;
        self
    }

    /// Header and payload as bytes.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut flags = MessageFlags::REQUEST;
        flags.set(MessageFlags::REPLY, self.reply);
        flags.set(MessageFlags::NEED_REPLY, self.need_reply);
        let size = u32::try_from(self.payload.len()).unwrap_or(u32::MAX);
        let header = Header { request: self.code, flags, size };
        [&header.to_bytes()[..], &self.payload].concat()
    }
}

/// Decodes a header. Returns it with the bytes of payload to come, at most [`MAX_PAYLOAD_SIZE`].
pub(crate) fn parse_header(bytes: &[u8; HEADER_SIZE]) -> Result<(Header, usize)> {
    let header = Header::from_bytes(bytes);
    if header.flags.version() != VERSION {
        return Err(Error::Version(header.flags.version()));
    }
    match usize::try_from(header.size) {
        Ok(size) if size <= MAX_PAYLOAD_SIZE => Ok((header, size)),
        _ => {
            Err(Error::TooLong { code: header.request, size: header.size, limit: MAX_PAYLOAD_SIZE })
        }
    }
}
