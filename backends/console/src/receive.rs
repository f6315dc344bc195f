//! From whoever is attached to the guest.
//!
//! # Theory of operation
//! Input is read straight into the guest's buffers, as many of them at once as may be filled; those
//! that nothing was read into stay where they were. When there is nothing to read, the peer is watched;
//! when there are no buffers, or nobody in the guest has the port open, the peer is not read from, and
//! waits.
//!
//! A terminal with an escape key is read from whatever the guest does, or there would be no leaving one
//! that hangs: what is typed waits in a buffer of its own. So does what those type who read along.

use framework::engine::{Direction, Io, Transfer};
use framework::memory::Segment;
use framework::ring::Ring;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::backend::Peer;
use crate::escape::Escape;
use crate::gate::Gate;
use crate::line::Line;
use crate::transmit::Flow;
use crate::typed::Typed;

/// The most reads of one go; then others have their turn.
const BUDGET: usize = 32;
/// The most buffers that are read into at once.
const BUFFERS: usize = 16;
/// The most segments that are read into at once.
const SEGMENTS: usize = 1000;

/// The receiving half of a port.
#[derive(Debug, Default)]
pub(crate) struct Receive {
    results: Vec<Result<u32, Errno>>,
    escape: Escape,
    /// Typed, and not given to the guest yet.
    pub(crate) typed: Typed,
    /// The user has typed the escape.
    pub(crate) left: bool,
}

/// What one read came to.
enum Outcome {
    More,
    /// There is nothing now.
    Dry,
    /// The guest has no buffers.
    Full,
    Gone,
}

impl Receive {
    /// Gives the guest what there is. `takes`: whether somebody in the guest has the port open.
    pub(crate) fn run<I: Io>(
        &mut self,
        mut ring: Option<&mut Ring>,
        io: &mut I,
        line: &mut Line,
        input: &mut Option<Gate>,
        takes: bool,
    ) -> Flow {
        if line.peer.as_ref().is_some_and(|peer| peer.has_escape) {
            return self.look_for_escape(ring, io, line, input, takes);
        }
        if let (Some(ring), true) = (&mut ring, takes) {
            self.deliver_typed(ring, line);
        }
        for _ in 0..BUDGET {
            let Some(gate) = input.as_mut().filter(|gate| gate.ready) else { return Flow::Waits };
            let outcome = match &mut ring {
                Some(ring) if takes => self.read(ring, io, line, gate),
                _ => Outcome::Full,
            };
            let outcome = match outcome {
                // Nobody listens; whether somebody is there still is another question.
                Outcome::Full => line.peer.as_ref().map_or(Outcome::Dry, look),
                outcome => outcome,
            };
            match outcome {
                Outcome::More => {}
                Outcome::Full => return Flow::Waits,
                Outcome::Gone => return Flow::Gone,
                Outcome::Dry => gate.wait(io, Direction::Readable),
            }
        }
        Flow::Waits
    }

    /// One read, into as many buffers as may be filled.
    fn read<I: Io>(
        &mut self,
        ring: &mut Ring,
        io: &mut I,
        line: &mut Line,
        gate: &Gate,
    ) -> Outcome {
        if !stage(ring, io) {
            return Outcome::Full;
        }
        io.carry_out(gate.file, &mut self.results);
        match self.results.first() {
            Some(Ok(0)) => Outcome::Gone,
            Some(Ok(length)) => {
                deliver(ring, *length as usize, line);
                Outcome::More
            }
            Some(Err(Errno::AGAIN)) | None => Outcome::Dry,
            Some(Err(_)) => Outcome::Gone,
        }
    }

