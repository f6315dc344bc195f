//! An engine on a disk in memory. Tests see what was asked of it, and say how it ends.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use framework::engine::{
    Allocate, Bounce, Completion, Engine, Event, FileIndex, Io, Op, Submitted, Token, Wait,
};
use framework::memory::Segment;
use outrigger_blk::disk::MAIN;
use outrigger_blk::image::Alignment;
use rustix::io::Errno;

/// What was asked of the medium. Offsets and lengths in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Read { file: FileIndex, offset: u64, len: usize },
    Write { file: FileIndex, offset: u64, len: usize, durable: bool },
    Sync,
    Allocate { mode: Allocate, offset: u64, len: u64 },
    Discard { offset: u64, len: u64 },
    ZeroOut { offset: u64, len: u64, unmap: bool },
    SecureErase { offset: u64, len: u64 },
}

/// How an operation ends that would have ended well.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// Well.
    None,
    /// After so many bytes.
    Short(usize),
    /// With an error, and nothing done.
    Error(Errno),
}

/// When operations end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// Before `submit` returns.
    AtOnce,
    /// In the worker's next turn.
    Later,
    /// Not before the test says so.
    Held,
}

/// The disk in memory.
#[derive(Debug)]
pub(crate) struct Medium {
    pub(crate) bytes: Vec<u8>,
    pub(crate) asked: Vec<Asked>,
    pub(crate) faults: VecDeque<Fault>,
    pub(crate) when: When,
    /// What the main file demands, as with O_DIRECT.
    pub(crate) direct: Option<Alignment>,
    /// Modes that the medium does not know.
    pub(crate) refuses: Vec<Allocate>,
    ended: Vec<Completion>,
}

impl Medium {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Medium {
            bytes,
            asked: Vec::new(),
            faults: VecDeque::new(),
            when: When::Later,
            direct: None,
            refuses: Vec::new(),
            ended: Vec::new(),
        }
    }

    /// Lets the operations end that are held.
    pub(crate) fn release(&mut self) {
        self.when = When::Later;
    }

    fn perform(&mut self, op: &Op<'_>) -> Result<u32, Errno> {
        self.asked.push(asked(op));
        let limit = match self.faults.pop_front().unwrap_or(Fault::None) {
            Fault::None => usize::MAX,
            Fault::Short(n) => n,
            Fault::Error(errno) => return Err(errno),
        };
        match *op {
            Op::Read { file, offset, into } => {
                self.check(file, offset, into)?;
                let mut at = offset as usize;
                for segment in into {
                    let end = (at + segment.len())
                        .min(self.bytes.len())
                        .min(offset as usize + limit.min(1 << 40));
                    at += segment.write(0, self.bytes.get(at..end).unwrap_or(&[]));
                }
                Ok((at - offset as usize) as u32)
            }
            Op::Write { file, offset, from, .. } => {
                self.check(file, offset, from)?;
                let mut at = offset as usize;
                for segment in from {
                    let end = (at + segment.len())
                        .min(self.bytes.len())
                        .min(offset as usize + limit.min(1 << 40));
                    at += self.bytes.get_mut(at..end).map_or(0, |to| segment.read(0, to));
                }
                Ok((at - offset as usize) as u32)
            }
            Op::Allocate { mode, .. } if self.refuses.contains(&mode) => Err(Errno::OPNOTSUPP),
            Op::Allocate { offset, len, .. }
            | Op::Discard { offset, len, .. }
            | Op::ZeroOut { offset, len, .. }
            | Op::SecureErase { offset, len, .. } => {
                self.bytes[offset as usize..(offset + len) as usize].fill(0);
                Ok(0)
            }
            Op::Sync { .. } => Ok(0),
        }
    }

    /// What the kernel checks for a file that was opened with O_DIRECT.
    fn check(&self, file: FileIndex, offset: u64, segments: &[Segment]) -> Result<(), Errno> {
        let len: usize = segments.iter().map(Segment::len).sum();
        match self.direct.filter(|_| file == MAIN) {
            Some(d) if !d.takes_range(offset, len as u64) || !d.takes_memory(segments) => {
                Err(Errno::INVAL)
            }
            _ => Ok(()),
        }
    }
}

fn asked(op: &Op<'_>) -> Asked {
    let sum = |segments: &[Segment]| segments.iter().map(Segment::len).sum();
    match *op {
        Op::Read { file, offset, into } => Asked::Read { file, offset, len: sum(into) },
        Op::Write { file, offset, from, durable } => {
            Asked::Write { file, offset, len: sum(from), durable }
        }
        Op::Sync { .. } => Asked::Sync,
        Op::Allocate { mode, offset, len, .. } => Asked::Allocate { mode, offset, len },
        Op::Discard { offset, len, .. } => Asked::Discard { offset, len },
        Op::ZeroOut { offset, len, unmap, .. } => Asked::ZeroOut { offset, len, unmap },
        Op::SecureErase { offset, len, .. } => Asked::SecureErase { offset, len },
    }
}

/// The medium, shared between the engine and the test.
#[derive(Clone, Debug)]
pub(crate) struct Shared(Arc<Mutex<Medium>>);

impl Shared {
    pub(crate) fn new(medium: Medium) -> Self {
        Shared(Arc::new(Mutex::new(medium)))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Medium> {
        self.0.lock().unwrap()
    }
}

/// An engine on a [`Medium`].
pub(crate) struct MediumEngine {
    medium: Shared,
    bounce: Bounce,
    timer: Option<Duration>,
}

impl MediumEngine {
    /// With `buffers` bounce buffers of 8 KiB.
    pub(crate) fn new(medium: Shared, buffers: u16) -> Self {
        MediumEngine { medium, bounce: Bounce::new(8192, buffers), timer: None }
    }
}

impl Io for MediumEngine {
    fn submit(&mut self, op: &Op<'_>, token: Token) -> Submitted {
        let mut medium = self.medium.lock();
        let result = medium.perform(op);
        if medium.when == When::AtOnce {
            return Submitted::Now(result);
        }
        medium.ended.push(Completion { token, result });
        Submitted::Later
    }

    fn bounce(&mut self) -> &mut Bounce {
        &mut self.bounce
    }

    fn now(&self) -> Duration {
        Duration::ZERO
    }

    fn set_timer(&mut self, when: Option<Duration>) {
        self.timer = when;
    }
}

impl Engine for MediumEngine {
    fn files(&mut self, _files: Vec<Arc<OwnedFd>>) -> io::Result<()> {
        Ok(())
    }

    fn watch_kick(&mut self, _queue: usize, _kick: Option<Arc<OwnedFd>>) -> io::Result<()> {
        Ok(())
    }

    /// Completions come in the reverse order, so that no test relies on any.
    fn turn(&mut self, _wait: Wait, events: &mut Vec<Event>) -> io::Result<()> {
        let mut medium = self.medium.lock();
        if medium.when != When::Held {
            events.extend(medium.ended.drain(..).rev().map(Event::Done));
        }
        events.extend(self.timer.take().map(|_| Event::Timer));
        Ok(())
    }

    fn in_flight(&self) -> usize {
        self.medium.lock().ended.len()
    }
}
