//! What a driver does that breaks rules, in runs that are hostile.
//!
//! Two kinds of mischief. A *malformed request* stands in a chain that is in order; the device refuses
//! it, and everything goes on. A *malformed chain* makes its ring fail; nothing else may suffer. None of
//! them can be taken for a write, so that the model of the disk holds.

use driver::{Layout, Operation, Queue};
use fastrand::Rng;
use virtio_spec::block::{DISCARD, RequestHeader, RequestType, Segment, Status, WRITE_ZEROES};
use virtio_spec::{Negotiated, packed, split};

use crate::Failure;
use crate::guest::{Expected, Sent};
use crate::scenario::pick;
use crate::trace::Who;
use crate::workload;
use crate::world::World;

/// An address where there is no memory.
const NOWHERE: u64 = 0xffff_0000_0000;

impl World {
    /// The driver breaks a rule.
    pub(crate) fn misbehave(&mut self) -> Result<bool, Failure> {
        if !self.scenario.hostile {
            return Ok(false);
        }
        if self.random.u8(..4) == 0 { self.spoil_ring() } else { self.send_nonsense() }
    }

    /// Puts a request into a ring that no device can carry out.
    fn send_nonsense(&mut self) -> Result<bool, Failure> {
        let (Some(ring), Some(features)) = (self.some_ring(), self.guest.features) else {
            return Ok(false);
        };
        if self.guest.ring(ring)?.spoilt {
            return Ok(false);
        }
        let id = self.next_request();
        let (operation, expected) = nonsense(&mut self.random, self.scenario.sectors, features);
        let size = self.guest.ring(ring)?.block.queue().size();
        let layout = match &operation {
            // The chain itself is in order.
            Operation::Raw { .. } => Layout::default(),
            operation => workload::layout(&mut self.random, operation, size, features),
        };
        let plugs = self.guest.plugged();
        let name = World::name(id, &operation);
        let there = self.guest.ring(ring)?;
        let Ok(token) = there.block.submit(operation, &layout) else { return Ok(false) };
        // The model is not told: whatever comes of it, the disk stays as it is.
        there.unpublished.push((token, Operation::GetId));
        there.sent.insert(token, Sent { id, expected, plugs, survived: false });
        self.counts.malformed += 1;
        self.trace.say(Who::Driver, || format!("ring {ring}: {name}, which is nonsense"));
        Ok(true)
    }

    /// Puts a chain into a ring that breaks the rules of rings.
    fn spoil_ring(&mut self) -> Result<bool, Failure> {
        let Some(ring) = self.some_ring() else { return Ok(false) };
        let there = self.guest.ring(ring)?;
        if there.spoilt || there.block.queue().free() == 0 {
            return Ok(false);
        }
        self.publish(ring)?;
        let there = self.guest.ring(ring)?;
        there.spoilt = true;
        let queue = there.block.queue();
        let what = match queue {
            Queue::Split(queue) => spoil_split(&mut self.random, queue),
            Queue::Packed(queue) => spoil_packed(&mut self.random, queue)?,
        };
        there.block.publish();
        there.owes_kick = true;
        self.counts.malformed += 1;
        self.trace.say(Who::Driver, || format!("ring {ring}: {what}"));
        Ok(true)
    }
}

/// A request that must be refused, and how.
fn nonsense(random: &mut Rng, sectors: u64, features: Negotiated) -> (Operation, Expected) {
    let raw = |request_type: u32, sector, data: usize, room| Operation::Raw {
        header: RequestHeader { request_type, reserved: 0, sector },
        data: vec![0x55; data],
        room,
    };
    let (read, write) = (RequestType::In.number(), RequestType::Out.number());
    let error = Expected::Status(Status::IoErr);
    let unsupported = Expected::Status(Status::Unsupported);
    let range = |sector, num_sectors, flags| vec![Segment { sector, num_sectors, flags }];
    match random.u8(..9) {
        0 => (raw(read, 0, 0, random.usize(1..512)), error),
        1 => (raw(write, 0, random.usize(1..512), 0), error),
        2 => (Operation::Read { sector: sectors, len: 512 }, error),
        3 => (raw(write, u64::MAX - random.u64(..4), 512, 0), error),
        4 => (raw(write, sectors - 1, 1024, 0), error),
        5 if features.has(DISCARD) => (Operation::Discard(range(0, 1, 1)), unsupported),
        6 if features.has(WRITE_ZEROES) => {
            (Operation::WriteZeroes(range(sectors - 1, 2, 0)), error)
        }
        7 if features.has(WRITE_ZEROES) => {
            (raw(RequestType::WriteZeroes.number(), 0, random.usize(1..16), 0), error)
        }
        _ => (raw(*pick(random, &[2, 3, 5, 9, 15, 100, u32::MAX]), 0, 0, 8), unsupported),
    }
}

fn spoil_split(random: &mut Rng, queue: &mut driver::Split) -> &'static str {
    let size = queue.size();
    let head = random.u16(..size);
    let mut offer = |addr, len, flags, next| {
        queue.write_descriptor(head, split::Descriptor { addr, len, flags, next });
        queue.offer(head);
    };
    match random.u8(..6) {
        0 => {
            offer(NOWHERE, 16, 0, 0);
            "a buffer that is nowhere"
        }
        1 => {
            offer(NOWHERE, 0, split::DESC_F_NEXT, head);
            "a chain that is a loop"
        }
        2 => {
            offer(NOWHERE, 16, split::DESC_F_NEXT, size);
            "a chain that leaves the table"
        }
        3 => {
            offer(0x10_0000, 17, split::DESC_F_INDIRECT, 0);
            "a table of one descriptor and one byte"
        }
        4 => {
            queue.offer(size);
            "a head that is none"
        }
        _ => {
            queue.set_available_index(queue.used_index().wrapping_add(size * 2 + 1));
            "an index that has jumped"
        }
    }
}

fn spoil_packed(random: &mut Rng, queue: &mut driver::Packed) -> Result<&'static str, Failure> {
    let descriptor = |addr, len, flags| packed::Descriptor { addr, len, id: 0, flags };
    let (list, what) = match random.u8(..3) {
        0 => (descriptor(NOWHERE, 16, 0), "a buffer that is nowhere"),
        1 => (
            descriptor(0x10_0000, 17, packed::DESC_F_INDIRECT),
            "a table of one descriptor and one byte",
        ),
        _ => (descriptor(NOWHERE, 0, packed::DESC_F_INDIRECT), "a table of nothing"),
    };
    queue.offer(&[list])?;
    Ok(what)
}