    /// Reads what is typed, and gives the guest as much of it as it has buffers for.
    fn look_for_escape<I: Io>(
        &mut self,
        ring: Option<&mut Ring>,
        io: &mut I,
        line: &mut Line,
        input: &mut Option<Gate>,
        takes: bool,
    ) -> Flow {
        let mut flow = Flow::Waits;
        let mut keys = [0; 4096];
        let mut rest = Vec::new();
        for _ in 0..BUDGET {
            let Some(gate) = input.as_mut().filter(|gate| gate.ready) else { break };
            let peer = line.peer.as_ref().and_then(|peer| peer.input.as_ref());
            let Some(terminal) = peer else { break };
            match rustix::io::retry_on_intr(|| rustix::io::read(terminal, &mut keys)) {
                Err(Errno::AGAIN) => gate.wait(io, Direction::Readable),
                Ok(0) | Err(_) => {
                    flow = Flow::Gone;
                    break;
                }
                Ok(count) => {
                    let keys = keys.get(..count).unwrap_or(&keys);
                    self.left |= self.escape.filter(keys, &mut rest);
                    line.counts.typed_too_far += self.typed.add(&rest) as u64;
                }
            }
        }
        // Others have their turn before the rest.
        if let Some(gate) = input.as_mut().filter(|gate| gate.ready) {
            gate.wait(io, Direction::Readable);
        }
        if let (Some(ring), true) = (ring, takes) {
            self.deliver_typed(ring, line);
        }
        flow
    }

    fn deliver_typed(&mut self, ring: &mut Ring, line: &mut Line) {
        for _ in 0..BUDGET {
            if self.typed.is_empty() {
                return;
            }
            let Some(written) = self.typed.deliver(ring) else { return };
            count(ring, line, written);
        }
    }

    /// The peer is another one: what the last one typed is not its own.
    pub(crate) fn forget_peer(&mut self) {
        self.escape = Escape::default();
    }
}

/// Puts the room of the guest's next buffers into one transfer. False: there is none.
fn stage<I: Io>(ring: &mut Ring, io: &mut I) -> bool {
    skip_empty(ring);
    let mut left = SEGMENTS;
    for index in 0..BUFFERS {
        if ring.look(index).is_none() {
            return index > 0;
        }
        let all = ring.looked_writable(index);
        let segments: &[Segment] = all.get(..left.min(all.len())).unwrap_or(all);
        left -= segments.len();
        let staged = if index == 0 {
            io.stage(&Transfer::Receive { into: segments })
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
    true
}

/// Buffers without any room go back unused; a driver that offers nothing else is given a turn only.
fn skip_empty(ring: &mut Ring) {
    for _ in 0..BUDGET {
        if ring.look(0) != Some(0) {
            return;
        }
        if let Some(chain) = ring.take() {
            ring.complete(chain, 0);
        }
    }
}

/// Gives the guest the buffers that hold what was read.
fn deliver(ring: &mut Ring, mut length: usize, line: &mut Line) {
    while length > 0 {
        let Some(chain) = ring.take() else { return };
        let written = ring.writable_len(&chain).min(length);
        length -= written;
        count(ring, line, written);
        ring.complete(chain, u32::try_from(written).unwrap_or(u32::MAX));
    }
}

fn count(ring: &Ring, line: &mut Line, written: usize) {
    ring.stats().bytes_written.add(written as u64);
    line.counts.to_guest += written as u64;
    line.counts.to_guest_buffers += 1;
}

/// Whether a peer that cannot be read from now is still there: one that has left, and left nothing
/// behind, is gone; one that has said something waits to be heard.
fn look(peer: &Peer) -> Outcome {
    let Some(input) = &peer.input else { return Outcome::Dry };
    let waiting = rustix::io::ioctl_fionread(input).unwrap_or(0);
    if waiting > 0 {
        return Outcome::Full;
    }
    let mut ask = [PollFd::new(input, PollFlags::IN | PollFlags::RDHUP)];
    let asked = poll(&mut ask, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
    let [answer] = ask;
    let ended = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
    if asked.is_ok() && answer.revents().intersects(ended) { Outcome::Gone } else { Outcome::Dry }
}
