//! `virtio-queue`, driven in the way in which a worker drives a ring.

use virtio_queue::{Queue, QueueOwnedT, QueueT};
use virtio_spec::features::{EVENT_IDX, Negotiated};
use virtio_spec::split;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::chain::{self, Chain, Piece};
use super::{Reference, Turn};
use crate::guest::{BYTES, DESCRIPTORS, DEVICE, DRIVER, Guest, REGIONS};
use crate::stand::Completion;

/// A queue of `virtio-queue` with guest memory of its own.
pub(super) struct Oracle {
    memory: GuestMemoryMmap<()>,
    /// The same bytes, for the rules of chains.
    mirror: Guest,
    queue: Queue,
    features: Negotiated,
    held: Vec<Chain>,
    /// A chain that was looked at and not taken.
    ahead: Option<Chain>,
    /// The driver's index when it was last looked at.
    seen: u16,
    /// Nothing has happened yet, and the worker looks at its commands first.
    fresh: bool,
}

impl Oracle {
    pub(super) fn new(size: u16, features: Negotiated) -> Self {
        let ranges = REGIONS.map(|(start, len)| (GuestAddress(start), len));
        let mut queue = Queue::new(size).unwrap();
        queue.try_set_desc_table_address(GuestAddress(DESCRIPTORS)).unwrap();
        queue.try_set_avail_ring_address(GuestAddress(DRIVER)).unwrap();
        queue.try_set_used_ring_address(GuestAddress(DEVICE)).unwrap();
        queue.set_event_idx(features.has(EVENT_IDX));
        queue.set_ready(true);
        let memory = GuestMemoryMmap::from_ranges(&ranges).unwrap();
        Oracle {
            memory,
            mirror: Guest::new(),
            queue,
            features,
            held: Vec::new(),
            ahead: None,
            seen: 0,
            fresh: true,
        }
    }

    /// Whether there are more chains; None if the driver's index makes no sense. It is looked at
    /// when all that it has shown before was taken.
    fn has_more(&mut self) -> Option<bool> {
        if self.ahead.is_some() {
            return Some(true);
        }
        if self.queue.next_avail() == self.seen {
            let index = self.mirror.u16_at(DRIVER + split::AVAIL_IDX_OFFSET as u64);
            if index.wrapping_sub(self.seen) > self.queue.size() {
                assert!(self.queue.iter(&self.memory).is_err());
                return None;
            }
            self.seen = index;
        }
        Some(self.queue.next_avail() != self.seen)
    }

    /// Takes the next chain; None if it is none, or one too many.
    fn take(&mut self) -> Option<Chain> {
        let (size, next) = (self.queue.size(), self.queue.next_avail());
        if self.held.len() == usize::from(size) {
            return None;
        }
        let at = split::AVAIL_RING_OFFSET + usize::from(next % size) * split::AVAIL_ELEM_SIZE;
        let head = self.mirror.u16_at(DRIVER + at as u64);
        let chain = chain::split(&self.mirror, head, size, self.features)?;
        // It refuses to look when the driver has moved its index back meanwhile, which the driver
        // may not do; what it had shown before counts then.
        let index = self.mirror.u16_at(DRIVER + split::AVAIL_IDX_OFFSET as u64);
        if (1..=size).contains(&index.wrapping_sub(next)) {
            let theirs = self.queue.pop_descriptor_chain(&self.memory).unwrap();
            assert_eq!(theirs.head_index(), chain.id);
            let pieces: Vec<Piece> = theirs
                .map(|desc| Piece {
                    addr: desc.addr().0,
                    len: desc.len(),
                    write: desc.is_write_only(),
                })
                .collect();
            assert_eq!(pieces, chain.pieces);
        } else {
            self.queue.set_next_avail(next.wrapping_add(1));
        }
        Some(chain)
    }

    fn complete(&mut self, completion: &Completion) {
        let chain = self.held.remove(completion.which);
        let written = completion.written.min(chain.room());
        for (addr, len) in chain.written(written as usize) {
            self.memory.write_slice(&vec![completion.fill; len], GuestAddress(addr)).unwrap();
        }
        self.queue.add_used(&self.memory, chain.id, written).unwrap();
    }

    fn called(&mut self) -> bool {
        let asked = self.queue.needs_notification(&self.memory).unwrap();
        let flags = self.mirror.u16_at(DRIVER + split::AVAIL_FLAGS_OFFSET as u64);
        asked && (self.features.has(EVENT_IDX) || flags & split::AVAIL_F_NO_INTERRUPT == 0)
    }

    /// What a worker does in a turn; None if the ring fails.
    fn try_turn(&mut self, complete: &[Completion], take: usize) -> Option<Turn> {
        let mut turn = Turn::default();
        if !std::mem::take(&mut self.fresh) && !self.has_more()? {
            assert!(!self.queue.enable_notification(&self.memory).unwrap());
            turn.slept = true;
        }
        complete.iter().for_each(|completion| self.complete(completion));
        // What the device has just written may be a part of the ring.
        self.mirror.fill(&self.image());
        if self.has_more()? {
            self.queue.disable_notification(&self.memory).unwrap();
        }
        for _ in 0..take {
            if !self.has_more()? {
                break;
            }
            let chain = match self.ahead.take() {
                Some(chain) => chain,
                None => self.take()?,
            };
            turn.taken.push(chain.seen(&self.mirror));
            turn.incomparable |= chain.touches_device();
            self.held.push(chain);
            // The ring looks at the next one already, if it knows of one.
            if self.queue.next_avail() != self.seen {
                self.ahead = Some(self.take()?);
            }
        }
        turn.called = Some(!complete.is_empty() && self.called());
        Some(turn)
    }
}

impl Reference for Oracle {
    fn turn(&mut self, guest: &Guest, complete: &[Completion], take: usize) -> Turn {
        let image = guest.image();
        self.mirror.fill(&image);
        let mut rest = image.as_slice();
        for (start, len) in REGIONS {
            let (region, others) = rest.split_at(len);
            self.memory.write_slice(region, GuestAddress(start)).unwrap();
            rest = others;
        }
        let turn = self.try_turn(complete, take);
        turn.unwrap_or(Turn { failed: true, ..Turn::default() })
    }

    fn image(&self) -> Vec<u8> {
        let mut image = vec![0; BYTES];
        let mut rest = image.as_mut_slice();
        for (start, len) in REGIONS {
            let (region, others) = rest.split_at_mut(len);
            self.memory.read_slice(region, GuestAddress(start)).unwrap();
            rest = others;
        }
        image
    }
}
