//! What is known of one sector.

use std::rc::Rc;

use super::content::{Content, SECTOR};

/// A set of contents; at most a few.
#[derive(Clone, Debug, Default)]
pub(crate) struct Contents(Vec<Content>);

impl Contents {
    pub(crate) fn one(content: Content) -> Self {
        Contents(vec![content])
    }

    pub(crate) fn add(&mut self, content: Content) {
        if !self.0.contains(&content) {
            self.0.push(content);
        }
    }

    pub(crate) fn add_all(&mut self, others: &Contents) {
        others.0.iter().cloned().for_each(|content| self.add(content));
    }

    /// Keeps what `others` has too. Both hold the truth, so something is left.
    pub(crate) fn keep(&mut self, others: &Contents) {
        if self.0.iter().any(|content| others.0.contains(content)) {
            self.0.retain(|content| others.0.contains(content));
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Which of these stands in `found`, if `found` is right at all. `torn`: each byte may be of
    /// another one.
    pub(crate) fn recognize(
        &self,
        sector: u64,
        found: &[u8; SECTOR],
        torn: bool,
    ) -> Option<Content> {
        let contents: Vec<[u8; SECTOR]> = self.0.iter().map(|c| c.bytes(sector)).collect();
        if let Some(index) = contents.iter().position(|bytes| bytes == found) {
            return self.0.get(index).cloned();
        }
        let there = |(at, byte): (usize, &u8)| contents.iter().any(|c| c.get(at) == Some(byte));
        (torn && found.iter().enumerate().all(there)).then(|| Content::Found(Rc::new(*found)))
    }

    pub(crate) fn describe(&self) -> String {
        let names: Vec<String> = self.0.iter().map(Content::to_string).collect();
        names.join(" or ")
    }
}

/// What one sector may hold.
#[derive(Clone, Debug)]
pub(crate) struct Sector {
    /// What it may hold now, as far as requests that have ended tell.
    pub(crate) now: Contents,
    /// Whether it may hold a mixture of these.
    pub(crate) torn: bool,
    /// What it may hold after a power loss.
    pub(crate) durable: Contents,
}

impl Sector {
    /// A sector of a new disk.
    pub(crate) fn new() -> Self {
        let now = Contents::one(Content::Zeroes);
        Sector { durable: now.clone(), now, torn: false }
    }

    /// It was found to hold this, while nothing was written.
    pub(crate) fn found(&mut self, content: Content) {
        self.durable.add(content.clone());
        self.now = Contents::one(content);
        self.torn = false;
    }

    /// It was found to hold this after a power loss.
    pub(crate) fn survived(&mut self, content: Content) {
        self.found(content);
        self.durable = self.now.clone();
    }
}
