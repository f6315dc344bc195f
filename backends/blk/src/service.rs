//! The data path of the block device, from a chain to its completion.
//!
//! # Theory of operation
//! `take_requests` takes chains from a ring; `begin` parses each into a [`Request`]; `drive` runs
//! its steps. A step that ends at once is followed by the next; one that ends later leaves the
//! request in the table of what is in flight, where its completion finds it (`operation_ended`).
//! Either way the last step leads to `finish`. Requests end in any order.
//!
//! A request that needs a buffer while all are lent waits in `waiting`, first come, first served. One
//! that has had many steps in a row without waiting is parked until the timer, that is for one turn, so
//! that it holds up nobody: rings are stopped and other requests served in between.

use std::collections::VecDeque;
use std::sync::Arc;

use framework::device::{Service, Wake};
use framework::engine::{Completion, Io, Token};
use framework::memory::Segment;
use framework::ring::{Chain, Ring, Rings};
use virtio_spec::block::{ID_LEN, Status};

use crate::counts::Counts;
use crate::disk::Disk;
use crate::erase::Erase;
use crate::image::Medium;
use crate::in_flight::{InFlight, Place};
use crate::pending::{Pause, Pending, Tools, Work};
use crate::request::{
    DataLengths, EraseKind, Limits, MAX_RANGES, Range, Request, SEG_MAX, SIZE_MAX,
};
use crate::transfer::{Direction, Transfer};

/// The most chains taken in one go: the driver is called after each. Fewer would let it send more while
/// the rest is worked on, but each call and the wake-up that follows cost more than that gains.
const BUDGET: usize = 64;

/// The most data that these may carry, or little more: files in memory are copied on the spot, and a worker
/// must not be deaf to its commands for long.
const BYTES: usize = 64 << 20;

/// After so many requests that ended at once, the driver is shown them: if it is awake, it finds its
/// first requests done while the others are still worked on, goes on sending, and never sleeps.
const SHOWN_AFTER: u32 = 8;

/// A data segment that lies across two regions of guest memory comes as two, so a few more than
/// [`SEG_MAX`] are no fault of the driver's.
const REGION_CROSSINGS: usize = 8;

/// The data side of a block device: one worker's.
#[derive(Debug)]
pub struct BlockService {
    disk: Arc<Disk>,
    serial: [u8; ID_LEN],
    counts: Arc<Counts>,
    in_flight: InFlight,
    /// Requests that need a buffer.
    waiting: VecDeque<Place>,
    /// Requests that go on at the timer.
    parked: VecDeque<Place>,
    /// Lists of ranges not in use: they are made once and used again.
    lists: Vec<Vec<Range>>,
}

impl BlockService {
    /// A worker's data side. `serial` is what GET_ID answers, padded with zeroes.
    pub fn new(disk: Arc<Disk>, serial: [u8; ID_LEN], counts: Arc<Counts>) -> Self {
        BlockService {
            disk,
            serial,
            counts,
            in_flight: InFlight::default(),
            waiting: VecDeque::new(),
            parked: VecDeque::new(),
            lists: Vec::new(),
        }
    }
}

impl Service for BlockService {
    fn service<I: Io>(&mut self, rings: &mut Rings, io: &mut I, wake: Wake) {
        match wake {
            Wake::Kick(queue) => self.take_requests(rings, io, queue),
            Wake::Done(completion) => self.operation_ended(rings, io, completion),
            Wake::Timer => self.resume_parked(rings, io),
            // What waits goes on by itself: buffers come back, and the timer comes.
            Wake::Stop(_) | Wake::Ready(..) | Wake::Nudge => {}
        }
        self.resume_waiting(rings, io);
    }
}

impl BlockService {
    fn take_requests<I: Io>(&mut self, rings: &mut Rings, io: &mut I, queue: usize) {
        let Some(ring) = rings.get(queue) else { return };
        let Ok(local) = u16::try_from(queue) else { return };
        self.in_flight.make_room(queue, ring.size());
        let mut bytes = 0;
        for _ in 0..BUDGET {
            if bytes > BYTES {
                return;
            }
            let Some(chain) = ring.take() else { return };
            bytes += ring.readable_len(&chain) + ring.writable_len(&chain);
            let place = Place { queue: local, slot: chain.slot() };
            self.begin(ring, io, place, chain);
            if ring.unpublished() >= SHOWN_AFTER {
                ring.publish();
            }
        }
    }

    /// Parses what the driver asks for, and begins it.
    #[inline]
    fn begin<I: Io>(&mut self, ring: &mut Ring, io: &mut I, place: Place, chain: Chain) {
        if !ring.take_status(&chain) {
            // Nowhere to say what is wrong with it.
            self.counts.errors.add(1);
            return ring.complete(chain, 0);
        }
        match self.parse(ring, &chain) {
            Ok(work) if self.disk.medium() != Medium::Null => {
                self.drive(ring, io, place, Pending::new(chain, work));
            }
            // Nothing is behind the device: whatever it is, it is done.
            Ok(work) => self.finish(ring, Pending::new(chain, work), Status::Ok),
            Err(status) => self.complete(ring, chain, status, 0),
        }
    }

