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
//! A console's driver has one buffer, and spins until it is used. Its bytes go through the backlog even
//! while the peer takes them: the buffer is the driver's again while they are on their way to the peer.
//!
//! # What a kill can lose
//! A chain is completed once its bytes are where they are going, so one that was not is in the in-flight
//! region, and the next daemon writes it out (again, as far as this one had done so). With `overflow=block`
//! that is the peer or the file: a kill loses nothing, unless a ring was stopped while its reader took
//! nothing. Of a console it may be what was just on its way, [`PROMPT`] bytes at most. With `drop-oldest`
//! it may be the backlog, which dies with the daemon. So does, in all cases, the backlog of a daemon that
//! is asked to end.

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
/// Bytes that are copied in one go, of a chain that may have four billion; then others have their turn.
const COPIED: usize = 1 << 20;
/// The most bytes of a console that are taken from the driver before the peer has them.
pub(crate) const PROMPT: usize = 16 << 10;

/// The transmitting half of a port.
#[derive(Debug, Default)]
pub(crate) struct Transmit {
    /// Chains that were taken, and the first of which may be written in part.
    held: VecDeque<Chain>,
    results: Vec<Result<u32, Errno>>,
    /// There is more to be done, which nothing else will tell of.
    pub(crate) unfinished: bool,
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
    /// To the peer, but the driver need not wait for that.
    Prompt,
    Keep,
    Wait,
}

fn way(line: &Line, output: Option<&Gate>) -> Way {
    match (&line.peer, output) {
        (Some(peer), _) if peer.output.is_none() => Way::Past,
        (None, _) if line.goes_past() => Way::Past,
        (Some(_), Some(gate)) if gate.ready && !line.backlog.is_pending() => {
            if line.is_console {
                Way::Prompt
            } else {
                Way::Write
            }
        }
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
        self.unfinished = false;
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
                Way::Prompt if self.take_promptly(ring, line) => {
                    if let Err(flow) = flush(io, line, output) {
                        return flow;
                    }
                    1
                }
                Way::Prompt | Way::Write => match self.write(ring, io, line, output) {
                    Ok(handled) => handled,
                    Err(Errno::AGAIN) => continue,
                    Err(_) => return Flow::Gone,
                },
            };
            if handled == 0 || self.unfinished {
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
                if line.record.is_some() {
                    leave_out(ring, &chain, line);
                }
                while keep(ring, &chain, line) > 0 {}
                ring.complete(chain, 0);
            }
        }
        self.discard(ring);
    }

    /// There is no such port: nothing that is written to it gets anywhere.
    pub(crate) fn discard(&mut self, ring: &mut Ring) {
        self.each(ring, |ring, chain| ring.readable_len(chain));
    }

    /// Deals with one chain after the other, and says how many there were. `deal` says how many bytes it
    /// has dealt with; a chain of which it has left some is for the next time.
    fn each(&mut self, ring: &mut Ring, mut deal: impl FnMut(&mut Ring, &Chain) -> usize) -> usize {
        let (mut count, mut bytes) = (0, 0);
        self.unfinished = false;
        while count < BATCH
            && let Some(chain) = self.held.pop_front().or_else(|| ring.take())
        {
            let all = ring.readable_len(&chain);
            let dealt = deal(ring, &chain);
            (count, bytes) = (count + 1, bytes + dealt);
            if dealt < all {
                self.held.push_front(chain);
            } else {
                ring.complete(chain, 0);
            }
            if bytes >= COPIED {
                self.unfinished = true;
                break;
            }
        }
        count
    }

    /// Takes what the driver waits for, if it is short enough, shows that it is used, and has it in the
    /// backlog. False: there is nothing of that kind.
    fn take_promptly(&mut self, ring: &mut Ring, line: &mut Line) -> bool {
        let mut bytes = 0;
        for _ in 0..BATCH {
            let Some(chain) = self.held.is_empty().then(|| ring.take()).flatten() else { break };
            bytes += ring.readable_len(&chain);
            if bytes > PROMPT {
                self.held.push_back(chain);
                break;
            }
            keep(ring, &chain, line);
            ring.complete(chain, 0);
            ring.publish();
        }
        line.backlog.is_pending()
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

/// Copies what is left of a chain into the backlog. Says how many bytes it has dealt with.
fn keep(ring: &mut Ring, chain: &Chain, line: &mut Line) -> usize {
    skip(ring, chain, line, false) + copy(ring, chain, |piece| line.keep(piece))
}

/// Copies what is left of a chain to where all output goes, which may be nowhere. Says how many bytes it
/// has dealt with.
fn pass(ring: &mut Ring, chain: &Chain, line: &mut Line) -> usize {
    if !line.is_copied() {
        let all = ring.readable_len(chain);
        line.counts.discarded += all as u64;
        return all;
    }
    skip(ring, chain, line, true) + copy(ring, chain, |piece| line.pass(piece))
}

/// A ring that stops does not wait until a file has all of a chain that may be very long.
fn leave_out(ring: &mut Ring, chain: &Chain, line: &mut Line) {
    let excess = ring.readable_len(chain).saturating_sub(COPIED);
    ring.advance_readable(chain, excess);
    line.lose(excess);
}

/// Of a long chain the end is all that the backlog has room for. Says how much there was before that.
fn skip(ring: &mut Ring, chain: &Chain, line: &mut Line, delivered: bool) -> usize {
    if line.record.is_some() {
        return 0;
    }
    let excess = ring.readable_len(chain).saturating_sub(line.backlog.capacity());
    ring.advance_readable(chain, excess);
    line.backlog.skip(excess, delivered);
    excess
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

/// Hands out what is left of a chain, piece by piece, up to a bound. Says how many bytes those were.
fn copy(ring: &mut Ring, chain: &Chain, mut take: impl FnMut(&[u8])) -> usize {
    let (mut piece, mut copied) = ([0; PIECE], 0);
    while copied < COPIED {
        let count = ring.read(chain, 0, &mut piece);
        let Some(part) = piece.get(..count).filter(|part| !part.is_empty()) else { break };
        take(part);
        ring.advance_readable(chain, count);
        copied += count;
    }
    ring.stats().bytes_read.add(copied as u64);
    copied
}
