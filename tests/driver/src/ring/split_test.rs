//! The driver's split ring against `virtio-queue` as the device, and by itself at the edges.

use std::sync::atomic::Ordering;

use proptest::prelude::*;
use virtio_queue::{Queue as Device, QueueT};
use virtio_spec::features::{EVENT_IDX, IN_ORDER, INDIRECT_DESC, VERSION_1, mask};
use virtio_spec::{DeviceType, Negotiated, Offered};
use vm_memory::{Bytes, GuestMemoryMmap};

use super::*;
use crate::Queue;
use crate::ram_disk::{device_side, mapped};

/// A device by other authors that answers each chain with the bytes it read, inverted.
struct Inverter {
    memory: GuestMemoryMmap,
    queue: Device,
}

impl Inverter {
    fn new(memory: &Memory, split: &Split) -> Self {
        let memory = mapped(memory);
        let bits = if split.features.event_idx { mask(EVENT_IDX) } else { 0 };
        let queue = device_side(split.addresses(), split.size(), Negotiated::assume(bits));
        assert!(queue.is_valid(&memory));
        Self { memory, queue }
    }

    /// Serves up to `most` chains; returns how many, and whether the driver wants a call.
    fn serve(&mut self, most: usize) -> (usize, bool) {
        let mut served = 0;
        while served < most {
            let Some(chain) = self.queue.pop_descriptor_chain(&self.memory) else { break };
            let head = chain.head_index();
            let mut bytes = Vec::new();
            for descriptor in chain.clone().readable() {
                let mut piece = vec![0; descriptor.len() as usize];
                self.memory.read_slice(&mut piece, descriptor.addr()).unwrap();
                bytes.extend(piece.iter().map(|byte| !byte));
            }
            let mut written = 0_usize;
            for descriptor in chain.writable() {
                let len = bytes.len().min(descriptor.len() as usize);
                let piece: Vec<u8> = bytes.drain(..len).collect();
                self.memory.write_slice(&piece, descriptor.addr()).unwrap();
                written += len;
            }
            self.queue.add_used(&self.memory, head, written.try_into().unwrap()).unwrap();
            served += 1;
        }
        (served, served > 0 && self.queue.needs_notification(&self.memory).unwrap())
    }
}

fn negotiated(bits: &[u32]) -> Negotiated {
    Negotiated::assume(Offered::of(bits).with(VERSION_1).bits())
}

fn memory() -> Memory {
    Memory::new(1 << 20).unwrap()
}

/// A chain of one readable and one writable part with room for as much.
struct Question {
    ask: Buffer,
    answer: Buffer,
}

impl Question {
    fn new(memory: &Memory, bytes: &[u8]) -> Self {
        let ask = memory.alloc_with(bytes).unwrap();
        Self { ask, answer: memory.alloc(bytes.len()).unwrap() }
    }

    fn parts(&self) -> [Part; 2] {
        [self.ask.readable(), self.answer.writable()]
    }

    fn is_answered(&self) -> bool {
        self.answer.to_vec().iter().zip(self.ask.to_vec()).all(|(answer, ask)| *answer == !ask)
    }
}

#[test]
fn a_chain_goes_to_the_device_and_back() {
    let memory = memory();
    let mut split = Split::new(&memory, 8, negotiated(&[])).unwrap();
    let mut device = Inverter::new(&memory, &split);
    let question = Question::new(&memory, b"some bytes");
    let token = split.add(&question.parts(), Placement::Direct).unwrap();
    assert_eq!(device.serve(8), (0, false), "not published yet");
    assert!(split.publish());
    assert_eq!(device.serve(8), (1, true));
    assert_eq!(split.reap().unwrap(), Some(Used { token, written: 10, batched: false }));
    assert!(question.is_answered());
    assert_eq!(split.reap().unwrap(), None);
    assert_eq!((split.free(), split.in_flight()), (8, 0));
}

#[test]
fn a_full_queue_says_so_and_loses_nothing() {
    let memory = memory();
    let mut split = Split::new(&memory, 4, negotiated(&[])).unwrap();
    let question = Question::new(&memory, b"x");
    split.add(&question.parts(), Placement::Direct).unwrap();
    split.add(&question.parts(), Placement::Direct).unwrap();
    let error = split.add(&question.parts(), Placement::Direct).unwrap_err();
    assert!(matches!(error, Error::QueueFull { needed: 2, free: 0 }));
}

#[test]
fn indirect_chains_need_the_feature() {
    let memory = memory();
    let mut split = Split::new(&memory, 4, negotiated(&[])).unwrap();
    let question = Question::new(&memory, b"x");
    for placement in [Placement::Indirect, Placement::Mixed(1)] {
        assert!(matches!(split.add(&question.parts(), placement), Err(Error::Unsupported(_))));
    }
}