    /// The work that a chain asks for, or the status that ends it here. A header is copied out of
    /// guest memory once; what it says is not read there again.
    #[inline]
    fn parse(&mut self, ring: &mut Ring, chain: &Chain) -> Result<Work, Status> {
        let header = ring.take_header::<16>(chain).ok_or(Status::IoErr)?;
        let data = DataLengths {
            readable: ring.readable_len(chain) as u64,
            writable: ring.writable_len(chain) as u64,
        };
        let limits = Limits {
            bytes: self.disk.bytes(),
            read_only: self.disk.is_read_only(),
            features: ring.features(),
        };
        // Whatever is asked for: a chain of no use must not be kept at its full length.
        check_segments(ring.readable(chain))?;
        check_segments(ring.writable(chain))?;
        let request = Request::parse(header, data, &limits)?;
        self.counts.begins(&request);
        match request {
            Request::Read(extent) => Ok(Work::Transfer(Transfer::new(Direction::Read, extent))),
            Request::Write(extent) => {
                ring.stats().bytes_read.add(extent.len);
                Ok(Work::Transfer(Transfer::new(Direction::Write, extent)))
            }
            Request::Flush => Ok(Work::Flush),
            Request::GetId => {
                let n = ring.write(chain, 0, &self.serial);
                ring.advance_writable(chain, n);
                Ok(Work::Answered(u32::try_from(n).unwrap_or(0)))
            }
            Request::Erase(kind, count) => self.parse_ranges(ring, chain, kind, count, &limits),
        }
    }

    fn parse_ranges(
        &mut self,
        ring: &mut Ring,
        chain: &Chain,
        kind: EraseKind,
        count: usize,
        limits: &Limits,
    ) -> Result<Work, Status> {
        let mut ranges = self.lists.pop().unwrap_or_else(|| Vec::with_capacity(MAX_RANGES));
        let segments = (0..count).map_while(|_| ring.take_header(chain));
        match limits.ranges(kind, segments, &mut ranges) {
            Ok(()) => Ok(Work::Erase(Erase::new(kind, ranges))),
            Err(status) => {
                self.keep_list(ranges);
                Err(status)
            }
        }
    }

    /// Goes on with a request until it ends, or has to wait for something.
    #[inline]
    fn drive<I: Io>(&mut self, ring: &mut Ring, io: &mut I, place: Place, mut pending: Pending) {
        let mut tools = Tools { disk: &self.disk, ring, io, token: Token::from(place) };
        match pending.run(&mut tools) {
            Pause::Finished(status) => return self.finish(ring, pending, status),
            Pause::Operation => {}
            Pause::NoBuffer => self.waiting.push_back(place),
            Pause::Turn => {
                self.parked.push_back(place);
                io.set_timer(Some(io.now()));
            }
        }
        self.in_flight.put(place, pending);
    }

    /// An operation has ended: takes its result, and goes on with the request.
    #[inline]
    fn operation_ended<I: Io>(&mut self, rings: &mut Rings, io: &mut I, completion: Completion) {
        let place = Place::from(completion.token);
        let Some(mut pending) = self.in_flight.take(place) else { return };
        let Some(ring) = rings.get(place.queue.into()) else {
            // A ring is there until its last chain is complete, so this is not to be expected.
            return pending.give_back(io);
        };
        let mut tools = Tools { disk: &self.disk, ring, io, token: completion.token };
        match pending.ended(&mut tools, completion.result) {
            Some(status) => self.finish(ring, pending, status),
            None => self.drive(ring, io, place, pending),
        }
    }

    /// Ends a request that had begun.
    #[inline]
    fn finish(&mut self, ring: &mut Ring, pending: Pending, status: Status) {
        let (chain, work) = pending.into_parts();
        let written = match work {
            Work::Answered(written) => written,
            Work::Transfer(transfer) => transfer.written(),
            Work::Flush => 0,
            Work::Erase(erase) => {
                self.keep_list(erase.ranges);
                0
            }
        };
        self.complete(ring, chain, status, written);
    }

    /// Completes a chain: its status byte, and how many bytes of data the device wrote.
    #[inline]
    fn complete(&self, ring: &mut Ring, chain: Chain, status: Status, mut written: u32) {
        match status {
            Status::Ok => {}
            Status::Unsupported => self.counts.unsupported.add(1),
            _ => {
                self.counts.errors.add(1);
                ring.stats().errors.add(1);
            }
        }
        ring.stats().bytes_written.add(written.into());
        // The used length covers what was surely written, from the first byte on (virtio 1.4,
        // 2.7.8.2): the status byte too, if no byte before it was left out.
        if ring.writable(&chain).iter().all(Segment::is_empty) {
            written = written.saturating_add(1);
        }
        ring.complete_with_status(chain, status.number(), written);
    }

    /// Goes on with requests that wait for a buffer, as far as there are buffers.
    #[inline]
    fn resume_waiting<I: Io>(&mut self, rings: &mut Rings, io: &mut I) {
        for _ in 0..self.waiting.len() {
            let Some(place) = self.waiting.pop_front() else { return };
            self.resume(rings, io, place);
            if self.waiting.back() == Some(&place) {
                // There is none: it stays the first.
                self.waiting.rotate_right(1);
                return;
            }
        }
    }

    fn resume_parked<I: Io>(&mut self, rings: &mut Rings, io: &mut I) {
        for _ in 0..self.parked.len() {
            let Some(place) = self.parked.pop_front() else { return };
            self.resume(rings, io, place);
        }
    }

    fn resume<I: Io>(&mut self, rings: &mut Rings, io: &mut I, place: Place) {
        let Some(pending) = self.in_flight.take(place) else { return };
        if let Some(ring) = rings.get(place.queue.into()) {
            self.drive(ring, io, place, pending);
        }
    }

    fn keep_list(&mut self, mut ranges: Vec<Range>) {
        ranges.clear();
        self.lists.push(ranges);
    }
}

/// Holds the data of a request against `seg_max` and `size_max`.
#[inline]
fn check_segments(segments: &[Segment]) -> Result<(), Status> {
    let many = segments.len() > usize::from(SEG_MAX) + REGION_CROSSINGS;
    if many || segments.iter().any(|segment| segment.len() > SIZE_MAX as usize) {
        return Err(Status::IoErr);
    }
    Ok(())
}
