//! The balloon as bytes: for a process that comes after this one, and for a migration's destination.
//!
//! A version, then each field, little-endian, then the pages as runs. The number of runs is bounded;
//! pages that do not fit are left out, which costs no more than that they are not given back later.
//! Whoever reads believes nothing: what does not hold together is refused as a whole.

use virtio_spec::features::Negotiated;

use crate::balloon::Balloon;
use crate::error::{Error, Result};
use crate::page_set::PageSet;
use crate::pages::Run;

/// The version that is written; there is no other yet.
const VERSION: u8 = 1;

/// The most runs of each set.
pub const MOST_RUNS: usize = 3500;

/// What was kept.
#[derive(Debug)]
pub struct Saved {
    features: Negotiated,
    given: u32,
    target: u32,
    actual: u32,
    poison: u32,
    permitted: bool,
    inside: PageSet,
    deferred: PageSet,
}

impl Balloon {
    /// The balloon as bytes: 56 KiB at most.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION, u8::from(self.permitted)];
        bytes.extend(self.features.bits().to_le_bytes());
        for field in [self.given, self.target, self.actual, self.poison] {
            bytes.extend(field.to_le_bytes());
        }
        put_runs(&mut bytes, &self.inside);
        put_runs(&mut bytes, &self.deferred);
        bytes
    }

    /// Goes on with what was kept. A target that the user has since given to this program counts for
    /// more than the one that was kept.
    pub fn restore(&mut self, saved: Saved) {
        if self.given == saved.given {
            self.target = saved.target;
        }
        self.features = saved.features;
        (self.actual, self.poison) = (saved.actual, saved.poison);
        self.permitted = saved.permitted;
        (self.inside, self.deferred) = (saved.inside, saved.deferred);
    }
}

impl Saved {
    /// Reads what [`Balloon::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`Error::State`] when it is something else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let refused = || Error::State { version: bytes.first().copied() };
        let (version, rest) = bytes.split_first().ok_or_else(refused)?;
        let mut input = Input(rest);
        let saved = (*version == VERSION).then(|| input.saved()).flatten();
        saved.filter(|_| input.0.is_empty()).ok_or_else(refused)
    }
}

/// A number of runs, then the first and the last page of each.
fn put_runs(bytes: &mut Vec<u8>, set: &PageSet) {
    let at = bytes.len();
    bytes.extend([0; 2]);
    let mut count: u16 = 0;
    for run in set.runs().take(MOST_RUNS) {
        let page = |number: u64| u32::try_from(number).ok();
        let Some((first, last)) = page(run.start).zip(page(run.end.saturating_sub(1))) else {
            break;
        };
        bytes.extend(first.to_le_bytes());
        bytes.extend(last.to_le_bytes());
        count += 1;
    }
    for (to, from) in bytes.iter_mut().skip(at).zip(count.to_le_bytes()) {
        *to = from;
    }
}

/// What is still to be read.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn saved(&mut self) -> Option<Saved> {
        let [permitted] = self.array()?;
        let mut saved = Saved {
            permitted: match permitted {
                0 => false,
                1 => true,
                _ => return None,
            },
            features: Negotiated::assume(self.array().map(u64::from_le_bytes)?),
            given: self.u32()?,
            target: self.u32()?,
            actual: self.u32()?,
            poison: self.u32()?,
            inside: self.runs()?,
            deferred: self.runs()?,
        };
        // Only what is in the balloon is given back later.
        let strays: Vec<Run> =
            saved.deferred.runs().filter(|run| !saved.inside.has_all(*run)).collect();
        for run in strays {
            saved.deferred.remove(run);
        }
        Some(saved)
    }

    fn runs(&mut self) -> Option<PageSet> {
        let count = usize::from(self.array().map(u16::from_le_bytes)?);
        let mut set = PageSet::default();
        let mut end = 0;
        for _ in 0..Some(count).filter(|count| *count <= MOST_RUNS)? {
            let (first, last) = (u64::from(self.u32()?), u64::from(self.u32()?));
            if first < end || last < first {
                return None;
            }
            end = last + 1;
            set.insert(Run { start: first, end });
        }
        Some(set)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn balloon() -> Balloon {
        let mut balloon = Balloon::new(100, None);
        balloon.features = Negotiated::assume(0x1_0000_0033);
        (balloon.target, balloon.actual, balloon.poison) = (200, 150, 0xaa);
        balloon.permitted = false;
        balloon.inside.insert(Run { start: 5, end: 80_000 });
        balloon.inside.insert(Run { start: u32::MAX.into(), end: 1 << 32 });
        balloon.deferred.insert(Run { start: 100, end: 300 });
        balloon
    }

    #[test]
    fn a_balloon_survives() {
        let bytes = balloon().to_bytes();
        let mut restored = Balloon::new(100, None);
        restored.restore(Saved::from_bytes(&bytes).unwrap());
        assert_eq!(restored.to_bytes(), bytes);
        assert_eq!((restored.target, restored.actual), (200, 150));
    }

    #[test]
    fn a_new_target_of_the_user_counts() {
        let mut restored = Balloon::new(7, None);
        restored.restore(Saved::from_bytes(&balloon().to_bytes()).unwrap());
        assert_eq!((restored.target, restored.actual), (7, 150));
    }

    #[test]
    fn pages_in_too_many_pieces_are_left_out() {
        let mut balloon = Balloon::new(0, None);
        for page in 0..10_000 {
            balloon.inside.insert(Run { start: 2 * page, end: 2 * page + 1 });
        }
        let bytes = balloon.to_bytes();
        assert!(bytes.len() < 56 << 10);
        let saved = Saved::from_bytes(&bytes).unwrap();
        assert_eq!(saved.inside.len(), MOST_RUNS as u64);
    }

    #[test]
    fn what_is_deferred_and_not_inside_is_forgotten() {
        let mut balloon = Balloon::new(0, None);
        balloon.deferred.insert(Run { start: 1, end: 2 });
        assert!(Saved::from_bytes(&balloon.to_bytes()).unwrap().deferred.is_empty());
    }

    proptest! {
        #[test]
        fn bytes_that_were_changed_are_refused_or_make_a_balloon(
            at in 0..60_usize, byte: u8, cut in 0..60_usize,
        ) {
            let mut bytes = balloon().to_bytes();
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            bytes.truncate(bytes.len().saturating_sub(cut));
            if let Ok(saved) = Saved::from_bytes(&bytes) {
                let mut restored = Balloon::new(100, None);
                restored.restore(saved);
                prop_assert!(Saved::from_bytes(&restored.to_bytes()).is_ok());
            }
        }
    }
}
