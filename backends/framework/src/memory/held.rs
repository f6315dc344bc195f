//! Memory that stays mapped while another worker reads it.
#![expect(unsafe_code, reason = "memory that is shared anyway is read by more than one thread")]

use std::ops::Range;
use std::sync::Arc;

use super::{Mapping, MemoryTable, Segment};

/// Pieces of a guest's memory, or of our own, that stay mapped for as long as this is there.
///
/// For a device that gives the worker of one guest what another guest has sent: it leaves the chains in
/// flight, hands this over, and completes them when it is gone. All pieces are of one memory.
#[derive(Debug, Default)]
pub struct Held {
    keeper: Option<Keeper>,
    segments: Vec<Segment>,
}

#[derive(Debug)]
enum Keeper {
    Guest(Arc<MemoryTable>),
    Own(Arc<Mapping>),
}

// SAFETY: the memory behind a segment is shared with another process, and is accessed by raw copies
// alone, from whichever thread; the lists themselves change only through `&mut`.
unsafe impl Sync for Held {}

impl Held {
    /// Nothing yet, with room for so many pieces.
    pub fn with_capacity(pieces: usize) -> Self {
        Held { keeper: None, segments: Vec::with_capacity(pieces) }
    }

    /// The pieces at these places.
    pub fn segments(&self, places: &Range<usize>) -> &[Segment] {
        self.segments.get(places.clone()).unwrap_or(&[])
    }

    /// Adds `len` bytes at `offset` of memory of our own. None: they are not inside, or there are pieces
    /// of another memory already.
    pub fn hold_own(
        &mut self,
        memory: &Arc<Mapping>,
        offset: usize,
        len: usize,
    ) -> Option<Range<usize>> {
        match &self.keeper {
            None => self.keeper = Some(Keeper::Own(Arc::clone(memory))),
            Some(Keeper::Own(kept)) if Arc::ptr_eq(kept, memory) => {}
            Some(_) => return None,
        }
        let piece = memory.lend(offset, len)?;
        Some(self.append(std::iter::once(piece)))
    }

    /// Likewise pieces that this table has resolved.
    pub(crate) fn hold(
        &mut self,
        memory: &Arc<MemoryTable>,
        pieces: &[Segment],
    ) -> Option<Range<usize>> {
        match &self.keeper {
            None => self.keeper = Some(Keeper::Guest(Arc::clone(memory))),
            Some(Keeper::Guest(kept)) if Arc::ptr_eq(kept, memory) => {}
            Some(_) => return None,
        }
        Some(self.append(pieces.iter().map(Segment::again)))
    }

    fn append(&mut self, pieces: impl Iterator<Item = Segment>) -> Range<usize> {
        let start = self.segments.len();
        self.segments.extend(pieces);
        start..self.segments.len()
    }

    /// Lets go of it all.
    pub fn clear(&mut self) {
        self.segments.clear();
        self.keeper = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_of_one_memory_and_keep_it() {
        let (one, other) = (Mapping::owned(64).unwrap(), Mapping::owned(64).unwrap());
        let (one, other) = (Arc::new(one), Arc::new(other));
        let mut held = Held::default();
        let first = held.hold_own(&one, 0, 8).unwrap();
        let second = held.hold_own(&one, 8, 56).unwrap();
        assert!(held.hold_own(&one, 8, 57).is_none() && held.hold_own(&other, 0, 8).is_none());
        one.write(6, &[1, 2, 3, 4]);
        drop(one);
        let mut found = [0; 2];
        held.segments(&first)[0].read(6, &mut found);
        assert_eq!((found, held.segments(&second)[0].len()), ([1, 2], 56));
        assert!(held.segments(&(1..3)).is_empty());
        held.clear();
        assert!(held.hold_own(&other, 0, 8).is_some());
    }
}
