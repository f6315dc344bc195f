//! The engine of blocking calls on a pool of threads, for where io_uring is not to be had.
//!
//! The worker waits in epoll: for kicks, for the connection thread's eventfd and for the pool's, all
//! edge-triggered, so that none of them needs to be drained. Files in memory are read and written on
//! the spot; so is whatever the page cache has, if the kernel can tell without waiting.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;

use super::blocking::{self, Call};
use super::kick::Kicks;
use super::path::Way;
use super::pool::Pool;
use super::tag::{Tag, WatchId};
use super::{
    Batch, Bounce, Config, Direction, Engine, Event, FileIndex, Io, Op, Submitted, Token, Transfer,
    Wait,
};
use crate::memory::Segment;

/// How many descriptors are reported at once. The rest is reported the next time.
const BATCH: usize = 64;

/// Operations by blocking calls.
///
/// To be dropped before the guest memory that its operations use: it waits for those under way.
#[derive(Debug)]
pub struct Threads {
    pool: Pool,
    epoll: OwnedFd,
    files: Vec<Option<File>>,
    latest: u32,
    kicks: Kicks,
    /// What could not be watched, to be reported at the next turn.
    lost: Vec<Event>,
    bounce: Bounce,
    batch: Batch,
    timer: Option<Duration>,
    start: Instant,
    _commands: Arc<OwnedFd>,
}

#[derive(Debug)]
struct File {
    fd: Arc<OwnedFd>,
    way: Way,
    /// What epoll is given to watch: it takes no descriptor twice.
    watched: Option<Watched>,
}

/// A file that was watched at least once.
#[derive(Debug)]
struct Watched {
    fd: OwnedFd,
    id: WatchId,
    /// What is asked for and has not come yet.
    wanted: EventFlags,
}

impl Threads {
    /// # Errors
    /// When there is no epoll or no eventfd to be had.
    pub fn new(config: &Config) -> io::Result<Self> {
        let pool = Pool::new(config.threads.max(1).into(), config.operations.into())?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        watch(&epoll, pool.ready(), Tag::Pool)?;
        watch(&epoll, &config.commands, Tag::Commands)?;
        Ok(Threads {
            pool,
            epoll,
            files: Vec::new(),
            latest: 0,
            kicks: Kicks::new(config.queues),
            lost: Vec::new(),
            bounce: config.bounce(),
            batch: Batch::default(),
            timer: None,
            start: Instant::now(),
            _commands: Arc::clone(&config.commands),
        })
    }

