//! A request between its two steps.

use wire::Reply;

use crate::Error;
use crate::worker::Command;

/// An answer that a request waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Awaited {
    /// That worker has carried out a command.
    Done(u16),
    /// The ring of that queue was started, or could not be.
    Started(u16),
    /// The ring of that queue has drained.
    Stopped(u16),
    /// That worker has ended.
    Ended(u16),
    /// The device's state has been read or written in whole.
    Transfer,
}

impl Awaited {
    /// What `worker` answers to `command`.
    pub(super) fn answer_to(worker: u16, command: &Command) -> Self {
        match command {
            Command::Start(setup) => Awaited::Started(setup.queue),
            Command::Stop { queue } => Awaited::Stopped(*queue),
            Command::Quit => Awaited::Ended(worker),
            _ => Awaited::Done(worker),
        }
    }
}

/// The second step of a request.
#[derive(Debug)]
pub(super) enum Then {
    /// It has succeeded, unless a ring failed to start for it.
    Ack,
    /// It was refused. Whoever asked for no answer gets none: these are refusals that a guest can
    /// provoke through an honest front-end, and no reason to end the connection.
    Refuse(Error),
    /// The reply is known.
    Reply(Reply),
    /// The reply is the base of this ring.
    Base(u16),
    /// This ring has stopped, and gets another base.
    Rebase { queue: u16, base: u32 },
    /// The reply is how the transfer of the device's state went.
    StateOutcome,
    /// All workers are gone: the device is reset.
    Reset,
}

impl Then {
    pub(super) fn number(value: u64) -> Self {
        Then::Reply(Reply::U64(value))
    }
}

/// A request whose second step is to come.
#[derive(Debug)]
pub(super) struct Pending {
    /// Its code.
    pub(super) code: u32,
    /// Its name, for the log.
    pub(super) request: String,
    /// Whether success and failure are to be told (REPLY_ACK).
    pub(super) ack: bool,
    pub(super) then: Then,
}
