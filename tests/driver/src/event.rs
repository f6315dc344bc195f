//! Eventfds: kicks, calls and errors.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, PollFlags, eventfd};
use rustix::io::{Errno, read, write};

use crate::{Deadline, Error, Result};

/// An eventfd that counts signals.
#[derive(Debug)]
pub struct Event(OwnedFd);

impl Event {
    /// A new eventfd that nobody has signalled.
    ///
    /// # Errors
    /// [`Error::System`] when the process has too many descriptors.
    pub fn new() -> Result<Self> {
        eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map(Self)
            .map_err(|error| Error::System("eventfd", error.into()))
    }

    /// Signals once.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn signal(&self) -> Result<()> {
        match write(&self.0, &1_u64.to_ne_bytes()) {
            // Its counter is full: it is signalled enough.
            Ok(_) | Err(Errno::AGAIN) => Ok(()),
            Err(error) => Err(Error::System("write to an eventfd", error.into())),
        }
    }

    /// Takes all signals so far and returns how many there were.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn take(&self) -> Result<u64> {
        let mut count = [0; 8];
        match read(&self.0, &mut count) {
            Ok(_) => Ok(u64::from_ne_bytes(count)),
            Err(Errno::AGAIN) => Ok(0),
            Err(error) => Err(Error::System("read from an eventfd", error.into())),
        }
    }

    /// Waits for a signal and takes it; `false` when none came.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn wait(&self, deadline: Deadline) -> Result<bool> {
        Ok(deadline.wait(&self.0, PollFlags::IN)? && self.take()? > 0)
    }

    /// Another descriptor of the same eventfd, to be sent to the back-end.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn share(&self) -> Result<OwnedFd> {
        duplicate(&self.0)
    }
}

impl AsFd for Event {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Another descriptor of the same open file.
pub(crate) fn duplicate(fd: impl AsFd) -> Result<OwnedFd> {
    let fd = fd.as_fd().try_clone_to_owned();
    fd.map_err(|error| Error::System("duplicating a file descriptor", error))
}
