//! What a guest has written: bytes that nobody has read yet, and the last of those that were.
//!
//! One ring of bytes with a fixed capacity. Bytes between `sent` and the end are still to be delivered;
//! those before `sent` are history, kept where history was asked for, and while somebody looks on. A byte
//! that has to go before it was delivered is counted, and the reader finds a mark in its place. Whoever
//! looks on has a [`Follower`]: a place in the same ring, so that memory does not grow with their number.

use std::collections::VecDeque;

/// Bytes that wait for a reader, within a bound.
#[derive(Debug)]
pub struct Backlog {
    bytes: VecDeque<u8>,
    capacity: usize,
    /// How many bytes there were before the first one that is here.
    start: u64,
    /// How many of the bytes at the front were delivered.
    sent: usize,
    /// Whether delivered bytes are kept for the next reader.
    keeps_history: bool,
    /// Whether delivered bytes are kept for those who look on.
    followed: bool,
    gap: Gap,
    dropped: u64,
}

/// How far somebody who looks on has read.
#[derive(Debug)]
pub struct Follower {
    at: u64,
    gap: Gap,
}

/// A place in a reader's stream where bytes are missing.
#[derive(Debug, Default)]
struct Gap {
    /// Dropped since the reader was last told.
    untold: u64,
    /// A mark that is on its way to the reader.
    mark: VecDeque<u8>,
}

/// What a reader finds where bytes are missing.
pub fn mark(missing: u64) -> String {
    format!("\r\n[outrigger: {missing} bytes were dropped here]\r\n")
}

impl Gap {
    fn is_open(&self) -> bool {
        self.untold > 0 || !self.mark.is_empty()
    }

    fn add(&mut self, count: u64) {
        self.untold = self.untold.saturating_add(count);
    }

    /// What is left of the mark; nothing if no mark is due.
    fn text(&mut self) -> &[u8] {
        if self.mark.is_empty() && self.untold > 0 {
            self.mark.extend(mark(self.untold).into_bytes());
            self.untold = 0;
        }
        self.mark.make_contiguous()
    }

    /// Whether these bytes were the mark's.
    fn advance(&mut self, count: usize) -> bool {
        let was_mark = !self.mark.is_empty();
        self.mark.drain(..count.min(self.mark.len()));
        was_mark
    }
}

impl Backlog {
    /// The least that a backlog holds, bytes.
    pub const LEAST: usize = 64 << 10;
    /// The most that a backlog is enlarged to for what was held when a ring stopped, bytes.
    pub const MOST_HELD: usize = 1 << 20;

    /// A backlog of `capacity` bytes, which are allocated as they are needed.
    pub fn new(capacity: usize, keeps_history: bool) -> Self {
        Backlog {
            bytes: VecDeque::new(),
            capacity: capacity.max(1),
            start: 0,
            sent: 0,
            keeps_history,
            followed: false,
            gap: Gap::default(),
            dropped: 0,
        }
    }

    /// The most bytes that are held.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// So many bytes are to come that must not be dropped: it is enlarged, up to
    /// [`Backlog::MOST_HELD`].
    pub fn make_room(&mut self, count: usize) {
        let needed = self.pending().saturating_add(count).min(Self::MOST_HELD);
        self.capacity = self.capacity.max(needed);
    }

    /// Adds what the guest wrote, to be delivered; the oldest goes if there is no room.
    pub fn push(&mut self, bytes: &[u8]) {
        self.append(bytes, false);
    }

    /// Adds what the guest wrote and somebody has read already: for the history, and for who looks on.
    pub fn record(&mut self, bytes: &[u8]) {
        if self.keeps_delivered() {
            self.append(bytes, true);
        }
    }

    /// Whether there is anybody to [`Backlog::record`] for.
    pub fn keeps_delivered(&self) -> bool {
        self.keeps_history || self.followed
    }

    /// Bytes that do not get here, since as many as fit come behind them. `delivered`: somebody has read
    /// them.
    pub fn skip(&mut self, count: usize, delivered: bool) {
        if count == 0 {
            return;
        }
        let waiting = self.pending();
        self.start += (self.bytes.len() + count) as u64;
        self.bytes.clear();
        self.sent = 0;
        self.lose(waiting + if delivered { 0 } else { count });
    }

    fn append(&mut self, bytes: &[u8], delivered: bool) {
        let kept = bytes.get(bytes.len().saturating_sub(self.capacity)..).unwrap_or(bytes);
        let cut = bytes.len() - kept.len();
        let excess = (self.bytes.len() + kept.len()).saturating_sub(self.capacity);
        let lost = excess.saturating_sub(self.sent);
        self.bytes.drain(..excess);
        self.sent = self.sent.saturating_sub(excess);
        self.start += (excess + cut) as u64;
        self.bytes.extend(kept);
        if delivered {
            self.sent = self.bytes.len();
        } else {
            self.lose(lost + cut);
        }
    }

    fn lose(&mut self, count: usize) {
        self.gap.add(count as u64);
        self.dropped = self.dropped.saturating_add(count as u64);
    }

