//! That the observer is shown what happens, and that its verdict reaches the test.

use virtio_spec::observer::{RingStep, clause};
use virtio_spec::split::{self, Descriptor, UsedElem};

use super::*;
use crate::{Error, Memory, Placement, Queue};

const NOTHING: Negotiated = Negotiated::assume(features::mask(features::VERSION_1));

/// A watched queue with one chain in flight.
fn queue_with_a_chain(memory: &Memory) -> (Queue, Watch) {
    let watch = Watch::agreed(DeviceType(0), NOTHING).unwrap();
    let mut queue = Queue::new(memory, 8, NOTHING).unwrap();
    queue.watch(&watch, 0).unwrap();
    let buffer = memory.alloc(4).unwrap();
    queue.add(&[buffer.writable()], Placement::Direct).unwrap();
    assert!(queue.publish());
    queue.show(RingStep::Kicked).unwrap();
    (queue, watch)
}

/// Uses a chain as the device does, at this place of the used ring.
fn use_chain(queue: &mut Queue, place: u16, element: UsedElem) {
    let used = queue.as_split().unwrap().used_area();
    let offset = split::USED_RING_OFFSET + usize::from(place) * split::USED_ELEM_SIZE;
    used.write(offset, &element.to_le_bytes());
    used.store_u16(split::USED_IDX_OFFSET, place + 1, std::sync::atomic::Ordering::Release);
}

fn broken_clause(error: Error) -> &'static str {
    match error {
        Error::Violation(violation) => violation.clause.id,
        other => panic!("no violation: {other}"),
    }
}

#[test]
fn a_length_beyond_the_buffer_is_a_violation() {
    let memory = Memory::new(4096).unwrap();
    let (mut queue, _watch) = queue_with_a_chain(&memory);
    use_chain(&mut queue, 0, UsedElem { id: 0, len: 5 });
    assert_eq!(broken_clause(queue.reap().unwrap_err()), clause::ring::USED_LEN.id);
}

#[test]
fn a_violation_in_a_call_that_cannot_fail_is_told_by_the_next_one() {
    let memory = Memory::new(4096).unwrap();
    let (mut queue, watch) = queue_with_a_chain(&memory);
    use_chain(&mut queue, 7, UsedElem { id: 0, len: 0 });
    assert!(queue.has_used(), "the used index is far ahead");
    assert_eq!(broken_clause(queue.reap().unwrap_err()), clause::ring::USED_IDX.id);
    assert_eq!(watch.violations().len(), 1);
}

#[test]
fn a_call_that_is_missing_when_nothing_moves_is_a_violation() {
    let memory = Memory::new(4096).unwrap();
    let (mut queue, watch) = queue_with_a_chain(&memory);
    use_chain(&mut queue, 0, UsedElem { id: 0, len: 4 });
    queue.reap().unwrap().unwrap();
    assert_eq!(broken_clause(watch.quiesce().unwrap_err()), clause::ring::CALL_REQUIRED.id);
    assert!(watch.quiesce().is_ok(), "it is told once");
}

#[test]
fn a_ring_that_is_spoilt_on_purpose_is_not_watched() {
    let memory = Memory::new(4096).unwrap();
    let (mut queue, watch) = queue_with_a_chain(&memory);
    let split = queue.as_split().unwrap();
    split.write_descriptor(3, Descriptor { addr: 0, len: 0, flags: 5, next: 3 });
    split.offer(3);
    split.publish();
    assert!(watch.quiesce().is_ok());
}

#[test]
fn a_driver_that_kicks_nobody_is_in_the_wrong() {
    let memory = Memory::new(4096).unwrap();
    let watch = Watch::agreed(DeviceType(0), NOTHING).unwrap();
    let mut queue = Queue::new(&memory, 8, NOTHING).unwrap();
    queue.watch(&watch, 0).unwrap();
    let buffer = memory.alloc(4).unwrap();
    queue.add(&[buffer.writable()], Placement::Direct).unwrap();
    queue.publish();
    assert_eq!(broken_clause(watch.quiesce().unwrap_err()), clause::ring::KICK_REQUIRED.id);
}
