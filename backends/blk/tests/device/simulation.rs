//! Random requests on a simulated disk that reorders, cuts short, fails and loses its power. Every
//! sector is compared with a model of what it may hold.
//!
//! A run that fails names its seed; `OUTRIGGER_SEED=n cargo test -p outrigger-blk simulation` replays
//! it alone.

use std::collections::HashMap;

use driver::{Cut, Layout, Operation, Placement, Token};
use fastrand::Rng;
use framework::engine::{Faults, Simulated, SimulatedDisk};
use virtio_spec::block::{Segment, Status};

use crate::guest::{Guest, Setup};

const SECTORS: u64 = 256;
const REQUESTS: usize = 150;

/// What a sector holds: this byte, all over. None: anything.
type Holds = Option<u8>;

/// What is known of one sector.
#[derive(Clone)]
struct Sector {
    /// What a read gives.
    now: Holds,
    /// What is left after a loss of power.
    after_loss: Holds,
    /// A request that changes it is under way.
    busy: bool,
    /// How often it was changed.
    changes: u64,
}

struct Model {
    sectors: Vec<Sector>,
    durable: bool,
}

impl Model {
    fn new(durable: bool) -> Self {
        let sector = Sector { now: Some(0), after_loss: Some(0), busy: false, changes: 0 };
        Model { sectors: vec![sector; SECTORS as usize], durable }
    }

    fn range(&mut self, sector: u64, count: u64) -> &mut [Sector] {
        &mut self.sectors[sector as usize..(sector + count) as usize]
    }

    fn begins(&mut self, change: &Change) {
        self.range(change.sector, change.count).iter_mut().for_each(|sector| sector.busy = true);
    }

    fn ended(&mut self, change: &Change, ok: bool) {
        let durable = self.durable;
        for sector in self.range(change.sector, change.count) {
            sector.busy = false;
            sector.changes += 1;
            match change.byte.filter(|_| ok) {
                Some(byte) => {
                    sector.now = Some(byte);
                    // virtio 1.4, 5.2.6.2: until a volatile write is stable, it may be anything.
                    sector.after_loss = Some(byte).filter(|_| durable);
                }
                None => (sector.now, sector.after_loss) = (None, None),
            }
        }
    }

    /// How often each sector had been changed when a flush was sent; none that is being changed.
    fn flush_begins(&self) -> Vec<Option<u64>> {
        self.sectors.iter().map(|sector| (!sector.busy).then_some(sector.changes)).collect()
    }

    fn flush_ended(&mut self, begun: &[Option<u64>]) {
        for (sector, changes) in self.sectors.iter_mut().zip(begun) {
            if *changes == Some(sector.changes) {
                sector.after_loss = sector.now;
            }
        }
    }
}

/// What a request makes of sectors: a byte all over, or who knows what.
struct Change {
    sector: u64,
    count: u64,
    byte: Option<u8>,
}

enum Expected {
    Change(Change),
    Data { sector: u64, count: u64 },
    Flush(Vec<Option<u64>>),
}

struct Run {
    seed: u64,
    random: Rng,
    guest: Guest<Simulated, SimulatedDisk>,
    model: Model,
    expected: HashMap<Token, Expected>,
    /// Whether requests may fail.
    failures: bool,
}

impl Run {
    fn new(seed: u64, setup: Setup, faults: Faults, failures: bool) -> Self {
        let disk = SimulatedDisk::new((SECTORS * 512) as usize);
        let engine = Simulated::new(seed, faults, 1, vec![disk.clone(), disk.clone()]);
        let mut setup = setup;
        setup.facts.bytes = SECTORS * 512;
        Run {
            seed,
            random: Rng::with_seed(seed),
            guest: Guest::over(setup, engine, disk),
            model: Model::new(!setup.writeback),
            expected: HashMap::new(),
            failures,
        }
    }

    /// Sectors that no request changes at the moment.
    fn idle_range(&mut self) -> Option<(u64, u64)> {
        let count = self.random.u64(1..24);
        let sector = self.random.u64(0..SECTORS - count);
        let busy = self.model.range(sector, count).iter().any(|sector| sector.busy);
        let being_read = self.expected.values().any(|expected| match expected {
            Expected::Data { sector: other, count: n } => {
                sector < other + n && *other < sector + count
            }
            _ => false,
        });
        (!busy && !being_read).then_some((sector, count))
    }

