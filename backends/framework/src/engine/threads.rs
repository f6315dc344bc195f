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
use super::tag::Tag;
use super::{Bounce, Config, Engine, Event, Io, Op, Submitted, Token, Wait};

/// How many descriptors are reported at once. The rest is reported the next time.
const BATCH: usize = 64;

/// Operations by blocking calls.
///
/// To be dropped before the guest memory that its operations use: it waits for those under way.
#[derive(Debug)]
pub struct Threads {
    pool: Pool,
    epoll: OwnedFd,
    files: Vec<File>,
    kicks: Kicks,
    /// Kicks that could not be watched, to be reported at the next turn.
    lost: Vec<Event>,
    bounce: Bounce,
    timer: Option<Duration>,
    start: Instant,
    _commands: Arc<OwnedFd>,
}

#[derive(Debug)]
struct File {
    fd: Arc<OwnedFd>,
    way: Way,
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
            kicks: Kicks::new(config.queues),
            lost: Vec::new(),
            bounce: config.bounce(),
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
                // What the pool has is collected in any case.
                _ => {}
            }
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
        let Some(File { fd, way }) = self.files.get(usize::from(index.0)) else {
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

    fn set_timer(&mut self, when: Option<Duration>) {
        self.timer = when;
    }
}

impl Engine for Threads {
    fn files(&mut self, files: Vec<Arc<OwnedFd>>) -> io::Result<()> {
        self.files = files.into_iter().map(|fd| File { way: Way::to(&fd), fd }).collect();
        Ok(())
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
