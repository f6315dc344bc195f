//! The driver's packed ring against a device of a few lines, and by itself at the edges.

use std::collections::{HashMap, VecDeque};

use proptest::prelude::*;
use virtio_spec::features::{EVENT_IDX, IN_ORDER, INDIRECT_DESC, RING_PACKED, VERSION_1};
use virtio_spec::packed::{avail_flags, is_avail, used_flags};
use virtio_spec::{DeviceType, Negotiated, Offered};

use super::*;
use crate::Queue;

/// A device that answers each list with the bytes it read, inverted.
struct Inverter {
    memory: Memory,
    descriptors: Area,
    driver_event: Area,
    device_event: Area,
    size: u16,
    next: Position,
    used: Position,
    /// Lists that were taken: id, descriptors, bytes written.
    taken: VecDeque<(u16, u16, u32)>,
}

impl Inverter {
    fn new(memory: &Memory, packed: &Packed) -> Self {
        Self {
            memory: memory.clone(),
            descriptors: (*packed.descriptors).clone(),
            driver_event: (*packed.driver_event).clone(),
            device_event: (*packed.device_event).clone(),
            size: packed.size(),
            next: Position::START,
            used: Position::START,
            taken: VecDeque::new(),
        }
    }

    fn descriptor(&self, index: u16) -> Descriptor {
        Descriptor::from_le_bytes(self.descriptors.read_array(usize::from(index) * DESC_SIZE))
    }

    /// Takes the next list and does what it asks for, without using it yet.
    fn take(&mut self) -> bool {
        let offset = usize::from(self.next.index) * DESC_SIZE + DESC_FLAGS_OFFSET;
        if !is_avail(self.descriptors.load_u16(offset, Ordering::Acquire), self.next.wrap) {
            return false;
        }
        let mut list = Vec::new();
        loop {
            let descriptor = self.descriptor(self.next.index);
            assert!(is_avail(descriptor.flags, self.next.wrap), "a list available in part");
            self.next = self.next.advance(1, self.size);
            list.push(descriptor);
            if !descriptor.has_next() {
                break;
            }
        }
        let (id, count) = (list[list.len() - 1].id, u16::try_from(list.len()).unwrap());
        let written = self.invert(&self.buffers(&list));
        self.taken.push_back((id, count, written));
        true
    }

    fn buffers(&self, list: &[Descriptor]) -> Vec<Descriptor> {
        let [table] = list else { return list.to_vec() };
        if !table.is_indirect() {
            return list.to_vec();
        }
        let mut bytes = vec![0; table.len as usize];
        self.memory.read(table.addr, &mut bytes).unwrap();
        bytes.as_chunks().0.iter().map(|entry| Descriptor::from_le_bytes(*entry)).collect()
    }

    fn invert(&self, buffers: &[Descriptor]) -> u32 {
        let mut bytes = Vec::new();
        let mut written = 0_usize;
        for buffer in buffers {
            if buffer.is_write() {
                let len = bytes.len().min(buffer.len as usize);
                let piece: Vec<u8> = bytes.drain(..len).collect();
                self.memory.write(buffer.addr, &piece).unwrap();
                written += len;
            } else {
                let mut piece = vec![0; buffer.len as usize];
                self.memory.read(buffer.addr, &mut piece).unwrap();
                bytes.extend(piece.iter().map(|byte| !byte));
            }
        }
        written.try_into().unwrap()
    }

    /// Uses the list that was taken `which`-th, or with `batch` all up to it by one descriptor.
    fn put(&mut self, which: usize, batch: bool) -> bool {
        let (id, mut count, written) = self.taken[which];
        let place = self.used;
        let flags = used_flags(place.wrap, true);
        let used = Descriptor { addr: 0, len: written, id, flags };
        let offset = usize::from(place.index) * DESC_SIZE;
        self.descriptors.write(offset, &used.to_le_bytes()[..DESC_FLAGS_OFFSET]);
        self.descriptors.store_u16(offset + DESC_FLAGS_OFFSET, flags, Ordering::Release);
        if batch {
            count = self.taken.drain(..=which).map(|(_, count, _)| count).sum();
        } else {
            self.taken.remove(which);
        }
        self.used = place.advance(count, self.size);
        fence(Ordering::SeqCst);
        let wish = self.driver_event.load_u32(0, Ordering::Relaxed).to_le_bytes();
        EventSuppress::from_le_bytes(wish).is_due(place, self.used, self.size)
    }

    fn ask_for_kicks(&self, event: EventSuppress) {
        let bits = u32::from_le_bytes(event.to_le_bytes());
        self.device_event.store_u32(0, bits, Ordering::SeqCst);
    }

    fn ask_for_next_kick(&self) {
        let off_wrap = self.next.to_bits();
        self.ask_for_kicks(EventSuppress { off_wrap, flags: packed::EVENT_F_DESC });
    }
}

fn negotiated(bits: &[u32]) -> Negotiated {
    Negotiated::assume(Offered::of(bits).with(VERSION_1).with(RING_PACKED).bits())
}

