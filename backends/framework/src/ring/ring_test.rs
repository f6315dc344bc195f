//! Rings against a model, driven by the fake driver: every chain is taken once, in order, and ends
//! once, whatever the order of completion, and also when the device is killed at any store.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use driver::{Buffer, Memory, Part, Placement, Queue, RegionSpec, Token};
use proptest::prelude::*;
use virtio_spec::features::{
    EVENT_IDX, IN_ORDER, INDIRECT_DESC, Negotiated, RING_PACKED, VERSION_1, mask,
};
use virtio_spec::vhost_user::inflight::region_size;

use super::{Call, Chain, Ring, kill};
use crate::memory::{GuestAddress, Mapping, MemoryTable, Region, UserAddress};
use crate::stats::QueueStats;
use crate::worker::{InFlightArea, RingSetup};

/// A driver, a ring, and what the one expects of the other.
struct Bench {
    memory: Memory,
    queue: Queue,
    features: Negotiated,
    in_flight: Option<InFlightArea>,
    ring: Option<Ring>,
    calls: Arc<AtomicU64>,
    taken: Vec<Chain>,
    /// What each chain in flight says of itself, and its buffers.
    sent: HashMap<Token, (u64, [Buffer; 2])>,
    next_label: u64,
    next_expected: u64,
}

impl Bench {
    fn new(size: u16, features: &[u32], tracked: bool) -> Self {
        let features = Negotiated::assume(
            features.iter().fold(mask(VERSION_1), |bits, feature| bits | mask(*feature)),
        );
        // Two regions that meet, so that buffers may lie across both.
        let memory = Memory::with_regions(&[
            RegionSpec::new(0x1000_0000, 0x10_0000),
            RegionSpec::new(0x1010_0000, 0x10_0000),
        ])
        .unwrap();
        let queue = Queue::new(&memory, size, features).unwrap();
        let in_flight = tracked.then(|| InFlightArea {
            mapping: Arc::new(
                Mapping::owned(region_size(features.has(RING_PACKED), size)).unwrap(),
            ),
            offset: 0,
            size,
        });
        let mut bench = Bench {
            memory,
            queue,
            features,
            in_flight,
            ring: None,
            calls: Arc::default(),
            taken: Vec::new(),
            sent: HashMap::new(),
            next_label: 0,
            next_expected: 0,
        };
        let base = bench.queue.reaped_base();
        bench.start(base);
        bench
    }

    fn table(&self) -> Arc<MemoryTable> {
        let regions = self.memory.regions().into_iter().map(|r| {
            let fd = self.memory.file(r.guest_addr).unwrap();
            let (guest, user) = (GuestAddress(r.guest_addr), UserAddress(r.user_addr));
            Region::map(guest, user, r.size, fd, r.mmap_offset).unwrap()
        });
        Arc::new(MemoryTable::new(regions.collect()).unwrap())
    }

    fn start(&mut self, base: u32) {
        let at = self.queue.addresses();
        let user = |addr| UserAddress(self.memory.user_addr(addr, 1).unwrap());
        let setup = RingSetup {
            queue: 0,
            size: self.queue.size(),
            features: self.features,
            descriptors: user(at.descriptor),
            driver: user(at.driver),
            device: user(at.device),
            base,
            memory: self.table(),
            log: None,
            used_log: None,
            in_flight: self.in_flight.clone(),
            kick: None,
            call: Call::Counter(Arc::clone(&self.calls)),
            error: None,
            enabled: true,
            serve_disabled: false,
        };
        self.ring = Some(Ring::start(setup, QueueStats::new()).unwrap());
    }

    fn ring(&mut self) -> &mut Ring {
        self.ring.as_mut().unwrap()
    }

    /// The driver sends a chain: a label to read, split as told, and room to write.
    fn send(&mut self, split: usize, placement: Placement) {
        let label = self.next_label;
        let Ok(readable) = self.memory.alloc_with(&label.to_le_bytes()) else { return };
        let Ok(writable) = self.memory.alloc(16) else { return };
        let (read, write) = (readable.readable(), writable.writable());
        let first = u32::try_from(split % 8).unwrap();
        let mut parts = vec![Part::readable(read.addr, first)];
        parts.push(Part::readable(read.addr + u64::from(first), 8 - first));
        parts.push(write);
        parts.retain(|part| part.len > 0);
        if let Ok(token) = self.queue.add(&parts, placement) {
            self.queue.publish();
            self.next_label += 1;
            self.sent.insert(token, (label, [readable, writable]));
        }
    }

    /// The device takes a chain; it is the next one in order.
    fn take(&mut self) {
        let Some(chain) = self.ring().take() else { return };
        let label = self.label(&chain);
        assert_eq!(label, self.next_expected, "taken out of order");
        self.next_expected += 1;
        self.taken.push(chain);
    }

