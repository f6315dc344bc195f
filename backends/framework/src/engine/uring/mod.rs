//! The engine on io_uring.
//!
//! Theory of operation. One io_uring belongs to one worker thread. Operations are pushed as they are
//! submitted, and start at the next [`Engine::turn`], which is one `io_uring_enter` however much
//! there is to start, to wait for and to collect, and no system call at all when it may not wait and
//! nothing is pending. Only those for a disk start in small groups, before the turn. Kicks and the
//! connection thread's eventfd are multishot polls, armed once. Every file is a registered one.
//! So is the front-end's connection, on which nothing is ever done here: a ring's files stay open until
//! all that was begun in it has ended, even that of a process that was killed. Until then the front-end
//! does not see the connection closed, and gives no memory of the guest another use.
//!
//! What the ring cannot do well goes another way: files in memory are read and written on the spot
//! (see `path.rs`), and the few ioctls of block devices are carried out by a thread that is started
//! when the first of them comes.

mod entries;
mod files;
mod queue;
mod setup;
mod transfers;

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use io_uring::cqueue;
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::thread::sched_getaffinity;

use super::blocking::{self, Call};
use super::kick::{Kicks, require_pollable};
use super::pool::Pool;
use super::tag::{Tag, WatchId};
use super::{
    Allocate, Batch, Bounce, Completion, Config, Direction, Engine, Event, FileIndex, Io, Op,
    Submitted, Token, Transfer, Wait,
};
use crate::memory::Segment;
use files::{File, Files};
use queue::{Queue, Sound};
pub use setup::ReservedRing;
use setup::Slots;
use transfers::Results;

/// So many operations on a disk are submitted without waiting for the turn. Submitting one takes the
/// block layer microseconds, and the disk hears of none before the last of a batch: with a batch of
/// 32 it would be idle for as long as it takes to read several blocks.
const DISK_GROUP: usize = 4;

/// Operations by io_uring, on a ring that was set aside. Bound to the worker's own thread.
///
/// To be dropped before the guest memory that its operations use; see [`Drop`].
pub struct Uring<'r> {
    queue: Queue<'r>,
    state: State,
    /// What is known already and reported at the next turn.
    early: Vec<Event>,
    batch: Batch,
    bounce: Bounce,
    timer: Option<Duration>,
    start: Instant,
    _commands: Arc<OwnedFd>,
    /// The kernel refuses other threads: neither Send nor Sync.
    bound: PhantomData<Rc<()>>,
}

/// All that a completion may change, apart from the queue that it comes from.
struct State {
    slots: Slots,
    files: Files,
    kicks: Kicks,
    /// For the ioctls; made at first use.
    pool: Option<Pool>,
    /// Operations in the ring.
    in_ring: usize,
    /// This thread is bound to one CPU, and so are the kernel's threads that work for its ring.
    one_cpu: bool,
    results: Results,
    /// Those of them that may have to be repeated in another way.
    unmapping: Vec<Unmapping>,
}

/// A range that is being deallocated so that it reads as zeroes; where that is refused, zeroes are
/// written.
struct Unmapping {
    token: Token,
    file: FileIndex,
    offset: u64,
    len: u64,
}

impl<'r> Uring<'r> {
    /// An engine on a ring that was set aside, for the calling thread.
    ///
    /// # Errors
    /// When the ring is another thread's, or too small.
    pub fn new(ring: &'r mut ReservedRing, config: &Config) -> io::Result<Self> {
        let slots = Slots::new(config.queues);
        let mut queue = Queue::new(ring, config.queues)?;
        queue.register(Slots::COMMANDS, config.commands.as_raw_fd())?;
        if let Some(connection) = &config.connection {
            queue.register(Slots::CONNECTION, connection.as_raw_fd())?;
        }
        queue.push(entries::watch(Slots::COMMANDS, Tag::Commands));
        Ok(Uring {
            queue,
            state: State {
                slots,
                files: Files::default(),
                kicks: Kicks::new(config.queues),
                pool: None,
                in_ring: 0,
                one_cpu: sched_getaffinity(None).is_ok_and(|cpus| cpus.count() == 1),
                results: Results::default(),
                unmapping: Vec::new(),
            },
            early: Vec::new(),
            batch: Batch::default(),
            bounce: config.bounce(),
            timer: None,
            start: Instant::now(),
            _commands: Arc::clone(&config.commands),
            bound: PhantomData,
        })
    }

