//! A running ring: what devices and the worker see of it.

use std::collections::VecDeque;
use std::sync::Arc;

use virtio_spec::features::{EVENT_IDX, IN_ORDER, INDIRECT_DESC, Negotiated, RING_PACKED};

use super::Chain;
use super::chain::{Slot, Slots};
use super::fault::RingFault;
use super::in_flight_packed::{self, Completed, PackedTrack};
use super::in_flight_split::SplitTrack;
use super::memory::Tables;
use super::packed::Packed;
use super::split::Split;
use super::start::{parse_into, start_packed, start_split};
use crate::memory::{GuestAddress, MemoryTable, Segment};
use crate::stats::QueueStats;
use crate::worker::RingSetup;

/// A worker's rings, by number within the worker.
#[derive(Debug)]
pub struct Rings {
    pub(crate) rings: Vec<Option<Ring>>,
}

impl Rings {
    /// The ring of this queue. None: it is not started.
    #[inline]
    pub fn get(&mut self, queue: usize) -> Option<&mut Ring> {
        self.rings.get_mut(queue)?.as_mut()
    }

    /// Two rings at once: receive and transmit.
    pub fn pair(&mut self) -> (Option<&mut Ring>, Option<&mut Ring>) {
        match self.rings.as_mut_slice() {
            [first, second, ..] => (first.as_mut(), second.as_mut()),
            [first] => (first.as_mut(), None),
            [] => (None, None),
        }
    }
}

#[derive(Debug)]
pub(super) enum Half {
    Split(Split, Option<SplitTrack>),
    Packed(Packed, Option<PackedTrack>),
}

/// A virtqueue that was started.
#[derive(Debug)]
pub struct Ring {
    pub(super) half: Half,
    pub(super) setup: RingSetup,
    pub(super) tables: Tables,
    pub(super) slots: Slots,
    indirect: bool,
    /// Region of the last look-up in guest memory.
    pub(super) region: usize,
    /// Chains found in flight after a crash, to be given out first: heads, or entries of the region.
    pub(super) resume: VecDeque<u16>,
    /// Chains that were looked at and not taken, in ring order.
    pub(super) looked: VecDeque<u16>,
    /// In-order: chains in flight, in the order in which they were made available.
    order: Option<VecDeque<u16>>,
    pub(super) stopping: bool,
    /// The device was offered chains and took none: it waits for something else to happen.
    pub(super) declined: bool,
    /// The last look found no further chain.
    pub(super) exhausted: bool,
    pub(super) kicks_enabled: bool,
    /// The driver does not kick.
    pub(super) polled: bool,
    /// How many chains were completed since the driver was last shown some.
    pub(super) unpublished: u32,
    /// How many chains were completed since the driver was last called, or found not to want it.
    pub(super) uncalled: u32,
    /// Whether the device holds the call back.
    pub(super) call_held: bool,
    /// Whether the device has let go of a call that was not made yet.
    pub(super) call_due: bool,
    /// How many chains were taken, ever: wraps.
    pub(super) taken: u32,
    pub(super) fault: Option<RingFault>,
    pub(super) reported: bool,
    /// Nothing was used in it before its start, and nobody has asked yet.
    fresh: bool,
    pub(super) stats: QueueStats,
}

impl Ring {
    /// Starts a ring.
    ///
    /// # Errors
    /// When the ring is not in guest memory, or the in-flight region makes no sense.
    pub fn start(setup: RingSetup, stats: QueueStats) -> Result<Self, RingFault> {
        let event_idx = setup.features.has(EVENT_IDX);
        let (half, in_flight) = if setup.features.has(RING_PACKED) {
            start_packed(&setup, event_idx)?
        } else {
            start_split(&setup, event_idx)?
        };
        let recovered = in_flight.is_some();
        let mut ring = Ring {
            half,
            tables: Tables::new(Arc::clone(&setup.memory)),
            slots: Slots::new(setup.size),
            indirect: setup.features.has(INDIRECT_DESC),
            region: 0,
            resume: in_flight.unwrap_or_default(),
            looked: VecDeque::with_capacity(setup.size.into()),
            order: setup.features.has(IN_ORDER).then(|| VecDeque::with_capacity(setup.size.into())),
            stopping: false,
            declined: false,
            exhausted: false,
            kicks_enabled: true,
            polled: false,
            unpublished: 0,
            uncalled: 0,
            call_held: false,
            call_due: false,
            taken: 0,
            fault: None,
            reported: false,
            fresh: false,
            stats,
            setup,
        };
        ring.fresh = !recovered && !ring.was_used();
        if recovered || ring.was_used() {
            ring.call_for_predecessor();
        }
        Ok(ring)
    }

