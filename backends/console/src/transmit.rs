//! From the guest to whoever is attached.
//!
//! # Theory of operation
//! What waits in the backlog goes first, so that order is kept. Then chains are taken and written
//! straight from guest memory, several in one system call. When the peer takes no more, or nobody is
//! there, it depends: with `overflow=block` chains stay where they are until it goes on; with
//! `drop-oldest` their bytes move into the backlog, where the oldest make room for the latest. Chains
//! that were taken and are not written out yet are *held*; a ring that stops has them moved too. A file that
//! gets all output, and the ring that others read from, are given what leaves a chain, whichever way.
//!
//! # What a kill can lose
//! A chain is completed once its bytes are where they are going, so one that was not is in the in-flight
//! region, and the next daemon writes it out (again, as far as this one had done so). With `overflow=block`
//! that is the peer or the file: a kill loses nothing, unless a ring was stopped while its reader took
//! nothing. With `drop-oldest` it may be the backlog, which dies with the daemon. So does, in both
//! cases, the backlog of a daemon that is asked to end.

use std::collections::VecDeque;

use framework::engine::{Direction, Io, Transfer};
use framework::memory::Segment;
use framework::ring::{Chain, Ring};
use rustix::io::Errno;

use crate::backlog::Backlog;
use crate::gate::Gate;
use crate::line::Line;
use crate::port_spec::Overflow;

/// The most chains of one go; then others have their turn.
const BUDGET: usize = 256;
/// The most chains that are written in one system call.
const BATCH: usize = 32;
/// How many bytes are held before no further chain is taken: what is held when a ring stops has to fit
/// into the backlog, even if the last chain is as long again.
const HELD: usize = Backlog::MOST_HELD / 2;
/// The most segments that are written in one system call.
const SEGMENTS: usize = 1000;
/// Bytes that are copied at a time.
const PIECE: usize = 4096;

/// The transmitting half of a port.
#[derive(Debug, Default)]
pub(crate) struct Transmit {
    /// Chains that were taken, and the first of which may be written in part.
    held: VecDeque<Chain>,
    results: Vec<Result<u32, Errno>>,
}

/// Whether a peer is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// There is nothing to do for now.
    Waits,
    /// The other end is gone.
    Gone,
}

/// What becomes of output now.
enum Way {
    /// To those alone who read along, if there are any.
    Past,
    Write,
    Keep,
    Wait,
}

fn way(line: &Line, output: Option<&Gate>) -> Way {
    match (&line.peer, output) {
        (Some(peer), _) if peer.output.is_none() => Way::Past,
        (None, _) if line.goes_past() => Way::Past,
        (Some(_), Some(gate)) if gate.ready && !line.backlog.is_pending() => Way::Write,
        _ if line.overflow == Overflow::DropOldest => Way::Keep,
        _ => Way::Wait,
    }
}

impl Transmit {
    /// Deals with what the guest has written.
    pub(crate) fn run<I: Io>(
        &mut self,
        ring: Option<&mut Ring>,
        io: &mut I,
        line: &mut Line,
        output: &mut Option<Gate>,
    ) -> Flow {
        if let Err(flow) = flush(io, line, output) {
            return flow;
        }
        let Some(ring) = ring else { return Flow::Waits };
        let mut done = 0;
        while done < BUDGET {
            let handled = match way(line, output.as_ref()) {
                Way::Wait => return Flow::Waits,
                Way::Past => self.each(ring, |ring, chain| pass(ring, chain, line)),
                Way::Keep => self.each(ring, |ring, chain| keep(ring, chain, line)),
                Way::Write => match self.write(ring, io, line, output) {
                    Ok(handled) => handled,
                    Err(Errno::AGAIN) => continue,
                    Err(_) => return Flow::Gone,
                },
            };
            if handled == 0 {
                return Flow::Waits;
            }
            done += handled;
        }
        Flow::Waits
    }

    /// The ring stops: what is held is for the backlog.
    pub(crate) fn stop(&mut self, ring: &mut Ring, line: Option<&mut Line>) {
        if let Some(line) = line {
            if line.overflow == Overflow::Block {
                line.backlog.make_room(self.held_bytes(ring));
            }
            while let Some(chain) = self.held.pop_front() {
                keep(ring, &chain, line);
                ring.complete(chain, 0);
            }
        }
        self.discard(ring);
    }

    /// There is no such port: nothing that is written to it gets anywhere.
    pub(crate) fn discard(&mut self, ring: &mut Ring) {
        self.each(ring, |_, _| ());
    }

    /// Deals with one chain after the other, and says how many there were.
    fn each(&mut self, ring: &mut Ring, mut deal: impl FnMut(&mut Ring, &Chain)) -> usize {
        let mut count = 0;
        while count < BATCH
            && let Some(chain) = self.held.pop_front().or_else(|| ring.take())
        {
            deal(ring, &chain);
            ring.complete(chain, 0);
            count += 1;
        }
        count
    }

    fn held_bytes(&self, ring: &Ring) -> usize {
        self.held.iter().map(|chain| ring.readable_len(chain)).sum()
    }

