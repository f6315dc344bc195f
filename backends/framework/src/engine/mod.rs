//! Engines carry out what devices ask for, and say when it is done.
//!
//! Devices see [`Io`]; workers see [`Engine`]. Three engines stand behind it: `Uring` (io_uring,
//! what one wants), `Threads` (blocking calls on a bounded pool, where io_uring is not to be had) and
//! `Simulated` (seeded order, short transfers, errors, injected time).

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;

use crate::memory::Segment;

mod batch;
mod blocking;
mod bounce;
mod choose;
mod config;
mod kick;
mod path;
mod pool;
mod simulated;
#[cfg(test)]
mod suite;
mod tag;
mod threads;
mod uring;

pub use batch::Batch;
pub use bounce::{Bounce, BounceBuffer};
pub use choose::{Choice, Selected, open, reserve};
pub use config::Config;
pub use simulated::{Faults, Outside, SECTOR, Simulated, SimulatedDisk};
pub use threads::Threads;
pub use uring::{ReservedRing, Uring};

/// One of the worker's files: those that the device gave it come first, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileIndex(pub u16);

/// What the device calls an operation; comes back with its completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token(pub u32);

/// An operation on a file. Offsets and lengths are in bytes.
#[derive(Debug)]
#[expect(missing_docs, reason = "each variant's text names its fields")]
pub enum Op<'a> {
    /// Read at `offset` into the segments; the result is the number of bytes, short at the end of
    /// the file or whenever the kernel likes.
    Read { file: FileIndex, offset: u64, into: &'a [Segment] },
    /// Write at `offset` from the segments; `durable` as with O_DSYNC.
    Write { file: FileIndex, offset: u64, from: &'a [Segment], durable: bool },
    /// Make data (and what is needed to read it again) durable: fdatasync.
    Sync { file: FileIndex },
    /// Allocate, punch or zero a range of a regular file, or of a block device where the kernel
    /// takes fallocate for it.
    Allocate { file: FileIndex, mode: Allocate, offset: u64, len: u64 },
    /// Discard a range of a block device.
    Discard { file: FileIndex, offset: u64, len: u64 },
    /// Write zeroes to a range of a block device; `unmap` allows it to deallocate.
    ZeroOut { file: FileIndex, offset: u64, len: u64, unmap: bool },
    /// Erase a range of a block device securely.
    SecureErase { file: FileIndex, offset: u64, len: u64 },
}

/// What a file may become ready for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Reading shows something: bytes, a connection, the end, or an error.
    Readable,
    /// It takes more, or writing shows an error.
    Writable,
}

/// One transfer of a batch on files that have no offset and never wait (O_NONBLOCK): sockets, terminals,
/// taps. On a tap or a packet socket, each transfer is one packet.
#[derive(Debug)]
#[expect(missing_docs, reason = "each variant's text names its fields")]
pub enum Transfer<'a> {
    /// Read what comes next into the segments.
    Receive { into: &'a [Segment] },
    /// Write `header`, at most [`Batch::HEADER_MAX`] bytes, and then what is in the segments.
    Send { header: &'a [u8], from: &'a [Segment] },
}

/// What [`Op::Allocate`] does to a range; the file's size never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocate {
    /// Deallocate: reads give zeroes.
    PunchHole,
    /// Zeroes, allocated.
    ZeroRange,
}

/// How an operation ended.
#[derive(Clone, Copy, Debug)]
pub struct Completion {
    /// What the device called it.
    pub token: Token,
    /// Bytes transferred (0 for operations that transfer none), or why not. EINTR and EAGAIN are
    /// rare, and say that the operation has done nothing and may be submitted again.
    pub result: Result<u32, Errno>,
}

/// What became of a submitted operation.
#[derive(Clone, Copy, Debug)]
#[must_use = "an operation that ended at once brings no completion later"]
pub enum Submitted {
    /// It has ended already; no completion follows.
    Now(Result<u32, Errno>),
    /// Its completion follows.
    Later,
}

