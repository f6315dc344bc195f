//! What a guest has said, and how long it took.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::Cost;

/// What a guest has said, and how long it took.
#[derive(Debug, Default)]
pub struct Report {
    /// All lines, for messages.
    pub(crate) text: String,
    marks: BTreeMap<u32, Instant>,
    spans: BTreeMap<u32, Duration>,
    /// How often the guest left its CPU for the VMM.
    pub exits: u64,
    /// From the first instruction to the last.
    pub took: Duration,
}

impl Report {
    /// Takes text from the debug port.
    pub(crate) fn hear(&mut self, bytes: &[u8]) {
        self.text.push_str(&String::from_utf8_lossy(bytes));
    }

    /// Takes a mark: the first of a number begins, the second ends.
    pub(crate) fn mark(&mut self, number: u32) {
        let now = Instant::now();
        match self.marks.remove(&number) {
            Some(begun) => drop(self.spans.insert(number, now - begun)),
            None => drop(self.marks.insert(number, now)),
        }
    }

    /// The value of a line `key=value`; empty if the guest said no such thing.
    #[must_use]
    pub fn get(&self, key: &str) -> &str {
        let mut lines = self.text.lines().filter_map(|line| line.split_once('='));
        lines.find(|(name, _)| *name == key).map_or("", |(_, value)| value)
    }

    /// A number that the guest said, in decimal.
    #[must_use]
    pub fn number(&self, key: &str) -> Option<u64> {
        self.get(key).parse().ok()
    }

    /// What one of these took, on average.
    #[must_use]
    pub fn cost(&self, of: Cost) -> Option<Duration> {
        let times = u32::try_from(self.number("times")?).ok().filter(|times| *times > 0)?;
        self.spans.get(&(of as u32)).map(|span| *span / times)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_keys_and_marks_are_pairs() {
        let mut report = Report::default();
        report.hear(b"times=2\na=x=y\n");
        report.mark(1);
        report.mark(1);
        assert_eq!(report.get("a"), "x=y");
        assert!(report.cost(Cost::Kick).is_some());
        assert!(report.cost(Cost::PortWrite).is_none());
    }
}