    fn label(&mut self, chain: &Chain) -> u64 {
        let mut bytes = [0; 8];
        assert_eq!(self.ring().read(chain, 0, &mut bytes), 8);
        u64::from_le_bytes(bytes)
    }

    fn complete(&mut self, which: usize) {
        if !self.taken.is_empty() {
            let chain = self.taken.swap_remove(which % self.taken.len());
            let label = self.label(&chain);
            assert_eq!(self.ring().write(&chain, 0, &label.to_le_bytes()), 8);
            self.ring().complete(chain, 8);
        }
    }

    /// The driver looks at what was used.
    fn reap(&mut self) {
        while let Some(used) = self.queue.reap().unwrap() {
            assert!(self.sent.remove(&used.token).is_some(), "{:?} ended twice", used.token);
            assert!(used.batched || used.written == 8);
        }
    }

    /// The device dies, and so does the next one while it takes up what was in flight.
    fn die_again(&mut self, stores: u32) {
        self.ring = None;
        self.taken.clear();
        kill::after(stores, || {
            self.start(0);
            while let Some(chain) = self.ring().take() {
                self.taken.push(chain);
            }
        });
    }

    /// The device dies and another one goes on: from the region, not from the base, which is stale.
    fn revive(&mut self) {
        self.ring = None;
        self.taken.clear();
        self.start(0);
        // What was in flight comes again, in the order in which it was taken, and is not sent twice.
        self.reap();
        self.next_expected = u64::MAX;
        let mut last = None;
        while let Some(chain) = self.ring().take() {
            let label = self.label(&chain);
            assert!(
                self.sent.values().any(|(sent, _)| *sent == label),
                "{label} had ended already"
            );
            assert!(last < Some(label), "{label} was given out after {last:?}");
            last = Some(label);
            self.taken.push(chain);
        }
        let in_flight = self.taken.len();
        assert_eq!(in_flight, self.sent.len(), "requests were lost");
        self.next_expected = self.next_label;
    }

    fn finish(mut self) {
        self.take_all();
        while !self.taken.is_empty() {
            self.complete(0);
        }
        self.ring().publish_and_call();
        self.reap();
        assert!(self.sent.is_empty(), "never ended: {:?}", self.sent.keys());
        assert_eq!(self.ring().fault(), None);
    }

    fn take_all(&mut self) {
        for _ in 0..self.queue.size() {
            self.take();
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Send(usize, bool),
    Take,
    Complete(usize),
    Publish,
    Reap,
    Restart { answer_lost: bool },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0..8usize, any::<bool>()).prop_map(|(split, indirect)| Step::Send(split, indirect)),
        4 => Just(Step::Take),
        4 => any::<usize>().prop_map(Step::Complete),
        2 => Just(Step::Publish),
        2 => Just(Step::Reap),
        1 => any::<bool>().prop_map(|answer_lost| Step::Restart { answer_lost }),
    ]
}

fn features() -> impl Strategy<Value = Vec<u32>> {
    proptest::sample::subsequence(vec![RING_PACKED, EVENT_IDX, INDIRECT_DESC, IN_ORDER], 0..=4)
}

impl Bench {
    fn run(&mut self, step: &Step) {
        match *step {
            Step::Send(split, indirect) => {
                let indirect = indirect && self.features.has(INDIRECT_DESC);
                self.send(split, if indirect { Placement::Indirect } else { Placement::Direct });
            }
            Step::Take => self.take(),
            Step::Complete(which) => self.complete(which),
            Step::Publish => self.ring().publish_and_call(),
            Step::Reap => self.reap(),
            Step::Restart { answer_lost } => self.restart(answer_lost),
        }
    }

    /// A clean stop and a new start, as a front-end does it: with the base that it was told, or with
    /// a stale one where the answer was lost and the in-flight region has to tell.
    fn restart(&mut self, answer_lost: bool) {
        while !self.taken.is_empty() {
            self.complete(0);
        }
        self.ring().publish_and_call();
        self.ring().look(2);
        self.ring().stop();
        assert!(self.ring().is_drained());
        let base = self.ring.take().unwrap().into_base();
        self.start(if answer_lost && self.in_flight.is_some() { 0 } else { base });
    }
}