/// What a device may ask for.
pub trait Io {
    /// Starts an operation. The segments must stay those of a chain that is in flight, or of a lent
    /// bounce buffer, until it has ended; the engine keeps their memory mapped for as long.
    fn submit(&mut self, op: &Op<'_>, token: Token) -> Submitted;

    /// Buffers for what direct I/O will not take from guest memory.
    fn bounce(&mut self) -> &mut Bounce;

    /// Time since some moment in the past; never goes back.
    fn now(&self) -> Duration;

    /// Takes one more file, for as long as [`Io::close_file`] does not give it back. The files that
    /// the device gave to its worker are there from the start.
    ///
    /// # Errors
    /// When there are [`Config::MOST_FILES`] already, or the engine cannot take it. The default is
    /// an engine that takes none.
    fn open_file(&mut self, _fd: Arc<OwnedFd>) -> io::Result<FileIndex> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Gives a file up, with any watch on it. No operation on it may be under way. Its index will be
    /// another file's.
    fn close_file(&mut self, _file: FileIndex) {}

    /// Adds a transfer to those that [`Io::carry_out`] will carry out in this same call of the device;
    /// what is left then is forgotten. False: there is no room for it ([`Batch`]). The default is an
    /// engine that has none.
    fn stage(&mut self, _transfer: &Transfer<'_>) -> bool {
        false
    }

    /// Appends segments to the transfer that was staged last. False: there is no room for them.
    fn stage_more(&mut self, _segments: &[Segment]) -> bool {
        false
    }

    /// Carries out what was staged on a file, in order and without waiting, in as few system calls
    /// as can be. `results` becomes one result for each: bytes transferred, or EAGAIN where the file
    /// was not ready; see [`Io::watch`].
    fn carry_out(&mut self, _file: FileIndex, results: &mut Vec<Result<u32, Errno>>) {
        results.clear();
    }

    /// Asks for one `Wake::Ready` when the file is ready, which may be at once. To ask again before
    /// it has come changes nothing. The default is an engine whose files are never ready.
    fn watch(&mut self, _file: FileIndex, _direction: Direction) {}

    /// Asks for a `Wake::Timer` at `when` (None: never), instead of what was asked for before.
    fn set_timer(&mut self, when: Option<Duration>);
}

/// Something an engine reports to its worker.
#[derive(Clone, Copy, Debug)]
pub enum Event {
    /// This queue of the worker was kicked.
    Kick(usize),
    /// The watch on this queue's kick has ended, and why: it will not be reported again.
    KickLost(usize, Errno),
    /// There are commands from the connection thread.
    Commands,
    /// An operation has ended.
    Done(Completion),
    /// A file that the device watches is ready.
    Ready(FileIndex, Direction),
    /// The timer.
    Timer,
}

/// How long [`Engine::turn`] may wait for an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Not at all: start what was submitted, collect what there is.
    No,
    /// Until there is one.
    ForEver,
}

/// What a worker needs of an engine.
///
/// An engine is dropped before the memory that its operations use: dropping it waits for them.
pub trait Engine: Io {
    /// The files that the device's operations name; called once, before anything is submitted.
    ///
    /// # Errors
    /// When the engine cannot take them.
    fn files(&mut self, files: Vec<Arc<OwnedFd>>) -> io::Result<()>;

    /// Watches a kick (None: stops watching this queue's). A descriptor that is readable already is
    /// reported at once. Eventfds are never drained; pipes are.
    ///
    /// # Errors
    /// When the descriptor cannot be watched.
    fn watch_kick(&mut self, queue: usize, kick: Option<Arc<OwnedFd>>) -> io::Result<()>;

    /// Starts all that was submitted, waits as told, and appends what happened to `events`. Now and
    /// then that is nothing, even after waiting (a signal came, or something of the engine's own).
    ///
    /// # Errors
    /// When the engine itself is broken: the worker cannot go on.
    fn turn(&mut self, wait: Wait, events: &mut Vec<Event>) -> io::Result<()>;

    /// How many operations have not ended yet.
    fn in_flight(&self) -> usize;

    /// Whether what has not ended yet is done by threads that have no CPU but this thread's: to spin
    /// would be to wait for what the spinning holds up.
    fn needs_this_cpu(&self) -> bool {
        false
    }
}