fn memory() -> Memory {
    Memory::new(1 << 20).unwrap()
}

fn question(memory: &Memory, bytes: &[u8]) -> (Buffer, Buffer) {
    (memory.alloc_with(bytes).unwrap(), memory.alloc(bytes.len()).unwrap())
}

fn is_answered((ask, answer): &(Buffer, Buffer)) -> bool {
    answer.to_vec().iter().zip(ask.to_vec()).all(|(answer, ask)| *answer == !ask)
}

#[test]
fn a_list_goes_to_the_device_and_back_around_the_ring() {
    let memory = memory();
    let mut packed = Packed::new(&memory, 5, negotiated(&[])).unwrap();
    let mut device = Inverter::new(&memory, &packed);
    for _ in 0..20 {
        let question = question(&memory, b"some bytes");
        let parts = [question.0.readable(), question.1.writable()];
        let token = packed.add(&parts, Placement::Direct).unwrap();
        assert!(!device.take(), "not published yet");
        assert!(packed.publish());
        assert!(device.take() && device.put(0, false));
        assert_eq!(packed.reap().unwrap(), Some(Used { token, written: 10, batched: false }));
        assert!(is_answered(&question));
        assert_eq!((packed.free(), packed.in_flight()), (5, 0));
    }
}

#[test]
fn the_base_of_a_new_ring_has_both_wrap_counters_set() {
    let queue = Queue::new(&memory(), 4, negotiated(&[])).unwrap();
    assert_eq!(queue.reaped_base(), 0x8000_8000);
}

#[test]
fn a_full_ring_says_so() {
    let memory = memory();
    let mut packed = Packed::new(&memory, 3, negotiated(&[])).unwrap();
    let (ask, answer) = question(&memory, b"x");
    let parts = [ask.readable(), answer.writable()];
    packed.add(&parts, Placement::Direct).unwrap();
    let error = packed.add(&parts, Placement::Direct).unwrap_err();
    assert!(matches!(error, Error::QueueFull { needed: 2, free: 1 }));
}

#[test]
fn the_device_suppresses_kicks_by_flag_and_by_place() {
    let memory = memory();
    let mut packed = Packed::new(&memory, 8, negotiated(&[EVENT_IDX])).unwrap();
    let device = Inverter::new(&memory, &packed);
    let (ask, answer) = question(&memory, b"x");
    let mut kick = || {
        packed.add(&[ask.readable(), answer.writable()], Placement::Direct).unwrap();
        packed.publish()
    };
    device.ask_for_kicks(EventSuppress { off_wrap: 0, flags: packed::EVENT_F_DISABLE });
    assert!(!kick());
    let place = Position { index: 5, wrap: true };
    device.ask_for_kicks(EventSuppress { off_wrap: place.to_bits(), flags: packed::EVENT_F_DESC });
    assert_eq!([kick(), kick(), kick()], [false, true, false]);
}

#[test]
fn calls_come_when_they_are_asked_for() {
    for features in [&[][..], &[EVENT_IDX]] {
        let memory = memory();
        let mut packed = Packed::new(&memory, 7, negotiated(features)).unwrap();
        let mut device = Inverter::new(&memory, &packed);
        let (ask, answer) = question(&memory, b"x");
        let mut round = |packed: &mut Packed| {
            packed.add(&[ask.readable(), answer.writable()], Placement::Direct).unwrap();
            packed.publish();
            assert!(device.take());
            let call = device.put(0, false);
            packed.reap().unwrap().unwrap();
            call
        };
        for _ in 0..9 {
            assert!(round(&mut packed));
            packed.disable_calls();
            assert!(!round(&mut packed) && !round(&mut packed));
            assert!(!packed.enable_calls());
        }
    }
}

#[test]
fn an_in_order_batch_ends_the_lists_before_it() {
    let memory = memory();
    let mut packed = Packed::new(&memory, 8, negotiated(&[IN_ORDER])).unwrap();
    let mut device = Inverter::new(&memory, &packed);
    let (ask, answer) = question(&memory, b"x");
    for _ in 0..5 {
        let tokens: Vec<Token> = (0..3)
            .map(|_| {
                let parts = [ask.readable(), answer.writable()];
                packed.add(&parts, Placement::Direct).unwrap()
            })
            .collect();
        packed.publish();
        while device.take() {}
        device.put(2, true);
        let used: Vec<Used> = std::iter::from_fn(|| packed.reap().unwrap()).collect();
        let ends: Vec<_> = used.iter().map(|used| (used.token, used.batched)).collect();
        assert_eq!(ends, [(tokens[0], true), (tokens[1], true), (tokens[2], false)]);
        assert_eq!(packed.free(), 8);
    }
}

#[test]
fn what_the_device_cannot_have_used_is_its_error() {
    for (id, len, complaint) in [(3, 1, "not in flight"), (0, 2, "has room for 1")] {
        let memory = memory();
        let mut packed = Packed::new(&memory, 4, negotiated(&[])).unwrap();
        let (ask, answer) = question(&memory, b"x");
        packed.add(&[ask.readable(), answer.writable()], Placement::Direct).unwrap();
        packed.publish();
        let flags = used_flags(true, true);
        packed.write_descriptor(0, Descriptor { addr: 0, len, id, flags });
        let error = packed.reap().unwrap_err().to_string();
        assert!(error.contains(complaint), "{error}");
    }
}

