//! `guest-memory DISK MEBIBYTES FILE`: keeps patterns in memory and checks them all the time, until
//! FILE exists.
//!
//! Half of the memory is written by the CPU. The other half is only ever written by the device: it
//! is filled by direct reads from the end of the disk, where this program has put patterns before.
//! A page that the device wrote while the guest was moved to another machine, and that was not moved
//! after that, holds something older then. The program notes for each sector of memory what it has
//! to hold, so the next look at it shows that.
#![expect(clippy::print_stdout, reason = "the console is how a guest speaks to the host")]

use std::fs::{File, OpenOptions};
use std::io::{self, Error, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// `O_DIRECT` on x86-64: the device writes into this program's own pages.
const O_DIRECT: i32 = 0o40_000;
/// What is noted as one: reads begin and end anywhere in a page, in these steps.
const SECTOR: usize = 512;
/// Sectors at the end of the disk that hold patterns; nobody else may write there.
const SOURCE: usize = 4 << 20 >> 9;
/// The most sectors in one read.
const MOST: usize = 128;
/// Sectors that the CPU writes for each read of the device.
const WRITES: usize = 16;
/// Sectors that are checked for each read of the device.
const CHECKS: usize = 2048;
/// How often the host hears of it.
const REPORT: Duration = Duration::from_millis(250);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("guest-memory: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> io::Result<()> {
    let mut words = std::env::args().skip(1);
    let usage = || Error::other("usage: guest-memory DISK MEBIBYTES FILE");
    let disk = words.next().ok_or_else(usage)?;
    let mebibytes: usize = words.next().and_then(|word| word.parse().ok()).ok_or_else(usage)?;
    let enough = words.next().map(PathBuf::from).ok_or_else(usage)?;

    let source = Source::write(Path::new(&disk))?;
    let mut memory = Memory::new(mebibytes << 20 >> 9);
    let mut random = Random(1);
    memory.fill(&source, &mut random)?;
    let mut reported = Instant::now();
    while !enough.exists() {
        memory.change(&source, &mut random)?;
        memory.check_some()?;
        if reported.elapsed() >= REPORT {
            memory.report();
            reported = Instant::now();
        }
    }
    memory.check_all()?;
    memory.report();
    Ok(())
}

/// The end of the disk, with a pattern in each sector.
struct Source {
    file: File,
    first: usize,
}

impl Source {
    fn write(disk: &Path) -> io::Result<Self> {
        let mut file =
            OpenOptions::new().read(true).write(true).custom_flags(O_DIRECT).open(disk)?;
        let sectors = usize::try_from(file.seek(SeekFrom::End(0))?).unwrap_or_default() / SECTOR;
        let first = sectors
            .checked_sub(SOURCE)
            .ok_or_else(|| Error::other(format!("{} is too small", disk.display())))?;
        let source = Self { file, first };
        let mut buffer = Pages::new(MOST);
        for number in (0..SOURCE).step_by(MOST) {
            for (place, sector) in buffer.sectors(0..MOST).chunks_exact_mut(SECTOR).zip(number..) {
                fill(place, source.seed(sector));
            }
            source.file.write_all_at(buffer.sectors(0..MOST), source.offset(number))?;
        }
        source.file.sync_data()?;
        Ok(source)
    }

    /// What the pattern in a sector is made from.
    fn seed(&self, sector: usize) -> u64 {
        mixed((self.first + sector) as u64)
    }

    fn offset(&self, sector: usize) -> u64 {
        ((self.first + sector) * SECTOR) as u64
    }
}

/// The memory under observation: its first half is the CPU's, the second the device's.
struct Memory {
    pages: Pages,
    /// What the pattern in each sector is made from.
    seeds: Vec<u64>,
    /// Where the next check begins.
    next: usize,
    scans: u64,
    reads: u64,
    generation: u64,
}

impl Memory {
    fn new(sectors: usize) -> Self {
        let seeds = vec![0; sectors];
        Self { pages: Pages::new(sectors), seeds, next: 0, scans: 0, reads: 0, generation: 0 }
    }

    /// Puts a pattern everywhere.
    fn fill(&mut self, source: &Source, random: &mut Random) -> io::Result<()> {
        let (all, half) = (self.seeds.len(), self.seeds.len() / 2);
        (0..half).for_each(|sector| self.write(sector));
        for sector in (half..all).step_by(MOST) {
            self.read(source, sector..all.min(sector + MOST), random)?;
        }
        Ok(())
    }

    /// New patterns in some places of both halves.
    fn change(&mut self, source: &Source, random: &mut Random) -> io::Result<()> {
        let (all, half) = (self.seeds.len(), self.seeds.len() / 2);
        (0..WRITES).for_each(|_| self.write(random.below(half)));
        let at = half + random.below(all - half);
        let end = all.min(at + 1 + random.below(MOST));
        self.read(source, at..end, random)
    }

    fn write(&mut self, sector: usize) {
        self.generation += 1;
        let seed = mixed(self.generation << 32);
        fill(self.pages.sectors(sector..sector + 1), seed);
        self.note(sector, seed);
    }

    fn read(&mut self, source: &Source, to: Range<usize>, random: &mut Random) -> io::Result<()> {
        let from = random.below(SOURCE - to.len());
        source.file.read_exact_at(self.pages.sectors(to.clone()), source.offset(from))?;
        self.reads += 1;
        for (number, sector) in to.enumerate() {
            self.note(sector, source.seed(from + number));
        }
        Ok(())
    }

    fn note(&mut self, sector: usize, seed: u64) {
        if let Some(place) = self.seeds.get_mut(sector) {
            *place = seed;
        }
    }

    /// Checks a piece, and goes on behind it the next time.
    fn check_some(&mut self) -> io::Result<()> {
        let end = self.seeds.len().min(self.next + CHECKS);
        self.check(self.next..end)?;
        self.next = end;
        if end == self.seeds.len() {
            self.next = 0;
            self.scans += 1;
        }
        Ok(())
    }

    fn check_all(&mut self) -> io::Result<()> {
        self.check(0..self.seeds.len())?;
        self.scans += 1;
        Ok(())
    }

    fn check(&mut self, range: Range<usize>) -> io::Result<()> {
        let half = self.seeds.len() / 2;
        let seeds = self.seeds.get(range.clone()).unwrap_or_default();
        let found = self.pages.sectors(range.clone()).chunks_exact(SECTOR);
        for ((sector, found), seed) in range.zip(found).zip(seeds) {
            if !holds(found, *seed) {
                let writer = if sector < half { "CPU" } else { "device" };
                return Err(Error::other(format!(
                    "sector {sector} of memory, written by the {writer}, should hold the pattern \
                     {seed:#x} and begins with {:x?}",
                    found.first_chunk::<16>()
                )));
            }
        }
        Ok(())
    }

    fn report(&self) {
        println!("OUTRIGGER memory_reads={}", self.reads);
        println!("OUTRIGGER memory_scans={}", self.scans);
    }
}

/// Memory that begins on a page.
struct Pages {
    bytes: Vec<u8>,
}

impl Pages {
    const PAGE: usize = 4096;

    fn new(sectors: usize) -> Self {
        Self { bytes: vec![0; sectors * SECTOR + Self::PAGE] }
    }

    fn sectors(&mut self, range: Range<usize>) -> &mut [u8] {
        let start = self.bytes.as_ptr().align_offset(Self::PAGE);
        let range = start + range.start * SECTOR..start + range.end * SECTOR;
        self.bytes.get_mut(range).unwrap_or_default()
    }
}

/// Fills a sector so that each word depends on the seed and on its place.
fn fill(sector: &mut [u8], seed: u64) {
    for (place, word) in sector.chunks_exact_mut(8).zip(words(seed)) {
        place.copy_from_slice(&word.to_le_bytes());
    }
}

fn holds(sector: &[u8], seed: u64) -> bool {
    sector.chunks_exact(8).zip(words(seed)).all(|(place, word)| place == word.to_le_bytes())
}

fn words(seed: u64) -> impl Iterator<Item = u64> {
    (0..).map(move |place: u64| seed.wrapping_add(place.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
}

struct Random(u64);

impl Random {
    /// A number below `bound`.
    fn below(&mut self, bound: usize) -> usize {
        self.0 = mixed(self.0);
        usize::try_from((self.0 >> 16) % (bound.max(1) as u64)).unwrap_or_default()
    }
}

/// A step of splitmix64: any number to one that looks random.
fn mixed(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}