#[test]
fn without_event_idx_the_devices_flag_suppresses_kicks() {
    let memory = memory();
    let mut split = Split::new(&memory, 4, negotiated(&[])).unwrap();
    let mut device = Inverter::new(&memory, &split);
    let question = Question::new(&memory, b"x");
    device.queue.disable_notification(&device.memory).unwrap();
    split.add(&question.parts(), Placement::Direct).unwrap();
    assert!(!split.publish());
    device.queue.enable_notification(&device.memory).unwrap();
    split.add(&question.parts(), Placement::Direct).unwrap();
    assert!(split.publish());
    assert!(!split.publish(), "nothing new to kick for");
}

#[test]
fn with_event_idx_the_device_asks_for_one_kick() {
    let memory = memory();
    let mut split = Split::new(&memory, 16, negotiated(&[EVENT_IDX])).unwrap();
    let mut device = Inverter::new(&memory, &split);
    let question = Question::new(&memory, b"x");
    let mut kicks = 0;
    for _ in 0..4 {
        split.add(&question.parts(), Placement::Direct).unwrap();
        kicks += usize::from(split.publish());
    }
    assert_eq!(kicks, 1, "for the first chain only");
    device.serve(16);
    device.queue.enable_notification(&device.memory).unwrap();
    split.add(&question.parts(), Placement::Direct).unwrap();
    assert!(split.publish());
}

#[test]
fn calls_come_when_they_are_asked_for() {
    let memory = memory();
    let mut split = Split::new(&memory, 16, negotiated(&[EVENT_IDX])).unwrap();
    let mut device = Inverter::new(&memory, &split);
    let question = Question::new(&memory, b"x");
    let mut round = |split: &mut Split| {
        split.add(&question.parts(), Placement::Direct).unwrap();
        split.publish();
        let (_, call) = device.serve(1);
        split.reap().unwrap().unwrap();
        call
    };
    assert!(round(&mut split));
    split.disable_calls();
    assert!(!round(&mut split) && !round(&mut split));
    assert!(!split.enable_calls());
    assert!(round(&mut split));
}

/// `virtio-queue` calls whatever the flag says, so the flag is looked at itself.
#[test]
fn without_event_idx_the_drivers_flag_suppresses_calls() {
    let mut split = Split::new(&memory(), 16, negotiated(&[])).unwrap();
    let flags = |split: &Split| split.available_area().load_u16(0, Ordering::Relaxed);
    assert_eq!(flags(&split), 0);
    split.disable_calls();
    assert_eq!(flags(&split), split::AVAIL_F_NO_INTERRUPT);
    split.enable_calls();
    assert_eq!(flags(&split), 0);
}

#[test]
fn a_call_can_be_asked_for_after_several_chains() {
    let memory = memory();
    let mut split = Split::new(&memory, 16, negotiated(&[EVENT_IDX])).unwrap();
    let mut device = Inverter::new(&memory, &split);
    let question = Question::new(&memory, b"x");
    for _ in 0..5 {
        split.add(&question.parts(), Placement::Direct).unwrap();
    }
    split.publish();
    split.call_after(3);
    let calls: Vec<bool> = (0..5).map(|_| device.serve(1).1).collect();
    assert_eq!(calls, [false, false, true, false, false]);
}

#[test]
fn an_in_order_batch_ends_the_chains_before_it() {
    let memory = memory();
    let mut split = Split::new(&memory, 8, negotiated(&[IN_ORDER])).unwrap();
    let question = Question::new(&memory, b"x");
    let tokens: Vec<Token> =
        (0..3).map(|_| split.add(&question.parts(), Placement::Direct).unwrap()).collect();
    assert_eq!(tokens, [Token(0), Token(2), Token(4)], "descriptors in order");
    split.publish();
    // The device uses all three by naming the last.
    split.used.write(split::USED_RING_OFFSET, &[4, 0, 0, 0, 1, 0, 0, 0]);
    split.used.store_u16(split::USED_IDX_OFFSET, 3, Ordering::Release);
    let used: Vec<Used> = std::iter::from_fn(|| split.reap().unwrap()).collect();
    let ends: Vec<_> = used.iter().map(|used| (used.token, used.batched)).collect();
    assert_eq!(ends, [(tokens[0], true), (tokens[1], true), (tokens[2], false)]);
    assert_eq!(split.free(), 8);
    let next = split.add(&question.parts(), Placement::Direct).unwrap();
    assert_eq!(next, Token(6));
}

