//! The connection to a peer, with what was read from it and what is to be written, whoever serves it.
//!
//! # Theory of operation
//! There is a connection, or there is none. While there is none, the next one comes by the timer (where
//! we connect) or by the listening socket. A stream that ends, fails, or announces a frame that cannot be
//! is given up, with what is in the buffers.

use std::sync::Arc;
use std::time::Duration;

use framework::engine::{Direction, FileIndex, Io, Transfer};
use framework::memory::Segment;
use rustix::io::Errno;

use super::Stream;
use super::framing::{BUFFER, Incoming, Outgoing};
use crate::counts::Counts;

/// The connection, or the lack of one.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Where a listening socket is among the files of whoever serves it.
    listener: FileIndex,
    peer: Option<Peer>,
    buffers: Option<(Incoming, Outgoing)>,
    /// When to try to connect again.
    retry: Option<Duration>,
    results: Vec<Result<u32, Errno>>,
}

#[derive(Clone, Copy, Debug)]
struct Peer {
    file: FileIndex,
    /// Whether there may be something to read: until reading says that there is not.
    readable: bool,
    /// Whether it takes more: until writing says that it does not.
    writable: bool,
}

impl Connection {
    /// No connection yet. `listener` is where a listening socket is.
    pub(crate) fn new(listener: FileIndex) -> Self {
        Connection { listener, peer: None, buffers: None, retry: None, results: Vec::new() }
    }

    /// When the connection is to be tried again.
    pub(crate) fn due(&self) -> Option<Duration> {
        self.retry
    }

    /// A file is ready: the peer's, or another one. Says whether it is the peer's.
    pub(crate) fn ready(&mut self, file: FileIndex, direction: Direction) -> bool {
        let Some(peer) = self.peer.as_mut().filter(|peer| peer.file == file) else { return false };
        match direction {
            Direction::Readable => peer.readable = true,
            Direction::Writable => peer.writable = true,
        }
        true
    }

    /// Whether there is a connection.
    pub(crate) fn is_there(&self) -> bool {
        self.peer.is_some()
    }

    /// Whether the peer may have sent something that was not read.
    pub(crate) fn is_readable(&self) -> bool {
        self.peer.is_some_and(|peer| peer.readable)
    }

    /// What was read; nothing before the first connection.
    pub(crate) fn incoming(&mut self) -> Option<&mut Incoming> {
        self.buffers.as_mut().map(|(incoming, _)| incoming)
    }

    /// What is to be written; nothing before the first connection.
    pub(crate) fn outgoing(&mut self) -> Option<&mut Outgoing> {
        self.buffers.as_mut().map(|(_, outgoing)| outgoing)
    }

    /// Whether there is a connection, perhaps since just now.
    #[inline]
    pub(crate) fn connect<I: Io>(&mut self, io: &mut I, stream: &Stream, counts: &Counts) -> bool {
        if self.peer.is_some() {
            return true;
        }
        if self.retry.is_some_and(|at| at > io.now()) {
            return false;
        }
        self.try_connect(io, stream, counts)
    }

    #[cold]
    fn try_connect<I: Io>(&mut self, io: &mut I, stream: &Stream, counts: &Counts) -> bool {
        self.retry = None;
        let opened = match stream.next() {
            Ok(Some(socket)) => io.open_file(Arc::new(socket)).map_err(|_| Errno::NFILE),
            Ok(None) => Err(Errno::CONNREFUSED),
            Err(error) => {
                tracing::debug!(%error, "no connection to the uplink's peer");
                Err(Errno::ACCESS)
            }
        };
        match opened {
            Ok(file) if self.has_buffers(io) => {
                self.peer = Some(Peer { file, readable: true, writable: true });
                return true;
            }
            Ok(file) => io.close_file(file),
            // Nobody has come yet.
            Err(Errno::CONNREFUSED) if stream.listening().is_some() => {
                io.watch(self.listener, Direction::Readable);
                return false;
            }
            Err(error) => counts.uplink_failed(error),
        }
        self.retry = Some(io.now() + stream.delay());
        false
    }

    fn has_buffers<I: Io>(&mut self, io: &mut I) -> bool {
        if self.buffers.is_none() {
            let mut lend = || io.bounce().lend(BUFFER).ok().flatten();
            let buffers = lend().zip(lend());
            self.buffers = buffers.map(|(a, b)| (Incoming::new(a), Outgoing::new(b)));
        }
        self.buffers.is_some()
    }

    /// Writes what waits, as much as the peer takes. False: it takes no more now, or is not there.
    ///
    /// # Errors
    /// When the connection is of no use any more.
    pub(crate) fn flush<I: Io>(&mut self, io: &mut I) -> Result<bool, Errno> {
        let (Some(peer), Some((_, outgoing))) = (&mut self.peer, &mut self.buffers) else {
            return Ok(false);
        };
        if !peer.writable || outgoing.is_empty() {
            return Ok(peer.writable);
        }
        let all = outgoing.unsent();
        let wanted = all.iter().map(Segment::len).sum::<usize>();
        if !io.stage(&Transfer::Send { header: &[], from: all }) {
            return Ok(false);
        }
        io.carry_out(peer.file, &mut self.results);
        let sent = transferred(&self.results)?;
        outgoing.sent(sent);
        if sent < wanted {
            peer.writable = false;
            io.watch(peer.file, Direction::Writable);
        }
        Ok(peer.writable)
    }

    /// Reads what there is. False: there is nothing.
    ///
    /// # Errors
    /// When the connection is of no use any more.
    pub(crate) fn read<I: Io>(&mut self, io: &mut I) -> Result<bool, Errno> {
        let (Some(peer), Some((incoming, _))) = (&mut self.peer, &mut self.buffers) else {
            return Ok(false);
        };
        let into = incoming.room();
        let wanted = into.iter().map(Segment::len).sum::<usize>();
        if !peer.readable || !io.stage(&Transfer::Receive { into }) {
            return Ok(false);
        }
        io.carry_out(peer.file, &mut self.results);
        if let Some(Ok(0)) = self.results.first() {
            return Err(Errno::CONNRESET);
        }
        let n = transferred(&self.results)?;
        incoming.filled(n);
        // Fewer bytes than there was room for were all that there were.
        peer.readable = n == wanted;
        Ok(n > 0)
    }

    /// Has the worker woken when there is something to read.
    pub(crate) fn watch<I: Io>(&self, io: &mut I) {
        if let Some(peer) = &self.peer {
            io.watch(peer.file, Direction::Readable);
        }
    }

    /// The connection is of no use any more.
    #[cold]
    pub(crate) fn give_up<I: Io>(
        &mut self,
        io: &mut I,
        stream: &Stream,
        counts: &Counts,
        why: Errno,
    ) {
        counts.uplink_failed(why);
        if let Some(peer) = self.peer.take() {
            io.close_file(peer.file);
        }
        if let Some((incoming, outgoing)) = &mut self.buffers {
            incoming.clear();
            outgoing.clear();
        }
        // A peer that hangs up at once each time is not called again at once.
        self.retry = Some(io.now() + stream.delay());
        if stream.listening().is_some() {
            io.watch(self.listener, Direction::Readable);
        }
    }
}

/// How many bytes a transfer has moved.
fn transferred(results: &[Result<u32, Errno>]) -> Result<usize, Errno> {
    match results.first() {
        Some(Ok(n)) => Ok(*n as usize),
        Some(Err(Errno::AGAIN | Errno::INTR)) | None => Ok(0),
        Some(Err(error)) => Err(*error),
    }
}
