//! A driver, a worker stepped by hand, and a device that holds the chains it takes for as long as the
//! test wants.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use driver::{Memory, Packed, Queue, Split};
use framework::device::{Service, Wake};
use framework::engine::{Faults, Io, Simulated};
use framework::memory::{GuestAddress, MemoryTable, Region, UserAddress};
use framework::ring::{Call, Chain, Rings};
use framework::stats::QueueStats;
use framework::worker::{Answer, Command, InFlightArea, PollWindow, RingSetup, Worker};
use virtio_spec::features::{EVENT_IDX, INDIRECT_DESC, Negotiated, RING_PACKED, VERSION_1, mask};

/// What the driver and the device agreed on.
pub(crate) fn features(packed: bool, others: &[u32]) -> Negotiated {
    let ring = if packed { mask(RING_PACKED) } else { 0 };
    let bits = others.iter().map(|bit| mask(*bit)).sum::<u64>();
    Negotiated::assume(mask(VERSION_1) | mask(EVENT_IDX) | ring | bits)
}

/// What the device was given and is to do.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// Chains are kept until this is no longer so.
    pub(crate) hold: AtomicBool,
    /// The readable bytes of each chain, and how many there were to write.
    pub(crate) taken: Mutex<Vec<(Vec<u8>, usize)>>,
}

/// The device: fills what it may write with 0x5a.
#[derive(Debug)]
struct Holder {
    state: Arc<State>,
    held: Vec<(usize, Chain)>,
}

impl Service for Holder {
    fn service<I: Io>(&mut self, rings: &mut Rings, io: &mut I, wake: Wake) {
        if let Wake::Kick(queue) = wake
            && let Some(ring) = rings.get(queue)
        {
            while let Some(chain) = ring.take() {
                let mut bytes = vec![0; ring.readable_len(&chain)];
                ring.read(&chain, 0, &mut bytes);
                self.state.taken.lock().unwrap().push((bytes, ring.writable_len(&chain)));
                self.held.push((queue, chain));
            }
        }
        if !self.state.hold.load(Ordering::Relaxed) {
            for (queue, chain) in self.held.drain(..) {
                let ring = rings.get(queue).unwrap();
                let written = ring.write(&chain, 0, &vec![0x5a; ring.writable_len(&chain)]);
                ring.complete(chain, written as u32);
            }
        }
        io.set_timer((!self.held.is_empty()).then(|| io.now()));
    }
}

/// The worker with its rings.
pub(crate) struct Bench {
    pub(crate) memory: Memory,
    pub(crate) state: Arc<State>,
    pub(crate) calls: Arc<AtomicU64>,
    worker: Worker<Holder, Simulated>,
    answers: Arc<Mutex<Vec<Answer>>>,
}

impl Bench {
    /// A worker for two queues, with a megabyte of memory.
    pub(crate) fn new() -> Self {
        Bench::with_memory(Memory::new(1 << 20).unwrap())
    }

    pub(crate) fn with_memory(memory: Memory) -> Self {
        let (state, answers) = (Arc::<State>::default(), Arc::<Mutex<Vec<Answer>>>::default());
        let told = Arc::clone(&answers);
        let worker = Worker::new(
            Holder { state: Arc::clone(&state), held: Vec::new() },
            Simulated::new(0, Faults::none(), 2, Vec::new()),
            vec![(0, QueueStats::new()), (1, QueueStats::new())],
            PollWindow::Fixed(Duration::ZERO),
            Box::new(move |answer| told.lock().unwrap().push(answer)),
        );
        Bench { memory, state, calls: Arc::default(), worker, answers }
    }

    /// The front-end's view of guest memory as it is now, mapped anew.
    pub(crate) fn table(&self) -> Arc<MemoryTable> {
        let regions = self.memory.regions().into_iter().map(|region| {
            let file = self.memory.file(region.guest_addr).unwrap();
            let (guest, user) = (GuestAddress(region.guest_addr), UserAddress(region.user_addr));
            Region::map(guest, user, region.size, file, region.mmap_offset).unwrap()
        });
        Arc::new(MemoryTable::new(regions.collect()).unwrap())
    }

