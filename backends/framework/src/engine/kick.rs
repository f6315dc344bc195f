//! The kicks that a worker watches: what they are, and what their readiness means.
//!
//! An eventfd is never drained: the watch is edge-triggered, so each write is one event whatever the
//! counter says. A pipe must be drained, or it fills up and the driver can kick no more.

use std::io::{self, IoSliceMut};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fs::FileType;
use rustix::io::{Errno, ReadWriteFlags};

use super::Event;
use super::tag::WatchId;

/// How much is read from a pipe at once, bytes.
const PIPE_CHUNK: usize = 4096;

/// How many chunks are read from a pipe at once: the largest pipe that an ordinary user can make.
const PIPE_CHUNKS: usize = 256;

/// Whether poll can tell when a file becomes readable. One that cannot be polled (a regular file, say)
/// counts as readable always, and would keep a worker busy for ever.
///
/// # Errors
/// EPERM, when it cannot; or whatever else keeps one from asking.
pub(super) fn require_pollable(fd: &OwnedFd) -> Result<(), Errno> {
    // io_uring takes any file; epoll is the one who knows.
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, fd, EventData::new_u64(0), EventFlags::IN)
}

/// A kick that is being watched.
#[derive(Debug)]
pub(super) struct Kick {
    pub(super) fd: Arc<OwnedFd>,
    pub(super) id: WatchId,
    is_pipe: bool,
}

impl Kick {
    /// What these flags say of this kick: the bits of poll are those of epoll.
    fn ready(&self, flags: EventFlags) -> Result<(), Errno> {
        if flags.contains(EventFlags::IN) {
            return if self.is_pipe { self.drain() } else { Ok(()) };
        }
        // Nothing to read, and nothing will ever come: every writer is gone, or the file is broken.
        Err(if flags.contains(EventFlags::HUP) { Errno::PIPE } else { Errno::IO })
    }

    /// Empties a pipe without ever waiting, even if somebody else reads it too. Its description is
    /// shared with the front-end, so O_NONBLOCK is not ours to set.
    fn drain(&self) -> Result<(), Errno> {
        let mut chunk = [0; PIPE_CHUNK];
        for done in 0..PIPE_CHUNKS {
            match self.read_some(&mut chunk) {
                Ok(0) if done == 0 => return Err(Errno::PIPE),
                Ok(PIPE_CHUNK) => {}
                // A full page may be followed by more; anything less is the end of it.
                Ok(_) | Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn read_some(&self, chunk: &mut [u8]) -> Result<usize, Errno> {
        // The offset -1 is "where the file stands", the only one that a pipe has.
        let into = &mut [IoSliceMut::new(chunk)];
        match rustix::io::preadv2(&self.fd, into, u64::MAX, ReadWriteFlags::NOWAIT) {
            Err(Errno::OPNOTSUPP) => {}
            result => return result,
        }
        match rustix::io::ioctl_fionread(&self.fd)? {
            0 => Err(Errno::AGAIN),
            _ => rustix::io::read(&self.fd, chunk),
        }
    }
}

/// The kicks of a worker's queues.
#[derive(Debug)]
pub(super) struct Kicks {
    queues: Vec<Watched>,
}

#[derive(Debug)]
struct Watched {
    latest: WatchId,
    kick: Option<Kick>,
}

impl Kicks {
    /// None of `queues` queues is watched.
    pub(super) fn new(queues: u16) -> Self {
        let none = |queue| Watched { latest: WatchId { queue, generation: 0 }, kick: None };
        Kicks { queues: (0..queues).map(none).collect() }
    }

    /// Forgets the kick of a queue, and gives it to whoever ends the watch.
    ///
    /// # Errors
    /// There is no such queue.
    pub(super) fn take(&mut self, queue: usize) -> io::Result<Option<Kick>> {
        Ok(self.watched(queue)?.kick.take())
    }

    /// Notes a new kick, in the place of any that there was.
    ///
    /// # Errors
    /// There is no such queue, or the descriptor is not usable.
    pub(super) fn put(&mut self, queue: usize, fd: Arc<OwnedFd>) -> io::Result<&Kick> {
        let mode = rustix::fs::fstat(&fd)?.st_mode;
        let is_pipe = FileType::from_raw_mode(mode) == FileType::Fifo;
        let watched = self.watched(queue)?;
        watched.latest = watched.latest.next();
        Ok(watched.kick.insert(Kick { fd, id: watched.latest, is_pipe }))
    }

    /// The kick that a watch is on; None if it has been replaced since.
    pub(super) fn get(&self, id: WatchId) -> Option<&Kick> {
        self.queues.get(usize::from(id.queue))?.kick.as_ref().filter(|kick| kick.id == id)
    }

    /// What to tell the worker when poll has reported on a watch. After [`Event::KickLost`] the kick
    /// is forgotten. None: the watch is on a kick that has been replaced since.
    pub(super) fn report(
        &mut self,
        id: WatchId,
        flags: Result<EventFlags, Errno>,
    ) -> Option<Event> {
        let ready = self.get(id)?;
        let queue = usize::from(id.queue);
        match flags.and_then(|flags| ready.ready(flags)) {
            Ok(()) => Some(Event::Kick(queue)),
            Err(why) => {
                self.queues.get_mut(queue)?.kick = None;
                Some(Event::KickLost(queue, why))
            }
        }
    }

    fn watched(&mut self, queue: usize) -> io::Result<&mut Watched> {
        self.queues.get_mut(queue).ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }
}
