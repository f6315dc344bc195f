//! The table of requests that have begun and not ended, by queue and slot.

use framework::engine::Token;

use crate::pending::Pending;

/// Where a request stands in the table; packed into the token of its operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The queue's number within the worker.
    pub(crate) queue: u16,
    /// The chain's slot in its ring.
    pub(crate) slot: u16,
}

impl From<Token> for Place {
    fn from(Token(token): Token) -> Self {
        let [q0, q1, s0, s1] = token.to_be_bytes();
        Place { queue: u16::from_be_bytes([q0, q1]), slot: u16::from_be_bytes([s0, s1]) }
    }
}

impl From<Place> for Token {
    fn from(place: Place) -> Self {
        Token(u32::from(place.queue) << 16 | u32::from(place.slot))
    }
}

/// Requests in flight. There is room for as many as the rings have entries; none is made later.
#[derive(Debug, Default)]
pub(crate) struct InFlight {
    queues: Vec<Vec<Option<Pending>>>,
}

impl InFlight {
    /// Makes room for a ring of `size` entries: something to do at the first kick after its start.
    #[inline]
    pub(crate) fn make_room(&mut self, queue: usize, size: u16) {
        let size = usize::from(size);
        if self.queues.get(queue).is_none_or(|slots| slots.len() < size) {
            self.grow(queue, size);
        }
    }

    #[cold]
    fn grow(&mut self, queue: usize, size: usize) {
        if self.queues.len() <= queue {
            self.queues.resize_with(queue + 1, Vec::new);
        }
        if let Some(slots) = self.queues.get_mut(queue) {
            slots.resize_with(size, || None);
        }
    }

    /// Puts a request at its place, for which room was made.
    #[inline]
    pub(crate) fn put(&mut self, place: Place, pending: Pending) {
        if let Some(slot) = self.slot(place) {
            *slot = Some(pending);
        }
    }

    /// Takes a request out again.
    #[inline]
    pub(crate) fn take(&mut self, place: Place) -> Option<Pending> {
        self.slot(place)?.take()
    }

    #[inline]
    fn slot(&mut self, place: Place) -> Option<&mut Option<Pending>> {
        self.queues.get_mut(usize::from(place.queue))?.get_mut(usize::from(place.slot))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_names_queue_and_slot() {
        for place in [Place { queue: 0, slot: 0xffff }, Place { queue: 0xabcd, slot: 0x1234 }] {
            assert_eq!(Place::from(Token::from(place)), place);
        }
    }

    #[test]
    fn outside_of_the_table_there_is_nothing() {
        let mut in_flight = InFlight::default();
        in_flight.make_room(1, 4);
        assert!(in_flight.take(Place { queue: 1, slot: 4 }).is_none());
        assert!(in_flight.take(Place { queue: 2, slot: 0 }).is_none());
    }
}
