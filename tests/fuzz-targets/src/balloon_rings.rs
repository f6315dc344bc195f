//! The balloon behind its rings: lists, reports and statistics in chains of any shape and place, commands
//! and config writes between them. A page becomes a hole only if a list or report has named it, and what is
//! in the balloon is what went in and has not come out.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use driver::{Buffer, Memory, Part, Placement, Queue, RegionSpec};
use framework::device::{ConfigWriter, Device};
use framework::engine::{Faults, Simulated};
use framework::memory::{GuestAddress, MemoryTable, Region, UserAddress};
use framework::ring::Call;
use framework::stats::QueueStats;
use framework::worker::{Answer, Command, PollWindow, RingSetup, Worker};
use outrigger_balloon::device::{BalloonDevice, Settings};
use outrigger_balloon::offer::{Offer, QUEUES, Role};
use outrigger_balloon::service::BalloonService;
use serde_json::{Value, json};
use virtio_spec::balloon::{MUST_TELL_HOST, PAGE_POISON, PAGE_REPORTING, PAGE_SIZE, STATS_VQ};
use virtio_spec::features::{
    EVENT_IDX, IN_ORDER, INDIRECT_DESC, Negotiated, RING_PACKED, VERSION_1, mask,
};
use virtio_spec::vhost_user::MemoryRegion;

use crate::step::each;

/// The most steps of one input.
const STEPS: usize = 48;
/// Turns in which the device does all there is to do for one chain.
const TURNS: usize = 8;
/// Entries of each ring.
const SIZE: u16 = 16;
/// Where rings and lists are.
const WORK: (u64, u64) = (1 << 16, 1 << 20);
/// Behind the rings: what is read of a ring while the device works on it is not what is seen of it before.
const LISTS: u64 = WORK.0 + (1 << 17);
/// First page and number of pages of what is given and taken: two regions that meet, one behind a hole.
const PAGES: [(u64, u64); 3] = [(0x800, 16), (0x810, 8), (0x900, 4)];
/// What stands in a page that is no hole.
const FILL: u8 = 0x5a;

/// What the driver has negotiated.
#[derive(Arbitrary, Clone, Copy, Debug)]
struct Setup {
    ring: [bool; 4],
    device: [bool; 4],
}

/// What the driver and the VMM do.
#[derive(Arbitrary, Debug)]
enum Action {
    /// Pages near memory, in a list that is cut somewhere.
    List {
        deflate: bool,
        pages: Vec<u8>,
        cut: u8,
        indirect: bool,
    },
    /// Ranges of sectors near memory.
    Report {
        ranges: Vec<(u16, u16)>,
        indirect: bool,
    },
    Statistics(Vec<(u8, u64)>),
    /// A chain of any buffers.
    Any {
        queue: u8,
        parts: Vec<(Where, u32, bool)>,
        indirect: bool,
    },
    WriteConfig {
        offset: u8,
        data: Vec<u8>,
    },
    Discard(bool),
    Refresh,
    Poll(u8),
    Stop(u8),
}

/// Where a buffer is.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Where {
    Work(u16),
    Pages(u16),
    Anywhere(u64),
}

/// One input.
pub fn run(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let Ok(setup) = Setup::arbitrary(&mut input) else { return };
    let mut scene = Scene::new(setup);
    each(&mut input, STEPS, |action: &Action| {
        scene.act(action);
        scene.check();
    });
    (0..QUEUES).for_each(|queue| scene.stop(queue));
}

struct Scene {
    device: BalloonDevice,
    memory: Memory,
    features: Negotiated,
    /// None: it has failed, or was stopped.
    queues: Vec<Option<Queue>>,
    worker: Worker<BalloonService, Simulated>,
    answers: Arc<Mutex<Vec<Answer>>>,
    buffers: Vec<Buffer>,
    /// Pages that may be holes now.
    may: BTreeSet<u64>,
    /// Pages that went in and have not come out.
    inside: BTreeSet<u64>,
}

impl Scene {
    fn new(setup: Setup) -> Self {
        let features = setup.features();
        let offer = Offer { deflate_on_oom: true, reporting: true };
        let settings = Settings { target: 0, offer, polling: None, queue_size: SIZE, auto: None };
        let mut device = BalloonDevice::new(settings);
        device.negotiated(features);
        let pages = PAGES.map(|(first, count)| (first * PAGE_SIZE, count * PAGE_SIZE));
        let specs: Vec<_> =
            [WORK].iter().chain(&pages).map(|(at, len)| RegionSpec::new(*at, *len)).collect();
        let memory = Memory::with_regions(&specs).unwrap();
        let answers = Arc::<Mutex<Vec<Answer>>>::default();
        let told = Arc::clone(&answers);
        let worker = Worker::new(
            device.service(0).unwrap().service,
            Simulated::new(1, Faults::none(), QUEUES, Vec::new()),
            (0..QUEUES).map(|index| (index, QueueStats::new())).collect(),
            PollWindow::Fixed(Duration::ZERO),
            Box::new(move |answer| told.lock().unwrap().push(answer)),
        );
        let (queues, buffers) = (Vec::new(), Vec::new());
        let (may, inside) = (BTreeSet::new(), BTreeSet::new());
        let mut scene =
            Scene { device, memory, features, queues, worker, answers, buffers, may, inside };
        let table = Arc::new(scene.table());
        for index in 0..QUEUES {
            scene.start(index, &table);
        }
        scene.fill();
        scene
    }