    /// Has a call carried out by a thread.
    fn start_blocking(&mut self, index: FileIndex, call: Call, token: Token) -> Submitted {
        match self.try_start_blocking(index, call, token) {
            Ok(()) => Submitted::Later,
            Err(error) => Submitted::Now(Err(error)),
        }
    }

    fn try_start_blocking(
        &mut self,
        index: FileIndex,
        call: Call,
        token: Token,
    ) -> Result<(), Errno> {
        let pool = match &mut self.state.pool {
            Some(pool) => pool,
            none => {
                let error = |error| Errno::from_io_error(&error).unwrap_or(Errno::AGAIN);
                let pool = Pool::new(1, 16).map_err(error)?;
                self.queue.register(Slots::POOL, pool.ready().as_raw_fd()).map_err(error)?;
                self.queue.push(entries::watch(Slots::POOL, Tag::Pool));
                none.insert(pool)
            }
        };
        let file = self.state.files.get(index).ok_or(Errno::BADF)?;
        pool.start(&file.fd, call, &[], token)
    }

    #[inline]
    fn push(&mut self, entry: Sound, on_disk: bool) -> Submitted {
        self.queue.push(entry);
        self.state.in_ring += 1;
        if on_disk && self.queue.waiting() >= DISK_GROUP {
            // After an error they are still in the queue: the turn tries again, and reports it.
            let _ = self.queue.submit();
        }
        Submitted::Later
    }

    /// Collects everything that has been reported.
    #[inline]
    fn reap(&mut self, events: &mut Vec<Event>) {
        let (completions, then) = self.queue.reap();
        for completion in completions {
            self.state.handle(&completion, then, events);
        }
    }

    #[inline]
    fn check_timer(&mut self, events: &mut Vec<Event>) {
        if let Some(when) = self.timer
            && self.start.elapsed() >= when
        {
            self.timer = None;
            events.push(Event::Timer);
        }
    }
}

impl Io for Uring<'_> {
    #[inline]
    fn submit(&mut self, op: &Op<'_>, token: Token) -> Submitted {
        let (index, call, segments) = op.parts();
        let Some(file) = self.state.files.get(index) else {
            return Submitted::Now(Err(Errno::BADF));
        };
        if file.at_once && matches!(call, Call::Read { .. } | Call::Write { .. } | Call::Sync) {
            return Submitted::Now(blocking::perform(&file.fd, call, segments));
        }
        let (slot, on_disk, tag) = (file.slot, file.on_disk, Tag::Op(token));
        let entry = match call {
            Call::Read { offset } => entries::read(&mut self.queue, slot, offset, segments, tag),
            Call::Write { offset, durable } => {
                entries::write(&mut self.queue, slot, offset, segments, durable, tag)
            }
            Call::Sync => Ok(entries::sync(slot, tag)),
            Call::Allocate { mode, offset, len } => {
                Ok(entries::allocate(slot, mode, offset, len, tag))
            }
            Call::ZeroOut { offset, len, unmap: true } if file.unmaps_zeroes => {
                self.state.unmapping.push(Unmapping { token, file: index, offset, len });
                let tag = Tag::Unmapping(token);
                Ok(entries::allocate(slot, Allocate::PunchHole, offset, len, tag))
            }
            Call::ZeroOut { offset, len, .. } => {
                Ok(entries::allocate(slot, Allocate::ZeroRange, offset, len, tag))
            }
            Call::Discard { offset, len } if file.discards_in_ring => {
                Ok(entries::discard(slot, offset, len, tag))
            }
            Call::Discard { .. } | Call::SecureErase { .. } => {
                return self.start_blocking(index, call, token);
            }
        };
        match entry {
            Ok(entry) => self.push(entry, on_disk),
            Err(error) => Submitted::Now(Err(error)),
        }
    }

    fn bounce(&mut self) -> &mut Bounce {
        &mut self.bounce
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn open_file(&mut self, fd: Arc<OwnedFd>) -> io::Result<FileIndex> {
        let none = || io::Error::other("the device has too many files for one worker");
        let index = self.state.files.free().ok_or_else(none)?;
        let slot = self.state.slots.file(index);
        self.queue.register(slot, fd.as_raw_fd())?;
        let file = File::new(fd, slot);
        if file.is_block_device {
            // No bytes, from an offset that no device accepts.
            let probe = Tag::DiscardProbe(FileIndex(index));
            self.queue.push(entries::discard(slot, 1, 0, probe));
        }
        self.state.files.put(index, file);
        Ok(FileIndex(index))
    }

    fn close_file(&mut self, index: FileIndex) {
        let Some(mut file) = self.state.files.take(index) else { return };
        for direction in [Direction::Readable, Direction::Writable] {
            if *file.watch_mut(direction) {
                self.queue.push(entries::unwatch(Tag::Ready(file.id, direction), Tag::Unready));
            }
        }
        // The watch that is about to be pushed names the place, which another file may have by then.
        let _ = self.queue.submit();
        let _ = self.queue.register(file.slot, -1);
    }

    #[inline]
    fn stage(&mut self, transfer: &Transfer<'_>) -> bool {
        self.batch.push(transfer)
    }

    #[inline]
    fn stage_more(&mut self, segments: &[Segment]) -> bool {
        self.batch.extend(segments)
    }

    #[inline]
    fn carry_out(&mut self, file: FileIndex, results: &mut Vec<Result<u32, Errno>>) {
        self.carry_out_batch(file, results);
    }

    fn watch(&mut self, index: FileIndex, direction: Direction) {
        let Some(file) = self.state.files.get_mut(index) else { return };
        if !std::mem::replace(file.watch_mut(direction), true) {
            let (slot, tag) = (file.slot, Tag::Ready(file.id, direction));
            self.queue.push(entries::watch_once(slot, direction, tag));
        }
    }

    fn set_timer(&mut self, when: Option<Duration>) {
        self.timer = when;
    }
}

