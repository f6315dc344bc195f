//! What each sector may hold.
//!
//! Every write has a generation of its own, counting up. The load never has two writes of one
//! sector under way at a time, so a sector has one last completed write (*settled*) and perhaps one
//! that is under way (*issued*). A read may return anything from what was settled when it began up
//! to what is issued when it ends. A write that was lost, and one that landed again after a later
//! one, both show as a generation that is too small.

use std::ops::Range;

use crate::sector::{Found, SECTOR, inspect};

/// A run of sectors.
pub type Sectors = Range<u64>;

/// What is wrong with a sector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// Parts of several writes.
    #[error("is torn: its checksum is wrong")]
    Torn,
    /// What was written for another one.
    #[error("holds what was written for sector {0}")]
    Elsewhere(u64),
    /// An older write than the last completed one.
    #[error("holds generation {found}, although generation {settled} was completed")]
    Stale {
        /// What it holds; 0 for nothing.
        found: u64,
        /// What it should hold at least.
        settled: u64,
    },
    /// A write that never was.
    #[error("holds generation {0}, which was never written")]
    Unknown(u64),
}

/// One sector.
#[derive(Debug, Clone, Copy, Default)]
struct State {
    /// The last completed write; 0 for none.
    settled: u64,
    /// The last write that was begun.
    issued: u64,
    /// The last write that was begun and leaves zeroes.
    blank: u64,
}

/// What all sectors of a disk may hold.
#[derive(Debug)]
pub struct Model {
    sectors: Vec<State>,
    generation: u64,
}

impl Model {
    /// A disk of so many sectors, all of them zero.
    #[must_use]
    pub fn new(sectors: u64) -> Self {
        let sectors = vec![State::default(); usize::try_from(sectors).unwrap_or(usize::MAX)];
        Self { sectors, generation: 0 }
    }

    /// How many sectors there are.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.sectors.len() as u64
    }

    /// Whether there is no sector.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sectors.is_empty()
    }

    /// Whether no write of these sectors is under way.
    #[must_use]
    pub fn is_settled(&self, at: &Sectors) -> bool {
        self.states(at).iter().all(|state| state.settled == state.issued)
    }

    /// Begins a write of stamped sectors, and returns its generation.
    pub fn begin_write(&mut self, at: &Sectors) -> u64 {
        self.generation += 1;
        let generation = self.generation;
        for state in self.states_mut(at) {
            state.issued = generation;
        }
        generation
    }

    /// Begins a write of zeroes, and returns its generation.
    pub fn begin_zeroes(&mut self, at: &Sectors) -> u64 {
        let generation = self.begin_write(at);
        for state in self.states_mut(at) {
            state.blank = generation;
        }
        generation
    }

    /// A write is complete.
    pub fn end_write(&mut self, at: &Sectors) {
        for state in self.states_mut(at) {
            state.settled = state.issued;
        }
    }

    /// What was completed of these sectors: the least that a read may return from now on, and that
    /// a flush makes durable that begins now.
    #[must_use]
    pub fn settled(&self, at: &Sectors) -> Vec<u64> {
        self.states(at).iter().map(|state| state.settled).collect()
    }

    /// Checks what was found from `first` on, against what was [`settled`](Self::settled) before.
    ///
    /// # Errors
    /// The first sector that holds what it may not hold, and what is wrong with it.
    pub fn check(&self, first: u64, settled: &[u64], bytes: &[u8]) -> Result<(), (u64, Wrong)> {
        let states = self.states(&(first..self.len()));
        let sectors = bytes.chunks_exact(SECTOR).zip(settled).zip(states);
        for (address, ((sector, settled), state)) in (first..).zip(sectors) {
            judge(address, inspect(sector), *settled, *state).map_err(|wrong| (address, wrong))?;
        }
        Ok(())
    }

    fn states(&self, at: &Sectors) -> &[State] {
        self.sectors.get(indices(at)).unwrap_or_default()
    }

    fn states_mut(&mut self, at: &Sectors) -> &mut [State] {
        self.sectors.get_mut(indices(at)).unwrap_or_default()
    }
}

fn indices(at: &Sectors) -> Range<usize> {
    let index = |sector| usize::try_from(sector).unwrap_or(usize::MAX);
    index(at.start)..index(at.end)
}

fn judge(at: u64, found: Found, settled: u64, state: State) -> Result<(), Wrong> {
    match found {
        // The page cache copies while it is read: a read that meets a write of the same sector, which
        // no driver may count on, can see parts of both. Once the write has ended, none may.
        Found::Torn if state.issued > settled => Ok(()),
        Found::Torn => Err(Wrong::Torn),
        Found::Blank if settled == 0 || state.blank >= settled => Ok(()),
        Found::Blank => Err(Wrong::Stale { found: state.blank, settled }),
        Found::Stamped { address, .. } if address != at => Err(Wrong::Elsewhere(address)),
        Found::Stamped { generation, .. } if generation < settled => {
            Err(Wrong::Stale { found: generation, settled })
        }
        Found::Stamped { generation, .. } if generation > state.issued => {
            Err(Wrong::Unknown(generation))
        }
        Found::Stamped { .. } => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sector::stamp;

    fn sector(address: u64, generation: u64) -> Vec<u8> {
        let mut bytes = vec![0; SECTOR];
        stamp(&mut bytes, address, generation);
        bytes
    }

    #[test]
    fn a_read_during_a_write_may_see_either() {
        let mut model = Model::new(8);
        let old = model.begin_write(&(2..3));
        model.end_write(&(2..3));
        let settled = model.settled(&(2..3));
        let new = model.begin_write(&(2..3));
        assert!(!model.is_settled(&(0..8)));
        for generation in [old, new] {
            model.check(2, &settled, &sector(2, generation)).unwrap();
        }
        let mut torn = sector(2, old);
        torn[..SECTOR / 2].copy_from_slice(&sector(2, new)[..SECTOR / 2]);
        model.check(2, &settled, &torn).unwrap();
        model.end_write(&(2..3));
        let settled = model.settled(&(2..3));
        assert_eq!(model.check(2, &settled, &torn), Err((2, Wrong::Torn)));
        let stale = Wrong::Stale { found: old, settled: new };
        assert_eq!(model.check(2, &settled, &sector(2, old)), Err((2, stale)));
        assert_eq!(model.check(2, &settled, &sector(2, 9)), Err((2, Wrong::Unknown(9))));
        assert_eq!(model.check(2, &settled, &sector(3, new)), Err((2, Wrong::Elsewhere(3))));
    }

    #[test]
    fn zeroes_are_stale_once_they_were_written_over() {
        let mut model = Model::new(1);
        let zeroes = [0; SECTOR];
        model.check(0, &[0], &zeroes).unwrap();
        model.begin_write(&(0..1));
        model.end_write(&(0..1));
        let settled = model.settled(&(0..1));
        assert!(model.check(0, &settled, &zeroes).is_err());
        model.begin_zeroes(&(0..1));
        model.check(0, &settled, &zeroes).unwrap();
    }
}
