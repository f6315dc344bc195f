//! An engine that carries out operations on simulated disks, in simulated time.
//!
//! Theory of operation. Whatever is not determined by what the engine is asked to do, one generator
//! of random numbers decides: how long an operation takes, hence in which order operations end;
//! whether it is cut short, fails, or ends at once. So a run is replayed from its seed. An operation
//! has its whole effect at the moment when it ends. [`Engine::turn`] never waits: time leaps to the
//! next thing that happens. Dropping the engine is killing its process: what was under way stays
//! with the disks and may land later.

mod disk;
mod faults;
mod outside;
#[cfg(test)]
mod simulated_test;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use super::batch::{Batch, Staged, Way};
use super::blocking::Call;
use super::{
    Bounce, Completion, Direction, Engine, Event, FileIndex, Io, Op, Submitted, Token, Transfer,
    Wait,
};
use crate::memory::Segment;
use disk::{Effect, Mark};
use faults::{Fate, Kind, happens};

pub use disk::{SECTOR, SimulatedDisk};
pub use faults::Faults;
pub use outside::Outside;

/// How long a turn takes that finds nothing to do. A worker that spins for some time must see it
/// pass.
const TICK: Duration = Duration::from_nanos(200);

/// Operations on simulated disks.
///
/// To be dropped before the guest memory that its operations use: it copies what was to be written.
#[derive(Debug)]
pub struct Simulated {
    disks: Vec<SimulatedDisk>,
    faults: Faults,
    random: Rng,
    now: Duration,
    timer: Option<Duration>,
    /// By the time when they end, and then as they were submitted.
    under_way: BTreeMap<(Duration, u64), UnderWay>,
    submitted: u64,
    kicks: Vec<Option<Arc<OwnedFd>>>,
    /// What the device watches.
    watches: Vec<(FileIndex, Direction)>,
    batch: Batch,
    outside: Outside,
    bounce: Bounce,
}

#[derive(Debug)]
struct UnderWay {
    token: Token,
    disk: SimulatedDisk,
    call: Call,
    segments: Vec<Segment>,
    /// When it was submitted.
    mark: Mark,
    fate: Fate,
}

impl Simulated {
    /// An engine for `queues` queues whose [`FileIndex`] n is the n-th of `disks`.
    pub fn new(seed: u64, faults: Faults, queues: u16, disks: Vec<SimulatedDisk>) -> Self {
        Simulated {
            disks,
            faults,
            random: Rng::with_seed(seed),
            now: Duration::ZERO,
            timer: None,
            under_way: BTreeMap::new(),
            submitted: 0,
            kicks: (0..queues).map(|_| None).collect(),
            watches: Vec::new(),
            batch: Batch::default(),
            outside: Outside::default(),
            bounce: Bounce::new(128 << 10, 4),
        }
    }

    /// A way to reach this engine when a worker has it.
    pub fn outside(&self) -> Outside {
        self.outside.clone()
    }

    /// When the next thing happens by itself.
    fn next(&self) -> Option<Duration> {
        let ends = self.under_way.first_key_value().map(|((when, _), _)| *when);
        [ends, self.timer].into_iter().flatten().min()
    }

    /// Takes over what has come from outside.
    fn look_outside(&mut self, events: &mut Vec<Event>) {
        let kicks = &self.kicks;
        let watched = |queue: &mut usize| kicks.get(*queue).is_some_and(Option::is_some);
        self.now += self.outside.with(|inbox| {
            events.extend(inbox.kicks.extract_if(.., watched).map(Event::Kick));
            let ready = self.watches.extract_if(.., |(file, direction)| match direction {
                Direction::Readable => inbox.arrived.get(file).is_some_and(|q| !q.is_empty()),
                Direction::Writable => true,
            });
            events.extend(ready.map(|(file, direction)| Event::Ready(file, direction)));
            if std::mem::take(&mut inbox.commands) {
                events.push(Event::Commands);
            }
            std::mem::take(&mut inbox.elapsed)
        });
        for (queue, kick) in kicks.iter().enumerate() {
            if kick.as_ref().is_some_and(|kick| take_kick(kick))
                && !events.iter().any(|event| matches!(event, Event::Kick(q) if *q == queue))
            {
                events.push(Event::Kick(queue));
            }
        }
    }

