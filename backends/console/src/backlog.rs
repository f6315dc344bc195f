//! What a guest has written: bytes that nobody has read yet, and the last of those that were.
//!
//! One ring of bytes with a fixed capacity. Bytes between `sent` and the end are still to be
//! delivered; those before `sent` are history, kept only where history was asked for. A byte that has
//! to go before it was delivered is counted, and the reader finds a mark in its place.

use std::collections::VecDeque;

/// Bytes that wait for a reader, within a bound.
#[derive(Debug)]
pub struct Backlog {
    bytes: VecDeque<u8>,
    capacity: usize,
    /// How many of the bytes at the front were delivered.
    sent: usize,
    /// Whether delivered bytes are kept for the next reader.
    keeps_history: bool,
    /// Dropped since the last reader was told.
    untold: u64,
    /// A mark that is on its way to the reader.
    mark: VecDeque<u8>,
    dropped: u64,
}

impl Backlog {
    /// The least that a backlog holds, bytes: what is in a driver's hands when its ring is stopped has
    /// to fit.
    pub const LEAST: usize = 64 << 10;

    /// A backlog of `capacity` bytes, which are allocated as they are needed.
    pub fn new(capacity: usize, keeps_history: bool) -> Self {
        Backlog {
            bytes: VecDeque::new(),
            capacity: capacity.max(1),
            sent: 0,
            keeps_history,
            untold: 0,
            mark: VecDeque::new(),
            dropped: 0,
        }
    }

    /// The most bytes that are held.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Adds what the guest wrote, to be delivered; the oldest goes if there is no room.
    pub fn push(&mut self, bytes: &[u8]) {
        self.append(bytes, false);
    }

    /// Adds what the guest wrote and somebody has read already: for the history alone.
    pub fn record(&mut self, bytes: &[u8]) {
        if self.keeps_history {
            self.append(bytes, true);
        }
    }

    /// Bytes that were lost before they got here.
    pub fn skip(&mut self, count: usize) {
        self.lose(count);
    }

    fn append(&mut self, bytes: &[u8], delivered: bool) {
        let kept = bytes.get(bytes.len().saturating_sub(self.capacity)..).unwrap_or(bytes);
        let cut = bytes.len() - kept.len();
        let excess = (self.bytes.len() + kept.len()).saturating_sub(self.capacity);
        let lost = excess.saturating_sub(self.sent);
        self.bytes.drain(..excess);
        self.sent = self.sent.saturating_sub(excess);
        self.bytes.extend(kept);
        if delivered {
            self.sent = self.bytes.len();
        } else {
            self.lose(lost + cut);
        }
    }

    fn lose(&mut self, count: usize) {
        self.untold = self.untold.saturating_add(count as u64);
        self.dropped = self.dropped.saturating_add(count as u64);
    }

    /// Whether there is something to deliver.
    pub fn is_pending(&self) -> bool {
        self.untold > 0 || !self.mark.is_empty() || self.sent < self.bytes.len()
    }

    /// What comes next: call [`Backlog::advance`] with how much of it was delivered.
    pub fn next_part(&mut self) -> &[u8] {
        if self.mark.is_empty() && self.untold > 0 {
            let text = format!("\r\n[outrigger: {} bytes were dropped here]\r\n", self.untold);
            self.mark.extend(text.into_bytes());
            self.untold = 0;
        }
        if !self.mark.is_empty() {
            return self.mark.make_contiguous();
        }
        let (front, back) = self.bytes.as_slices();
        match front.get(self.sent..) {
            Some(rest) if !rest.is_empty() => rest,
            _ => back.get(self.sent.saturating_sub(front.len())..).unwrap_or(&[]),
        }
    }

    /// The first `count` bytes of [`Backlog::next_part`] were delivered.
    pub fn advance(&mut self, count: usize) {
        if !self.mark.is_empty() {
            self.mark.drain(..count.min(self.mark.len()));
            return;
        }
        self.sent = (self.sent + count).min(self.bytes.len());
        if !self.keeps_history {
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
    }

    /// A reader has come: it is given the history first.
    pub fn rewind(&mut self) {
        self.sent = 0;
        self.mark.clear();
    }

    /// Bytes to be delivered.
    pub fn pending(&self) -> usize {
        self.bytes.len() - self.sent
    }

    /// Bytes that nobody will see, ever.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn deliver(backlog: &mut Backlog, most: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while backlog.is_pending() && all.len() < most {
            let next = backlog.next_part().to_vec();
            let count = next.len().min(most - all.len());
            all.extend(&next[..count]);
            backlog.advance(count);
        }
        all
    }

    #[test]
    fn the_oldest_goes_first_and_leaves_a_mark() {
        let mut backlog = Backlog::new(4, false);
        backlog.push(b"abcdef");
        let text = String::from_utf8(deliver(&mut backlog, usize::MAX)).unwrap();
        assert!(text.contains("2 bytes were dropped") && text.ends_with("cdef"), "{text}");
        assert_eq!((backlog.dropped(), backlog.pending()), (2, 0));
    }

    #[test]
    fn history_is_for_the_next_reader() {
        let mut backlog = Backlog::new(4, true);
        backlog.record(b"abcdef");
        assert!(!backlog.is_pending());
        backlog.rewind();
        assert_eq!(deliver(&mut backlog, usize::MAX), b"cdef");
        backlog.push(b"g");
        assert_eq!(deliver(&mut backlog, usize::MAX), b"g");
        backlog.rewind();
        assert_eq!(deliver(&mut backlog, usize::MAX), b"defg");
        assert_eq!(backlog.dropped(), 0);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_or_reordered_within_the_bound(
            steps in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..40), 0..60usize), 1..40),
            history: bool,
        ) {
            let mut backlog = Backlog::new(4096, history);
            let (mut all, mut got) = (Vec::new(), Vec::new());
            for (bytes, read) in steps {
                backlog.push(&bytes);
                all.extend(bytes);
                got.extend(deliver(&mut backlog, read));
            }
            got.extend(deliver(&mut backlog, usize::MAX));
            prop_assert_eq!(got, all);
            prop_assert_eq!(backlog.dropped(), 0);
        }

        #[test]
        fn memory_is_bounded_and_every_byte_accounted_for(
            steps in prop::collection::vec((0..400usize, 0..100usize, any::<bool>()), 1..60),
            history: bool,
        ) {
            let mut backlog = Backlog::new(64, history);
            let (mut pushed, mut delivered) = (0, 0);
            for (push, read, _) in steps {
                backlog.push(&vec![0; push]);
                pushed += push as u64;
                prop_assert!(backlog.bytes.len() <= 64);
                // Marks are not the guest's bytes.
                delivered += deliver(&mut backlog, read).iter().filter(|byte| **byte == 0).count() as u64;
            }
            prop_assert_eq!(pushed, delivered + backlog.dropped() + backlog.pending() as u64);
        }
    }
}
