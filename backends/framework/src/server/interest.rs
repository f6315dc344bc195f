//! What the event loop watches, and why.

use std::os::fd::{AsFd, OwnedFd};

use rustix::event::Timespec;
use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::io::Errno;

use crate::error::{Error, Result};

/// The epoll.
#[derive(Debug)]
pub(super) struct Poller(pub(super) OwnedFd);

impl Poller {
    pub(super) fn wait<B: rustix::buffer::Buffer<Event>>(
        &self,
        events: B,
        timeout: Option<&Timespec>,
    ) -> rustix::io::Result<B::Output> {
        epoll::wait(&self.0, events, timeout)
    }

    /// Watches for one event, after which the descriptor is watched no longer.
    pub(super) fn watch_once(
        &self,
        fd: impl AsFd,
        source: Source,
        wanted: EventFlags,
    ) -> rustix::io::Result<()> {
        let (mark, wanted) = (EventData::new_u64(source.mark()), wanted | EventFlags::ONESHOT);
        match epoll::add(&self.0, &fd, mark, wanted) {
            Err(Errno::EXIST) => epoll::modify(&self.0, &fd, mark, wanted),
            outcome => outcome,
        }
    }
}

/// Where an event comes from; ports by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Signals,
    Answers,
    Control,
    /// A port's listening socket.
    Listener(u32),
    /// A port's connection.
    FrontEnd(u32),
    /// The channel for a port's own requests.
    Backend(u32),
    /// The descriptor of a state's transfer.
    Transfer(u32),
}

impl Source {
    fn mark(self) -> u64 {
        let (kind, port) = match self {
            Source::Signals => (0, 0),
            Source::Answers => (1, 0),
            Source::Control => (2, 0),
            Source::Listener(port) => (3, port),
            Source::FrontEnd(port) => (4, port),
            Source::Backend(port) => (5, port),
            Source::Transfer(port) => (6, port),
        };
        kind << 32 | u64::from(port)
    }

    pub(super) fn from_mark(mark: u64) -> Option<Self> {
        let port = u32::try_from(mark & u64::from(u32::MAX)).ok()?;
        Some(match mark >> 32 {
            0 => Source::Signals,
            1 => Source::Answers,
            2 => Source::Control,
            3 => Source::Listener(port),
            4 => Source::FrontEnd(port),
            5 => Source::Backend(port),
            6 => Source::Transfer(port),
            _ => return None,
        })
    }
}

/// What is watched of one descriptor. To be cleared before the descriptor is closed: another process
/// may hold the same open file, and closing ours would not take it out of the epoll then.
#[derive(Debug, Default)]
pub(super) struct Interest(Option<EventFlags>);

impl Interest {
    /// Watches for `wanted`; for nothing at all if that is empty.
    ///
    /// # Errors
    /// When the system refuses, as it does for regular files.
    pub(super) fn set(
        &mut self,
        poller: &Poller,
        fd: impl AsFd,
        source: Source,
        wanted: EventFlags,
    ) -> Result<()> {
        self.try_set(poller, fd, source, wanted).map_err(|errno| Error::EventLoop {
            action: "watch a descriptor",
            source: errno.into(),
        })
    }

    /// Watches no longer.
    pub(super) fn clear(&mut self, poller: &Poller, fd: impl AsFd, source: Source) {
        // What cannot be taken out goes with its descriptor.
        let _ = self.try_set(poller, fd, source, EventFlags::empty());
    }

    fn try_set(
        &mut self,
        poller: &Poller,
        fd: impl AsFd,
        source: Source,
        wanted: EventFlags,
    ) -> rustix::io::Result<()> {
        let mark = EventData::new_u64(source.mark());
        let wanted = Some(wanted).filter(|flags| !flags.is_empty());
        match (self.0, wanted) {
            (before, after) if before == after => {}
            (None, Some(flags)) => epoll::add(&poller.0, fd, mark, flags)?,
            (Some(_), Some(flags)) => epoll::modify(&poller.0, fd, mark, flags)?,
            (Some(_), None) => match epoll::delete(&poller.0, fd) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno),
            },
            (None, None) => {}
        }
        self.0 = wanted;
        Ok(())
    }
}