    /// Takes as many chains as are written at once.
    fn take(&mut self, ring: &mut Ring) {
        let mut bytes = self.held_bytes(ring);
        while self.held.len() < BATCH
            && bytes < HELD
            && let Some(chain) = ring.take()
        {
            bytes = bytes.saturating_add(ring.readable_len(&chain));
            self.held.push_back(chain);
        }
    }

    /// Writes what is held and what the ring has. Says how many chains were dealt with.
    fn write<I: Io>(
        &mut self,
        ring: &mut Ring,
        io: &mut I,
        line: &mut Line,
        output: &mut Option<Gate>,
    ) -> Result<usize, Errno> {
        let Some(gate) = output else { return Ok(0) };
        self.take(ring);
        let empty = self.consume(ring, line, 0);
        if !self.stage(ring, io) {
            return Ok(empty);
        }
        io.carry_out(gate.file, &mut self.results);
        match self.results.first() {
            Some(Ok(0) | Err(Errno::AGAIN)) | None => {
                gate.wait(io, Direction::Writable);
                Err(Errno::AGAIN)
            }
            Some(Err(errno)) => Err(*errno),
            Some(Ok(written)) => {
                let written = *written as usize;
                line.counts.to_host += written as u64;
                ring.stats().bytes_read.add(written as u64);
                Ok(empty + self.consume(ring, line, written).max(1))
            }
        }
    }

    /// Puts what is held into one transfer, as far as it fits. False: there is nothing.
    fn stage<I: Io>(&self, ring: &Ring, io: &mut I) -> bool {
        let mut room = SEGMENTS;
        for (index, chain) in self.held.iter().enumerate() {
            let all = ring.readable(chain);
            let segments: &[Segment] = all.get(..room.min(all.len())).unwrap_or(all);
            room -= segments.len();
            let staged = if index == 0 {
                io.stage(&Transfer::Send { header: &[], from: segments })
            } else {
                io.stage_more(segments)
            };
            if !staged {
                return index > 0;
            }
            if segments.len() < all.len() {
                return true;
            }
        }
        !self.held.is_empty()
    }

    /// The first `written` bytes of what is held are dealt with. Says how many chains are, too.
    fn consume(&mut self, ring: &mut Ring, line: &mut Line, mut written: usize) -> usize {
        let mut count = 0;
        while let Some(chain) = self.held.pop_front() {
            let length = ring.readable_len(&chain);
            let part = length.min(written);
            if line.is_copied() {
                record(ring, &chain, part, line);
            }
            written -= part;
            if part < length {
                ring.advance_readable(&chain, part);
                self.held.push_front(chain);
                break;
            }
            ring.complete(chain, 0);
            count += 1;
        }
        count
    }
}

/// Gives the peer what waits for it.
fn flush<I: Io>(io: &mut I, line: &mut Line, output: &mut Option<Gate>) -> Result<(), Flow> {
    let Some(gate) = output.as_mut().filter(|gate| gate.ready) else { return Ok(()) };
    match line.flush() {
        Ok(()) => Ok(()),
        Err(Errno::AGAIN) => {
            gate.wait(io, Direction::Writable);
            Ok(())
        }
        Err(_) => Err(Flow::Gone),
    }
}

/// Copies what is left of a chain into the backlog.
fn keep(ring: &mut Ring, chain: &Chain, line: &mut Line) {
    skip(ring, chain, line, false);
    copy(ring, chain, |piece| line.keep(piece));
}

/// Copies what is left of a chain to where all output goes, which may be nowhere.
fn pass(ring: &mut Ring, chain: &Chain, line: &mut Line) {
    if !line.is_copied() {
        line.counts.discarded += ring.readable_len(chain) as u64;
        return;
    }
    skip(ring, chain, line, true);
    copy(ring, chain, |piece| line.pass(piece));
}

/// Of a long chain the end is all that the backlog has room for.
fn skip(ring: &mut Ring, chain: &Chain, line: &mut Line, delivered: bool) {
    if line.record.is_none() {
        let excess = ring.readable_len(chain).saturating_sub(line.backlog.capacity());
        ring.advance_readable(chain, excess);
        line.backlog.skip(excess, delivered);
    }
}

/// Copies the first `length` bytes of a chain, which the peer has, to where all output goes.
fn record(ring: &mut Ring, chain: &Chain, length: usize, line: &mut Line) {
    let mut piece = [0; PIECE];
    let mut at = 0;
    if line.record.is_none() {
        at = length.saturating_sub(line.backlog.capacity());
        line.backlog.skip(at, true);
    }
    while at < length {
        let most = (length - at).min(PIECE);
        let Some(part) = piece.get_mut(..most) else { return };
        let count = ring.read(chain, at, part);
        let Some(part) = piece.get(..count).filter(|part| !part.is_empty()) else { return };
        line.pass(part);
        at += count;
    }
}

/// Hands out what is left of a chain, piece by piece.
fn copy(ring: &mut Ring, chain: &Chain, mut take: impl FnMut(&[u8])) {
    let mut piece = [0; PIECE];
    loop {
        let count = ring.read(chain, 0, &mut piece);
        let Some(part) = piece.get(..count).filter(|part| !part.is_empty()) else { return };
        take(part);
        ring.advance_readable(chain, count);
        ring.stats().bytes_read.add(count as u64);
    }
}
