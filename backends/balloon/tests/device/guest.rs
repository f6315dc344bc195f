//! A guest with a balloon: its driver, the worker that serves it, and its memory.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use driver::{Buffer, Memory, Part, Placement, Queue, RegionSpec};
use framework::device::Device;
use framework::engine::{Faults, Simulated};
use framework::memory::{GuestAddress, MemoryTable, Region, UserAddress};
use framework::ring::Call;
use framework::stats::QueueStats;
use framework::worker::{Answer, Command, PollWindow, RingSetup, Worker};
use outrigger_balloon::device::{BalloonDevice, Settings};
use outrigger_balloon::offer::{Offer, QUEUES};
use outrigger_balloon::service::BalloonService;
use serde_json::{Value, json};
use virtio_spec::balloon::{
    DEFLATE_ON_OOM, DEFLATE_QUEUE, INFLATE_QUEUE, MUST_TELL_HOST, PAGE_REPORTING, STATS_VQ,
};
use virtio_spec::features::{EVENT_IDX, INDIRECT_DESC, Negotiated, VERSION_1, mask};

pub(crate) const PAGE: u64 = 4096;
/// Where the rings and lists are, out of the way of the pages that are given and taken.
const WORK: (u64, u64) = (1 << 16, 4 << 20);
/// Regions of pages: two that meet, and one behind a hole.
pub(crate) const REGIONS: [(u64, u64); 3] =
    [(16 << 20, 4 << 20), (20 << 20, 2 << 20), (1 << 32, 1 << 20)];

/// How far apart guest and user addresses of plugged memory are, out of the way of the rest.
const PLUGGED: u64 = 1 << 45;

/// What most drivers take.
pub(crate) const USUAL: &[u32] = &[MUST_TELL_HOST, STATS_VQ, DEFLATE_ON_OOM, PAGE_REPORTING];

/// A guest with its balloon.
pub(crate) struct Guest {
    pub(crate) device: BalloonDevice,
    pub(crate) memory: Memory,
    features: Negotiated,
    /// How chains are laid out.
    placement: Placement,
    queues: Vec<Queue>,
    worker: Worker<BalloonService, Simulated>,
    answers: Arc<Mutex<Vec<Answer>>>,
    kept: Vec<Buffer>,
    /// Memory of a file that the test brought: where it is, and its bytes.
    plugged: Vec<(u64, u64, OwnedFd)>,
}

impl Guest {
    pub(crate) fn usual() -> Self {
        Guest::with(USUAL)
    }

    pub(crate) fn with(bits: &[u32]) -> Self {
        Guest::on(&[&[INDIRECT_DESC, EVENT_IDX], bits].concat(), Placement::Direct)
    }

    /// With rings of another kind, and chains of another shape.
    pub(crate) fn on(bits: &[u32], placement: Placement) -> Self {
        let features = bits.iter().map(|bit| mask(*bit)).sum::<u64>() | mask(VERSION_1);
        let features = Negotiated::assume(features);
        let offer = Offer { deflate_on_oom: true, reporting: true };
        let settings = Settings { target: 0, offer, polling: None, queue_size: 256, auto: None };
        let mut device = BalloonDevice::new(settings);
        device.negotiated(features);
        let regions: Vec<_> = [WORK].iter().chain(&REGIONS).copied().collect();
        let regions: Vec<_> = regions.iter().map(|(at, n)| RegionSpec::new(*at, *n)).collect();
        let memory = Memory::with_regions(&regions).unwrap();
        let answers: Arc<Mutex<Vec<Answer>>> = Arc::default();
        let tell = Arc::clone(&answers);
        let worker = Worker::new(
            device.service(0).unwrap().service,
            Simulated::new(1, Faults::none(), QUEUES, Vec::new()),
            (0..QUEUES).map(|index| (index, QueueStats::new())).collect(),
            PollWindow::Fixed(Duration::ZERO),
            Box::new(move |answer| tell.lock().unwrap().push(answer)),
        );
        let mut guest = Guest {
            device,
            memory,
            features,
            placement,
            queues: Vec::new(),
            worker,
            answers,
            kept: Vec::new(),
            plugged: Vec::new(),
        };
        for index in 0..QUEUES - 1 {
            let queue = Queue::new(&guest.memory, 64, features).unwrap();
            guest.start_ring(index, &queue);
            guest.queues.push(queue);
        }
        guest
    }

    fn start_ring(&mut self, queue: u16, ring: &Queue) {
        let addresses = ring.addresses();
        let user = |addr| UserAddress(self.memory.user_addr(addr, 1).unwrap());
        let setup = RingSetup {
            queue,
            size: ring.size(),
            features: self.features,
            descriptors: user(addresses.descriptor),
            driver: user(addresses.driver),
            device: user(addresses.device),
            base: ring.reaped_base(),
            memory: Arc::new(self.table()),
            log: None,
            used_log: None,
            in_flight: None,
            kick: None,
            call: Call::None,
            error: None,
            enabled: true,
            serve_disabled: false,
        };
        self.worker.command(Command::Start(Box::new(setup)));
        let answer = self.answers.lock().unwrap().pop().unwrap();
        assert!(matches!(answer, Answer::Started { result: Ok(()), .. }), "{answer:?}");
    }

