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
    fresh: bool,
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

    /// Writes a used descriptor but for its flags, which it returns with their place.
    fn complete(&mut self, completion: &Completion) -> (u64, u16) {
        let chain = self.held.remove(completion.which);
        let written = completion.written.min(chain.room());
        for (addr, len) in chain.written(written as usize) {
            self.guest.write(addr, &vec![completion.fill; len]);
        }
        let at = descriptor_at(self.used.index);
        self.guest.write(at + 8, &written.to_le_bytes());
        self.guest.write(at + 12, &chain.id.to_le_bytes());
        let mark = if self.used.wrap { 0x8080 } else { 0 };
        self.used = self.skip(self.used, chain.descriptors);
        (at + 14, if written > 0 { mark | 2 } else { mark })
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
            turn.slept = true;
        }
        let old = self.used;
        let count = complete_count(complete, &self.held);
        let mut first = None;
        for completion in complete {
            let (at, flags) = self.complete(completion);
            // The driver sees the first only when all are there.
            if first.is_none() {
                first = Some((at, flags));
            } else {
                self.guest.write(at, &flags.to_le_bytes());
            }
        }
        if self.has_more() {
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
        turn.called = Some(false);
        if let Some((at, flags)) = first {
            self.guest.write(at, &flags.to_le_bytes());
            turn.called = self.is_due(old, count);
        }
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
