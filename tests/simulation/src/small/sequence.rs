//! Numbered things that pass through a device in order: what may come out, and how often.

use std::collections::BTreeSet;

use crate::Failure;

/// What was put in and has come out.
#[derive(Debug, Default)]
pub(super) struct Sequence {
    /// The next number to be put in.
    next: u32,
    seen: BTreeSet<u32>,
    /// What came out last of this process.
    last: Option<u32>,
    /// What a killed process had under way: the next one may do it again.
    again: BTreeSet<u32>,
    /// What was lost with a process that had it, where that is no fault.
    lost: u32,
}

impl Sequence {
    /// The number of the next thing that is put in.
    pub(super) fn put(&mut self) -> u32 {
        self.next += 1;
        self.next - 1
    }

    /// A thing has come out.
    pub(super) fn comes(&mut self, what: &'static str, number: u32) -> Result<(), Failure> {
        let wrong = |expected: String| {
            Err(Failure::Answer { what, found: format!("number {number}"), expected })
        };
        if number >= self.next {
            return wrong(format!("one of the first {}", self.next));
        }
        if self.last.is_some_and(|last| number <= last) {
            return wrong(format!("behind {:?}", self.last));
        }
        if !self.seen.insert(number) && !self.again.contains(&number) {
            return wrong("one that has not come out yet".into());
        }
        self.last = Some(number);
        Ok(())
    }

    /// What the driver has back must have come out.
    pub(super) fn ended(&self, what: &'static str, number: u32) -> Result<(), Failure> {
        if self.seen.contains(&number) {
            return Ok(());
        }
        let found = format!("number {number}, used and never seen");
        Err(Failure::Answer { what, found, expected: "one that has come out".into() })
    }

    /// The process was killed with this under way.
    pub(super) fn killed(&mut self, under_way: Vec<u32>) {
        self.last = None;
        self.again.extend(under_way);
    }

    /// What has not come out yet never will.
    pub(super) fn lose_rest(&mut self) {
        (self.lost, self.last) = (self.next, self.next.checked_sub(1));
    }

    /// All must have come out, but for what was lost.
    pub(super) fn is_complete(&self, what: &'static str) -> Result<(), Failure> {
        match (self.lost..self.next).find(|number| !self.seen.contains(number)) {
            None => Ok(()),
            Some(number) => {
                Err(Failure::Hang { what: format!("{what} number {number} never comes out") })
            }
        }
    }
}
