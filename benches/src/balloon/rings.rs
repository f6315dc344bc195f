//! A fake driver that does what Linux's does, one list or report at a time.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use driver::{FrontEnd, Memory, Negotiation, Part, Placement, Queue, RegionSpec, RingEvents};
use tempfile::TempDir;
use virtio_spec::DeviceType;
use virtio_spec::balloon::{
    DEFLATE_QUEUE, INFLATE_QUEUE, MUST_TELL_HOST, PAGE_REPORTING, PAGE_SIZE, STATS_VQ,
};
use virtio_spec::features::{EVENT_IDX, mask};

use super::cell::{Pages, Sample, What};
use crate::accounting::cpu_time;
use crate::process::{Daemon, on_cpu};

/// Where the rings and lists are.
const WORK: RegionSpec = RegionSpec::new(1 << 16, 4 << 20);
/// Where the pages are that go in and out.
pub(super) const PAGES: u64 = 1 << 30;
/// Pages of one list (Linux: `VIRTIO_BALLOON_ARRAY_PFNS_MAX`).
pub(super) const LIST: usize = 256;
/// Ranges of one report (Linux: `PAGE_REPORTING_CAPACITY`).
pub(super) const REPORT: usize = 32;
/// Bytes of a large range.
pub(super) const LARGE: u64 = 2 << 20;
const QUEUES: u8 = 4;
const REPORTING: u16 = 3;
const SIZE: u16 = 128;
/// What the daemon runs on; this program is on the other one.
pub(super) const CPU: usize = 1;
/// What writes into the pages, as a guest has done with its own.
pub(super) const WRITER: usize = 0;
const PATIENCE: Duration = Duration::from_secs(10);

/// A daemon, its driver and its memory.
pub(super) struct Rings {
    front_end: FrontEnd,
    memory: Memory,
    queues: Vec<(Queue, RingEvents)>,
    daemon: Daemon,
    bytes: u64,
    _folder: TempDir,
}

impl Rings {
    /// Starts a daemon for so much memory.
    pub(super) fn start(programs: &Path, mebibytes: u64) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let socket = folder.path().join("s");
        let mut command = Command::new(programs.join("outrigger-balloon"));
        command.arg("--socket-path").arg(&socket);
        let log = folder.path().join("log");
        let daemon = Daemon::start(CPU, &mut command, &socket, &log, PATIENCE)?;
        let bytes = mebibytes << 20;
        let memory = Memory::with_regions(&[WORK, RegionSpec::new(PAGES, bytes)])?;
        let mut front_end = FrontEnd::connect(&socket, &memory)?.of_device(DeviceType::BALLOON);
        let bits = [MUST_TELL_HOST, STATS_VQ, PAGE_REPORTING, EVENT_IDX];
        front_end.negotiate(&Negotiation::new(bits.iter().map(|bit| mask(*bit)).sum()))?;
        front_end.share_memory()?;
        let mut queues = Vec::new();
        for index in 0..QUEUES {
            let queue = front_end.queue(index, SIZE)?;
            let events = front_end.start_ring(index, &queue, 0)?;
            queues.push((queue, events));
        }
        Ok(Self { front_end, memory, queues, daemon, bytes, _folder: folder })
    }

    /// Has all of the pages, or every other one, go one way.
    pub(super) fn measure(&mut self, what: What, pages: Pages) -> Result<Sample> {
        if what != What::Deflate {
            let area = self.memory.area(PAGES, usize::try_from(self.bytes)?)?;
            on_cpu(WRITER, || area.fill(0x5a))?;
        }
        let starts = ranges(self.bytes, what, pages);
        let length = starts.len() as u64 * piece(what, pages);
        let before = self.allocated()?;
        let (start, cpu) = (Instant::now(), cpu_time(self.daemon.pid())?);
        match what {
            What::Inflate => self.lists(INFLATE_QUEUE, &starts)?,
            What::Deflate => self.lists(DEFLATE_QUEUE, &starts)?,
            What::Report => self.reports(&starts, piece(what, pages))?,
        }
        let took = start.elapsed();
        let cpu = cpu_time(self.daemon.pid())?.saturating_sub(cpu);
        let returned = before.saturating_sub(self.allocated()?);
        let wanted = if what == What::Deflate { 0 } else { length };
        ensure!(returned == wanted, "{returned} of {wanted} bytes came back");
        Ok(Sample::of(length, took, cpu))
    }

    fn lists(&mut self, queue: u16, starts: &[u64]) -> Result<()> {
        let list = self.memory.alloc(LIST * 4)?;
        let mut bytes = Vec::with_capacity(LIST * 4);
        for chunk in starts.chunks(LIST) {
            bytes.clear();
            for start in chunk {
                bytes.extend(u32::try_from(start / PAGE_SIZE)?.to_le_bytes());
            }
            self.memory.write(list.addr(), &bytes)?;
            self.give(queue, &[Part::readable(list.addr(), u32::try_from(bytes.len())?)])?;
        }
        Ok(())
    }

    fn reports(&mut self, starts: &[u64], piece: u64) -> Result<()> {
        let piece = u32::try_from(piece)?;
        for chunk in starts.chunks(REPORT) {
            let parts: Vec<Part> = chunk.iter().map(|at| Part::writable(*at, piece)).collect();
            self.give(REPORTING, &parts)?;
        }
        Ok(())
    }

    /// Gives one chain, and sleeps until it is used.
    fn give(&mut self, queue: u16, parts: &[Part]) -> Result<()> {
        let deadline = self.front_end.deadline();
        let (ring, events) = self.queues.get_mut(usize::from(queue)).context("no such queue")?;
        ring.add(parts, Placement::Direct)?;
        if ring.publish() {
            events.kick.signal()?;
        }
        while ring.reap()?.is_none() {
            if ring.enable_calls() {
                continue;
            }
            ensure!(events.call.wait(deadline)?, "the daemon does not answer");
        }
        Ok(())
    }

    /// Bytes of the pages' file.
    fn allocated(&self) -> Result<u64> {
        super::limit::allocated(&self.memory.file(PAGES)?)
    }
}

/// Bytes of one piece: a driver's lists are of pages, whatever their neighbours.
pub(super) fn piece(what: What, pages: Pages) -> u64 {
    if what == What::Report && pages == Pages::Large { LARGE } else { PAGE_SIZE }
}

/// Where the pieces begin: every other page, or all of them in order.
pub(super) fn ranges(bytes: u64, what: What, pages: Pages) -> Vec<u64> {
    let step = if pages == Pages::Small { 2 * PAGE_SIZE } else { piece(what, pages) };
    let step = usize::try_from(step).unwrap_or(usize::MAX);
    (PAGES..PAGES + bytes).step_by(step).collect()
}