    fn table(&self) -> MemoryTable {
        let region = |region: MemoryRegion| {
            let file = self.memory.file(region.guest_addr).unwrap();
            let (guest, user) = (GuestAddress(region.guest_addr), UserAddress(region.user_addr));
            Region::map(guest, user, region.size, file, region.mmap_offset).unwrap()
        };
        MemoryTable::new(self.memory.regions().into_iter().map(region).collect()).unwrap()
    }

    fn start(&mut self, queue: u16, table: &Arc<MemoryTable>) {
        let ring = Queue::new(&self.memory, SIZE, self.features).unwrap();
        let addresses = ring.addresses();
        let user = |addr| UserAddress(self.memory.user_addr(addr, 1).unwrap());
        self.worker.command(Command::Start(Box::new(RingSetup {
            queue,
            size: SIZE,
            features: self.features,
            descriptors: user(addresses.descriptor),
            driver: user(addresses.driver),
            device: user(addresses.device),
            base: ring.reaped_base(),
            memory: Arc::clone(table),
            log: None,
            used_log: None,
            in_flight: None,
            kick: None,
            call: Call::None,
            error: None,
            enabled: true,
            serve_disabled: false,
        })));
        self.queues.push(Some(ring));
    }

    fn act(&mut self, action: &Action) {
        self.may.clear();
        match action {
            Action::List { deflate, pages, cut, indirect } => {
                let bytes: Vec<u8> = pages.iter().flat_map(|page| near(*page)).collect();
                let (first, second) = bytes.split_at(usize::from(*cut).min(bytes.len()));
                let parts: Vec<Part> = [first, second]
                    .into_iter()
                    .filter(|piece| !piece.is_empty())
                    .map(|piece| self.buffer(piece))
                    .collect();
                self.offer(u16::from(*deflate), &parts, *indirect);
            }
            Action::Report { ranges, indirect } => {
                let part = |(at, len): &(u16, u16)| {
                    let at = (PAGES[0].0 - 1) * PAGE_SIZE + u64::from(*at) * 512;
                    Part::writable(at, u32::from(len % 200) * 512)
                };
                let parts: Vec<Part> = ranges.iter().take(SIZE.into()).map(part).collect();
                self.offer_to(Role::Reporting, &parts, *indirect);
            }
            Action::Statistics(stats) => {
                let entry = |(tag, value): &(u8, u64)| {
                    [&u16::from(*tag).to_le_bytes()[..], &value.to_le_bytes()].concat()
                };
                let part = self.buffer(&stats.iter().flat_map(entry).collect::<Vec<u8>>());
                self.offer_to(Role::Statistics, &[part], false);
            }
            Action::Any { queue, parts, indirect } => {
                let part = |(at, len, write): &(Where, u32, bool)| match write {
                    true => Part::writable(at.address(), *len),
                    false => Part::readable(at.address(), *len),
                };
                // Readable ones come first.
                let mut parts: Vec<_> = parts.iter().take(SIZE.into()).collect();
                parts.sort_by_key(|(_, _, write)| *write);
                let parts: Vec<Part> = parts.into_iter().map(part).collect();
                self.offer(u16::from(*queue) % QUEUES, &parts, *indirect);
            }
            Action::WriteConfig { offset, data } => {
                let offset = usize::from(*offset % 16);
                let data = &data[..data.len().min(16 - offset)];
                self.device.write_config(offset, data, ConfigWriter::Driver).unwrap();
            }
            Action::Discard(on) => {
                self.may.clone_from(&self.inside);
                self.command("discard", &json!({ "state": if *on { "on" } else { "off" } }));
            }
            Action::Refresh => self.command("refresh", &json!({})),
            Action::Poll(seconds) => self.command("polling", &json!({ "seconds": seconds })),
            Action::Stop(queue) => self.stop(u16::from(*queue) % QUEUES),
        }
    }

    fn command(&mut self, name: &str, arguments: &Value) {
        // What it refuses is none of this target's business.
        let _ = self.device.control(name, arguments, Vec::new()).unwrap();
        self.worker.command(Command::Nudge);
        self.turns();
    }

    fn buffer(&mut self, bytes: &[u8]) -> Part {
        let buffer = self.memory.alloc_with(bytes).unwrap();
        let part = buffer.readable();
        self.buffers.push(buffer);
        part
    }

    fn offer_to(&mut self, role: Role, parts: &[Part], indirect: bool) {
        let queue = (0..QUEUES).find(|queue| Role::of(*queue, self.features) == Some(role));
        if let Some(queue) = queue {
            self.offer(queue, parts, indirect);
        }
    }

