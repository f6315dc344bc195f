//! A set of pages: a bitmap with room only for the parts of memory where there are any.
//!
//! 4 KiB for each 128 MiB of guest memory at most, however a guest chooses its pages; next to nothing
//! for parts that are in as a whole.

use std::collections::BTreeMap;

use crate::pages::Run;

/// Pages of one part: 128 MiB of 4 KiB pages.
const PART: u64 = 1 << 15;
/// Words of a part's bitmap.
const WORDS: usize = (PART / 64) as usize;

/// Pages, by number. Only what is in guest memory may be put in: that bounds it.
#[derive(Clone, Debug, Default)]
pub struct PageSet {
    parts: BTreeMap<u64, Part>,
    pages: u64,
}

#[derive(Clone, Debug)]
struct Part {
    /// How many bits are set.
    count: u64,
    /// None: all bits are set.
    words: Option<Box<[u64; WORDS]>>,
}

impl PageSet {
    /// How many pages there are.
    pub fn len(&self) -> u64 {
        self.pages
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.pages == 0
    }

    /// Puts pages in; says how many were not there before.
    pub fn insert(&mut self, run: Run) -> u64 {
        let mut added = 0;
        for (number, from, to) in cut(run) {
            let part = self.parts.entry(number).or_insert_with(|| Part {
                count: 0,
                words: (to - from < PART).then(|| Box::new([0; WORDS])),
            });
            let before = part.count;
            part.set(from, to);
            added += part.count - before;
        }
        self.pages += added;
        added
    }

    /// Takes pages out; says how many were there.
    pub fn remove(&mut self, run: Run) -> u64 {
        if run.pages() == 0 {
            return 0;
        }
        let mut removed = 0;
        let first = run.start / PART;
        let last = run.end.div_ceil(PART);
        // Only parts that exist are visited, however long the run is.
        let mut emptied = Vec::new();
        for (number, part) in self.parts.range_mut(first..last.max(first)) {
            let base = number * PART;
            let from = run.start.max(base) - base;
            let to = run.end.min(base + PART).saturating_sub(base);
            let before = part.count;
            part.clear(from, to);
            removed += before - part.count;
            if part.count == 0 {
                emptied.push(*number);
            }
        }
        for number in emptied {
            self.parts.remove(&number);
        }
        self.pages -= removed;
        removed
    }

    /// Whether all pages of a run are in.
    pub fn has_all(&self, run: Run) -> bool {
        cut(run).all(|(number, from, to)| {
            self.parts.get(&number).is_some_and(|part| {
                part.words.as_ref().is_none_or(|bits| {
                    words(from, to).all(|(index, mask)| {
                        bits.get(index).is_some_and(|word| word & mask == mask)
                    })
                })
            })
        })
    }

    /// All pages as runs, in order.
    pub fn runs(&self) -> impl Iterator<Item = Run> {
        let mut bits = self.parts.iter().flat_map(|(number, part)| part.runs(number * PART));
        let mut next = bits.next();
        std::iter::from_fn(move || {
            let mut run = next.take()?;
            for more in bits.by_ref() {
                if more.start != run.end {
                    next = Some(more);
                    break;
                }
                run.end = more.end;
            }
            Some(run)
        })
    }

    /// Keeps only what lies in these runs, which are sorted and do not overlap.
    pub fn keep_only(&mut self, kept: impl IntoIterator<Item = Run>) {
        let mut at = 0;
        for run in kept {
            self.remove(Run { start: at, end: run.start });
            at = run.end;
        }
        self.remove(Run { start: at, end: u64::MAX });
    }

    /// Forgets all pages.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Part {
    fn set(&mut self, from: u64, to: u64) {
        if to - from == PART {
            self.words = None;
        }
        self.each_word(from, to, |word, mask| *word |= mask);
        if self.words.is_none() || self.count == PART {
            (self.count, self.words) = (PART, None);
        }
    }

    fn clear(&mut self, from: u64, to: u64) {
        if to - from == PART {
            self.count = 0;
            return;
        }
        self.words.get_or_insert_with(|| Box::new([u64::MAX; WORDS]));
        self.each_word(from, to, |word, mask| *word &= !mask);
    }

