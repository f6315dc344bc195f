//! A stream as the uplink of one card.
//!
//! # Theory of operation
//! While there is no connection, what the guest transmits is dropped.
//!
//! Frames of the guest are copied to a buffer and sent in one system call for all of them. A peer that
//! takes less leaves the rest there; when the buffer has no room for one more frame, chains are left in
//! the ring until the socket takes more. Frames of the peer are read as many as there are, and copied to
//! the guest's chains; when there are no more chains, frames stay in the buffer, and then in the socket,
//! until the guest's next kick. So either side can hold up the other, and nothing grows.

use std::time::Duration;

use framework::engine::{Direction, FileIndex, Io};
use framework::memory::Segment;
use framework::ring::Ring;
use rustix::io::Errno;
use virtio_spec::net::Header;

use super::Stream;
use super::connection::Connection;
use super::framing::Next;
use crate::counts::Counts;
use crate::deliver::{Fate, Frame, deliver};
use crate::header::FRAME_MIN;
use crate::transmit::{Checked, check, discard};
use crate::view::View;

/// The most reads of one go.
const READS: usize = 4;
/// Where a listening socket is among the worker's files.
const LISTENER: FileIndex = FileIndex(0);

/// A card's end of a stream.
#[derive(Debug)]
pub(crate) struct Link {
    connection: Connection,
}

impl Default for Link {
    fn default() -> Self {
        Link { connection: Connection::new(LISTENER) }
    }
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
        self.connection.due()
    }

    /// A file is ready: the peer's, or the listening one.
    pub(crate) fn ready<I: Io>(
        &mut self,
        io: &mut I,
        stream: &Stream,
        (file, direction): (FileIndex, Direction),
        counts: &Counts,
    ) {
        if self.connection.ready(file, direction) && direction == Direction::Writable {
            self.flush(io, stream, counts);
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
        if !self.connection.connect(io, stream, counts) {
            return discard(ring, counts);
        }
        for _ in 0..view.budget.transmit {
            if !self.has_room(io, stream, counts) {
                return;
            }
            let Some(outgoing) = self.connection.outgoing() else { return };
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

    /// Whether there is room for one more frame, perhaps since the peer has just taken others.
    #[inline]
    fn has_room<I: Io>(&mut self, io: &mut I, stream: &Stream, counts: &Counts) -> bool {
        let Some(outgoing) = self.connection.outgoing() else { return false };
        if outgoing.has_room() {
            return true;
        }
        self.flush(io, stream, counts);
        self.connection.is_there() && self.connection.outgoing().is_some_and(|out| out.has_room())
    }

    /// Writes what waits, as much as the peer takes.
    fn flush<I: Io>(&mut self, io: &mut I, stream: &Stream, counts: &Counts) {
        if let Err(error) = self.connection.flush(io) {
            self.connection.give_up(io, stream, counts, error);
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
        if !self.connection.connect(io, stream, counts) {
            return;
        }
        if let Err(error) = self.read(ring, io, view, counts) {
            self.connection.give_up(io, stream, counts, error);
        }
    }

    fn read<I: Io>(
        &mut self,
        ring: &mut Ring,
        io: &mut I,
        view: &View,
        counts: &Counts,
    ) -> Result<(), Errno> {
        for _ in 0..READS {
            match self.hand_over(ring, view, counts) {
                Next::Partial => {}
                Next::Frame { .. } => return Ok(()),
                Next::Broken { .. } => return Err(Errno::PROTO),
            }
            if !self.connection.read(io)? {
                self.connection.watch(io);
                return Ok(());
            }
        }
        // The other ring has its turn; what is left is heard of at once.
        if self.hand_over(ring, view, counts) == Next::Partial {
            self.connection.watch(io);
        }
        Ok(())
    }

    /// Gives the guest all frames that are there, or as many as it takes and may have.
    fn hand_over(&mut self, ring: &mut Ring, view: &View, counts: &Counts) -> Next {
        let Some(incoming) = self.connection.incoming() else { return Next::Partial };
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
}
