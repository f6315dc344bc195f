//! From a failing run to the few steps that it takes.

use std::collections::BTreeSet;

use crate::{Failure, Options, Outcome, run};

/// The most runs that shrinking one failure may take.
const MOST_RUNS: u32 = 3000;

/// Leaves out steps for as long as the run fails in the same way. The steps that are left keep their
/// random numbers, so that each does the same as before where that is still possible.
///
/// Returns the smallest run that was found, its story included.
pub fn shrink(seed: u64, options: &Options, step: u32, failure: &Failure) -> (Options, Outcome) {
    let mut shrinker = Shrinker { seed, failure, runs: 0 };
    let mut best = Options { trace: false, ..options.clone() };
    if step < best.steps {
        // What comes after the failure does not matter.
        best.steps = step + 1;
    }
    let mut left: Vec<u32> = (0..best.steps).filter(|s| !best.without.contains(s)).collect();
    let mut size = left.len().div_ceil(2);
    while size > 0 {
        let mut from = 0;
        while from < left.len() {
            let to = left.len().min(from + size);
            let removed: BTreeSet<u32> =
                left.get(from..to).unwrap_or_default().iter().copied().collect();
            let without: BTreeSet<u32> = best.without.union(&removed).copied().collect();
            let candidate = Options { without, ..best.clone() };
            if shrinker.still_fails(&candidate) {
                left.drain(from..to);
                best = candidate;
            } else {
                from = to;
            }
        }
        size /= 2;
    }
    let outcome = run(seed, &Options { trace: true, ..best.clone() });
    (best, outcome)
}

struct Shrinker<'a> {
    seed: u64,
    failure: &'a Failure,
    runs: u32,
}

impl Shrinker<'_> {
    fn still_fails(&mut self, options: &Options) -> bool {
        self.runs += 1;
        if self.runs > MOST_RUNS {
            return false;
        }
        let outcome = run(self.seed, options);
        outcome.failure.is_some_and(|(_, failure)| failure.is_like(self.failure))
    }
}