    /// Receives or sends one packet.
    fn transfer(&self, file: FileIndex, staged: &Staged) -> Result<u32, Errno> {
        let segments = self.batch.vectors(staged);
        let room = segments.iter().map(Segment::len).sum();
        let n = self.outside.with(|inbox| match staged.way {
            Way::Receive => {
                let packet = inbox.arrived.get_mut(&file)?.pop_front()?;
                scatter(segments, &packet);
                Some(packet.len().min(room))
            }
            Way::Send => {
                inbox.sent.push((file, gather(segments, room)));
                Some(room)
            }
        });
        n.map(|n| u32::try_from(n).unwrap_or(u32::MAX)).ok_or(Errno::AGAIN)
    }

    /// Ends what has come to its end by now.
    fn end_what_is_due(&mut self, events: &mut Vec<Event>) {
        while let Some(first) = self.under_way.first_entry()
            && first.key().0 <= self.now
        {
            let operation = first.remove();
            let token = operation.token;
            let result = operation.end(&mut self.random);
            events.push(Event::Done(Completion { token, result }));
        }
        if self.timer.is_some_and(|when| when <= self.now) {
            self.timer = None;
            events.push(Event::Timer);
        }
    }
}

/// Whether somebody has kicked by descriptor. Unlike a real engine, this one has no edges to watch:
/// it drains the descriptor.
fn take_kick(fd: &OwnedFd) -> bool {
    let readable = || {
        let mut poll = [PollFd::new(fd, PollFlags::IN)];
        matches!(rustix::event::poll(&mut poll, Some(&Timespec::default())), Ok(1))
            && poll.iter().all(|poll| poll.revents().contains(PollFlags::IN))
    };
    readable() && rustix::io::read(fd, &mut [0; 8]).is_ok()
}

impl UnderWay {
    /// Carries the operation out, as its fate wants it.
    fn end(self, random: &mut Rng) -> Result<u32, Errno> {
        let UnderWay { disk, fate, call, segments, .. } = &self;
        match call {
            Call::Read { offset } if fate.error.is_none() => {
                let mut bytes = vec![0; fate.transferred];
                disk.read(*offset, &mut bytes);
                scatter(segments, &bytes);
            }
            _ => {
                if let Some(effect) = self.effect(random) {
                    disk.apply(effect);
                }
            }
        }
        match fate.error {
            Some(error) => Err(error),
            None => Ok(u32::try_from(fate.transferred).unwrap_or(u32::MAX)),
        }
    }

    /// What the operation does to its disk.
    fn effect(&self, random: &mut Rng) -> Option<Effect> {
        let failed = self.fate.error.is_some();
        match self.call {
            Call::Write { offset, durable } => {
                let bytes = gather(&self.segments, self.fate.transferred);
                Some(Effect::Write { offset, bytes, durable: durable && !failed })
            }
            Call::Read { .. } => None,
            _ if failed => None,
            Call::Sync => Some(Effect::Sync(self.mark)),
            // What was discarded may be read as it was.
            Call::Discard { .. } if random.bool() => None,
            Call::Allocate { offset, len, .. }
            | Call::Discard { offset, len }
            | Call::ZeroOut { offset, len, .. }
            | Call::SecureErase { offset, len } => Some(Effect::Zero { offset, len }),
        }
    }
}

/// The first `len` bytes of segments.
fn gather(segments: &[Segment], len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let mut rest = bytes.as_mut_slice();
    for segment in segments {
        let n = segment.read(0, rest);
        rest = rest.get_mut(n..).unwrap_or_default();
    }
    bytes
}

/// Spreads bytes over segments.
fn scatter(segments: &[Segment], mut bytes: &[u8]) {
    for segment in segments {
        let n = segment.write(0, bytes);
        bytes = bytes.get(n..).unwrap_or_default();
    }
}