    /// To be called before the start of a ring that has stopped on this connection with nothing in
    /// flight: SET_VRING_BASE tells where it is now, whatever the in-flight region says. The driver
    /// may have reset it since.
    pub(crate) fn forget_place(setup: &RingSetup) {
        if let (Some(area), true) = (&setup.in_flight, setup.features.has(RING_PACKED)) {
            in_flight_packed::forget(area);
        }
    }

    /// The queue's index on the device.
    pub fn queue(&self) -> u16 {
        self.setup.queue
    }

    /// How many descriptors the ring has.
    pub fn size(&self) -> u16 {
        self.setup.size
    }

    /// What was negotiated.
    pub fn features(&self) -> Negotiated {
        self.setup.features
    }

    /// The queue's counters, of which this ring's worker is the only writer.
    pub fn stats(&self) -> &QueueStats {
        &self.stats
    }

    /// Whether the front-end has enabled the ring.
    pub fn is_enabled(&self) -> bool {
        self.setup.enabled
    }

    /// Whether chains may be taken: a disabled ring is left alone, unless the device has to empty it.
    #[inline]
    pub(super) fn is_served(&self) -> bool {
        self.setup.enabled || self.setup.serve_disabled
    }

    /// How many chains were taken and not yet completed.
    pub fn in_flight(&self) -> usize {
        self.slots.claimed() - self.looked.len()
    }

    /// Why the ring has failed, if it has.
    pub fn fault(&self) -> Option<RingFault> {
        self.fault
    }

    /// Takes the next chain. None: there is none, or the ring is disabled, stopping or failed.
    #[inline]
    pub fn take(&mut self) -> Option<Chain> {
        if self.looked.is_empty() && !self.look_further() {
            return None;
        }
        let slot = self.looked.pop_front()?;
        self.look_ahead();
        self.record_taken(slot);
        self.taken = self.taken.wrapping_add(1);
        if let Some(order) = &mut self.order {
            order.push_back(slot);
        }
        Some(Chain { slot })
    }

    /// Looks at the next chain, if one is known of, while the device serves this one: by the time it
    /// is taken, its header and status are on their way from the cache of the driver's CPU.
    #[inline]
    fn look_ahead(&mut self) {
        if !self.looked.is_empty() {
            return;
        }
        if matches!(&self.half, Half::Split(split, _) if split.knows_more()) {
            self.look_and_fetch();
        }
    }

    /// Looks at the next `n` chains, as far as so many are known of: for a device that takes many at
    /// once and does little with each. The driver is asked at most once whether there are more.
    #[inline]
    pub fn prepare(&mut self, n: usize) {
        while self.looked.len() < n && self.look_and_fetch() && self.knows_more() {}
    }

    /// Whether there are chains behind those that were looked at, as far as the driver need not be
    /// asked; in a packed ring, to look for the next one is to ask.
    #[inline]
    fn knows_more(&self) -> bool {
        match &self.half {
            Half::Split(split, _) => split.knows_more(),
            Half::Packed(..) => true,
        }
    }

    /// Looks at one more chain, and has the processor fetch its header and status.
    #[inline]
    fn look_and_fetch(&mut self) -> bool {
        if !self.look_further() {
            return false;
        }
        if let Some(slot) = self.looked.back().and_then(|slot| self.slots.get(*slot)) {
            slot.readable().first().map(Segment::prefetch);
            slot.writable().last().map(Segment::prefetch_to_write);
        }
        true
    }

    /// How many chains were looked at and not taken.
    #[inline]
    pub fn prepared(&self) -> usize {
        self.looked.len()
    }