#[test]
fn the_length_of_a_list_without_the_write_flag_is_no_length() {
    let memory = memory();
    let mut packed = Packed::new(&memory, 4, negotiated(&[])).unwrap();
    let ask = memory.alloc_with(b"x").unwrap();
    packed.add(&[ask.readable()], Placement::Direct).unwrap();
    packed.publish();
    let flags = used_flags(true, false);
    packed.write_descriptor(0, Descriptor { addr: 0, len: 77, id: 0, flags });
    assert_eq!(packed.reap().unwrap().unwrap().written, 0);
}

#[test]
fn a_malformed_list_can_be_offered() {
    let memory = memory();
    let mut packed = Packed::new(&memory, 4, negotiated(&[])).unwrap();
    let both = DESC_F_INDIRECT | DESC_F_NEXT;
    packed.offer(&[Descriptor { addr: 1, len: 2, id: 9, flags: both }]).unwrap();
    packed.publish();
    let descriptor = packed.read_descriptor(0);
    assert_eq!(descriptor.flags, both | avail_flags(true));
    assert_eq!((descriptor.addr, descriptor.id), (1, 0));
}

#[derive(Debug, Clone)]
enum Act {
    Ask { bytes: Vec<u8>, indirect: bool, pieces: u32 },
    Publish,
    Take,
    Put { which: usize, batch: bool },
    Reap,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let ask = (prop::collection::vec(0_u8.., 1..50), any::<bool>(), 1_u32..6)
        .prop_map(|(bytes, indirect, pieces)| Act::Ask { bytes, indirect, pieces });
    let put = any::<(usize, bool)>().prop_map(|(which, batch)| Act::Put { which, batch });
    let act = prop_oneof![
        4 => ask,
        2 => Just(Act::Publish),
        3 => Just(Act::Take),
        3 => put,
        3 => Just(Act::Reap),
    ];
    prop::collection::vec(act, 1..150)
}

/// Cuts a question's buffers into so many parts each.
fn cut((ask, answer): &(Buffer, Buffer), pieces: u32) -> Vec<Part> {
    let mut parts = Vec::new();
    for part in [ask.readable(), answer.writable()] {
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
    /// Any sequence of steps on both sides, in order or not: every question is answered once, and
    /// a device that sleeps is kicked when there is news.
    #[test]
    fn nothing_is_lost_between_driver_and_device(
        acts in acts(),
        size in 1_u16..40,
        event_idx: bool,
        in_order: bool,
    ) {
        let memory = memory();
        let mut bits = vec![INDIRECT_DESC];
        bits.extend(event_idx.then_some(EVENT_IDX));
        bits.extend(in_order.then_some(IN_ORDER));
        let mut queue = Queue::new(&memory, size, negotiated(&bits)).unwrap();
        let watch = Watch::agreed(DeviceType(0), negotiated(&bits)).unwrap();
        queue.watch(&watch, 0).unwrap();
        let mut device = Inverter::new(&memory, queue.as_packed().unwrap());
        let mut open: HashMap<Token, (Buffer, Buffer)> = HashMap::new();
        let mut awake = false;
        let finish = (0..40).flat_map(|_| [Act::Take, Act::Put { which: 0, batch: false }]);
        let acts = acts.into_iter().chain([Act::Publish]).chain(finish).chain([Act::Reap]);
        for act in acts {
            match act {
                Act::Ask { bytes, indirect, pieces } => {
                    let question = question(&memory, &bytes);
                    let placement =
                        if indirect { Placement::Indirect } else { Placement::Direct };
                    let parts = cut(&question, pieces);
                    if parts.len() > usize::from(size) {
                        // No list is longer than the queue, wherever its descriptors stand.
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
                        awake = true;
                    }
                }
                Act::Take if awake => {
                    if !device.take() {
                        if event_idx {
                            device.ask_for_next_kick();
                        }
                        awake = device.take();
                    }
                }
                Act::Take => {}
                Act::Put { .. } if device.taken.is_empty() => {}
                Act::Put { which, batch } => {
                    let which = which % device.taken.len();
                    let which = if in_order && !batch { 0 } else { which };
                    if device.put(which, in_order && batch) {
                        queue.show(RingStep::Called).unwrap();
                    }
                }
                Act::Reap => {
                    while let Some(used) = queue.reap().unwrap() {
                        let question = open.remove(&used.token).unwrap();
                        prop_assert!(is_answered(&question));
                        prop_assert!(used.batched || used.written as usize == question.1.len());
                    }
                }
            }
        }
        prop_assert!(open.is_empty(), "{} questions were never answered", open.len());
        prop_assert_eq!(queue.free(), usize::from(size));
        prop_assert!(watch.violations().is_empty());
    }
}
