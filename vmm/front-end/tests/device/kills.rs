//! The daemon of a disk is killed again and again, at any moment, while its guest reads and writes: no
//! request, kick or call may be lost. Unlike in `kill-campaign` the front-end is the VMM's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use driver::{Disk, Layout, Operation, Placement};

use crate::guest::Doorbell;
use crate::outrigger_blk::Rig;

/// Kills of one rig: the front-end pauses before each new attempt to connect, twice as long each time.
const KILLS: u32 = 5;
/// Blocks of 4 KiB that each queue has for itself.
const BLOCKS: u16 = 256;
/// How long what was in flight may take once there is a daemon again: longer than all pauses of the front-end
/// together, shorter than any limit at which it gives up and tries again.
const PATIENCE: Duration = Duration::from_secs(4);
/// The longest life of a daemon, microseconds.
const LIFE: u64 = 20_000;

/// What a load tells of itself.
#[derive(Debug, Default)]
struct Progress {
    /// Requests that were begun.
    begun: AtomicU64,
    /// Requests that are over, with all before them.
    over: AtomicU64,
    stop: AtomicBool,
}

/// One queue's user: bursts of reads and writes, each of which is over before the next.
struct Load {
    disk: Disk<Doorbell>,
    random: fastrand::Rng,
    first_block: u16,
    /// What was last written to each block.
    versions: Vec<u8>,
    progress: Arc<Progress>,
}

impl Load {
    fn spawn(disk: Disk<Doorbell>, queue: u16, random: fastrand::Rng) -> Running {
        let placement = if queue == 0 { Placement::Direct } else { Placement::Indirect };
        let disk = disk.with_layout(Layout::placed(placement));
        let progress = Arc::new(Progress::default());
        let versions = vec![0; BLOCKS.into()];
        let first_block = queue * BLOCKS;
        let load = Self { disk, random, first_block, versions, progress: Arc::clone(&progress) };
        Running { progress, thread: std::thread::spawn(move || load.run()) }
    }

    fn run(mut self) {
        while !self.progress.stop.load(SeqCst) {
            self.burst();
            if self.random.u8(..8) == 0 {
                self.flush();
            }
            if self.random.u8(..4) == 0 {
                // The daemon goes to sleep, and has to be kicked.
                std::thread::sleep(Duration::from_micros(self.random.u64(..500)));
            }
        }
    }

    fn flush(&mut self) {
        self.progress.begun.fetch_add(1, SeqCst);
        self.disk.flush().unwrap();
        self.progress.over.fetch_add(1, SeqCst);
    }

    fn burst(&mut self) {
        let count = self.random.u16(1..=16);
        let start = self.random.u16(..BLOCKS);
        let blocks: Vec<u16> = (0..count).map(|n| (start + n) % BLOCKS).collect();
        let mut expected = Vec::new();
        for block in blocks {
            self.progress.begun.fetch_add(1, SeqCst);
            let sector = u64::from(self.first_block + block) * 8;
            let version = &mut self.versions[usize::from(block)];
            let write = self.random.bool();
            if write {
                *version = version.wrapping_add(1);
            }
            let (block, data) = (block, contents(block, *version));
            let operation = match write {
                true => Operation::Write { sector, data },
                false => Operation::Read { sector, len: 4096 },
            };
            let token = self.disk.submit(operation).unwrap();
            expected.push((token, (!write).then_some((block, *version))));
        }
        for (token, read) in expected {
            let data = self.disk.wait_for(token).unwrap().into_data().unwrap();
            if let Some((block, version)) = read {
                assert!(data == contents(block, version), "block {block} is not at {version}");
            }
            self.progress.over.fetch_add(1, SeqCst);
        }
    }
}

fn contents(block: u16, version: u8) -> Vec<u8> {
    match version {
        0 => vec![0; 4096],
        _ => [block.to_le_bytes()[0], version].repeat(2048),
    }
}

/// A load under way.
struct Running {
    progress: Arc<Progress>,
    thread: JoinHandle<()>,
}

impl Running {
    fn begun(&self) -> u64 {
        self.progress.begun.load(SeqCst)
    }

    fn is_past(&self, request: u64) -> bool {
        self.progress.over.load(SeqCst) >= request
    }
}

/// Kills the daemon of a new rig [`KILLS`] times. Returns how many requests there were, and how long the
/// slowest took from when there was a daemon again.
fn kill_again_and_again(packed: bool, seed: u64) -> (u64, Duration) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut rig = Rig::new("front-end-kills");
    let queues = rig.guest.start(packed, 2);
    let start = |(index, queue)| Load::spawn(rig.disk_on(index, queue), index, random.fork());
    let loads: Vec<Running> = (0..).zip(queues).map(start).collect();
    let mut slowest = Duration::ZERO;
    for kill in 1..=KILLS {
        std::thread::sleep(Duration::from_micros(random.u64(..LIFE)));
        rig.kill();
        let begun: Vec<u64> = loads.iter().map(Running::begun).collect();
        rig.start_again();
        if kill < KILLS && random.u8(..4) == 0 {
            // It dies while it is being set up, perhaps.
            continue;
        }
        let since = Instant::now();
        while !loads.iter().zip(&begun).all(|(load, begun)| load.is_past(*begun)) {
            let progress: Vec<&Progress> = loads.iter().map(|load| &*load.progress).collect();
            assert!(
                since.elapsed() < PATIENCE,
                "seed {seed}, packed: {packed}, after kill {kill}: none of {begun:?} is to be open: \
                 {progress:?}, {:?}",
                rig.guest.device.report(),
            );
            std::thread::sleep(Duration::from_millis(1));
        }
        slowest = slowest.max(since.elapsed());
    }
    for load in &loads {
        load.progress.stop.store(true, SeqCst);
    }
    let requests = loads.iter().map(Running::begun).sum();
    for load in loads {
        load.thread.join().unwrap();
    }
    (requests, slowest)
}

#[test]
fn nothing_is_lost_of_a_split_ring() {
    for seed in 0..3 {
        kill_again_and_again(false, seed);
    }
}

#[test]
fn nothing_is_lost_of_a_packed_ring() {
    for seed in 0..3 {
        kill_again_and_again(true, seed);
    }
}

#[test]
#[ignore = "a thousand deaths, which take a minute or two"]
fn nothing_is_lost_in_a_thousand_deaths() {
    let began = Instant::now();
    let (mut requests, mut slowest) = (0, Duration::ZERO);
    for seed in 0..200 {
        let run = kill_again_and_again(seed % 2 == 1, 1000 + seed);
        (requests, slowest) = (requests + run.0, slowest.max(run.1));
    }
    eprintln!("{requests} requests, the slowest {slowest:?}, in {:?}", began.elapsed());
}