impl Engine for Uring<'_> {
    fn files(&mut self, files: Vec<Arc<OwnedFd>>) -> io::Result<()> {
        files.into_iter().try_for_each(|fd| self.open_file(fd).map(drop))
    }

    fn watch_kick(&mut self, queue: usize, kick: Option<Arc<OwnedFd>>) -> io::Result<()> {
        if let Some(old) = self.state.kicks.take(queue)? {
            self.queue.push(entries::unwatch(Tag::Kick(old.id), Tag::Unwatch(old.id)));
            self.queue.register(self.state.slots.kick(old.id.queue), -1)?;
        }
        if let Some(fd) = kick {
            if let Err(error) = require_pollable(&fd) {
                self.early.push(Event::KickLost(queue, error));
                return Ok(());
            }
            let raw = fd.as_raw_fd();
            let id = self.state.kicks.put(queue, fd)?.id;
            let slot = self.state.slots.kick(id.queue);
            self.queue.register(slot, raw)?;
            self.queue.push(entries::watch(slot, Tag::Kick(id)));
        }
        Ok(())
    }

    #[inline]
    fn turn(&mut self, wait: Wait, events: &mut Vec<Event>) -> io::Result<()> {
        self.batch.clear();
        self.queue.push_backlog();
        if wait == Wait::No || !self.early.is_empty() || self.queue.has_completions() {
            self.queue.poke()?;
        } else {
            let limit = self.timer.map(|when| when.saturating_sub(self.start.elapsed()));
            self.queue.wait(limit, self.state.in_ring == 0)?;
        }
        events.append(&mut self.early);
        self.reap(events);
        self.check_timer(events);
        Ok(())
    }

    fn in_flight(&self) -> usize {
        self.state.in_flight()
    }

    #[inline]
    fn needs_this_cpu(&self) -> bool {
        self.state.one_cpu && self.state.in_ring > 0 && self.state.files.any_buffered()
    }
}

impl State {
    fn in_flight(&self) -> usize {
        self.in_ring + self.pool.as_ref().map_or(0, Pool::unfinished)
    }

