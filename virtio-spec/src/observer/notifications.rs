//! Whether a notification is owed (virtio 1.4, 2.7.7, 2.7.10, 2.8.10).
//!
//! Two sides look at shared memory without a lock: one publishes and then reads whether the other
//! wants to know; the other writes what it wants and then looks for news. The driver tells the
//! observer of its own publishing and of what it read afterwards, so about kicks the observer is
//! sure ([`Kicks`]). The device's publishing shows only when the driver looks, so about calls it
//! keeps every wish that the device may have read, and holds a call to be owed only if all of them
//! asked for it ([`Calls`]).

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

/// The kicks of one ring.
#[derive(Debug)]
pub(super) struct Kicks {
    event_idx: bool,
    /// What the device wanted when the driver read it last.
    wish: Suppress,
    /// What was published since the driver last read what the device wants.
    undecided: Vec<Span>,
    /// A kick was due when the driver read what the device wants.
    due: bool,
}

impl Kicks {
    pub(super) fn new(negotiated: Negotiated, initial: Suppress) -> Self {
        let event_idx = negotiated.has(EVENT_IDX);
        Self { event_idx, wish: initial, undecided: Vec::new(), due: false }
    }

    /// The driver read what the device wants; the first time after publishing decides.
    pub(super) fn wish(&mut self, wish: Suppress) {
        self.wish = wish;
        self.decide();
    }

    /// The driver made buffers available.
    pub(super) fn published(&mut self, span: Span) {
        self.undecided.push(span);
    }

    /// The driver kicked.
    pub(super) fn notified(&mut self) {
        self.undecided.clear();
        self.due = false;
    }

    /// Whether a kick is missing, now that nothing moves any more.
    pub(super) fn quiesce(&mut self) -> bool {
        self.decide();
        std::mem::take(&mut self.due)
    }

    fn decide(&mut self) {
        let (wish, event_idx) = (self.wish, self.event_idx);
        self.due |= self.undecided.drain(..).any(|span| is_due(wish, span, event_idx));
    }
}

/// The calls of one ring.
#[derive(Debug)]
pub(super) struct Calls {
    event_idx: bool,
    current: Suppress,
    /// Every wish that the device may have read, and whether it asked for a call.
    wishes: Vec<(Suppress, bool)>,
    /// Something was published and no call came after it.
    pending: bool,
    /// A call came since the last look.
    notified: bool,
    unsure: bool,
}

impl Calls {
    pub(super) fn new(negotiated: Negotiated, initial: Suppress) -> Self {
        Self {
            event_idx: negotiated.has(EVENT_IDX),
            current: initial,
            wishes: vec![(initial, false)],
            pending: false,
            notified: false,
            unsure: false,
        }
    }

    /// The driver now wants this.
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

    /// The driver looked and found that the device had published this.
    pub(super) fn published(&mut self, span: Span) {
        if self.notified {
            // The call that came before may have been for this, and for whatever else is found
            // before the driver looks in vain.
            self.pending = false;
            self.forget();
            return;
        }
        self.pending = true;
        for (wish, due) in &mut self.wishes {
            *due |= is_due(*wish, span, self.event_idx);
        }
    }

    /// A call came.
    pub(super) fn notified(&mut self) {
        self.notified = true;
        self.pending = false;
        self.forget();
    }

    /// Whether a call is missing, now that nothing moves any more.
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
