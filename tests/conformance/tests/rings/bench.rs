//! A driver with one ring, and the worker that serves it, turn by turn.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use driver::{Memory, Part, Placement, Queue, RegionSpec, Token, Used};
use framework::memory::{GuestAddress, MemoryTable, Region, UserAddress};
use framework::ring::Call;
use framework::stats::QueueStats;
use framework::worker::{Answer, Command, InFlightArea, PollWindow, RingSetup, Worker};
use virtio_spec::features::{Negotiated, RING_PACKED, VERSION_1, mask};

use crate::probe::{Idle, Probe, Shared};

/// The kinds of rings.
pub(crate) const BOTH: [&[u32]; 2] = [&[], &[RING_PACKED]];

/// Guest memory: small, so that all of it can be compared.
const MEMORY: u64 = 64 << 10;

/// A driver with its device.
pub(crate) struct Bench {
    pub(crate) memory: Memory,
    pub(crate) queue: Queue,
    pub(crate) plan: Shared,
    pub(crate) answers: Arc<Mutex<Vec<Answer>>>,
    features: Negotiated,
    in_flight: Option<InFlightArea>,
    calls: Arc<AtomicU64>,
    worker: Worker<Probe, Idle>,
}

impl Bench {
    /// A ring of 8 entries with these features, which the device ends chains of as it takes them.
    pub(crate) fn new(features: &[u32]) -> Self {
        Bench::of_size(8, features)
    }

    /// The same with another size.
    pub(crate) fn of_size(size: u16, features: &[u32]) -> Self {
        let mut bench = Bench::stopped(size, features, None);
        bench.start();
        bench
    }

    /// A ring that is not started, with this part of an in-flight region.
    pub(crate) fn stopped(size: u16, features: &[u32], in_flight: Option<InFlightArea>) -> Self {
        let bits = features.iter().fold(mask(VERSION_1), |bits, bit| bits | mask(*bit));
        let features = Negotiated::assume(bits);
        let memory = Memory::with_regions(&[RegionSpec::new(0x10_0000, MEMORY)]).unwrap();
        let queue = Queue::new(&memory, size, features).unwrap();
        let plan = Shared::default();
        plan.lock().at_once = true;
        let answers = Arc::new(Mutex::new(Vec::new()));
        let worker = worker(&plan, &answers);
        let calls = Arc::default();
        Bench { memory, queue, plan, answers, features, in_flight, calls, worker }
    }

    /// Starts the ring where the driver stands.
    pub(crate) fn start(&mut self) {
        let at = self.queue.addresses();
        let user = |addr| UserAddress(self.memory.user_addr(addr, 1).unwrap());
        let setup = RingSetup {
            queue: 0,
            size: self.queue.size(),
            features: self.features,
            descriptors: user(at.descriptor),
            driver: user(at.driver),
            device: user(at.device),
            base: self.queue.reaped_base(),
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
        self.worker.command(Command::Start(Box::new(setup)));
        let answer = self.answers.lock().unwrap().pop();
        assert!(matches!(answer, Some(Answer::Started { result: Ok(()), .. })), "{answer:?}");
    }

    /// The device dies, with all that it has not shown yet, and another one takes its place.
    pub(crate) fn replace_device(&mut self) {
        self.plan = Shared::default();
        self.worker = worker(&self.plan, &self.answers);
    }

    fn table(&self) -> Arc<MemoryTable> {
        let regions = self.memory.regions().into_iter().map(|r| {
            let file = self.memory.file(r.guest_addr).unwrap();
            let (guest, user) = (GuestAddress(r.guest_addr), UserAddress(r.user_addr));
            Region::map(guest, user, r.size, file, r.mmap_offset).unwrap()
        });
        Arc::new(MemoryTable::new(regions.collect()).unwrap())
    }

    /// Lets the worker work for a turn.
    pub(crate) fn turn(&mut self) {
        self.worker.turn();
    }

    /// Asks the worker for something.
    pub(crate) fn command(&mut self, command: Command) {
        self.worker.command(command);
    }

    /// Puts a chain into the ring and shows it.
    pub(crate) fn send(&mut self, parts: &[Part], placement: Placement) -> Token {
        let token = self.queue.add(parts, placement).unwrap();
        self.queue.publish();
        token
    }

    /// Sends so many chains of nothing but room for a byte.
    pub(crate) fn send_empty(&mut self, count: usize) -> Vec<Token> {
        let byte = self.memory.alloc(1).unwrap();
        (0..count).map(|_| self.send(&[byte.writable()], Placement::Direct)).collect()
    }

    /// Everything that the device has used by now.
    pub(crate) fn reap(&mut self) -> Vec<Used> {
        std::iter::from_fn(|| self.queue.reap().unwrap()).collect()
    }

    /// How often the driver was called since the last time.
    pub(crate) fn calls(&self) -> u64 {
        self.calls.swap(0, Ordering::Relaxed)
    }

    /// All of guest memory.
    pub(crate) fn snapshot(&self) -> Vec<u8> {
        self.memory.area(0x10_0000, MEMORY as usize).unwrap().to_vec()
    }

    /// Guest addresses of bytes that differ from an earlier snapshot.
    pub(crate) fn changed_since(&self, before: &[u8]) -> Vec<u64> {
        let now = self.snapshot();
        let pairs = before.iter().zip(&now).zip(0x10_0000..);
        pairs.filter(|((old, new), _)| old != new).map(|(_, at)| at).collect()
    }

    /// Why the ring has failed, if it has.
    pub(crate) fn failure(&self) -> Option<String> {
        self.answers.lock().unwrap().iter().find_map(|answer| match answer {
            Answer::RingFailed { why, .. } => Some(why.clone()),
            _ => None,
        })
    }
}

fn worker(plan: &Shared, answers: &Arc<Mutex<Vec<Answer>>>) -> Worker<Probe, Idle> {
    let tell = Arc::clone(answers);
    Worker::new(
        Probe::new(plan),
        Idle::new(plan),
        vec![(0, QueueStats::new())],
        PollWindow::Fixed(Duration::ZERO),
        Box::new(move |answer| tell.lock().unwrap().push(answer)),
    )
}
