//! The block device under chains of any content, on a simulated disk that reorders, cuts short and
//! fails: every request ends, the ring stops, and a read-only disk stays as it was.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use framework::engine::{Faults, Simulated, SimulatedDisk};
use framework::memory::UserAddress;
use framework::ring::Call;
use framework::stats::QueueStats;
use framework::worker::{Answer, Command, PollWindow, RingSetup, Worker};
use outrigger_blk::counts::Counts;
use outrigger_blk::disk::{Disk, Facts};
use outrigger_blk::image::{Alignment, Medium};
use outrigger_blk::service::BlockService;
use virtio_spec::block::{self, RequestHeader};
use virtio_spec::features::{Negotiated, mask};
use virtio_spec::split::DESC_F_WRITE;

use crate::driver::{Driver, Entry};
use crate::guest::{DESCRIPTORS, DEVICE, DRIVER, Guest, HEADERS};
use crate::step::{Buffer, Shape, Step};

/// Bytes of the disk.
const DISK: usize = 128 << 10;
/// The most steps of one input.
const STEPS: usize = 64;
/// More turns than the slowest of inputs needs.
const TURNS: usize = 200_000;
/// What stands in a status byte before the device writes it.
const UNTOUCHED: u8 = 0xee;

/// What the device is.
#[derive(Arbitrary, Clone, Copy, Debug)]
struct Setup {
    packed: bool,
    shape: Shape,
    read_only: bool,
    null: bool,
    direct: Option<bool>,
    unmap: bool,
    writeback: bool,
    features: u8,
    faults: u8,
    seed: u16,
}

/// What the driver does.
#[derive(Arbitrary, Clone, Debug)]
enum Action {
    /// A request with a header, data and a status, of which the header may come in two pieces.
    Request {
        kind: Kind,
        sector: Sector,
        data: Vec<Buffer>,
        cut: Option<u8>,
        indirect: bool,
    },
    SameAgain(Box<Action>),
    /// Ranges to be discarded or zeroed, with any flags.
    Ranges {
        kind: Kind,
        ranges: Vec<(Sector, u16, bool)>,
    },
    Turns(u8),
    Other(Step),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Kind {
    In,
    Out,
    Flush,
    GetId,
    Discard,
    WriteZeroes,
    SecureErase,
    Any(u32),
}

impl Kind {
    fn number(self) -> u32 {
        match self {
            Kind::In => 0,
            Kind::Out => 1,
            Kind::Flush => 4,
            Kind::GetId => 8,
            Kind::Discard => 11,
            Kind::WriteZeroes => 13,
            Kind::SecureErase => 14,
            Kind::Any(number) => number,
        }
    }
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Sector {
    Near(u8),
    Any(u64),
}

impl Sector {
    fn number(self) -> u64 {
        match self {
            Sector::Near(number) => number.into(),
            Sector::Any(number) => number,
        }
    }
}

/// One input.
pub fn run(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let Ok(setup) = Setup::arbitrary(&mut input) else { return };
    let mut scene = Scene::new(setup);
    let before = scene.disk.content();
    for _ in 0..STEPS {
        let Ok(action) = Action::arbitrary(&mut input) else { break };
        scene.act(&action);
        if input.is_empty() {
            break;
        }
    }
    scene.finish();
    if setup.read_only {
        assert!(scene.disk.content() == before, "a read-only disk was written");
    }
}

struct Scene {
    setup: Setup,
    guest: Guest,
    driver: Driver,
    disk: SimulatedDisk,
    worker: Worker<BlockService, Simulated>,
    answers: Arc<Mutex<Vec<Answer>>>,
    stats: QueueStats,
    /// Headers that were written.
    slots: u64,
    /// Those of requests that were made available.
    asked: BTreeSet<u64>,
    /// Chains that were made available.
    offered: u64,
    /// Whether the driver has followed the rules for rings so far.
    honest: bool,
}

impl Scene {
    fn new(setup: Setup) -> Self {
        let (guest, disk) = (Guest::new(), SimulatedDisk::new(DISK));
        let features = setup.features();
        let answers = Arc::<Mutex<Vec<Answer>>>::default();
        let (told, stats) = (Arc::clone(&answers), QueueStats::new());
        let engine = Simulated::new(setup.seed.into(), setup.faults(), 1, vec![disk.clone(); 2]);
        let mut worker = Worker::new(
            setup.service(features),
            engine,
            vec![(0, stats.clone())],
            PollWindow::Fixed(Duration::ZERO),
            Box::new(move |answer| told.lock().unwrap().push(answer)),
        );
        let size = setup.shape.size(setup.packed);
        worker.command(Command::Start(Box::new(RingSetup {
            queue: 0,
            size,
            features,
            descriptors: UserAddress(DESCRIPTORS),
            driver: UserAddress(DRIVER),
            device: UserAddress(DEVICE),
            base: if setup.packed { 0x8000_8000 } else { 0 },
            memory: guest.table(),
            log: None,
            used_log: None,
            in_flight: None,
            kick: None,
            call: Call::None,
            error: None,
            enabled: true,
            serve_disabled: false,
        })));
        let driver = Driver::new(size, features);
        let (asked, slots, offered, honest) = (BTreeSet::new(), 0, 0, true);
        Scene { setup, guest, driver, disk, worker, answers, stats, slots, asked, offered, honest }
    }

