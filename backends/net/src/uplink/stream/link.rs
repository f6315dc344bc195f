//! The connection to a peer, as the data side has it.
//!
//! # Theory of operation
//! There is a connection, or there is none. While there is none, what the guest transmits is dropped,
//! and the next connection comes by the timer (where we connect) or by the listening socket.
//!
//! Frames of the guest are copied to a buffer and sent in one system call for all of them. A peer that
//! takes less leaves the rest there; when the buffer has no room for one more frame, chains are left in
//! the ring until the socket takes more. Frames of the peer are read as many as there are, and copied to
//! the guest's chains; when there are no more chains, frames stay in the buffer, and then in the socket,
//! until the guest's next kick. So either side can hold up the other, and nothing grows.
//!
//! A stream that ends, fails, or announces a frame that cannot be is given up, with what is in the
//! buffers.

use std::sync::Arc;
use std::time::Duration;

use framework::engine::{Direction, FileIndex, Io, Transfer};
use framework::memory::Segment;
use framework::ring::Ring;
use rustix::io::Errno;
use virtio_spec::net::Header;

use super::Stream;
use super::framing::{BUFFER, Incoming, Next, Outgoing};
use crate::counts::Counts;
use crate::deliver::{Fate, Frame, deliver};
use crate::header::FRAME_MIN;
use crate::transmit::{Checked, check, discard};
use crate::view::View;

/// The most reads of one go.
const READS: usize = 4;
/// Where a listening socket is among the worker's files.
const LISTENER: FileIndex = FileIndex(0);

/// The connection, or the lack of one.
#[derive(Debug, Default)]
pub(crate) struct Link {
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

/// A frame in the buffer of what was received.
struct Received<'a> {
    buffer: &'a Segment,
    at: usize,
    length: usize,
}

impl Frame for Received<'_> {
    fn length(&self) -> usize {
        self.length
    }

    fn start(&self, to: &mut [u8]) -> usize {
        let n = self.length.min(to.len());
        to.get_mut(..n).map_or(0, |to| self.buffer.read(self.at, to))
    }

    fn copy(&self, from: usize, to: &Segment, at: usize) -> usize {
        let left = self.length.saturating_sub(from);
        to.copy_part(at, self.buffer, self.at + from, left)
    }
}

impl Link {
    /// When the connection is to be tried again.
    pub(crate) fn due(&self) -> Option<Duration> {
        self.retry
    }

    /// A file is ready: the peer's, or the listening one.
    pub(crate) fn ready<I: Io>(
        &mut self,
        io: &mut I,
        stream: &Stream,
        (file, direction): (FileIndex, Direction),
        counts: &Counts,
    ) {
        let Some(peer) = self.peer.as_mut().filter(|peer| peer.file == file) else { return };
        match direction {
            Direction::Readable => peer.readable = true,
            Direction::Writable => {
                peer.writable = true;
                self.flush(io, stream, counts);
            }
        }
    }

    /// Sends what the guest transmits.
    pub(crate) fn transmit<I: Io>(
        &mut self,
        ring: &mut Ring,
        io: &mut I,
        stream: &Stream,
        view: &View,
        counts: &Counts,
    ) {
        if !self.connect(io, stream, counts) {
            return discard(ring, counts);
        }
        for _ in 0..view.budget.transmit {
            let Some((_, outgoing)) = &mut self.buffers else { return };
            if !outgoing.has_room() {
                self.flush(io, stream, counts);
                let Some((_, outgoing)) = &self.buffers else { return };
                if self.peer.is_none() || !outgoing.has_room() {
                    return;
                }
                continue;
            }
            let Some(chain) = ring.take() else { break };
            match check(ring, &chain, view) {
                Checked::Good(_, length) if outgoing.push(ring.readable(&chain)) => {
                    counts.tx_frames.add(1);
                    counts.tx_bytes.add(length as u64);
                    ring.stats().bytes_read.add(length as u64);
                }
                Checked::Good(..) | Checked::Malformed => counts.tx_malformed.add(1),
            }
            ring.complete(chain, 0);
        }
        self.flush(io, stream, counts);
    }

