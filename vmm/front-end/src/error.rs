//! What can go wrong between a front-end and its back-end.

use std::io;

/// Why a connection could not be made or had to be given up, or a front-end not be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection could be made.
    #[error("no connection to {to}: {source}; is the back-end running?")]
    Connect {
        /// What the source connects to, in words.
        to: String,
        /// Why not.
        source: io::Error,
    },
    /// The connection broke, or the back-end did not keep to the protocol.
    #[error(transparent)]
    Wire(#[from] wire::Error),
    /// A message came that nobody had asked for.
    #[error(
        "message {code} came from the back-end without a request; is it a vhost-user back-end?"
    )]
    Unsolicited {
        /// The message's code.
        code: u32,
    },
    /// The back-end refused a request without which there is no going on.
    #[error("the back-end refused {message} (it answered {value}); its log should say why")]
    Refused {
        /// The request's name.
        message: String,
        /// The value it answered.
        value: u64,
    },
    /// An answer does not belong to what was asked.
    #[error("the back-end answered {message} with {what}")]
    WrongAnswer {
        /// The request's name.
        message: &'static str,
        /// What is wrong with the answer.
        what: String,
    },
    /// The back-end knows legacy drivers only.
    #[error("the back-end does not offer VERSION_1; only virtio 1.0 and later are served")]
    Legacy,
    /// A back-end came back with less than the driver was promised.
    #[error(
        "the back-end does not offer the features {bits:#x} that the driver uses; \
         start it with the options that it had before"
    )]
    FeaturesLost {
        /// The features that are missing.
        bits: u64,
    },
    /// The back-end has too few queues.
    #[error(
        "the back-end has {found} queues, {needed} are needed; give it more, or the device fewer"
    )]
    TooFewQueues {
        /// What it says it has.
        found: u64,
        /// What is needed.
        needed: u16,
    },
    /// The back-end takes too few regions of memory.
    #[error("the back-end takes {found} regions of guest memory, there are {needed}")]
    TooFewSlots {
        /// What it takes.
        found: u64,
        /// What there is.
        needed: usize,
    },
    /// The configuration space cannot be had, or has shrunk.
    #[error(
        "the back-end does not give the {size} bytes of its configuration space that the driver \
         knows; start it with the options that it had before"
    )]
    ConfigLost {
        /// The length that the driver was told.
        size: usize,
    },
    /// Nothing can be done without an extension of the protocol.
    #[error("the back-end lacks {0}; choose one that has it")]
    Lacking(&'static str),
    /// A message speaks of what is gone by now; the next connection starts from what there is.
    #[error("{0} is gone that a message was to speak of")]
    Gone(&'static str),
    /// Rings can only be of certain sizes.
    #[error("a queue cannot have {0} entries; choose a power of two up to 32768")]
    QueueSize(u16),
    /// The back-end was not there in time.
    #[error("device {name} was not ready in time: {why}")]
    NotReady {
        /// The device's name.
        name: String,
        /// The last error, or what it waits for.
        why: String,
    },
    /// The system refused something.
    #[error("{what} failed: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

impl Error {
    /// For `map_err` on a system call.
    pub(crate) fn system<E: Into<io::Error>>(what: &'static str) -> impl Fn(E) -> Self {
        move |error| Self::System { what, source: error.into() }
    }

    /// Whether the back-end has ended the connection in the ordinary way.
    pub(crate) fn is_closed(&self) -> bool {
        matches!(self, Self::Wire(wire::Error::Closed))
    }
}
