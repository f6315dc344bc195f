//! The simulated engine as a worker of the simulation has it: one that knows whether the worker sleeps.
//!
//! A real worker that waits for ever is woken by a kick, a command or a completion, and by nothing
//! else; least of all does it look at its rings again. Here nothing blocks. So a turn in which the
//! worker would have gone to sleep is marked; until there is something to wake it, it gets no other
//! turn; and the device is not offered a ring in such a turn (see [`crate::device::Watched`]).

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use framework::engine::{Bounce, Engine, Event, Io, Op, Simulated, Submitted, Token, Wait};
use framework::memory::Segment;
use rustix::event::{PollFd, PollFlags, Timespec};

/// Whether a worker sleeps, and what its engine does.
#[derive(Debug, Default)]
pub(crate) struct Sleep {
    asleep: AtomicBool,
    overslept: AtomicBool,
    /// Something was begun or has ended since somebody last asked.
    moved: AtomicBool,
    /// What has happened since somebody last asked; None: nobody will ask.
    story: Mutex<Option<Vec<String>>>,
}

impl Sleep {
    /// Whether the worker waits for something from outside.
    pub(crate) fn is_asleep(&self) -> bool {
        self.asleep.load(Ordering::Relaxed)
    }

    /// Whether something was begun or has ended since the last time.
    pub(crate) fn take_moved(&self) -> bool {
        self.moved.swap(false, Ordering::Relaxed)
    }

    /// Somebody wants to know what the engine does.
    pub(crate) fn listen(&self) {
        *self.story.lock().unwrap_or_else(PoisonError::into_inner) = Some(Vec::new());
    }

    /// What has happened since the last time.
    pub(crate) fn take_story(&self) -> Vec<String> {
        let mut story = self.story.lock().unwrap_or_else(PoisonError::into_inner);
        story.as_mut().map_or(Vec::new(), std::mem::take)
    }

    fn tell(&self, what: impl FnOnce() -> String) {
        let mut story = self.story.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(story) = &mut *story {
            story.push(what());
        }
    }

    /// The worker does something that one who sleeps does not do: it offers a ring to the device, or
    /// answers a command.
    pub(crate) fn active(&self) {
        if self.is_asleep() {
            self.overslept.store(true, Ordering::Relaxed);
        }
    }

    /// Whether there was something to do when the worker went to sleep.
    pub(crate) fn has_overslept(&self) -> bool {
        self.overslept.load(Ordering::Relaxed)
    }
}

/// The engine.
#[derive(Debug)]
pub(crate) struct Stepped {
    inner: Simulated,
    sleep: Arc<Sleep>,
    kicks: Vec<Option<Arc<OwnedFd>>>,
}

impl Stepped {
    pub(crate) fn new(inner: Simulated, sleep: Arc<Sleep>) -> Self {
        Stepped { inner, sleep, kicks: Vec::new() }
    }

    /// Whether a kick is waiting to be seen.
    pub(crate) fn is_kicked(&self) -> bool {
        self.kicks.iter().flatten().any(|kick| {
            let mut poll = [PollFd::new(&**kick, PollFlags::IN)];
            matches!(rustix::event::poll(&mut poll, Some(&Timespec::default())), Ok(1))
        })
    }
}

impl Io for Stepped {
    fn submit(&mut self, op: &Op<'_>, token: Token) -> Submitted {
        let submitted = self.inner.submit(op, token);
        self.sleep.moved.store(true, Ordering::Relaxed);
        self.sleep.tell(|| format!("begins {}, {token:?}: {submitted:?}", describe(op)));
        submitted
    }

    fn bounce(&mut self) -> &mut Bounce {
        self.inner.bounce()
    }

    fn now(&self) -> Duration {
        self.inner.now()
    }

    fn set_timer(&mut self, when: Option<Duration>) {
        self.inner.set_timer(when);
    }
}

impl Engine for Stepped {
    fn files(&mut self, files: Vec<Arc<OwnedFd>>) -> io::Result<()> {
        self.inner.files(files)
    }

    fn watch_kick(&mut self, queue: usize, kick: Option<Arc<OwnedFd>>) -> io::Result<()> {
        if self.kicks.len() <= queue {
            self.kicks.resize(queue + 1, None);
        }
        if let Some(place) = self.kicks.get_mut(queue) {
            place.clone_from(&kick);
        }
        self.inner.watch_kick(queue, kick)
    }

    fn turn(&mut self, wait: Wait, events: &mut Vec<Event>) -> io::Result<()> {
        let before = events.len();
        self.inner.turn(wait, events)?;
        // With something under way, time has leapt to its end.
        for event in events.iter().skip(before) {
            self.sleep.moved.store(true, Ordering::Relaxed);
            self.sleep.tell(|| format!("{event:?}"));
        }
        let asleep = wait == Wait::ForEver && events.len() == before;
        self.sleep.asleep.store(asleep, Ordering::Relaxed);
        if asleep {
            self.sleep.tell(|| "goes to sleep".into());
        }
        Ok(())
    }

    fn in_flight(&self) -> usize {
        self.inner.in_flight()
    }
}

fn describe(op: &Op<'_>) -> String {
    match op {
        Op::Read { offset, into, .. } => {
            format!("to read {} bytes at {offset}", into.iter().map(Segment::len).sum::<usize>())
        }
        Op::Write { offset, from, durable, .. } => {
            let bytes = from.iter().map(Segment::len).sum::<usize>();
            let how = if *durable { " for good" } else { "" };
            format!("to write {bytes} bytes at {offset}{how}")
        }
        other => format!("{other:?}"),
    }
}
