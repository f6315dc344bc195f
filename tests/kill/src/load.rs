//! The load: random requests that check each other.
//!
//! Sectors are written again and again, one write of a sector at a time; reads and flushes go in
//! between as they like. What was being written when the daemon died is written again as soon as the
//! successor has completed it: an old write that lands once more after that is found by the next
//! read.

use std::time::{Duration, Instant};

use driver::{Event, FrontEnd, Layout, Operation, Placement};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::lane::{Ended, Lane, Work};
use crate::life::Life;
use crate::model::{Model, Sectors};
use crate::sector::{SECTOR, stamp};
use crate::slow::SlowDisk;
use crate::tally::Tally;

/// No request may take longer, whoever dies meanwhile.
const LIMIT: Duration = Duration::from_secs(20);
/// How long the load sleeps at most before it looks around.
const NAP: Duration = Duration::from_millis(50);
/// How long the load is silent at most before a burst.
const CALM: Duration = Duration::from_millis(100);
/// How often in a row a place may be taken already, or the queue full.
const MISSES: u32 = 4;
/// Sectors that are read at a time when everything is read.
const STRIDE: u64 = 64;

/// What the load may do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// Requests in flight in each queue, at most.
    pub(crate) depth: usize,
    /// Positions and lengths are multiples of so many sectors.
    pub(crate) unit: u64,
    /// Whether zeroes can be asked for.
    pub(crate) zeroes: bool,
}

/// The load on all queues of a device.
#[derive(Debug)]
pub(crate) struct Load {
    rules: Rules,
    random: fastrand::Rng,
    model: Model,
    lanes: Vec<Lane>,
    /// To be written again, since they were being written at a death.
    victims: Vec<Sectors>,
    /// As `rules.depth`, for now: not every daemon dies under the same load.
    depth: usize,
    tally: Tally,
}

impl Load {
    pub(crate) fn new(rules: Rules, sectors: u64, lanes: Vec<Lane>, random: fastrand::Rng) -> Self {
        Self {
            rules,
            random,
            model: Model::new(sectors),
            lanes,
            victims: Vec::new(),
            depth: rules.depth,
            tally: Tally::default(),
        }
    }

    /// Works until a daemon's life has ended.
    pub(crate) fn work(&mut self, life: &Life, slow: Option<&SlowDisk>) -> Result<()> {
        self.depth = self.random.usize(1..=self.rules.depth);
        while life.ended().take()? == 0 {
            if life.wants_burst() {
                self.await_calm(life.ended(), slow)?;
                self.depth = self.rules.depth;
                self.submit_all()?;
                life.burst()?;
            } else {
                self.submit_all()?;
            }
            self.nap(Some(life.ended()))?;
            self.collect(slow)?;
        }
        Ok(())
    }

    /// Waits for a moment for most of what is in flight to end, so that the next burst is a large
    /// one.
    fn await_calm(&mut self, ended: &Event, slow: Option<&SlowDisk>) -> Result<()> {
        let until = Instant::now() + CALM;
        while self.lanes.iter().any(|lane| lane.in_flight() > self.rules.depth / 4)
            && Instant::now() < until
        {
            self.nap(Some(ended))?;
            self.collect(slow)?;
        }
        Ok(())
    }

    /// The daemon is dead: what it told of in time is heard, and the driver, which knows of nothing,
    /// goes on submitting.
    pub(crate) fn outlive(&mut self, slow: Option<&SlowDisk>) -> Result<()> {
        self.collect(slow)?;
        self.victims = self.lanes.iter().flat_map(Lane::being_written).collect();
        self.depth = self.random.usize(1..=self.rules.depth);
        self.submit_all()
    }

    /// Starts all rings with the successor.
    pub(crate) fn take_over(&mut self, front_end: &mut FrontEnd) -> Result<()> {
        for (index, lane) in (0..).zip(&mut self.lanes) {
            lane.take_over(front_end, index)?;
        }
        Ok(())
    }

    /// Waits until nothing is in flight.
    pub(crate) fn drain(&mut self, slow: Option<&SlowDisk>) -> Result<()> {
        while self.lanes.iter().any(|lane| lane.in_flight() > 0) {
            self.nap(None)?;
            self.collect(slow)?;
        }
        Ok(())
    }

    /// Reads the whole disk.
    pub(crate) fn read_everything(&mut self, slow: Option<&SlowDisk>) -> Result<()> {
        self.drain(slow)?;
        let mut first = 0;
        while first < self.model.len() {
            let at = first..(first + STRIDE).min(self.model.len());
            if !self.submit_read(0, &at)? {
                self.publish()?;
                self.drain(slow)?;
                continue;
            }
            first = at.end;
        }
        self.publish()?;
        self.drain(slow)
    }

    /// Checks what lies on the disk with nothing in flight: its bytes, all of them.
    pub(crate) fn check_disk(&self, bytes: &[u8]) -> Result<()> {
        let settled = self.model.settled(&(0..self.model.len()));
        self.check("the image file, read past the daemon,", 0, &settled, bytes)
    }

    pub(crate) fn tally(&mut self) -> &mut Tally {
        &mut self.tally
    }

    fn submit_all(&mut self) -> Result<()> {
        for lane in 0..self.lanes.len() {
            let mut misses = 0;
            while misses < MISSES
                && self.lanes.get(lane).is_some_and(|lane| lane.in_flight() < self.depth)
            {
                misses += u32::from(!self.submit(lane)?);
            }
        }
        self.publish()
    }

    fn publish(&mut self) -> Result<()> {
        self.lanes.iter_mut().try_for_each(Lane::publish)
    }