    /// What it takes to start `queue` as ring `index`.
    pub(crate) fn setup(&self, index: u16, queue: &Queue, features: Negotiated) -> RingSetup {
        let at = queue.addresses();
        let user = |addr| UserAddress(self.memory.user_addr(addr, 1).unwrap());
        RingSetup {
            queue: index,
            size: queue.size(),
            features,
            descriptors: user(at.descriptor),
            driver: user(at.driver),
            device: user(at.device),
            base: queue.reaped_base(),
            memory: self.table(),
            log: None,
            used_log: None,
            in_flight: None,
            kick: None,
            call: Call::Counter(Arc::clone(&self.calls)),
            error: None,
            enabled: true,
            serve_disabled: false,
        }
    }

    /// Starts a ring; why not, if that is refused.
    pub(crate) fn start(&mut self, setup: RingSetup) -> Result<(), String> {
        self.worker.command(Command::Start(Box::new(setup)));
        match self.answers().pop() {
            Some(Answer::Started { result, .. }) => result.map_err(|error| error.to_string()),
            other => panic!("a start was answered with {other:?}"),
        }
    }

    /// A queue and its running ring.
    pub(crate) fn ring(&mut self, index: u16, size: u16, features: Negotiated) -> Queue {
        let queue = Queue::new(&self.memory, size, features).unwrap();
        let setup = self.setup(index, &queue, features);
        self.start(setup).unwrap();
        queue
    }

    /// A split ring with indirect tables negotiated.
    pub(crate) fn split(&mut self, size: u16) -> Split {
        match self.ring(0, size, features(false, &[INDIRECT_DESC])) {
            Queue::Split(split) => split,
            Queue::Packed(_) => unreachable!("a split ring was asked for"),
        }
    }

    /// A packed ring with indirect tables negotiated.
    pub(crate) fn packed(&mut self, size: u16) -> Packed {
        match self.ring(0, size, features(true, &[INDIRECT_DESC])) {
            Queue::Packed(packed) => packed,
            Queue::Split(_) => unreachable!("a packed ring was asked for"),
        }
    }

    pub(crate) fn hold(&self, hold: bool) {
        self.state.hold.store(hold, Ordering::Relaxed);
    }

    /// A few turns: whatever can happen has happened then.
    pub(crate) fn turns(&mut self) {
        for _ in 0..8 {
            self.worker.turn();
        }
    }

    pub(crate) fn command(&mut self, command: Command) {
        self.worker.command(command);
    }

    /// What the worker has said since the last time.
    pub(crate) fn answers(&self) -> Vec<Answer> {
        std::mem::take(&mut self.answers.lock().unwrap())
    }

    /// Why a ring has failed in a few turns; it fails once at most.
    pub(crate) fn failure(&mut self) -> Option<String> {
        self.turns();
        let mut failures = self.answers().into_iter().filter_map(|answer| match answer {
            Answer::RingFailed { why, .. } => Some(why),
            _ => None,
        });
        let failure = failures.next();
        assert_eq!(failures.next(), None, "a ring fails once");
        failure
    }

    /// The chains that were taken.
    pub(crate) fn taken(&self) -> Vec<(Vec<u8>, usize)> {
        std::mem::take(&mut self.state.taken.lock().unwrap())
    }

    /// Stops a ring in which nothing is in flight.
    pub(crate) fn stop(&mut self, index: u16) -> u32 {
        self.answers();
        self.command(Command::Stop { queue: index });
        self.turns();
        match self.answers().pop() {
            Some(Answer::Stopped { queue, base }) if queue == index => base,
            other => panic!("a stop was answered with {other:?}"),
        }
    }
}

/// An in-flight region with anything in it.
pub(crate) fn area(size: u16, bytes: usize, write: &[(usize, &[u8])]) -> InFlightArea {
    let mapping = framework::memory::Mapping::owned(bytes).unwrap();
    for (at, content) in write {
        assert_eq!(mapping.write(*at, content), content.len());
    }
    InFlightArea { mapping: Arc::new(mapping), offset: 0, size }
}