    /// How many bytes the `n`-th chain from here has room for, without taking it. None: there are
    /// not so many.
    pub fn look(&mut self, n: usize) -> Option<usize> {
        while self.looked.len() <= n {
            if !self.look_further() {
                return None;
            }
        }
        let slot = self.slots.get(*self.looked.get(n)?)?;
        Some(slot.writable().iter().map(Segment::len).sum())
    }

    /// The writable part of the `n`-th chain from here, which was looked at and not taken.
    pub fn looked_writable(&self, n: usize) -> &[Segment] {
        let slot = self.looked.get(n).and_then(|slot| self.slots.get(*slot));
        slot.map_or(&[], Slot::writable)
    }

    /// Copies what is readable of a chain of another ring into the writable part of the `n`-th chain
    /// from here, which was looked at, from `offset` on; says how many bytes fitted.
    pub fn copy_to_looked(&self, n: usize, offset: usize, from: &Ring, chain: &Chain) -> usize {
        crate::memory::copy(from.readable(chain), self.looked_writable(n), offset)
    }

    /// What is left of the part that the device reads.
    #[inline]
    pub fn readable(&self, chain: &Chain) -> &[Segment] {
        self.slots.get(chain.slot).map_or(&[], Slot::readable)
    }

    /// What is left of the part that the device writes.
    #[inline]
    pub fn writable(&self, chain: &Chain) -> &[Segment] {
        self.slots.get(chain.slot).map_or(&[], Slot::writable)
    }

    /// Guest memory as this ring sees it now.
    pub fn memory(&self) -> &Arc<MemoryTable> {
        self.tables.current()
    }

    /// Where in guest memory the `n`-th segment of [`Ring::writable`] is, for a device to which the
    /// place is what the chain is about, and the memory that it is in.
    pub fn writable_place(&self, chain: &Chain, n: usize) -> Option<(GuestAddress, u64)> {
        let slot = self.slots.get(chain.slot)?;
        let segment = slot.writable().get(n)?;
        let start = self.tables.of(slot.epoch).guest_of(segment.base())?;
        Some((start, segment.len() as u64))
    }

    /// The guest memory in which a chain was found: that of [`Ring::writable_place`].
    pub fn memory_of(&self, chain: &Chain) -> Option<&Arc<MemoryTable>> {
        self.slots.get(chain.slot).map(|slot| self.tables.of(slot.epoch))
    }

    /// Whether this is the first look at a ring in which nothing was used before it was started: a
    /// driver has begun anew.
    pub fn take_fresh(&mut self) -> bool {
        std::mem::take(&mut self.fresh)
    }

    /// Bytes left to read.
    #[inline]
    pub fn readable_len(&self, chain: &Chain) -> usize {
        self.readable(chain).iter().map(Segment::len).sum()
    }

    /// Bytes left to write.
    #[inline]
    pub fn writable_len(&self, chain: &Chain) -> usize {
        self.writable(chain).iter().map(Segment::len).sum()
    }

    /// Copies from the readable part, from `offset` on; says how many bytes there were.
    pub fn read(&self, chain: &Chain, offset: usize, to: &mut [u8]) -> usize {
        let (mut skip, mut done) = (offset, 0);
        for segment in self.readable(chain) {
            let Some(rest) = to.get_mut(done..).filter(|rest| !rest.is_empty()) else { break };
            done += segment.read(skip, rest);
            skip = skip.saturating_sub(segment.len());
        }
        done
    }

    /// Copies into the writable part, from `offset` on; says how many bytes fitted.
    pub fn write(&self, chain: &Chain, offset: usize, from: &[u8]) -> usize {
        let (mut skip, mut done) = (offset, 0);
        for segment in self.writable(chain) {
            let Some(rest) = from.get(done..).filter(|rest| !rest.is_empty()) else { break };
            done += segment.write(skip, rest);
            skip = skip.saturating_sub(segment.len());
        }
        done
    }