    /// Guest memory as the device has it.
    pub(crate) fn table(&self) -> MemoryTable {
        let regions = self.memory.regions().into_iter().map(|region| {
            let file = self.memory.file(region.guest_addr).unwrap();
            let (guest, user) = (GuestAddress(region.guest_addr), UserAddress(region.user_addr));
            Region::map(guest, user, region.size, file, region.mmap_offset).unwrap()
        });
        let plugged = self.plugged.iter().map(|(start, len, file)| {
            let (guest, user) = (GuestAddress(*start), UserAddress(start + PLUGGED));
            Region::map(guest, user, *len, file.try_clone().unwrap(), 0).unwrap()
        });
        MemoryTable::new(regions.chain(plugged).collect()).unwrap()
    }

    /// Plugs in memory of this file. Only its pages are given and taken: no list can be in it.
    pub(crate) fn plug(&mut self, start: u64, len: u64, file: OwnedFd) {
        self.plugged.push((start, len, file));
        self.switch_memory();
    }

    /// Stops a ring and starts it where it was, as a front-end does that pauses its guest.
    pub(crate) fn restart(&mut self, queue: u16) {
        self.command(Command::Stop { queue });
        self.run();
        let ring = self.queues.remove(queue.into());
        self.start_ring(queue, &ring);
        self.queues.insert(queue.into(), ring);
        self.command(Command::Nudge);
        self.run();
    }

    /// Memory is this from now on.
    pub(crate) fn switch_memory(&mut self) {
        let table = Arc::new(self.table());
        self.command(Command::Memory { table, release: false });
    }

    /// Memory is this from now on. Says whether the former has been let go.
    pub(crate) fn releases_memory(&mut self) -> bool {
        let table = Arc::new(self.table());
        self.worker.command(Command::Memory { table, release: true });
        for _ in 0..8 {
            self.worker.turn();
        }
        let answers = std::mem::take(&mut *self.answers.lock().unwrap());
        answers.iter().any(|answer| matches!(answer, Answer::Done))
    }

    pub(crate) fn command(&mut self, command: Command) {
        self.worker.command(command);
        self.answers.lock().unwrap().clear();
    }

    /// Has every page of every region hold bytes that are not zero.
    pub(crate) fn fill(&self) {
        for (start, len) in REGIONS {
            self.memory.area(start, len as usize).unwrap().fill(0x5a);
        }
    }

    /// Pages that hold zeroes, which have memory again once they were looked at; a page that holds something else than it did fails the test.
    pub(crate) fn holes(&self) -> Vec<u32> {
        let mut holes = Vec::new();
        for (start, len) in REGIONS {
            let bytes = self.memory.area(start, len as usize).unwrap().to_vec();
            for (n, page) in (0..).zip(bytes.chunks(PAGE as usize)) {
                let hole = page.iter().all(|byte| *byte == 0);
                assert!(hole || page.iter().all(|byte| *byte == 0x5a));
                if hole {
                    holes.push((start / PAGE + n) as u32);
                }
            }
        }
        holes
    }

    /// Bytes that the host has given for the regions of pages.
    pub(crate) fn resident(&self) -> u64 {
        let files = REGIONS.map(|(start, _)| self.memory.file(start).unwrap());
        files.iter().map(|file| rustix::fs::fstat(file).unwrap().st_blocks as u64 * 512).sum()
    }

    /// Puts a chain into a queue and lets the device work. Says whether it has been used.
    pub(crate) fn offer(&mut self, queue: usize, parts: &[Part]) -> bool {
        let ring = &mut self.queues[queue];
        let idle = ring.in_flight() == 0;
        ring.add(parts, self.placement).unwrap();
        // A device that has nothing to do sleeps, and has to be woken.
        assert!(ring.publish() || !idle);
        self.run();
        self.reap(queue)
    }

    /// Whether a chain of this queue was used.
    pub(crate) fn reap(&mut self, queue: usize) -> bool {
        self.queues[queue].reap().unwrap().is_some()
    }

    pub(crate) fn run(&mut self) {
        for _ in 0..8 {
            self.worker.turn();
        }
        let mut answers = self.answers.lock().unwrap();
        assert!(answers.iter().all(|a| !matches!(a, Answer::RingFailed { .. })), "{answers:?}");
        answers.clear();
    }

    /// A buffer with these bytes, for as long as the guest lives.
    pub(crate) fn buffer(&mut self, bytes: &[u8]) -> Part {
        let buffer = self.memory.alloc_with(bytes).unwrap();
        let part = buffer.readable();
        self.kept.push(buffer);
        part
    }

    fn list(&mut self, queue: u16, pages: &[u32]) {
        let bytes: Vec<u8> = pages.iter().flat_map(|page| page.to_le_bytes()).collect();
        let list = self.buffer(&bytes);
        assert!(self.offer(queue.into(), &[list]));
        self.kept.clear();
    }

    pub(crate) fn inflate(&mut self, pages: &[u32]) {
        self.list(INFLATE_QUEUE, pages);
    }

    pub(crate) fn deflate(&mut self, pages: &[u32]) {
        self.list(DEFLATE_QUEUE, pages);
    }

    /// A command of the control socket, and what follows from it.
    pub(crate) fn control(&mut self, command: &str, arguments: &Value) -> Value {
        let outcome = self.device.control(command, arguments, Vec::new()).unwrap().unwrap();
        if outcome.nudge {
            self.command(Command::Nudge);
            self.run();
        }
        outcome.answer
    }

    pub(crate) fn discard(&mut self, state: &str) -> Value {
        self.control("discard", &json!({ "state": state }))
    }

    /// A number that `stats` shows.
    pub(crate) fn stat(&self, key: &str) -> u64 {
        self.device.stats()[key].as_u64().unwrap()
    }
}

/// The pages of an address on.
pub(crate) fn pages(start: u64, count: u64) -> Vec<u32> {
    (0..count).map(|n| (start / PAGE + n) as u32).collect()
}
