//! Eventfds: kicks, calls and errors.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::event::{EventfdFlags, PollFlags, eventfd};
use rustix::io::{Errno, read, write};
use virtio_spec::observer::RingStep;

use crate::{Deadline, Error, Result, Watch};

/// An eventfd that counts signals. Clones are the same eventfd.
#[derive(Debug, Clone)]
pub struct Event(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    fd: OwnedFd,
    /// Signals that were read from the eventfd and that nobody has taken.
    seen: AtomicU64,
    meaning: Meaning,
}

/// What the observer is shown of an eventfd.
#[derive(Debug)]
enum Meaning {
    Nothing,
    /// Signals are kicks of this ring.
    Kick(Watch, u16),
    /// Signals are calls for this ring.
    Call(Watch, u16),
}

impl Event {
    /// A new eventfd that nobody has signalled.
    ///
    /// # Errors
    /// [`Error::System`] when the process has too many descriptors.
    pub fn new() -> Result<Self> {
        Self::with_meaning(Meaning::Nothing)
    }

    /// A new eventfd whose signals are shown as kicks of a ring.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn kick(watch: &Watch, ring: u16) -> Result<Self> {
        Self::with_meaning(Meaning::Kick(watch.clone(), ring))
    }

    /// A new eventfd whose signals are shown as calls for a ring, once they are seen.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn call(watch: &Watch, ring: u16) -> Result<Self> {
        Self::with_meaning(Meaning::Call(watch.clone(), ring))
    }

    fn with_meaning(meaning: Meaning) -> Result<Self> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|error| Error::System("eventfd", error.into()))?;
        Ok(Self(Arc::new(Inner { fd, seen: AtomicU64::new(0), meaning })))
    }

    /// Signals once.
    ///
    /// # Errors
    /// [`Error::System`], [`Error::Violation`] for a kick at the wrong time.
    pub fn signal(&self) -> Result<()> {
        if let Meaning::Kick(watch, ring) = &self.0.meaning {
            watch.show((*ring, RingStep::Kicked))?;
        }
        self.inject()
    }

    /// Signals once without being the driver: as a front-end does for a ring that it has started.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn inject(&self) -> Result<()> {
        match write(&self.0.fd, &1_u64.to_ne_bytes()) {
            // Its counter is full: it is signalled enough.
            Ok(_) | Err(Errno::AGAIN) => Ok(()),
            Err(error) => Err(Error::System("write to an eventfd", error.into())),
        }
    }

    /// Sees whether there are signals, without taking them.
    ///
    /// # Errors
    /// [`Error::System`], [`Error::Violation`] for a call at the wrong time.
    pub fn look(&self) -> Result<bool> {
        let mut count = [0; 8];
        match read(&self.0.fd, &mut count) {
            Ok(_) => {
                self.0.seen.fetch_add(u64::from_ne_bytes(count), Ordering::Relaxed);
                if let Meaning::Call(watch, ring) = &self.0.meaning {
                    watch.show((*ring, RingStep::Called))?;
                }
            }
            Err(Errno::AGAIN) => {}
            Err(error) => return Err(Error::System("read from an eventfd", error.into())),
        }
        Ok(self.0.seen.load(Ordering::Relaxed) > 0)
    }

    /// Takes all signals so far and returns how many there were.
    ///
    /// # Errors
    /// As for [`look`](Self::look).
    pub fn take(&self) -> Result<u64> {
        self.look()?;
        Ok(self.0.seen.swap(0, Ordering::Relaxed))
    }

    /// Waits for a signal and takes it; `false` when none came.
    ///
    /// # Errors
    /// As for [`look`](Self::look).
    pub fn wait(&self, deadline: Deadline) -> Result<bool> {
        if self.look()? || deadline.wait(self, PollFlags::IN)? {
            return Ok(self.take()? > 0);
        }
        Ok(false)
    }

    /// Another descriptor of the same eventfd, to be sent to the back-end.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn share(&self) -> Result<OwnedFd> {
        duplicate(&self.0.fd)
    }
}

impl AsFd for Event {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.fd.as_fd()
    }
}

/// Another descriptor of the same open file.
pub(crate) fn duplicate(fd: impl AsFd) -> Result<OwnedFd> {
    let fd = fd.as_fd().try_clone_to_owned();
    fd.map_err(|error| Error::System("duplicating a file descriptor", error))
}