    /// Whether there is something to deliver.
    pub fn is_pending(&self) -> bool {
        self.gap.is_open() || self.sent < self.bytes.len()
    }

    /// What comes next: call [`Backlog::advance`] with how much of it was delivered.
    pub fn next_part(&mut self) -> &[u8] {
        if self.gap.is_open() {
            return self.gap.text();
        }
        part(&self.bytes, self.sent)
    }

    /// The first `count` bytes of [`Backlog::next_part`] were delivered.
    pub fn advance(&mut self, count: usize) {
        if !self.gap.advance(count) {
            self.sent = (self.sent + count).min(self.bytes.len());
            self.trim();
        }
    }

    /// What waits is not going to be delivered: it is history. Returns how many bytes that were.
    pub fn settle(&mut self) -> usize {
        let waiting = self.pending();
        self.gap = Gap::default();
        self.sent = self.bytes.len();
        self.trim();
        waiting
    }

    /// Lets go of what nobody will ask for.
    fn trim(&mut self) {
        if !self.keeps_delivered() {
            self.bytes.drain(..self.sent);
            self.start += self.sent as u64;
            self.sent = 0;
        }
    }

    /// A reader has come: it is given the history first.
    pub fn rewind(&mut self) {
        self.sent = 0;
        self.gap.mark.clear();
    }

    /// Bytes to be delivered.
    pub fn pending(&self) -> usize {
        self.bytes.len() - self.sent
    }

    /// Bytes that a reader was not given, and will not be.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Somebody looks on, and finds first what is here, and that something is missing before it.
    pub fn follow(&mut self) -> Follower {
        self.followed = true;
        let gap = Gap { untold: self.gap.untold, ..Gap::default() };
        Follower { at: self.start, gap }
    }

    /// Nobody looks on any more.
    pub fn unfollow(&mut self) {
        self.followed = false;
        self.trim();
    }

    /// Bytes that a follower has not been given.
    pub fn ahead_of(&self, follower: &Follower) -> usize {
        let end = self.start + self.bytes.len() as u64;
        usize::try_from(end.saturating_sub(follower.at)).unwrap_or(0)
    }

    /// What comes next for a follower: call [`Follower::advance`] with how much of it it was given.
    pub fn next_for<'a>(&'a self, follower: &'a mut Follower) -> &'a [u8] {
        let missed = self.start.saturating_sub(follower.at);
        follower.gap.add(missed);
        follower.at += missed;
        if follower.gap.is_open() {
            return follower.gap.text();
        }
        let read = usize::try_from(follower.at - self.start).unwrap_or(usize::MAX);
        part(&self.bytes, read)
    }
}

impl Follower {
    /// The first `count` bytes of [`Backlog::next_for`] were given to it.
    pub fn advance(&mut self, count: usize) {
        if !self.gap.advance(count) {
            self.at += count as u64;
        }
    }
}

/// The bytes from `from` on, as far as they lie together.
fn part(bytes: &VecDeque<u8>, from: usize) -> &[u8] {
    let (front, back) = bytes.as_slices();
    match front.get(from..) {
        Some(rest) if !rest.is_empty() => rest,
        _ => back.get(from.saturating_sub(front.len())..).unwrap_or(&[]),
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

    fn give(backlog: &Backlog, follower: &mut Follower) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let next = backlog.next_for(follower).to_vec();
            if next.is_empty() {
                return all;
            }
            all.extend(&next);
            follower.advance(next.len());
        }
    }

    #[test]
    fn who_looks_on_is_told_of_what_was_missed() {
        let mut backlog = Backlog::new(4, false);
        backlog.push(b"ab");
        let mut follower = backlog.follow();
        assert_eq!(give(&backlog, &mut follower), b"ab");
        deliver(&mut backlog, usize::MAX);
        backlog.record(b"cdefgh");
        let text = String::from_utf8(give(&backlog, &mut follower)).unwrap();
        assert!(text.contains("2 bytes were dropped") && text.ends_with("efgh"), "{text}");
        assert_eq!(backlog.dropped(), 0, "the reader had them");
        backlog.unfollow();
        assert!(backlog.bytes.is_empty());
    }

    proptest! {
        #[test]
        fn who_looks_on_sees_what_the_reader_sees(
            steps in prop::collection::vec(
                (prop::collection::vec(any::<u8>(), 0..40), 0..60usize, any::<bool>()), 1..40),
            history: bool,
        ) {
            let mut backlog = Backlog::new(4096, history);
            let mut follower = backlog.follow();
            let (mut all, mut seen) = (Vec::new(), Vec::new());
            for (bytes, read, straight) in steps {
                if straight && !backlog.is_pending() {
                    backlog.record(&bytes);
                } else {
                    backlog.push(&bytes);
                }
                all.extend(bytes);
                deliver(&mut backlog, read);
                if read % 2 == 0 {
                    seen.extend(give(&backlog, &mut follower));
                }
            }
            seen.extend(give(&backlog, &mut follower));
            prop_assert_eq!(seen, all);
            prop_assert_eq!(backlog.ahead_of(&follower), 0);
        }

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
