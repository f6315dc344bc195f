//! What can go wrong in a test's driver or front-end.

use std::io;

/// An error of the fake driver or the fake front-end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call failed.
    #[error("{0} failed")]
    System(&'static str, #[source] io::Error),
    /// A range is not within guest memory.
    #[error(
        "guest memory has no {len} bytes at {addr:#x}; add a region there or use another range"
    )]
    OutsideMemory {
        /// First guest address.
        addr: u64,
        /// Bytes.
        len: usize,
    },
    /// Two regions would overlap.
    #[error("a region at {0:#x} would overlap another one")]
    Overlap(u64),
    /// No region has so much room.
    #[error("no region of guest memory has {0} bytes left; make the memory larger or drop buffers")]
    NoRoom(usize),
    /// A chain does not fit into the queue now.
    #[error("the queue has {free} descriptors left, the chain needs {needed}; reap first")]
    QueueFull {
        /// Descriptors that the chain needs.
        needed: usize,
        /// Descriptors that are free.
        free: usize,
    },
    /// The test asked for what this kind of queue cannot do.
    #[error("the test's driver cannot do this: {0}")]
    Unsupported(&'static str),
    /// The device broke the specification.
    #[error("the device broke the specification: {0}")]
    Device(String),
    /// A clause of a specification was broken, as the conformance observer sees it.
    #[error(transparent)]
    Violation(#[from] virtio_spec::observer::Violation),
    /// A message could not be exchanged.
    #[error(transparent)]
    Wire(#[from] wire::Error),
    /// A reply of another kind than the request's.
    #[error("{request} was answered with {reply}")]
    WrongReply {
        /// The request.
        request: &'static str,
        /// The reply as text.
        reply: String,
    },
    /// The back-end lacks what the test needs.
    #[error("the back-end does not offer {0}")]
    NotOffered(String),
    /// Something did not happen in time.
    #[error("waited in vain for {0}")]
    Timeout(String),
    /// A request ended with a status other than OK.
    #[error("{operation} ended with status {status:?} ({number})")]
    Status {
        /// The request.
        operation: String,
        /// The status, if the specification knows it.
        status: Option<virtio_spec::block::Status>,
        /// The status byte.
        number: u8,
    },
    /// The connection lacks something that was not set up.
    #[error("{0} was not set up; do that first")]
    NotSetUp(&'static str),
}