    /// Writes what waits, as much as the peer takes.
    fn flush<I: Io>(&mut self, io: &mut I, stream: &Stream, counts: &Counts) {
        let (Some(peer), Some((_, outgoing))) = (&mut self.peer, &mut self.buffers) else { return };
        if !peer.writable || outgoing.is_empty() {
            return;
        }
        let all = outgoing.unsent();
        let wanted = all.iter().map(Segment::len).sum::<usize>();
        if !io.stage(&Transfer::Send { header: &[], from: all }) {
            return;
        }
        io.carry_out(peer.file, &mut self.results);
        let sent = match self.results.first() {
            Some(Ok(n)) => *n as usize,
            Some(Err(Errno::AGAIN | Errno::INTR)) | None => 0,
            Some(Err(error)) => {
                let error = *error;
                return self.give_up(io, stream, counts, error);
            }
        };
        outgoing.sent(sent);
        if sent < wanted {
            peer.writable = false;
            io.watch(peer.file, Direction::Writable);
        }
    }

    /// Gives the guest what the peer has sent.
    pub(crate) fn receive<I: Io>(
        &mut self,
        ring: &mut Ring,
        io: &mut I,
        stream: &Stream,
        view: &View,
        counts: &Counts,
    ) {
        if !self.connect(io, stream, counts) {
            return;
        }
        for _ in 0..READS {
            match self.hand_over(ring, view, counts) {
                Next::Partial => {}
                Next::Frame { .. } => return,
                Next::Broken { .. } => return self.give_up(io, stream, counts, Errno::PROTO),
            }
            match self.read(io) {
                Ok(true) => {}
                Ok(false) => return self.watch(io),
                Err(error) => return self.give_up(io, stream, counts, error),
            }
        }
        // The other ring has its turn; what is left is heard of at once.
        if self.hand_over(ring, view, counts) == Next::Partial {
            self.watch(io);
        }
    }

    /// Gives the guest all frames that are there, or as many as it takes and may have.
    fn hand_over(&mut self, ring: &mut Ring, view: &View, counts: &Counts) -> Next {
        let Some((incoming, _)) = &mut self.buffers else { return Next::Partial };
        let mut given = 0;
        loop {
            let next = incoming.next();
            let Next::Frame { at, length } = next else { return next };
            if given == view.budget.receive {
                return next;
            }
            let frame = Received { buffer: incoming.bytes(), at, length };
            if length < FRAME_MIN {
                counts.rx_malformed.add(1);
            } else {
                match deliver(ring, &Header::default(), &frame, view, counts) {
                    Fate::NoRoom => return next,
                    Fate::Given => given += 1,
                    Fate::Dropped => {}
                }
            }
            incoming.pop();
        }
    }

    /// Reads what there is. False: there is nothing.
    fn read<I: Io>(&mut self, io: &mut I) -> Result<bool, Errno> {
        let (Some(peer), Some((incoming, _))) = (&mut self.peer, &mut self.buffers) else {
            return Ok(false);
        };
        let into = incoming.room();
        let wanted = into.iter().map(Segment::len).sum::<usize>();
        if !peer.readable || !io.stage(&Transfer::Receive { into }) {
            return Ok(false);
        }
        io.carry_out(peer.file, &mut self.results);
        let n = match self.results.first() {
            Some(Ok(0)) => return Err(Errno::CONNRESET),
            Some(Ok(n)) => *n as usize,
            Some(Err(Errno::AGAIN | Errno::INTR)) | None => 0,
            Some(Err(error)) => return Err(*error),
        };
        incoming.filled(n);
        // Fewer bytes than there was room for were all that there were.
        peer.readable = n == wanted;
        Ok(n > 0)
    }

    fn watch<I: Io>(&self, io: &mut I) {
        if let Some(peer) = &self.peer {
            io.watch(peer.file, Direction::Readable);
        }
    }

    /// Whether there is a connection, perhaps since just now.
    #[inline]
    fn connect<I: Io>(&mut self, io: &mut I, stream: &Stream, counts: &Counts) -> bool {
        if self.peer.is_some() {
            return true;
        }
        let now = io.now();
        if self.retry.is_some_and(|at| at > now) {
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
                io.watch(LISTENER, Direction::Readable);
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

    /// The connection is of no use any more.
    #[cold]
    fn give_up<I: Io>(&mut self, io: &mut I, stream: &Stream, counts: &Counts, why: Errno) {
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
            io.watch(LISTENER, Direction::Readable);
        }
    }
}
