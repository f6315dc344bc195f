//! How many checks passed and failed, read from what test runners print.

use std::fmt;
use std::ops::AddAssign;

/// A number of checks by their outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

impl Count {
    /// One check that passed.
    pub(crate) const PASSED: Self = Self { passed: 1, failed: 0, skipped: 0 };
    /// One check that failed.
    pub(crate) const FAILED: Self = Self { passed: 0, failed: 1, skipped: 0 };
}

/// A test runner, each with a closing line of its own.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Runner {
    /// `cargo test`: one closing line for each program.
    Libtest,
    /// `cargo nextest`: one at the end. It also repeats what failed tests have printed, which
    /// looks like libtest's.
    Nextest,
}

impl Runner {
    /// What a line of output says, if it is a closing line.
    pub(crate) fn count_in(self, line: &str) -> Option<Count> {
        match self {
            Self::Libtest => libtest(line),
            Self::Nextest => nextest(line),
        }
    }
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Count {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} passed, {} failed", self.passed, self.failed)?;
        if self.skipped > 0 {
            write!(out, ", {} skipped", self.skipped)?;
        }
        Ok(())
    }
}

/// `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s`.
fn libtest(line: &str) -> Option<Count> {
    let rest = line.trim().strip_prefix("test result: ")?;
    Some(collect(rest.split_once(". ")?.1.split(';')))
}

/// `Summary [   0.012s] 4 tests run: 2 passed (1 slow), 1 failed, 1 timed out, 0 skipped`.
fn nextest(line: &str) -> Option<Count> {
    let rest = line.trim().strip_prefix("Summary [")?;
    Some(collect(rest.split_once(" run: ")?.1.split(',')))
}

fn collect<'line>(parts: impl Iterator<Item = &'line str>) -> Count {
    let mut count = Count::default();
    for part in parts {
        let mut words = part.split_whitespace();
        let Some(number) = words.next().and_then(|word| word.parse::<u64>().ok()) else { continue };
        match words.next() {
            Some("passed") => count.passed += number,
            Some("failed" | "timed" | "exec") => count.failed += number,
            Some("ignored" | "skipped") => count.skipped += number,
            _ => {}
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines() {
        let libtest = "test result: FAILED. 3 passed; 2 failed; 1 ignored; 0 measured; 7 filtered \
                       out; finished in 0.01s";
        let expected = Count { passed: 3, failed: 2, skipped: 1 };
        assert_eq!(Runner::Libtest.count_in(libtest), Some(expected));
        assert_eq!(Runner::Nextest.count_in(libtest), None);
        let nextest = "     Summary [   0.012s] 7 tests run: 3 passed (1 slow, 1 leaky), 1 failed, \
                       1 timed out, 1 skipped";
        assert_eq!(Runner::Nextest.count_in(nextest), Some(expected));
        assert_eq!(Runner::Libtest.count_in("test a::b ... ok"), None);
    }

    #[test]
    fn the_line_that_closes_everything() {
        assert_eq!(
            Count { passed: 3, failed: 2, skipped: 1 }.to_string(),
            "3 passed, 2 failed, 1 skipped"
        );
        assert_eq!(Count::PASSED.to_string(), "1 passed, 0 failed");
    }
}
