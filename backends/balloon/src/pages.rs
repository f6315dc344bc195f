//! Lists of page numbers, made into sorted runs.
//!
//! A driver names pages one by one (virtio 1.4, 5.5.6): in any order, twice, or where there is no
//! memory. Sorted and merged, a list of neighbours is one run, and giving it back is one system call.

use virtio_spec::balloon::PFN_SHIFT;

/// Pages in a row, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Run {
    /// The first page.
    pub start: u64,
    /// The first page behind the last.
    pub end: u64,
}

impl Run {
    /// How many pages.
    pub fn pages(self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// Address of its first byte, and of the first one behind it.
    pub fn bytes(self) -> (u64, u64) {
        (self.start << PFN_SHIFT, self.end << PFN_SHIFT)
    }

    /// The whole pages between two addresses. None: there are none.
    pub fn inside(from: u64, to: u64) -> Option<Self> {
        let page = 1_u64 << PFN_SHIFT;
        let run = Run { start: from.div_ceil(page), end: to >> PFN_SHIFT };
        (run.start < run.end).then_some(run)
    }
}

/// Bytes of a page's number in a list.
pub const PFN_LEN: usize = 4;

/// Appends the page numbers of a list; bytes left over at its end are none.
pub fn parse(bytes: &[u8], pages: &mut Vec<u32>) {
    pages.extend(bytes.as_chunks::<PFN_LEN>().0.iter().map(|pfn| u32::from_le_bytes(*pfn)));
}

/// Sorts pages and merges neighbours into runs, appended to `runs`. Says how many were repeated.
pub fn merge(pages: &mut [u32], runs: &mut Vec<Run>) -> u64 {
    pages.sort_unstable();
    let first = runs.len();
    let mut repeated = 0;
    for page in pages.iter().copied().map(u64::from) {
        match runs.get_mut(first..).and_then(<[Run]>::last_mut) {
            Some(last) if page < last.end => repeated += 1,
            Some(last) if page == last.end => last.end += 1,
            _ => runs.push(Run { start: page, end: page + 1 }),
        }
    }
    repeated
}

/// Sorts runs and merges those that overlap or touch.
pub fn merge_runs(runs: &mut Vec<Run>) {
    runs.sort_unstable();
    runs.dedup_by(|next, before| {
        let touches = next.start <= before.end;
        if touches {
            before.end = before.end.max(next.end);
        }
        touches
    });
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn neighbours_become_one_run() {
        let (mut pages, mut runs) = (vec![7, 5, 6, 9, 5, u32::MAX], Vec::new());
        assert_eq!(merge(&mut pages, &mut runs), 1);
        let top = u64::from(u32::MAX);
        let expected = [(5, 8), (9, 10), (top, top + 1)];
        assert_eq!(runs, expected.map(|(start, end)| Run { start, end }));
    }

    #[test]
    fn only_whole_pages_lie_between_two_addresses() {
        assert_eq!(Run::inside(1, 4096), None);
        assert_eq!(Run::inside(1, 8192), Some(Run { start: 1, end: 2 }));
        assert_eq!(Run::inside(4096, 4096), None);
        assert_eq!(Run::inside(u64::MAX - 1, u64::MAX), None);
    }

    #[test]
    fn bytes_left_over_are_no_page() {
        let mut pages = Vec::new();
        parse(&[1, 0, 0, 0, 2, 0, 0], &mut pages);
        assert_eq!(pages, [1]);
    }

    proptest! {
        #[test]
        fn runs_hold_the_pages_of_the_list_and_no_others(
            list in proptest::collection::vec(0..300_u32, 0..200),
        ) {
            let (mut pages, mut runs) = (list.clone(), Vec::new());
            let repeated = merge(&mut pages, &mut runs);
            let wanted: BTreeSet<u64> = list.iter().map(|page| u64::from(*page)).collect();
            let found: Vec<u64> = runs.iter().flat_map(|run| run.start..run.end).collect();
            prop_assert!(found.iter().copied().eq(wanted.iter().copied()));
            prop_assert_eq!(repeated, (list.len() - wanted.len()) as u64);
            prop_assert!(runs.is_sorted() && runs.windows(2).all(|two| two[0].end < two[1].start));
        }

        #[test]
        fn merged_runs_hold_what_the_runs_held(
            runs in proptest::collection::vec((0..100_u64, 1..20_u64), 0..30),
        ) {
            let runs: Vec<Run> =
                runs.into_iter().map(|(start, n)| Run { start, end: start + n }).collect();
            let wanted: BTreeSet<u64> = runs.iter().flat_map(|run| run.start..run.end).collect();
            let mut merged = runs;
            merge_runs(&mut merged);
            let found: Vec<u64> = merged.iter().flat_map(|run| run.start..run.end).collect();
            prop_assert!(found.into_iter().eq(wanted));
        }
    }
}