    fn act(&mut self, action: &Action) {
        match action {
            Action::Request { kind, sector, data, cut, indirect } => {
                let (header, status) = self.slot(*kind, *sector);
                let mut entries = match cut.map(|cut| u32::from(cut % 16)) {
                    Some(cut) => vec![
                        Entry { addr: header, len: cut, flags: 0 },
                        Entry { addr: header + u64::from(cut), len: 16 - cut, flags: 0 },
                    ],
                    None => vec![Entry { addr: header, len: 16, flags: 0 }],
                };
                let write = !matches!(kind, Kind::Out);
                let data = data.iter().map(|buffer| Buffer { write, ..buffer.tame() });
                entries.extend(data.map(|buffer| buffer.entry()));
                entries.push(status);
                self.ask(header, &entries, *indirect && self.driver.indirect);
            }
            Action::SameAgain(action) => {
                if !matches!(**action, Action::SameAgain(_)) {
                    self.act(action);
                    self.act(action);
                }
            }
            Action::Ranges { kind, ranges } => self.ranges(*kind, ranges),
            Action::Turns(turns) => self.turns(*turns),
            Action::Other(step) => {
                if self.setup.shape.allows(step, self.slots as usize) && !step.offers() {
                    self.honest &= !step.is_hostile();
                    step.drive(&mut self.driver, &self.guest);
                }
            }
        }
    }

    fn ranges(&mut self, kind: Kind, ranges: &[(Sector, u16, bool)]) {
        let (header, status) = self.slot(kind, Sector::Near(0));
        let mut entries = vec![Entry { addr: header, len: 16, flags: 0 }];
        // In the far region, behind what other buffers are likely to be.
        let mut at = crate::guest::FAR + 0xe00;
        for (sector, num_sectors, unmap) in ranges.iter().take(8) {
            let (sector, num_sectors) = (sector.number(), u32::from(*num_sectors));
            let range = block::Segment { sector, num_sectors, flags: (*unmap).into() };
            self.guest.write(at, &range.to_bytes());
            entries.push(Entry { addr: at, len: 16, flags: 0 });
            at += 16;
        }
        entries.push(status);
        self.ask(header, &entries, false);
    }

    fn ask(&mut self, header: u64, entries: &[Entry], indirect: bool) {
        if self.driver.offer(&self.guest, entries, indirect) {
            self.asked.insert(header);
            self.offered += 1;
        }
    }

    /// A header in memory, and the descriptor of a status byte.
    fn slot(&mut self, kind: Kind, sector: Sector) -> (u64, Entry) {
        let at = HEADERS + self.slots % 64 * 32;
        self.slots += 1;
        self.asked.remove(&at);
        let request_type = kind.number();
        let header = RequestHeader { request_type, reserved: 0, sector: sector.number() };
        self.guest.write(at, &header.to_bytes());
        self.guest.write(at + 24, &[UNTOUCHED]);
        (at, Entry { addr: at + 24, len: 1, flags: DESC_F_WRITE })
    }

    fn turns(&mut self, turns: u8) {
        for _ in 0..turns % 32 {
            self.worker.turn();
        }
    }

    /// Lets everything end.
    fn finish(&mut self) {
        if self.honest {
            self.until("all requests end", |scene| scene.stats.chains.get() == scene.offered);
            for header in &self.asked {
                let [status] = self.guest.array(header + 24).unwrap();
                assert!(status <= 2, "the status at {header:#x} is {status}");
            }
        }
        self.worker.command(Command::Stop { queue: 0 });
        self.until("the ring stops", |scene| {
            scene.answers.lock().unwrap().iter().any(|a| matches!(a, Answer::Stopped { .. }))
        });
    }

    fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        for _ in 0..TURNS {
            self.worker.turn();
            if done(self) {
                return;
            }
        }
        panic!(
            "it takes too long until {what}: {} of {} chains are done, and the worker says {:?}",
            self.stats.chains.get(),
            self.offered,
            self.answers.lock().unwrap()
        );
    }
}

impl Setup {
    fn features(self) -> Negotiated {
        let bits = [
            block::FLUSH,
            block::CONFIG_WCE,
            block::DISCARD,
            block::WRITE_ZEROES,
            block::SECURE_ERASE,
            block::SEG_MAX,
            block::SIZE_MAX,
            block::RO,
        ];
        let chosen = bits.iter().enumerate().filter(|(n, _)| self.features & 1 << n != 0);
        let device: u64 = chosen.map(|(_, bit)| mask(*bit)).sum();
        Negotiated::assume(self.shape.features(self.packed).bits() | device)
    }

    fn faults(self) -> Faults {
        match self.faults % 3 {
            0 => Faults::none(),
            1 => Faults::reordering(),
            _ => Faults::failing(),
        }
    }

    fn service(self, features: Negotiated) -> BlockService {
        let direct = self.direct.map(|large| if large { 4096 } else { 512 });
        let disk = Disk::new(Facts {
            medium: if self.null { Medium::Null } else { Medium::File },
            bytes: DISK as u64,
            read_only: self.read_only,
            block_size: direct.unwrap_or(512),
            direct: direct.map(|offset| Alignment { memory: 512, offset }),
            unmap: self.unmap,
        });
        disk.set_cache_mode(self.writeback, features);
        BlockService::new(Arc::new(disk), *b"fuzzed-serial-number", Arc::new(Counts::default()))
    }
}