proptest! {
    #[test]
    fn every_chain_is_taken_in_order_and_ends_once(
        features in features(),
        size in prop_oneof![Just(2u16), Just(4), Just(16)],
        tracked: bool,
        steps in proptest::collection::vec(step(), 1..200),
    ) {
        let mut bench = Bench::new(size, &features, tracked);
        for step in &steps {
            bench.run(step);
        }
        bench.finish();
    }

    /// The step in which the death falls is cut short at its n-th store, whichever that is.
    #[test]
    fn a_kill_at_any_store_loses_nothing(
        features in features(),
        size in prop_oneof![Just(2u16), Just(4), Just(16)],
        rounds in proptest::collection::vec(
            (proptest::collection::vec(step(), 1..40), 0..12u32, 0..40u32), 1..6),
    ) {
        let mut bench = Bench::new(size, &features, true);
        for (steps, stores, again) in &rounds {
            for step in steps {
                bench.run(step);
            }
            kill::after(*stores, || {
                for device_step in [Step::Take, Step::Complete(1), Step::Take, Step::Publish] {
                    bench.run(&device_step);
                }
            });
            bench.die_again(*again);
            bench.revive();
        }
        bench.finish();
    }

    /// A call is never missing: whenever the driver has asked for calls and found nothing used,
    /// the next publication calls it.
    #[test]
    fn a_waiting_driver_is_called(
        packed: bool,
        event_idx: bool,
        steps in proptest::collection::vec(step(), 1..100),
    ) {
        let mut features = Vec::new();
        features.extend(packed.then_some(RING_PACKED));
        features.extend(event_idx.then_some(EVENT_IDX));
        let mut bench = Bench::new(8, &features, false);
        for step in &steps {
            bench.reap();
            let waits = !bench.queue.enable_calls();
            let before = bench.calls.load(Ordering::Relaxed);
            bench.run(step);
            if waits && bench.queue.has_used() {
                prop_assert!(bench.calls.load(Ordering::Relaxed) > before);
            }
        }
    }

    /// Nor when the device dies between using a chain and calling: its successor calls.
    #[test]
    fn a_driver_that_waits_for_a_killed_device_is_called(
        packed: bool,
        event_idx: bool,
        before in 0..20usize,
        stores in 0..20u32,
    ) {
        let mut features = Vec::new();
        features.extend(packed.then_some(RING_PACKED));
        features.extend(event_idx.then_some(EVENT_IDX));
        let mut bench = Bench::new(8, &features, true);
        for step in [Step::Send(0, false), Step::Take, Step::Complete(0), Step::Publish, Step::Reap]
            .iter()
            .cycle()
            .take(5 * before)
        {
            bench.run(step);
        }
        bench.send(0, Placement::Direct);
        bench.take();
        prop_assert!(!bench.queue.enable_calls());
        let calls = bench.calls.load(Ordering::Relaxed);
        kill::after(stores, || {
            bench.complete(0);
            bench.ring().publish_and_call();
        });
        bench.ring = None;
        bench.taken.clear();
        bench.start(0);
        prop_assert!(!bench.queue.has_used() || bench.calls.load(Ordering::Relaxed) > calls);
    }

    /// A kick is never missing: when the device has asked for kicks and found nothing, the driver
    /// kicks for the next chain.
    #[test]
    fn a_waiting_device_is_kicked(
        packed: bool,
        event_idx: bool,
        batches in proptest::collection::vec(1..4usize, 1..40),
    ) {
        let mut features = Vec::new();
        features.extend(packed.then_some(RING_PACKED));
        features.extend(event_idx.then_some(EVENT_IDX));
        let mut bench = Bench::new(8, &features, false);
        for batch in batches {
            prop_assert!(!bench.ring().enable_kicks());
            let mut kicked = false;
            for _ in 0..batch {
                let buffer = bench.memory.alloc(8).unwrap();
                if bench.queue.add(&[buffer.writable()], Placement::Direct).is_ok() {
                    kicked |= bench.queue.publish();
                }
            }
            prop_assert!(kicked);
            bench.ring().disable_kicks();
            while let Some(chain) = bench.ring().take() {
                bench.ring().complete(chain, 0);
            }
            bench.ring().publish_and_call();
            while bench.queue.reap().unwrap().is_some() {}
        }
    }
}

#[test]
fn a_call_that_comes_late_is_made_at_once() {
    let mut bench = Bench::new(4, &[], true);
    bench.ring().set_call(Call::None);
    bench.send(0, Placement::Direct);
    bench.take();
    bench.complete(0);
    bench.ring().publish_and_call();
    let calls = Arc::clone(&bench.calls);
    bench.ring().set_call(Call::Counter(Arc::clone(&calls)));
    assert_eq!(calls.load(Ordering::Relaxed), 1);
}

#[test]
fn a_chain_that_was_looked_at_ahead_is_still_the_next_after_a_stop() {
    let mut bench = Bench::new(8, &[], false);
    bench.send(0, Placement::Direct);
    bench.send(0, Placement::Direct);
    bench.take();
    assert_eq!(bench.ring().in_flight(), 1);
    bench.complete(0);
    bench.ring().stop();
    assert!(bench.ring().is_drained());
    assert_eq!(bench.ring.take().unwrap().into_base(), 1);
}