impl Io for Simulated {
    fn submit(&mut self, op: &Op<'_>, token: Token) -> Submitted {
        let (FileIndex(index), call, segments) = op.parts();
        let Some(disk) = self.disks.get(usize::from(index)) else {
            return Submitted::Now(Err(Errno::BADF));
        };
        let asked = segments.iter().map(Segment::len).sum::<usize>();
        let whole = |offset| {
            let room = disk.size().saturating_sub(offset);
            asked.min(usize::try_from(room).unwrap_or(usize::MAX))
        };
        let (whole, kind) = match call {
            Call::Read { offset } => (whole(offset), Kind::Read),
            Call::Write { offset, .. } => (whole(offset), Kind::Write),
            _ => (0, Kind::Other),
        };
        let mut fate = self.faults.fate(&mut self.random, whole, kind);
        if kind == Kind::Write && whole == 0 && asked > 0 {
            fate.error = Some(Errno::NOSPC);
        }
        let segments = segments.iter().map(Segment::again).collect();
        let mark = disk.mark();
        let operation = UnderWay { token, disk: disk.clone(), call, segments, mark, fate };
        if happens(&mut self.random, self.faults.at_once) {
            return Submitted::Now(operation.end(&mut self.random));
        }
        let end = self.now + self.faults.delay(&mut self.random);
        self.under_way.insert((end, self.submitted), operation);
        self.submitted += 1;
        Submitted::Later
    }

    fn bounce(&mut self) -> &mut Bounce {
        &mut self.bounce
    }

    fn now(&self) -> Duration {
        self.now
    }

    #[inline]
    fn stage(&mut self, transfer: &Transfer<'_>) -> bool {
        self.batch.push(transfer)
    }

    #[inline]
    fn stage_more(&mut self, segments: &[Segment]) -> bool {
        self.batch.extend(segments)
    }

    fn carry_out(&mut self, file: FileIndex, results: &mut Vec<Result<u32, Errno>>) {
        results.clear();
        results.extend(self.batch.staged().iter().map(|staged| self.transfer(file, staged)));
        self.batch.clear();
    }

    fn close_file(&mut self, file: FileIndex) {
        self.watches.retain(|(watched, _)| *watched != file);
    }

    fn watch(&mut self, file: FileIndex, direction: Direction) {
        if !self.watches.contains(&(file, direction)) {
            self.watches.push((file, direction));
        }
    }

    fn set_timer(&mut self, when: Option<Duration>) {
        self.timer = when;
    }
}

impl Engine for Simulated {
    /// The files are not used: operations go to the simulated disks.
    fn files(&mut self, _files: Vec<Arc<OwnedFd>>) -> io::Result<()> {
        Ok(())
    }

    fn watch_kick(&mut self, queue: usize, kick: Option<Arc<OwnedFd>>) -> io::Result<()> {
        let watched = self.kicks.get_mut(queue).ok_or(io::ErrorKind::InvalidInput)?;
        *watched = kick;
        Ok(())
    }

    /// Never waits. With [`Wait::ForEver`], and nothing from outside, time leaps to whatever happens
    /// next; where nothing ever will, there is no event.
    fn turn(&mut self, wait: Wait, events: &mut Vec<Event>) -> io::Result<()> {
        for disk in &self.disks {
            if happens(&mut self.random, self.faults.late) {
                disk.land_one(&mut self.random);
            }
        }
        let before = events.len();
        self.look_outside(events);
        if events.len() == before {
            match (wait, self.next()) {
                (Wait::ForEver, Some(next)) => self.now = self.now.max(next),
                (Wait::ForEver, None) => {}
                (Wait::No, _) => self.now += TICK,
            }
        }
        self.end_what_is_due(events);
        Ok(())
    }

    fn in_flight(&self) -> usize {
        self.under_way.len()
    }
}

impl Drop for Simulated {
    /// What was under way goes on without its process: it lands on the disks some time later, in
    /// any order. What was to be read is lost with the process.
    fn drop(&mut self) {
        let mut left: Vec<UnderWay> = std::mem::take(&mut self.under_way).into_values().collect();
        self.random.shuffle(&mut left);
        for operation in left {
            if let Some(effect) = operation.effect(&mut self.random) {
                operation.disk.leave(effect);
            }
        }
    }
}
