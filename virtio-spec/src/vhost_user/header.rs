//! The header of every message (section "Header").

use crate::layout::{Encode, Reader, Writer, le_struct};

/// Bytes of a header.
pub const HEADER_SIZE: usize = Header::SIZE;
/// The protocol's version, in the lowest two bits of a header's flags.
pub const VERSION: u32 = 1;

bitflags::bitflags! {
    /// A header's flags.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct MessageFlags: u32 {
        /// The bits that hold [`VERSION`].
        const VERSION_MASK = 3;
        /// The message answers one.
        const REPLY = 1 << 2;
        /// The sender wants an acknowledgement (with the protocol feature `REPLY_ACK`).
        const NEED_REPLY = 1 << 3;
        // What a peer sets beyond these is kept, to be looked at.
        const _ = !0;
    }
}

impl MessageFlags {
    /// Flags of a request without further wishes.
    pub const REQUEST: Self = Self::from_bits_retain(VERSION);
    /// Flags of an answer.
    pub const ANSWER: Self = Self::REQUEST.union(Self::REPLY);

    /// The protocol version that the sender speaks.
    #[must_use]
    pub const fn version(self) -> u32 {
        self.bits() & Self::VERSION_MASK.bits()
    }

    /// Whether the message answers one.
    #[must_use]
    pub const fn is_reply(self) -> bool {
        self.contains(Self::REPLY)
    }

    /// Whether the sender wants an acknowledgement.
    #[must_use]
    pub const fn needs_reply(self) -> bool {
        self.contains(Self::NEED_REPLY)
    }
}

impl Encode for MessageFlags {
    const SIZE: usize = size_of::<u32>();
    fn put(&self, out: &mut Writer<'_>) {
        self.bits().put(out);
    }
    fn take(input: &mut Reader<'_>) -> Self {
        Self::from_bits_retain(Encode::take(input))
    }
}

le_struct! {
    /// The header of a message.
    pub struct Header {
        /// Number of the request: [`super::FrontendRequest`] or [`super::BackendRequest`]. An
        /// answer repeats it.
        pub request: u32,
        /// Version, reply, need-reply.
        pub flags: MessageFlags,
        /// Bytes of payload that follow.
        pub size: u32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use vhost::vhost_user::message::VhostUserHeaderFlag;

    #[test]
    fn flags_agree_with_the_vhost_crate() {
        assert_eq!(MessageFlags::REPLY.bits(), VhostUserHeaderFlag::REPLY.bits());
        assert_eq!(MessageFlags::NEED_REPLY.bits(), VhostUserHeaderFlag::NEED_REPLY.bits());
        assert_eq!(HEADER_SIZE, 12);
        assert_eq!(MessageFlags::ANSWER.version(), VERSION);
        assert!(MessageFlags::ANSWER.is_reply() && !MessageFlags::ANSWER.needs_reply());
    }

    proptest! {
        #[test]
        fn every_pattern_round_trips(bytes: [u8; HEADER_SIZE]) {
            prop_assert_eq!(Header::from_bytes(&bytes).to_bytes(), bytes);
        }
    }
}