    /// Deals with one completion. What is to be pushed in answer goes to `then`.
    #[inline]
    fn handle(
        &mut self,
        completion: &cqueue::Entry,
        then: &mut Vec<Sound>,
        events: &mut Vec<Event>,
    ) {
        let result = completion.result();
        let result = u32::try_from(result).map_err(|_| Errno::from_raw_os_error(-result));
        let more = cqueue::more(completion.flags());
        match Tag::decode(completion.user_data()) {
            Some(Tag::Op(token)) => {
                self.in_ring -= 1;
                events.push(Event::Done(Completion { token, result }));
            }
            Some(Tag::Staged(number)) => self.results.put(number, result),
            Some(Tag::Unmapping(token)) => self.unmapped(token, result, then, events),
            Some(Tag::Kick(id)) => self.kicked(id, result, more, then, events),
            // The watch was just reporting something: it cannot be ended before it has.
            Some(Tag::Unwatch(id)) if result == Err(Errno::ALREADY) => {
                then.push(entries::unwatch(Tag::Kick(id), Tag::Unwatch(id)));
            }
            Some(Tag::Commands) => {
                if !more {
                    then.push(entries::watch(Slots::COMMANDS, Tag::Commands));
                }
                events.push(Event::Commands);
            }
            Some(Tag::Pool) => {
                if !more {
                    then.push(entries::watch(Slots::POOL, Tag::Pool));
                }
                if let Some(pool) = &mut self.pool {
                    pool.collect(|completion| events.push(Event::Done(completion)));
                }
            }
            Some(Tag::Ready(id, direction)) => {
                if let Some(file) = self.files.ready(id, direction) {
                    events.push(Event::Ready(file, direction));
                }
            }
            Some(Tag::DiscardProbe(index)) => {
                if let Some(file) = self.files.get_mut(index) {
                    file.discard_probed(result);
                }
            }
            Some(Tag::Unwatch(_) | Tag::Unready | Tag::Cancel) | None => {}
        }
    }

    fn kicked(
        &mut self,
        id: WatchId,
        result: Result<u32, Errno>,
        more: bool,
        then: &mut Vec<Sound>,
        events: &mut Vec<Event>,
    ) {
        let flags = result.map(EventFlags::from_bits_retain);
        let Some(event) = self.kicks.report(id, flags) else { return };
        match event {
            Event::KickLost(..) if more => {
                then.push(entries::unwatch(Tag::Kick(id), Tag::Unwatch(id)));
            }
            Event::Kick(_) if !more => {
                then.push(entries::watch(self.slots.kick(id.queue), Tag::Kick(id)));
            }
            _ => {}
        }
        events.push(event);
    }

    /// Deallocating has ended; where it was refused, the zeroes are written after all.
    fn unmapped(
        &mut self,
        token: Token,
        result: Result<u32, Errno>,
        then: &mut Vec<Sound>,
        events: &mut Vec<Event>,
    ) {
        let found = self.unmapping.iter().position(|unmapping| unmapping.token == token);
        let unmapping = found.map(|at| self.unmapping.swap_remove(at));
        if let (Err(Errno::OPNOTSUPP), Some(Unmapping { file, offset, len, .. })) =
            (result, unmapping)
            && let Some(file) = self.files.get_mut(file)
        {
            file.unmaps_zeroes = false;
            let tag = Tag::Op(token);
            then.push(entries::allocate(file.slot, Allocate::ZeroRange, offset, len, tag));
            return;
        }
        self.in_ring -= 1;
        events.push(Event::Done(Completion { token, result }));
    }
}

impl Drop for Uring<'_> {
    /// Waits until every operation has ended, because the kernel goes on reading and writing guest
    /// memory until then; that memory must be unmapped later than this. A worker drains its rings
    /// first, so there is normally nothing to wait for. Then the ring is left as it was made, for the
    /// next engine on this thread.
    fn drop(&mut self) {
        let mut ended = Vec::new();
        while self.state.in_ring > 0 {
            if let Err(error) = self.turn(Wait::ForEver, &mut ended) {
                tracing::error!(%error, "io_uring broke with operations in flight");
                // Bounce buffers stay where the kernel may still write.
                std::mem::forget(self.bounce.memory().cloned());
                return;
            }
            ended.clear();
        }
        if let Err(error) = self.queue.clear(self.state.slots.count()) {
            tracing::error!(%error, "an io_uring cannot be used again");
        }
    }
}
