//! Who reads along: beside the one for whom output waits, or several who share a port.
//!
//! What they are given is what is in the backlog's ring; one who is too slow misses some of it, and is told
//! so. They never keep the guest waiting.

use rustix::io::Errno;

use crate::backend::Peer;
use crate::backlog::{Backlog, Follower};

/// The most who read along at one port.
pub const READERS_MAX: usize = 8;

/// Somebody who reads along.
#[derive(Debug)]
pub struct Reader {
    /// Who it is.
    pub peer: Peer,
    /// Whether it only looks on: what it types is thrown away, and the port is not open for it.
    pub looks_on: bool,
    follower: Follower,
    state: State,
}

/// Whether it takes anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Takes,
    /// Not before it says so.
    Full,
    Gone,
}

impl Reader {
    /// One who begins with what is in the ring.
    pub(crate) fn new(peer: Peer, looks_on: bool, backlog: &mut Backlog) -> Self {
        Reader { peer, looks_on, follower: backlog.follow(), state: State::Takes }
    }

    /// Gives it what it has not had, as far as it takes it, and adds to `given` how much that was.
    pub(crate) fn give(&mut self, backlog: &Backlog, given: &mut u64) {
        while self.state == State::Takes {
            let next = backlog.next_for(&mut self.follower);
            if next.is_empty() {
                return;
            }
            match self.peer.write(next) {
                Ok(0) | Err(Errno::AGAIN) => self.state = State::Full,
                Ok(written) => {
                    self.follower.advance(written);
                    *given += written as u64;
                }
                Err(_) => self.state = State::Gone,
            }
        }
    }

    /// Whether it was found to have left.
    pub(crate) fn is_gone(&self) -> bool {
        self.state == State::Gone
    }

    /// It may take more, and is given it. Whether it does, or is there at all.
    pub(crate) fn give_again(&mut self, backlog: &Backlog, given: &mut u64) -> State {
        if self.state == State::Full {
            self.state = State::Takes;
        }
        self.give(backlog, given);
        self.state
    }
}
