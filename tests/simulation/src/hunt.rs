//! Many seeds, on all CPUs.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::{Counts, Failure, Options, run};

/// What a hunt has found.
#[derive(Debug, Default)]
pub struct Report {
    /// Seeds that were run.
    pub seeds: u64,
    /// Seeds that failed, and how.
    pub failures: Vec<(u64, Failure)>,
    /// What happened in all of them.
    pub counts: Counts,
    /// How long it took.
    pub time: Duration,
}

impl Report {
    fn add(&mut self, other: Report) {
        self.seeds += other.seeds;
        self.failures.extend(other.failures);
        self.counts += other.counts;
    }

    /// Seeds run in each second.
    pub fn rate(&self) -> f64 {
        let seconds = self.time.as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "nobody counts that far")]
        let seeds = self.seeds as f64;
        if seconds > 0.0 { seeds / seconds } else { 0.0 }
    }
}

/// Runs seeds from `first` on, on so many threads, until `goes_on` says no: it is asked before each
/// seed. `found` hears of each failure at once.
pub fn hunt(
    first: u64,
    threads: usize,
    options: &Options,
    goes_on: impl Fn(u64) -> bool + Sync,
    found: impl Fn(u64, &Failure) + Sync,
) -> Report {
    let begun = Instant::now();
    let next = AtomicU64::new(first);
    let work = || {
        let mut report = Report::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if !goes_on(seed) {
                return report;
            }
            let outcome = run(seed, options);
            report.seeds += 1;
            report.counts += outcome.counts;
            if let Some((_, failure)) = outcome.failure {
                found(seed, &failure);
                report.failures.push((seed, failure));
            }
        }
    };
    let mut report = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
        let mut whole = Report::default();
        for part in threads.into_iter().filter_map(|thread| thread.join().ok()) {
            whole.add(part);
        }
        whole
    });
    report.failures.sort_by_key(|(seed, _)| *seed);
    report.time = begun.elapsed();
    report
}
