//! Whether a notification is owed (virtio 1.4, 2.7.7, 2.7.10, 2.8.10).
//!
//! Two sides look at shared memory without a lock: one publishes and then reads whether the other
//! wants to know; the other writes what it wants and then looks for news. The observer sees the
//! publishing only when the driver looks. So it keeps every wish that the publisher may have read,
//! and holds a notification to be owed only if all of them asked for it.

use super::step::Suppress;
use crate::features::{EVENT_IDX, Negotiated};
use crate::packed::Position;
use crate::split;

/// Wishes that are told apart before the observer gives up being sure.
const MAX_WISHES: usize = 64;

/// Entries that one side published: from where, and up to where.
#[derive(Debug, Clone, Copy)]
pub(super) enum Span {
    /// Free-running indices of a split ring.
    Split { from: u16, to: u16 },
    /// Places in a packed ring of this size.
    Packed { from: Position, to: Position, size: u16 },
}

/// The notifications in one direction of one ring.
#[derive(Debug)]
pub(super) struct Notifications {
    event_idx: bool,
    /// Whether the observer learns of publishing only some time after it.
    seen_late: bool,
    current: Suppress,
    /// Every wish that the publisher may have read, and whether it asked for a notification.
    wishes: Vec<(Suppress, bool)>,
    /// Something was published and no notification came after it.
    pending: bool,
    /// A notification came since the last look.
    notified: bool,
    unsure: bool,
}

impl Notifications {
    /// Calls: the driver looks when it likes.
    pub(super) fn calls(negotiated: Negotiated, initial: Suppress) -> Self {
        Self {
            event_idx: negotiated.has(EVENT_IDX),
            seen_late: true,
            current: initial,
            wishes: vec![(initial, false)],
            pending: false,
            notified: false,
            unsure: false,
        }
    }

    /// Kicks: the driver tells of its own publishing at once.
    pub(super) fn kicks(negotiated: Negotiated, initial: Suppress) -> Self {
        Self { seen_late: false, ..Self::calls(negotiated, initial) }
    }

    /// The other side now wants this.
    pub(super) fn wish(&mut self, wish: Suppress) {
        self.current = wish;
        if self.wishes.iter().any(|(known, _)| *known == wish) {
            return;
        }
        if self.wishes.len() == MAX_WISHES {
            self.unsure = true;
        } else {
            self.wishes.push((wish, false));
        }
    }

    /// The driver looked and found nothing new.
    pub(super) fn nothing_new(&mut self) {
        self.notified = false;
        if !self.pending {
            self.forget();
        }
    }

    /// Something was published.
    pub(super) fn published(&mut self, span: Span) {
        let covered = self.seen_late && std::mem::take(&mut self.notified);
        if covered {
            // The notification may have been for this.
            self.pending = false;
            self.forget();
            return;
        }
        self.pending = true;
        for (wish, due) in &mut self.wishes {
            *due |= is_due(*wish, span, self.event_idx);
        }
    }

    /// A notification came.
    pub(super) fn notified(&mut self) {
        self.notified = true;
        self.pending = false;
        self.forget();
    }

    /// Whether a notification is missing, now that nothing moves any more.
    pub(super) fn quiesce(&mut self) -> bool {
        let owed = self.pending && !self.unsure && self.wishes.iter().all(|(_, due)| *due);
        self.pending = false;
        self.notified = false;
        self.forget();
        owed
    }

    fn forget(&mut self) {
        self.unsure = false;
        self.wishes.clear();
        self.wishes.push((self.current, false));
    }
}

fn is_due(wish: Suppress, span: Span, event_idx: bool) -> bool {
    match (wish, span) {
        (Suppress::Split { event, .. }, Span::Split { from, to }) if event_idx => {
            split::need_event(event, to, from)
        }
        (Suppress::Split { flags, .. }, Span::Split { .. }) => flags & 1 == 0,
        (Suppress::Packed(suppress), Span::Packed { from, to, size }) => {
            suppress.is_due(from, to, size)
        }
        // A wish of the wrong kind of ring says nothing.
        _ => false,
    }
}
