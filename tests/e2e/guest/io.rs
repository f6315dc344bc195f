//! `guest-io DISK SECONDS THREADS [FILE]`: random direct I/O on a disk, every byte of it checked, for
//! so long or until FILE exists.
//!
//! Each thread owns a part of the disk. It writes requests of one to sixteen blocks at random
//! places, each block stamped with its number and a generation that counts up, reads others back at
//! random, and flushes now and then. In the end everything that was ever written is read and
//! compared. A write that was reported done and is lost, torn or in the wrong place does not
//! survive that. Runs inside a guest, so it uses the standard library alone.
#![expect(clippy::print_stdout, reason = "the console is how a guest speaks to the host")]

use std::fs::{File, OpenOptions};
use std::io::{self, Error, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// `O_DIRECT` on x86-64: past the guest's page cache, to the device.
const O_DIRECT: i32 = 0o40_000;
/// What is stamped as one.
const BLOCK: usize = 4096;
/// The most blocks in one request.
const MOST: u64 = 16;
/// A thread's part of the disk, at most: it is read again in the end.
const PART: u64 = 4096;
/// How often the host hears that work goes on.
const REPORT: Duration = Duration::from_millis(250);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("guest-io: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> io::Result<()> {
    let mut words = std::env::args().skip(1);
    let usage = || Error::other("usage: guest-io DISK SECONDS THREADS [FILE]");
    let disk = words.next().ok_or_else(usage)?;
    let seconds: u64 = words.next().and_then(|word| word.parse().ok()).ok_or_else(usage)?;
    let threads: u64 = words.next().and_then(|word| word.parse().ok()).ok_or_else(usage)?;
    let enough = words.next().map(PathBuf::from);

    let mut file = OpenOptions::new().read(true).write(true).custom_flags(O_DIRECT).open(&disk)?;
    let blocks = file.seek(SeekFrom::End(0))? / BLOCK as u64;
    let part = PART.min(blocks / threads.max(1));
    if part < MOST {
        return Err(Error::other(format!("{disk} is too small for {threads} threads")));
    }
    let (file, tally) = (Arc::new(file), Arc::new(Tally::default()));
    let begun = Instant::now();
    let until = begun + Duration::from_secs(seconds);
    let (ended, results) = mpsc::channel();
    for thread in 0..threads {
        let (file, tally, ended) = (Arc::clone(&file), Arc::clone(&tally), ended.clone());
        let mut worker = Worker::new(file, tally, thread, part);
        std::thread::spawn(move || ended.send(worker.work(until)));
    }
    drop(ended);
    await_all(&results, threads, &tally, enough.as_deref())?;
    tally.report(begun.elapsed());
    Ok(())
}

/// Waits for the threads, with a sign of life for the host in between. They end early when there is a
/// file `enough`.
fn await_all(
    results: &mpsc::Receiver<io::Result<()>>,
    threads: u64,
    tally: &Tally,
    enough: Option<&Path>,
) -> io::Result<()> {
    let mut running = threads;
    while running > 0 {
        match results.recv_timeout(REPORT) {
            Ok(result) => {
                result?;
                running -= 1;
            }
            Err(_) => {
                println!("OUTRIGGER progress={}", tally.writes.load(Ordering::Relaxed));
                tally.enough.store(enough.is_some_and(Path::exists), Ordering::Relaxed);
            }
        }
    }
    Ok(())
}

/// What all threads did together.
#[derive(Default)]
struct Tally {
    writes: AtomicU64,
    reads: AtomicU64,
    flushes: AtomicU64,
    bytes: AtomicU64,
    checked: AtomicU64,
    /// The longest time a request took, in microseconds.
    longest: AtomicU64,
    /// Whether the threads are to end.
    enough: AtomicBool,
}

impl Tally {
    fn timed<T>(&self, count: &AtomicU64, step: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let begun = Instant::now();
        let done = step()?;
        let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.longest.fetch_max(micros, Ordering::Relaxed);
        count.fetch_add(1, Ordering::Relaxed);
        Ok(done)
    }

    fn report(&self, elapsed: Duration) {
        let bytes = self.bytes.load(Ordering::Relaxed);
        let rate = u128::from(bytes) * 1000 / elapsed.as_millis().max(1) / 1_000_000;
        println!("OUTRIGGER writes={}", self.writes.load(Ordering::Relaxed));
        println!("OUTRIGGER reads={}", self.reads.load(Ordering::Relaxed));
        println!("OUTRIGGER flushes={}", self.flushes.load(Ordering::Relaxed));
        println!("OUTRIGGER checked_blocks={}", self.checked.load(Ordering::Relaxed));
        println!("OUTRIGGER megabytes_per_second={rate}");
        println!("OUTRIGGER longest_ms={}", self.longest.load(Ordering::Relaxed) / 1000);
    }
}

struct Worker {
    file: Arc<File>,
    tally: Arc<Tally>,
    first: u64,
    /// The generation last written to each block of the part; 0 is never written.
    written: Vec<u64>,
    generation: u64,
    random: u64,
    buffer: Vec<u8>,
}

impl Worker {
    fn new(file: Arc<File>, tally: Arc<Tally>, thread: u64, part: u64) -> Self {
        let written = vec![0; usize::try_from(part).unwrap_or_default()];
        let buffer = vec![0; (usize::try_from(MOST).unwrap_or_default() + 1) * BLOCK];
        let random = mixed(thread + 1);
        Self { file, tally, first: thread * part, written, generation: 0, random, buffer }
    }

    fn work(&mut self, until: Instant) -> io::Result<()> {
        while Instant::now() < until && !self.tally.enough.load(Ordering::Relaxed) {
            let part = self.written.len() as u64;
            let blocks = 1 + self.pick(MOST);
            let at = self.pick(part - blocks + 1);
            match self.pick(16) {
                0 => self.flush()?,
                1..=5 => self.read(at, blocks)?,
                _ => self.write(at, blocks)?,
            }
        }
        self.flush()?;
        self.read_everything()
    }

    fn write(&mut self, at: u64, blocks: u64) -> io::Result<()> {
        self.generation += 1;
        let (first, generation) = (self.first, self.generation);
        let buffer = aligned(&mut self.buffer, blocks);
        for (number, block) in (first + at..).zip(buffer.chunks_exact_mut(BLOCK)) {
            stamp(block, number, generation);
        }
        let offset = (first + at) * BLOCK as u64;
        self.tally.timed(&self.tally.writes, || self.file.write_all_at(buffer, offset))?;
        self.tally.bytes.fetch_add(buffer.len() as u64, Ordering::Relaxed);
        for block in at..at + blocks {
            if let Some(written) = self.written.get_mut(usize::try_from(block).unwrap_or_default())
            {
                *written = generation;
            }
        }
        Ok(())
    }

    fn read(&mut self, at: u64, blocks: u64) -> io::Result<()> {
        let buffer = aligned(&mut self.buffer, blocks);
        let offset = (self.first + at) * BLOCK as u64;
        self.tally.timed(&self.tally.reads, || self.file.read_exact_at(buffer, offset))?;
        self.tally.bytes.fetch_add(buffer.len() as u64, Ordering::Relaxed);
        let known = self.written.iter().skip(usize::try_from(at).unwrap_or_default());
        let mut expected = vec![0; BLOCK];
        for ((number, block), generation) in
            (self.first + at..).zip(buffer.chunks_exact(BLOCK)).zip(known)
        {
            if *generation == 0 {
                continue;
            }
            stamp(&mut expected, number, *generation);
            if block != expected {
                return Err(wrong(number, *generation, block));
            }
            self.tally.checked.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn read_everything(&mut self) -> io::Result<()> {
        let part = self.written.len() as u64;
        let mut at = 0;
        while at < part {
            let blocks = MOST.min(part - at);
            self.read(at, blocks)?;
            at += blocks;
        }
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        self.tally.timed(&self.tally.flushes, || self.file.sync_data())
    }

    /// A number below `bound`.
    fn pick(&mut self, bound: u64) -> u64 {
        self.random = mixed(self.random);
        (self.random >> 16) % bound.max(1)
    }
}

/// The blocks of a buffer from where memory is aligned as direct I/O wants it.
fn aligned(buffer: &mut [u8], blocks: u64) -> &mut [u8] {
    let start = buffer.as_ptr().align_offset(BLOCK);
    let length = usize::try_from(blocks).unwrap_or_default() * BLOCK;
    buffer.get_mut(start..start + length).unwrap_or_default()
}

/// Fills a block so that no other block and no other generation looks alike anywhere in it.
fn stamp(block: &mut [u8], number: u64, generation: u64) {
    let mut value = mixed(number << 32 ^ generation);
    let (head, body) = block.split_at_mut(16);
    for (place, word) in head.chunks_exact_mut(8).zip([number, generation]) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    for place in body.chunks_exact_mut(8) {
        value = value.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        place.copy_from_slice(&value.to_le_bytes());
    }
}

fn wrong(number: u64, generation: u64, block: &[u8]) -> Error {
    let mut words = block
        .chunks_exact(8)
        .map(|word| word.iter().rev().fold(0_u64, |value, byte| value << 8 | u64::from(*byte)));
    let found = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    Error::other(format!(
        "block {number} should hold generation {generation} and holds block {}, generation {}",
        found.0, found.1
    ))
}

/// A step of splitmix64: any number to one that looks random.
fn mixed(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}