#[test]
fn what_the_device_cannot_have_used_is_its_error() {
    let cases: [(u32, u32, u16, &str); 4] = [
        (7, 1, 1, "not in flight"),
        (0x1_0000, 1, 1, "not in flight"),
        (0, 2, 1, "has room for 1"),
        (0, 1, 9, "9 ahead"),
    ];
    for (id, len, index, complaint) in cases {
        let memory = memory();
        let mut split = Split::new(&memory, 8, negotiated(&[])).unwrap();
        let question = Question::new(&memory, b"x");
        split.add(&question.parts(), Placement::Direct).unwrap();
        split.publish();
        let element = split::UsedElem { id, len };
        split.used.write(split::USED_RING_OFFSET, &element.to_le_bytes());
        split.used.store_u16(split::USED_IDX_OFFSET, index, Ordering::Release);
        let error = split.reap().unwrap_err().to_string();
        assert!(error.contains(complaint), "{error}");
    }
}

#[derive(Debug, Clone)]
enum Act {
    Ask { bytes: Vec<u8>, placement: Placement, pieces: u32 },
    Publish,
    Serve(usize),
    Reap,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let placement = prop_oneof![
        Just(Placement::Direct),
        Just(Placement::Indirect),
        (0_usize..4).prop_map(Placement::Mixed),
    ];
    let ask = (prop::collection::vec(0_u8.., 1..50), placement, 1_u32..6)
        .prop_map(|(bytes, placement, pieces)| Act::Ask { bytes, placement, pieces });
    let act = prop_oneof![
        4 => ask,
        2 => Just(Act::Publish),
        2 => (1_usize..6).prop_map(Act::Serve),
        3 => Just(Act::Reap),
    ];
    prop::collection::vec(act, 1..150)
}

/// Cuts a question's buffers into so many parts each.
fn cut(question: &Question, pieces: u32) -> Vec<Part> {
    let mut parts = Vec::new();
    for part in question.parts() {
        let size = part.len.div_ceil(pieces);
        let mut at = 0;
        while at < part.len {
            let len = size.min(part.len - at);
            parts.push(Part { addr: part.addr + u64::from(at), len, ..part });
            at += len;
        }
    }
    parts
}

proptest! {
    /// Any sequence of steps on both sides: every question is answered once, and no side sleeps
    /// while the other has news that it asked to hear of.
    #[test]
    fn nothing_is_lost_between_driver_and_device(
        acts in acts(),
        order in 0_u32..6,
        event_idx: bool,
    ) {
        let memory = memory();
        let mut bits = vec![INDIRECT_DESC];
        bits.extend(event_idx.then_some(EVENT_IDX));
        let mut queue = Queue::new(&memory, 1 << order, negotiated(&bits)).unwrap();
        let watch = Watch::agreed(DeviceType(0), negotiated(&bits)).unwrap();
        queue.watch(&watch, 0).unwrap();
        let mut device = Inverter::new(&memory, queue.as_split().unwrap());
        let mut open: std::collections::HashMap<Token, Question> = Default::default();
        let (mut kicked, mut called) = (false, false);
        for act in acts.into_iter().chain([Act::Publish, Act::Serve(99), Act::Reap]) {
            match act {
                Act::Ask { bytes, placement, pieces } => {
                    let question = Question::new(&memory, &bytes);
                    let parts = cut(&question, pieces);
                    if parts.len() > 1 << order {
                        // No chain is longer than the queue, wherever its descriptors stand.
                        continue;
                    }
                    match queue.add(&parts, placement) {
                        Ok(token) => prop_assert!(open.insert(token, question).is_none()),
                        Err(Error::QueueFull { needed, free }) => prop_assert!(needed > free),
                        Err(error) => return Err(TestCaseError::fail(error.to_string())),
                    }
                }
                Act::Publish => {
                    if queue.publish() {
                        queue.show(RingStep::Kicked).unwrap();
                        kicked = true;
                    }
                }
                // A device that nobody has kicked does not look.
                Act::Serve(_) if !kicked => {}
                Act::Serve(most) => {
                    let (served, call) = device.serve(most);
                    if call {
                        queue.show(RingStep::Called).unwrap();
                        called = true;
                    }
                    if served < most {
                        kicked = device.queue.enable_notification(&device.memory).unwrap();
                    }
                }
                // A driver that was not called sleeps.
                Act::Reap if !called => {}
                Act::Reap => {
                    while let Some(used) = queue.reap().unwrap() {
                        let question = open.remove(&used.token).unwrap();
                        prop_assert!(question.is_answered());
                        prop_assert_eq!(used.written as usize, question.answer.len());
                    }
                    called = queue.enable_calls();
                }
            }
        }
        prop_assert!(open.is_empty(), "{} questions were never answered", open.len());
        prop_assert_eq!(queue.free(), 1 << order);
        watch.quiesce().unwrap();
    }
}