    /// Submits a request of some kind. `false`: the queue is full, or its sectors are taken.
    fn submit(&mut self, lane: usize) -> Result<bool> {
        let victim = self.victims.pop().filter(|at| self.model.is_settled(at));
        let at = victim.clone().unwrap_or_else(|| self.somewhere());
        match self.random.u8(..32) {
            _ if victim.is_some() => self.submit_write(lane, &at),
            0 => self.submit_flush(lane),
            1..=2 if self.rules.zeroes => self.submit_zeroes(lane, &at),
            3..=12 => self.submit_read(lane, &at),
            _ => self.submit_write(lane, &at),
        }
    }

    /// A few sectors, seldom many.
    fn somewhere(&mut self) -> Sectors {
        let units = self.model.len() / self.rules.unit;
        let most = if self.random.u8(..16) == 0 { 64 } else { 8 };
        let count = self.random.u64(1..=most).min(units);
        let first = self.random.u64(0..=units - count);
        first * self.rules.unit..(first + count) * self.rules.unit
    }

    fn submit_read(&mut self, lane: usize, at: &Sectors) -> Result<bool> {
        let operation = Operation::Read { sector: at.start, len: bytes(at) };
        let settled = self.model.settled(at);
        self.put(lane, operation, Work::Read { at: at.clone(), settled })
    }

    fn submit_write(&mut self, lane: usize, at: &Sectors) -> Result<bool> {
        if !self.has_room(lane) || !self.model.is_settled(at) {
            return Ok(false);
        }
        let generation = self.model.begin_write(at);
        let mut data = vec![0; bytes(at)];
        for (address, sector) in at.clone().zip(data.chunks_exact_mut(SECTOR)) {
            stamp(sector, address, generation);
        }
        let operation = Operation::Write { sector: at.start, data };
        self.put(lane, operation, Work::Write { at: at.clone() })
    }

    fn submit_zeroes(&mut self, lane: usize, at: &Sectors) -> Result<bool> {
        if !self.has_room(lane) || !self.model.is_settled(at) {
            return Ok(false);
        }
        self.model.begin_zeroes(at);
        let count = u32::try_from(at.end - at.start).unwrap_or(u32::MAX);
        let operation = Operation::write_zeroes(at.start, count, self.random.bool());
        self.put(lane, operation, Work::Write { at: at.clone() })
    }

    fn submit_flush(&mut self, lane: usize) -> Result<bool> {
        let settled = self.model.settled(&(0..self.model.len()));
        self.put(lane, Operation::Flush, Work::Flush { settled })
    }

    /// Whether any request fits into the queue: a write that was begun must get in.
    fn has_room(&mut self, lane: usize) -> bool {
        self.lanes.get_mut(lane).is_some_and(|lane| lane.queue().free() >= 3)
    }

    fn put(&mut self, lane: usize, operation: Operation, work: Work) -> Result<bool> {
        let indirect = self.random.u8(..4) != 0;
        let placement = if indirect { Placement::Indirect } else { Placement::Direct };
        match self.lanes.get_mut(lane) {
            Some(lane) => lane.submit(operation, &Layout::placed(placement), || work),
            None => Ok(false),
        }
    }

    /// Sleeps until a queue is called, or `ended` is signalled, or for a moment.
    fn nap(&mut self, ended: Option<&Event>) -> Result<()> {
        let events = self.lanes.iter().map(Lane::events);
        let fds = events.flat_map(|events| [&events.call, &events.error]).chain(ended);
        let mut fds: Vec<_> = fds.map(|event| PollFd::new(event, PollFlags::IN)).collect();
        let limit = Timespec::try_from(NAP).ok();
        match poll(&mut fds, limit.as_ref()) {
            Ok(0) => self.lanes.iter_mut().try_for_each(|lane| lane.check_for_hangs(LIMIT)),
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(Error::system("wait for the queues")(errno)),
        }
    }

    /// Hears what has ended, and checks it.
    fn collect(&mut self, slow: Option<&SlowDisk>) -> Result<()> {
        for lane in 0..self.lanes.len() {
            let ended = self.lanes.get_mut(lane).map(Lane::collect).transpose()?;
            for ended in ended.unwrap_or_default() {
                self.judge(ended, slow)?;
            }
        }
        Ok(())
    }

    fn judge(&mut self, ended: Ended, slow: Option<&SlowDisk>) -> Result<()> {
        let Ended { work, done, took } = ended;
        self.tally.longest = self.tally.longest.max(took);
        let data = done.into_data()?;
        match &work {
            Work::Read { at, settled } => {
                self.tally.reads += 1;
                self.tally.compared += at.end - at.start;
                self.check(&work.to_string(), at.start, settled, &data)
            }
            Work::Write { at } => {
                self.tally.writes += 1;
                self.model.end_write(at);
                Ok(())
            }
            Work::Flush { settled } => {
                self.tally.flushes += 1;
                let Some(disk) = slow else { return Ok(()) };
                let durable = disk.durable(&(0..self.model.len()));
                self.check("the durable part of the disk, after a flush,", 0, settled, &durable)
            }
        }
    }

    fn check(&self, request: &str, first: u64, settled: &[u64], bytes: &[u8]) -> Result<()> {
        self.model.check(first, settled, bytes).map_err(|(sector, wrong)| Error::Data {
            request: request.to_owned(),
            sector,
            wrong,
        })
    }
}

fn bytes(at: &Sectors) -> usize {
    usize::try_from(at.end - at.start).unwrap_or_default() * SECTOR
}
