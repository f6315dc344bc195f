//! The simulated engine as a worker of the simulation has it: one that knows whether the worker sleeps.
//!
//! A real worker that waits for ever is woken by a kick, a command or a completion, and by nothing
//! else; least of all does it look at its rings again. Here nothing blocks. So a turn in which the
//! worker would have gone to sleep is marked; until there is something to wake it, it gets no other
//! turn; and the device is not offered a ring in such a turn (see [`crate::device::Watched`]).

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use framework::engine::{Bounce, Engine, Event, Io, Op, Simulated, Submitted, Token, Wait};
use rustix::event::{PollFd, PollFlags, Timespec};

/// Whether a worker sleeps.
#[derive(Debug, Default)]
pub(crate) struct Sleep {
    asleep: AtomicBool,
    overslept: AtomicBool,
}

impl Sleep {
    /// Whether the worker waits for something from outside.
    pub(crate) fn is_asleep(&self) -> bool {
        self.asleep.load(Ordering::Relaxed)
    }

    /// The device was offered a ring.
    pub(crate) fn offered(&self) {
        if self.is_asleep() {
            self.overslept.store(true, Ordering::Relaxed);
        }
    }

    /// Whether a ring had chains when the worker went to sleep.
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
        self.inner.submit(op, token)
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
        let asleep = wait == Wait::ForEver && events.len() == before;
        self.sleep.asleep.store(asleep, Ordering::Relaxed);
        Ok(())
    }

    fn in_flight(&self) -> usize {
        self.inner.in_flight()
    }
}