    /// Copies the next N readable bytes, however they are split over descriptors, and consumes
    /// them. None: there are fewer, and nothing is consumed.
    #[inline]
    pub fn take_header<const N: usize>(&mut self, chain: &Chain) -> Option<[u8; N]> {
        let slot = self.slots.get_mut(chain.slot)?;
        if let Some(header) = slot.take_start() {
            return Some(header);
        }
        let header = self.read_array(chain)?;
        self.advance_readable(chain, N);
        Some(header)
    }

    /// A header that is split over segments.
    #[cold]
    fn read_array<const N: usize>(&self, chain: &Chain) -> Option<[u8; N]> {
        let mut header = [0; N];
        (self.read(chain, 0, &mut header) == N).then_some(header)
    }

    /// Sets the last writable byte aside as the status byte. False: there is none.
    #[inline]
    pub fn take_status(&mut self, chain: &Chain) -> bool {
        self.slots.get_mut(chain.slot).is_some_and(Slot::take_status)
    }

    /// The first `n` readable bytes are dealt with.
    #[inline]
    pub fn advance_readable(&mut self, chain: &Chain, n: usize) {
        if let Some(slot) = self.slots.get_mut(chain.slot) {
            slot.advance_readable(n);
        }
    }

    /// The first `n` writable bytes are written.
    #[inline]
    pub fn advance_writable(&mut self, chain: &Chain, n: usize) {
        let Some(slot) = self.slots.get_mut(chain.slot) else { return };
        if let Some(log) = &self.setup.log {
            self.tables.mark(slot.epoch, slot.writable(), log);
        }
        slot.advance_writable(n);
    }

    /// Writes the status byte that was set aside, and completes the chain. `written` counts the
    /// status byte.
    #[inline]
    pub fn complete_with_status(&mut self, chain: Chain, status: u8, written: u32) {
        if let Some(slot) = self.slots.get(chain.slot) {
            slot.status().write(0, &[status]);
        }
        self.complete(chain, written);
    }

    /// Ends a chain: `written` bytes, from the first writable one on, hold what the device wrote.
    /// The driver sees it when the batch is published.
    #[inline]
    #[expect(clippy::needless_pass_by_value, reason = "a chain is completed once: it is consumed")]
    pub fn complete(&mut self, chain: Chain, written: u32) {
        let Some(slot) = self.slots.get_mut(chain.slot) else { return };
        if let Some(log) = &self.setup.log {
            self.tables.mark(slot.epoch, slot.writable(), log);
            self.tables.mark(slot.epoch, std::slice::from_ref(slot.status()), log);
        }
        if self.order.is_none() {
            self.use_slot(chain.slot, written);
        } else {
            slot.done = true;
            slot.written = written;
            self.use_in_order();
        }
    }

    /// Uses all chains that are complete and whose turn it is (virtio 1.4, 2.7.9 and 2.8.3).
    fn use_in_order(&mut self) {
        while let Some(&first) = self.order.as_ref().and_then(VecDeque::front) {
            let Some(written) = self.slots.get(first).filter(|s| s.done).map(|s| s.written) else {
                return;
            };
            if let Some(order) = &mut self.order {
                order.pop_front();
            }
            self.use_slot(first, written);
        }
    }

    #[inline]
    fn use_slot(&mut self, index: u16, written: u32) {
        if matches!(&self.half, Half::Packed(packed, None) if packed.is_batch_full()) {
            self.publish();
        }
        let Some(slot) = self.slots.get(index) else { return };
        match &mut self.half {
            Half::Split(split, track) => {
                split.write_used(slot.id, written);
                if let Some(track) = track {
                    track.used(slot.id);
                }
            }
            Half::Packed(packed, None) => packed.write_used(slot.id, written, slot.descriptors),
            Half::Packed(_, Some(track)) => track.completed(Completed {
                first: slot.track,
                id: slot.id,
                descriptors: slot.descriptors,
                written,
            }),
        }
        self.unpublished = self.unpublished.wrapping_add(1);
        self.uncalled = self.uncalled.saturating_add(1);
        self.stats.chains.add(1);
        self.tables.leave(slot.epoch);
        self.slots.release(index);
    }

