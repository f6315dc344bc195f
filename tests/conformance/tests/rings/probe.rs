//! A device that remembers what it was given, and ends it when the test says so.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use framework::device::{Service, Wake};
use framework::engine::{Bounce, Engine, Event, Io, Op, Submitted, Token, Wait};
use framework::ring::{Chain, Ring, Rings};
use rustix::io::Errno;

/// What every byte is that the device writes.
pub(crate) const WRITTEN: u8 = 0xd5;

/// What the device was given and what it is to do.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// What each chain held to be read, in the order in which chains were taken.
    pub(crate) read: Vec<Vec<u8>>,
    /// How many bytes each had room for.
    pub(crate) room: Vec<usize>,
    /// Whether chains are ended as they are taken.
    pub(crate) at_once: bool,
    /// Chains to end in the next turn: the n-th ever taken.
    pub(crate) end: Vec<usize>,
    /// What is reported to the worker in the next turn.
    pub(crate) events: Vec<Event>,
    /// How often the device was offered chains.
    pub(crate) offers: usize,
}

/// The plan, shared with the test.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shared(Arc<Mutex<Plan>>);

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Plan> {
        self.0.lock().unwrap()
    }
}

/// The device's data side.
pub(crate) struct Probe {
    plan: Shared,
    held: Vec<Option<Chain>>,
}

impl Probe {
    pub(crate) fn new(plan: &Shared) -> Self {
        Probe { plan: plan.clone(), held: Vec::new() }
    }

    fn take(&mut self, ring: &mut Ring) {
        while let Some(chain) = ring.take() {
            let mut bytes = vec![0; ring.readable_len(&chain)];
            ring.read(&chain, 0, &mut bytes);
            let mut plan = self.plan.lock();
            plan.read.push(bytes);
            plan.room.push(ring.writable_len(&chain));
            if plan.at_once {
                plan.end.push(self.held.len());
            }
            self.held.push(Some(chain));
        }
    }

    fn end(&mut self, ring: &mut Ring) {
        let end = std::mem::take(&mut self.plan.lock().end);
        for chain in end.into_iter().filter_map(|n| self.held.get_mut(n)?.take()) {
            let room = ring.writable_len(&chain);
            let written = ring.write(&chain, 0, &vec![WRITTEN; room]);
            ring.complete(chain, written as u32);
        }
    }
}

impl Service for Probe {
    fn service<I: Io>(&mut self, rings: &mut Rings, _io: &mut I, wake: Wake) {
        let Some(ring) = rings.get(0) else { return };
        if matches!(wake, Wake::Kick(_)) {
            self.plan.lock().offers += 1;
            self.take(ring);
        }
        self.end(ring);
    }
}

/// An engine without I/O, which wakes the device in every turn.
pub(crate) struct Idle {
    plan: Shared,
    bounce: Bounce,
}

impl Idle {
    pub(crate) fn new(plan: &Shared) -> Self {
        Idle { plan: plan.clone(), bounce: Bounce::new(4096, 1) }
    }
}

impl Io for Idle {
    fn submit(&mut self, _op: &Op<'_>, _token: Token) -> Submitted {
        Submitted::Now(Err(Errno::NOSYS))
    }

    fn bounce(&mut self) -> &mut Bounce {
        &mut self.bounce
    }

    fn now(&self) -> Duration {
        Duration::ZERO
    }

    fn set_timer(&mut self, _when: Option<Duration>) {}
}

impl Engine for Idle {
    fn files(&mut self, _files: Vec<Arc<OwnedFd>>) -> io::Result<()> {
        Ok(())
    }

    fn watch_kick(&mut self, _queue: usize, _kick: Option<Arc<OwnedFd>>) -> io::Result<()> {
        Ok(())
    }

    fn turn(&mut self, _wait: Wait, events: &mut Vec<Event>) -> io::Result<()> {
        let mut plan = self.plan.lock();
        events.append(&mut plan.events);
        events.push(Event::Timer);
        Ok(())
    }

    fn in_flight(&self) -> usize {
        0
    }
}