    fn each_word(&mut self, from: u64, to: u64, change: impl Fn(&mut u64, u64)) {
        let Some(bits) = &mut self.words else { return };
        for (index, mask) in words(from, to) {
            if let Some(word) = bits.get_mut(index) {
                let before = u64::from(word.count_ones());
                change(word, mask);
                self.count = self.count - before + u64::from(word.count_ones());
            }
        }
    }

    /// Runs of set bits; neighbours in different words are different runs.
    fn runs(&self, base: u64) -> impl Iterator<Item = Run> {
        let whole = self.words.is_none().then_some(Run { start: base, end: base + PART });
        let words = self.words.as_ref().map_or(&[][..], |words| words.as_slice());
        let pieces = (0..).step_by(64).zip(words).flat_map(move |(offset, word)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                let low = rest.trailing_zeros();
                let ones = rest.checked_shr(low)?.trailing_ones();
                let mask = u64::MAX.checked_shr(64 - ones)?.checked_shl(low)?;
                rest &= !mask;
                let start = base + offset + u64::from(low);
                Some(Run { start, end: start + u64::from(ones) })
            })
        });
        whole.into_iter().chain(pieces)
    }
}

/// Cuts a run into the parts that it lies in: number, first page, first page behind.
fn cut(run: Run) -> impl Iterator<Item = (u64, u64, u64)> {
    let parts = if run.pages() == 0 { 0..0 } else { run.start / PART..run.end.div_ceil(PART) };
    parts.map(move |number| {
        let base = number * PART;
        (number, run.start.max(base) - base, run.end.min(base + PART).saturating_sub(base))
    })
}

/// The words of a part's bitmap that `from..to` touches, each with a mask.
fn words(from: u64, to: u64) -> impl Iterator<Item = (usize, u64)> {
    (from / 64..to.div_ceil(64).max(from / 64)).filter_map(move |index| {
        let base = index * 64;
        let low = from.max(base) - base;
        let count = to.min(base + 64).checked_sub(base + low)?;
        let mask = u64::MAX.checked_shr(u32::try_from(64 - count).ok()?)?;
        Some((usize::try_from(index).ok()?, mask << low))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn run(start: u64, end: u64) -> Run {
        Run { start, end }
    }

    #[test]
    fn a_run_over_several_parts_comes_back_as_one() {
        let mut set = PageSet::default();
        let long = run(PART - 3, 3 * PART + 5);
        assert_eq!(set.insert(long), 2 * PART + 8);
        assert_eq!(set.runs().collect::<Vec<_>>(), [long]);
        assert!(set.has_all(long) && !set.has_all(run(PART - 4, PART)));
        assert_eq!(set.remove(run(0, u64::MAX)), 2 * PART + 8);
        assert!(set.is_empty() && set.parts.is_empty());
    }

    #[test]
    fn what_is_not_kept_is_gone() {
        let mut set = PageSet::default();
        set.insert(run(0, 100));
        set.keep_only([run(10, 20), run(90, 200)]);
        assert_eq!(set.runs().collect::<Vec<_>>(), [run(10, 20), run(90, 100)]);
        set.keep_only([]);
        assert!(set.is_empty());
    }

    proptest! {
        #[test]
        fn it_is_a_set(
            steps in proptest::collection::vec(
                (any::<bool>(), PART - 200..PART + 200, 0..150_u64), 0..40),
        ) {
            let (mut set, mut model) = (PageSet::default(), BTreeSet::new());
            for (insert, start, pages) in steps {
                let range = start..start + pages;
                let before = model.len();
                let changed = if insert {
                    model.extend(range.clone());
                    set.insert(run(range.start, range.end))
                } else {
                    model.retain(|page| !range.contains(page));
                    set.remove(run(range.start, range.end))
                };
                prop_assert_eq!(changed, before.abs_diff(model.len()) as u64);
                prop_assert_eq!(set.len(), model.len() as u64);
                prop_assert!(set.runs().flat_map(|r| r.start..r.end).eq(model.iter().copied()));
                let all = range.clone().all(|page| model.contains(&page));
                prop_assert_eq!(set.has_all(run(range.start, range.end)), all);
            }
        }
    }
}