    fn submit_one(&mut self) {
        let (operation, expected) = match (self.random.u8(0..10), self.idle_range()) {
            (0, _) => (Operation::Flush, Expected::Flush(self.model.flush_begins())),
            (_, None) => return,
            (1..=4, Some((sector, count))) => {
                let byte = self.random.u8(1..);
                let data = vec![byte; (count * 512) as usize];
                let change = Change { sector, count, byte: Some(byte) };
                (Operation::Write { sector, data }, Expected::Change(change))
            }
            (5, Some((sector, count))) => {
                let flags = self.random.u32(0..2);
                let range = Segment { sector, num_sectors: count as u32, flags };
                let change = Change { sector, count, byte: Some(0) };
                (Operation::WriteZeroes(vec![range]), Expected::Change(change))
            }
            (6, Some((sector, count))) => {
                let change = Change { sector, count, byte: None };
                (Operation::discard(sector, count as u32), Expected::Change(change))
            }
            (_, Some((sector, count))) => {
                let len = (count * 512) as usize;
                (Operation::Read { sector, len }, Expected::Data { sector, count })
            }
        };
        if let Expected::Change(change) = &expected {
            self.model.begins(change);
        }
        let layout = self.layout();
        let token = self.guest.submit_as(operation, &layout);
        self.expected.insert(token, expected);
    }

    fn layout(&mut self) -> Layout {
        let cut = match self.random.u8(0..4) {
            0 => Cut::Whole,
            1 => Cut::Every(self.random.usize(200..3000)),
            _ => Cut::Usual,
        };
        Layout { placement: Placement::Indirect, cut }
    }

    fn reap_one(&mut self) {
        let done = self.guest.next_done();
        let ok = done.status == Status::Ok.number();
        assert!(ok || self.failures, "{} ends with {}", done.operation, done.status);
        match self.expected.remove(&done.token).unwrap() {
            Expected::Change(change) => self.model.ended(&change, ok),
            Expected::Flush(begun) if ok => self.model.flush_ended(&begun),
            Expected::Data { sector, count } if ok => {
                let sectors = self.model.range(sector, count).iter();
                for (sector, bytes) in sectors.zip(done.data.chunks(512)) {
                    check(sector.now, bytes, "a read");
                }
            }
            Expected::Flush(_) | Expected::Data { .. } => {}
        }
    }

    fn go(&mut self) {
        for _ in 0..REQUESTS {
            if self.expected.len() < 20 && self.random.bool() {
                self.submit_one();
            } else if !self.expected.is_empty() {
                self.reap_one();
            }
        }
        // Sometimes the power is lost in the middle of it.
        while !self.expected.is_empty() && !self.seed.is_multiple_of(4) {
            self.reap_one();
        }
        for expected in self.expected.values() {
            if let Expected::Change(change) = expected {
                for sector in self.model.range(change.sector, change.count) {
                    (sector.now, sector.after_loss) = (None, None);
                }
            }
        }
        let content = self.guest.medium.content();
        for (sector, bytes) in self.model.sectors.iter().zip(content.chunks(512)) {
            check(sector.now, bytes, "the disk");
        }
        self.guest.medium.power_loss(self.seed);
        let content = self.guest.medium.content();
        for (sector, bytes) in self.model.sectors.iter().zip(content.chunks(512)) {
            check(sector.after_loss, bytes, "the disk after a loss of power");
        }
    }
}

fn check(holds: Holds, bytes: &[u8], what: &str) {
    if let Some(byte) = holds {
        assert!(bytes.iter().all(|b| *b == byte), "{what} does not hold {byte}: {bytes:?}");
    }
}

/// Names the seed of a run that fails.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("this run's seed: OUTRIGGER_SEED={}", self.0);
        }
    }
}

fn runs(setup: fn(u64) -> Setup, faults: fn() -> Faults, failures: bool) {
    let only = std::env::var("OUTRIGGER_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = only.map_or(0..60, |seed: u64| seed..seed + 1);
    for seed in seeds {
        let _named = Seed(seed);
        Run::new(seed, setup(seed), faults(), failures).go();
    }
}

fn buffered(seed: u64) -> Setup {
    match seed % 3 {
        0 => Setup::default(),
        1 => Setup::packed(),
        _ => Setup::writethrough(),
    }
}

fn direct(seed: u64) -> Setup {
    let facts = Setup::direct(512, if seed.is_multiple_of(2) { 512 } else { 4096 }).facts;
    Setup { facts, ..buffered(seed) }
}

#[test]
fn a_disk_that_reorders() {
    runs(buffered, Faults::reordering, false);
}

#[test]
fn a_disk_that_fails() {
    runs(buffered, Faults::failing, true);
}

#[test]
fn direct_io_on_a_disk_that_reorders() {
    runs(direct, Faults::reordering, false);
}

#[test]
fn direct_io_on_a_disk_that_fails() {
    runs(direct, Faults::failing, true);
}
