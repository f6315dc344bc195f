//! A packed ring as plain as can be: one descriptor after the other.

use virtio_spec::features::{EVENT_IDX, Negotiated};
use virtio_spec::packed::Position;

use super::chain::{self, Chain};
use super::{Reference, Turn};
use crate::driver::descriptor_at;
use crate::guest::{DEVICE, DRIVER, Guest};
use crate::stand::Completion;

/// The device's side of a packed ring.
pub(super) struct Model {
    guest: Guest,
    size: u16,
    features: Negotiated,
    avail: Position,
    used: Position,
    held: Vec<Chain>,
    /// Whether the driver was asked for kicks last, or for none.
    kicks: bool,
    fresh: bool,
}

/// A used descriptor, still to be written.
struct Used {
    at: u64,
    len: u32,
    id: u16,
    flags: u16,
}

impl Model {
    pub(super) fn new(size: u16, features: Negotiated) -> Self {
        Model {
            guest: Guest::new(),
            size,
            features,
            avail: Position::START,
            used: Position::START,
            held: Vec::new(),
            kicks: true,
            fresh: true,
        }
    }

    fn has_more(&self) -> bool {
        let flags = self.guest.u16_at(descriptor_at(self.avail.index) + 14);
        let (avail, used) = (flags & 0x80 != 0, flags & 0x8000 != 0);
        avail == self.avail.wrap && used != self.avail.wrap
    }

    /// The place after this one.
    fn after(&self, at: Position) -> Position {
        if at.index + 1 == self.size {
            Position { index: 0, wrap: !at.wrap }
        } else {
            Position { index: at.index + 1, wrap: at.wrap }
        }
    }

    fn skip(&self, at: Position, count: u16) -> Position {
        (0..count).fold(at, |at, _| self.after(at))
    }

    /// Writes what a chain has room for, and gives back its used descriptor.
    fn complete(&mut self, completion: &Completion) -> Used {
        let chain = self.held.remove(completion.which);
        let written = completion.written.min(chain.room());
        for (addr, len) in chain.written(written as usize) {
            self.guest.write(addr, &vec![completion.fill; len]);
        }
        let at = descriptor_at(self.used.index);
        let mark = if self.used.wrap { 0x8080 } else { 0 };
        let flags = if written > 0 { mark | 2 } else { mark };
        self.used = self.skip(self.used, chain.descriptors);
        Used { at, len: written, id: chain.id, flags }
    }

    fn write(&self, used: &Used) {
        self.guest.write(used.at + 8, &used.len.to_le_bytes());
        self.guest.write(used.at + 12, &used.id.to_le_bytes());
        self.guest.write(used.at + 14, &used.flags.to_le_bytes());
    }

    /// Whether the driver wants to be called for the descriptors from `old` on.
    fn is_due(&self, old: Position, count: u16) -> Option<bool> {
        let event = self.guest.u16_at(DRIVER);
        match self.guest.u16_at(DRIVER + 2) & 3 {
            1 => Some(false),
            2 if self.features.has(EVENT_IDX) => {
                let event = Position { index: event & 0x7fff, wrap: event & 0x8000 != 0 };
                let passed = (0..count).any(|n| self.skip(old, n) == event);
                // A driver that has more in flight than the ring holds, or asks for a place that
                // the ring does not have, is called as it happens.
                (count <= self.size && event.index < self.size).then_some(passed)
            }
            _ => Some(true),
        }
    }

    fn try_turn(&mut self, complete: &[Completion], take: usize) -> Option<Turn> {
        let mut turn = Turn::default();
        if !std::mem::take(&mut self.fresh) && !self.has_more() {
            let (event, flags) =
                if self.features.has(EVENT_IDX) { (self.avail.to_bits(), 2) } else { (0, 0_u16) };
            self.guest.write(DEVICE, &event.to_le_bytes());
            self.guest.write(DEVICE + 2, &flags.to_le_bytes());
            self.kicks = true;
            turn.slept = true;
        }
        let old = self.used;
        let count = complete_count(complete, &self.held);
        let batch: Vec<Used> = complete.iter().map(|which| self.complete(which)).collect();
        if self.has_more() && std::mem::take(&mut self.kicks) {
            self.guest.write(DEVICE + 2, &1_u16.to_le_bytes());
        }
        while turn.taken.len() < take && self.has_more() {
            if self.held.len() == usize::from(self.size) {
                return None;
            }
            let chain = chain::packed(&self.guest, self.avail, self.size, self.features)?;
            turn.taken.push(chain.seen(&self.guest));
            self.avail = self.skip(self.avail, chain.descriptors);
            self.held.push(chain);
        }
        // At the end of the turn, and the first one last: so the driver sees it only when all are
        // there. It matters where a driver has more in flight than the ring holds, or chains whose
        // buffers are the ring itself: what was taken above is what the driver wrote.
        batch.iter().rev().for_each(|used| self.write(used));
        turn.called = if batch.is_empty() { Some(false) } else { self.is_due(old, count) };
        Some(turn)
    }
}

/// How many descriptors of the ring the chains have that are going to be completed.
fn complete_count(complete: &[Completion], held: &[Chain]) -> u16 {
    let mut left: Vec<u16> = held.iter().map(|chain| chain.descriptors).collect();
    complete.iter().map(|completion| left.remove(completion.which)).sum()
}

impl Reference for Model {
    fn turn(&mut self, guest: &Guest, complete: &[Completion], take: usize) -> Turn {
        self.guest.fill(&guest.image());
        let turn = self.try_turn(complete, take);
        turn.unwrap_or(Turn { failed: true, ..Turn::default() })
    }

    fn image(&self) -> Vec<u8> {
        self.guest.image()
    }
}