    /// Waits for descriptors, for `limit` at most, and tells what they report.
    fn wait(&mut self, limit: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()> {
        let limit = limit.map(|limit| Timespec {
            tv_sec: limit.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: limit.subsec_nanos().into(),
        });
        let mut buffer = [MaybeUninit::uninit(); BATCH];
        let ready = match epoll::wait(&self.epoll, &mut buffer, limit.as_ref()) {
            Ok((ready, _)) => ready,
            Err(Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        for event in ready {
            match Tag::decode(event.data.u64()) {
                Some(Tag::Commands) => events.push(Event::Commands),
                Some(Tag::Kick(id)) => {
                    let flags = event.flags;
                    let kick = self.kicks.get(id).map(|kick| Arc::clone(&kick.fd));
                    let event = self.kicks.report(id, Ok(flags));
                    if let (Some(Event::KickLost(..)), Some(fd)) = (event, kick) {
                        epoll::delete(&self.epoll, &fd)?;
                    }
                    events.extend(event);
                }
                Some(Tag::Ready(id, _)) => self.report(id, event.flags, events),
                // What the pool has is collected in any case.
                _ => {}
            }
        }
        Ok(())
    }

    /// Tells which of the things that were asked for a file is ready for, and asks for the rest again.
    fn report(&mut self, id: WatchId, flags: EventFlags, events: &mut Vec<Event>) {
        let index = FileIndex(id.queue);
        let Some(watched) = self.watched(index).filter(|watched| watched.id == id) else { return };
        let failed = flags.intersects(EventFlags::ERR | EventFlags::HUP | EventFlags::RDHUP);
        for (direction, flag) in
            [(Direction::Readable, EventFlags::IN), (Direction::Writable, EventFlags::OUT)]
        {
            if watched.wanted.contains(flag) && (failed || flags.contains(flag)) {
                watched.wanted.remove(flag);
                if direction == Direction::Readable {
                    watched.wanted.remove(EventFlags::RDHUP);
                }
                events.push(Event::Ready(index, direction));
            }
        }
        self.arm(index);
    }

    fn watched(&mut self, index: FileIndex) -> Option<&mut Watched> {
        self.files.get_mut(usize::from(index.0))?.as_mut()?.watched.as_mut()
    }

    /// Has epoll watch for what is asked for, once.
    fn arm(&mut self, index: FileIndex) {
        let Some(File { watched: Some(watched), .. }) =
            self.files.get(usize::from(index.0)).and_then(Option::as_ref)
        else {
            return;
        };
        if watched.wanted.is_empty() {
            return;
        }
        let data = EventData::new_u64(Tag::Ready(watched.id, Direction::Readable).encode());
        let flags = watched.wanted | EventFlags::ONESHOT;
        // It was added before, and nothing else is wrong with it.
        let _ = epoll::modify(&self.epoll, &watched.fd, data, flags);
    }

    /// Lets epoll know of a file.
    fn begin_to_watch(&mut self, index: FileIndex) -> io::Result<()> {
        let id = WatchId { queue: index.0, generation: self.latest }.next();
        let file = self.files.get_mut(usize::from(index.0)).and_then(Option::as_mut);
        let Some(file) = file else { return Ok(()) };
        if file.watched.is_none() {
            let fd = file.fd.try_clone()?;
            let data = EventData::new_u64(Tag::Ready(id, Direction::Readable).encode());
            epoll::add(&self.epoll, &fd, data, EventFlags::ONESHOT)?;
            file.watched = Some(Watched { fd, id, wanted: EventFlags::empty() });
            self.latest = id.generation;
        }
        Ok(())
    }

    fn collect(&mut self, events: &mut Vec<Event>) {
        self.pool.collect(|completion| events.push(Event::Done(completion)));
    }
}

/// Has epoll report each time that a descriptor becomes readable.
fn watch(epoll: &OwnedFd, fd: &OwnedFd, tag: Tag) -> Result<(), Errno> {
    epoll::add(epoll, fd, EventData::new_u64(tag.encode()), EventFlags::IN | EventFlags::ET)
}

impl Io for Threads {
    fn submit(&mut self, op: &Op<'_>, token: Token) -> Submitted {
        let (index, call, segments) = op.parts();
        let Some(Some(File { fd, way, .. })) = self.files.get(usize::from(index.0)) else {
            return Submitted::Now(Err(Errno::BADF));
        };
        match (way, call) {
            (Way::AtOnce, Call::Read { .. } | Call::Write { .. } | Call::Sync) => {
                return Submitted::Now(blocking::perform(fd, call, segments));
            }
            (Way::TryRead, Call::Read { offset }) => {
                if let Some(result) = blocking::try_read(fd, offset, segments) {
                    return Submitted::Now(result);
                }
            }
            _ => {}
        }
        match self.pool.start(fd, call, segments, token) {
            Ok(()) => Submitted::Later,
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
        let hole = self.files.iter().position(Option::is_none).unwrap_or(self.files.len());
        let index = u16::try_from(hole).ok().filter(|index| *index < Config::MOST_FILES);
        let none = || io::Error::other("the device has too many files for one worker");
        let index = index.ok_or_else(none)?;
        if hole == self.files.len() {
            self.files.push(None);
        }
        if let Some(place) = self.files.get_mut(hole) {
            *place = Some(File { way: Way::to(&fd), fd, watched: None });
        }
        Ok(FileIndex(index))
    }

    fn close_file(&mut self, file: FileIndex) {
        let place = self.files.get_mut(usize::from(file.0)).and_then(Option::take);
        if let Some(watched) = place.and_then(|file| file.watched) {
            let _ = epoll::delete(&self.epoll, &watched.fd);
        }
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
        let file = self.files.get(usize::from(file.0)).and_then(Option::as_ref);
        let batch = &self.batch;
        results.extend(batch.staged().iter().map(|staged| {
            let file = file.ok_or(Errno::BADF)?;
            blocking::transfer(&file.fd, staged, batch)
        }));
        self.batch.clear();
    }

    fn watch(&mut self, file: FileIndex, direction: Direction) {
        if self.begin_to_watch(file).is_err() {
            // What cannot be watched is ready always, as poll has it.
            self.lost.push(Event::Ready(file, direction));
            return;
        }
        if let Some(watched) = self.watched(file) {
            watched.wanted |= match direction {
                Direction::Readable => EventFlags::IN | EventFlags::RDHUP,
                Direction::Writable => EventFlags::OUT,
            };
        }
        self.arm(file);
    }

    fn set_timer(&mut self, when: Option<Duration>) {
        self.timer = when;
    }
}

impl Engine for Threads {
    fn files(&mut self, files: Vec<Arc<OwnedFd>>) -> io::Result<()> {
        files.into_iter().try_for_each(|fd| self.open_file(fd).map(drop))
    }

    fn watch_kick(&mut self, queue: usize, kick: Option<Arc<OwnedFd>>) -> io::Result<()> {
        if let Some(old) = self.kicks.take(queue)? {
            epoll::delete(&self.epoll, &old.fd)?;
        }
        if let Some(fd) = kick {
            // A duplicate: epoll takes no descriptor twice, but two queues may share a kick.
            let added = self.kicks.put(queue, Arc::new(fd.try_clone()?))?;
            if let Err(error) = watch(&self.epoll, &added.fd, Tag::Kick(added.id)) {
                self.kicks.take(queue)?;
                self.lost.push(Event::KickLost(queue, error));
            }
        }
        Ok(())
    }

    fn turn(&mut self, wait: Wait, events: &mut Vec<Event>) -> io::Result<()> {
        self.batch.clear();
        let before = events.len();
        events.append(&mut self.lost);
        self.collect(events);
        let limit = match wait {
            Wait::ForEver if events.len() == before => {
                self.timer.map(|when| when.saturating_sub(self.start.elapsed()))
            }
            _ => Some(Duration::ZERO),
        };
        self.wait(limit, events)?;
        self.collect(events);
        if let Some(when) = self.timer
            && self.start.elapsed() >= when
        {
            self.timer = None;
            events.push(Event::Timer);
        }
        Ok(())
    }

    fn in_flight(&self) -> usize {
        self.pool.unfinished()
    }
}