    /// One chain, and all that comes of it.
    fn offer(&mut self, queue: u16, parts: &[Part], indirect: bool) {
        let placement = match indirect && self.features.has(INDIRECT_DESC) {
            true => Placement::Indirect,
            false => Placement::Direct,
        };
        let Some(ring) = &mut self.queues[usize::from(queue)] else { return };
        if ring.add(parts, placement).is_err() {
            return;
        }
        ring.publish();
        let role = Role::of(queue, self.features);
        let named = match role {
            Some(Role::Inflate | Role::Deflate) => self.listed(parts),
            Some(Role::Reporting) => in_ranges(parts),
            _ => BTreeSet::new(),
        };
        if matches!(role, Some(Role::Inflate | Role::Reporting)) {
            self.may.extend(&named);
        }
        self.turns();
        if self.queues[usize::from(queue)].is_none() {
            return;
        }
        match role {
            Some(Role::Inflate) => self.inside.extend(named),
            Some(Role::Deflate) => self.inside.retain(|page| !named.contains(page)),
            _ => {}
        }
    }

    /// The pages of memory that a list names.
    fn listed(&self, parts: &[Part]) -> BTreeSet<u64> {
        let mut bytes = Vec::new();
        for part in parts.iter().filter(|part| !part.write) {
            // What is not in memory fails the ring.
            let Ok(area) = self.memory.area(part.addr, part.len as usize) else {
                return BTreeSet::new();
            };
            bytes.extend(area.to_vec());
        }
        let pages = bytes.as_chunks().0.iter().map(|page| u64::from(u32::from_le_bytes(*page)));
        pages.filter(is_memory).collect()
    }

    fn turns(&mut self) {
        for _ in 0..TURNS {
            self.worker.turn();
        }
        for answer in self.answers.lock().unwrap().drain(..) {
            match answer {
                Answer::RingFailed { queue, .. } | Answer::Stopped { queue, .. } => {
                    self.queues[usize::from(queue)] = None;
                }
                _ => {}
            }
        }
        for queue in self.queues.iter_mut().flatten() {
            while queue.reap().expect("what is used was available").is_some() {}
        }
    }

    fn stop(&mut self, queue: u16) {
        if self.queues[usize::from(queue)].is_some() {
            self.worker.command(Command::Stop { queue });
            self.turns();
            assert!(self.queues[usize::from(queue)].is_none(), "queue {queue} does not stop");
        }
    }

    /// Looks for holes where none may be, and fills those that are there.
    fn check(&self) {
        for (first, count) in PAGES {
            let area = self.memory.area(first * PAGE_SIZE, (count * PAGE_SIZE) as usize).unwrap();
            for (page, bytes) in (first..).zip(area.to_vec().chunks(PAGE_SIZE as usize)) {
                let whole = bytes == [FILL; PAGE_SIZE as usize];
                assert!(whole || self.may.contains(&page), "page {page:#x} has changed");
            }
        }
        let inside = self.device.stats()["inside_bytes"].as_u64().unwrap();
        assert_eq!(inside, self.inside.len() as u64 * PAGE_SIZE);
        self.fill();
    }

    fn fill(&self) {
        for (first, count) in PAGES {
            self.memory.area(first * PAGE_SIZE, (count * PAGE_SIZE) as usize).unwrap().fill(FILL);
        }
    }
}

impl Setup {
    fn features(self) -> Negotiated {
        let ring = [RING_PACKED, EVENT_IDX, INDIRECT_DESC, IN_ORDER];
        let device = [MUST_TELL_HOST, STATS_VQ, PAGE_POISON, PAGE_REPORTING];
        let chosen = ring.iter().zip(self.ring).chain(device.iter().zip(self.device));
        let bits = chosen.filter(|(_, chosen)| *chosen).map(|(bit, _)| mask(*bit));
        Negotiated::assume(bits.sum::<u64>() | mask(VERSION_1))
    }
}

impl Where {
    fn address(self) -> u64 {
        match self {
            Where::Work(at) => LISTS + u64::from(at),
            Where::Pages(at) => PAGES[0].0 * PAGE_SIZE + u64::from(at) * 16,
            Where::Anywhere(at) => at,
        }
    }
}

/// The number of a page that is in memory or near it.
fn near(page: u8) -> [u8; 4] {
    let first = if page < 128 { PAGES[0].0 } else { PAGES[2].0 };
    (first as u32 + u32::from(page % 32)).to_le_bytes()
}

/// The whole pages of memory in a report.
fn in_ranges(parts: &[Part]) -> BTreeSet<u64> {
    let holds = |part: &Part, page: u64| {
        let end = part.addr.saturating_add(part.len.into());
        part.write && part.addr <= page * PAGE_SIZE && (page + 1) * PAGE_SIZE <= end
    };
    let pages = PAGES.iter().flat_map(|(first, count)| *first..first + count);
    pages.filter(|page| parts.iter().any(|part| holds(part, *page))).collect()
}

fn is_memory(page: &u64) -> bool {
    PAGES.iter().any(|(first, count)| (*first..first + count).contains(page))
}
