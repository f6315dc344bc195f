//! What can go wrong on a vhost-user connection.

use std::io;

/// An error of a vhost-user connection or of one message on it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The peer closed the connection between two messages: the ordinary end.
    #[error("the peer closed the vhost-user connection")]
    Closed,
    /// The peer closed the connection in the middle of a message.
    #[error("the peer closed the vhost-user connection in the middle of a message")]
    ClosedInMessage,
    /// Receiving failed.
    #[error("receiving from the vhost-user socket failed")]
    Receive(#[source] io::Error),
    /// Sending failed.
    #[error("sending on the vhost-user socket failed")]
    Send(#[source] io::Error),
    /// Waiting for the socket failed.
    #[error("waiting for the vhost-user socket failed")]
    Wait(#[source] io::Error),
    /// The header's version is not 1: the peer does not speak vhost-user.
    #[error(
        "a vhost-user header says version {0}, only version 1 exists: \
         is the peer really a vhost-user program?"
    )]
    Version(u32),
    /// The header announces more payload than any message has.
    #[error("vhost-user request {code} announces {size} bytes of payload, {limit} are the most")]
    TooLong {
        /// The request's code.
        code: u32,
        /// Bytes announced.
        size: u32,
        /// Bytes accepted.
        limit: usize,
    },
    /// One message carried more file descriptors than are accepted.
    #[error("a vhost-user message carries more than {0} file descriptors")]
    TooManyFds(usize),
    /// An earlier error left the stream in the middle of a message, or a reply is still to come.
    #[error("the vhost-user connection is out of step after an earlier error: connect again")]
    OutOfStep,
    /// Too many messages wait to be sent; the peer has stopped reading.
    #[error("{0} vhost-user messages wait to be sent, the peer has stopped reading")]
    QueueFull(usize),
    /// A payload has the wrong size.
    #[error("{message} has {found} bytes of payload, {expected} are needed")]
    PayloadSize {
        /// The message's name.
        message: String,
        /// Bytes found.
        found: usize,
        /// Bytes needed.
        expected: usize,
    },
    /// A message lacks file descriptors.
    #[error("{message} carries {found} file descriptors, {expected} are needed")]
    FdCount {
        /// The message's name.
        message: String,
        /// Descriptors found.
        found: usize,
        /// Descriptors needed.
        expected: usize,
    },
    /// A field has a value that the protocol does not know.
    #[error("{message}: {field} is {found}, which is not valid: {expected}")]
    Value {
        /// The message's name.
        message: String,
        /// The field.
        field: &'static str,
        /// Its value.
        found: u64,
        /// What would have been right.
        expected: &'static str,
    },
    /// A message that is not the reply that was waited for.
    #[error("waited for the reply to {expected}, but message {found} arrived: connect again")]
    NotTheReply {
        /// The request's name.
        expected: String,
        /// Code of what arrived.
        found: u32,
    },
    /// The back-end answered a request with failure.
    #[error("the back-end refused {message} (it answered {value}); its log should say why")]
    Refused {
        /// The request's name.
        message: String,
        /// The value it answered.
        value: u64,
    },
    /// The deadline passed.
    #[error("the peer did not {0} in time")]
    Timeout(String),
}

impl Error {
    /// Whether the connection cannot go on. The other errors concern one message, which was
    /// consumed whole: it can be answered with a failure and the next one read.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        !matches!(
            self,
            Self::PayloadSize { .. }
                | Self::FdCount { .. }
                | Self::Value { .. }
                | Self::Refused { .. }
        )
    }
}