    /// Shows the driver what was completed, without calling it: that follows at the end of the batch.
    /// A driver that is awake goes on with what it finds, while the rest is worked on.
    #[inline]
    pub fn publish(&mut self) {
        self.unpublished = 0;
        let log = self.setup.log.as_deref();
        match &mut self.half {
            Half::Split(split, track) => {
                if split.publish(log.zip(self.setup.used_log))
                    && let Some(track) = track
                {
                    track.published(split.used_idx());
                }
            }
            Half::Packed(packed, track) => {
                let log = log.filter(|_| self.setup.used_log.is_some());
                match track {
                    Some(track) => track.publish(packed, log),
                    None => packed.publish(log),
                };
            }
        }
    }

    /// How many chains were completed since the driver was last shown some.
    #[inline]
    pub fn unpublished(&self) -> u32 {
        self.unpublished
    }

    /// How many chains were completed since the driver was last called, or found not to want it.
    #[inline]
    pub fn uncalled(&self) -> u32 {
        self.uncalled
    }

    /// The driver is shown what is completed, and called for it only after [`Ring::release_call`], at
    /// the end of a batch, or when the ring stops. False: a call is due at the end of this batch.
    #[inline]
    pub fn hold_call(&mut self) -> bool {
        self.call_held = !self.call_due && !self.stopping;
        self.call_held
    }

    /// The driver is called again at the end of each batch: of this one too, if there is anything.
    #[inline]
    pub fn release_call(&mut self) {
        self.call_held = false;
        self.call_due = self.uncalled > 0;
    }

    /// Looks at one more chain. False: there is none to be had.
    #[inline]
    fn look_further(&mut self) -> bool {
        if !self.is_served() || self.stopping || self.fault.is_some() {
            return false;
        }
        match self.parse_next() {
            Ok(Some(slot)) => {
                self.exhausted = false;
                self.tables.enter();
                self.looked.push_back(slot);
                true
            }
            Ok(None) => {
                self.exhausted = true;
                false
            }
            Err(fault) => {
                self.fail(fault);
                false
            }
        }
    }

    /// Parses the next chain into a slot: one that was in flight at a crash, or one from the ring.
    #[inline]
    fn parse_next(&mut self) -> Result<Option<u16>, RingFault> {
        if let Some(id) = self.resume.pop_front() {
            return self.parse(Some(id)).map(Some);
        }
        let ready = match &mut self.half {
            Half::Split(split, _) => split.has_more()?,
            Half::Packed(packed, _) => packed.look(),
        };
        if ready { self.parse(None).map(Some) } else { Ok(None) }
    }

    #[inline(always)]
    #[expect(
        clippy::inline_always,
        reason = "once for each chain: a call costs as much as a check"
    )]
    fn parse(&mut self, resumed: Option<u16>) -> Result<u16, RingFault> {
        let index = self.slots.claim(self.tables.epoch()).ok_or(RingFault::TooManyInFlight)?;
        let Some(slot) = self.slots.get_mut(index) else { return Err(RingFault::TooManyInFlight) };
        let result = parse_into(
            &mut self.half,
            slot,
            self.tables.current(),
            &mut self.region,
            self.indirect,
            resumed,
        );
        if result.is_err() {
            self.slots.release(index);
        }
        result.map(|()| index)
    }

    /// Records in the in-flight region that a chain was taken.
    #[inline]
    fn record_taken(&mut self, index: u16) {
        if matches!(self.half, Half::Split(_, Some(_)) | Half::Packed(_, Some(_))) {
            self.track_taken(index);
        }
    }

    fn track_taken(&mut self, index: u16) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        match &mut self.half {
            // A chain from before a crash is recorded already. To record it again would give it
            // another place in the order of taking, and the next crash would show.
            Half::Split(_, Some(track)) if !slot.resumed => track.taken(slot.id),
            Half::Packed(packed, Some(track)) if !slot.resumed => {
                match track.taken(packed.list(slot.position, slot.descriptors)) {
                    Some(entry) => slot.track = entry,
                    None => self.fail(RingFault::InFlight { what: "its free list is broken" }),
                }
            }
            _ => {}
        }
    }

    #[cold]
    pub(super) fn fail(&mut self, fault: RingFault) {
        self.stats.ring_failures.add(1);
        self.fault = Some(fault);
    }
}
