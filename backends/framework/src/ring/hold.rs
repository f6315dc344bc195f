//! Chains that are read by another worker while they are in flight here.

use std::ops::Range;

use super::{Chain, Ring};
use crate::memory::Held;

impl Ring {
    /// Has what is left to read of a chain stay mapped, for others to read until the chain is
    /// completed here. None: what is held already is of another memory table.
    pub fn hold(&self, chain: &Chain, held: &mut Held) -> Option<Range<usize>> {
        let slot = self.slots.get(chain.slot)?;
        held.hold(self.tables.of(slot.epoch), slot.readable())
    }
}
