//! Driver and worker at the same time: what the driver does in the middle of a worker's turn.
//!
//! Both sides write, and then look at what the other has written; each must find what the other did
//! before, wherever the one overtakes the other. Here the driver acts just before one of the worker's
//! stores.

use std::cell::RefCell;
use std::rc::Rc;

use crate::Failure;
use crate::back_end::BackEnd;
use crate::fleet::Disturbance;
use crate::guest::Ring;
use crate::scenario::pick;
use crate::trace::Who;
use crate::world::World;

/// What the driver does.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// It shows the device what it has put into the ring, and kicks if that is wanted.
    Publish,
    /// It asks for a call, and looks once more.
    AskForCalls,
}

/// The ring while it is shared with what happens in the turn.
struct Shared {
    ring: Ring,
    result: Result<(), Failure>,
    /// Used requests were found after asking for a call: no call may come for them.
    found: bool,
}

impl World {
    pub(crate) fn race(&mut self) -> Result<bool, Failure> {
        let workers = self.back_end.as_mut().map_or(Vec::new(), BackEnd::runnable);
        if workers.is_empty() {
            return Ok(false);
        }
        let worker = *pick(&mut self.random, &workers);
        let Some(ring) = self.some_ring() else { return Ok(false) };
        let there = self.guest.ring(ring)?;
        if there.spoilt || there.kicks_are_lost {
            return Ok(false);
        }
        let act = if there.unpublished.is_empty() { Act::AskForCalls } else { Act::Publish };
        self.race_of(worker, ring, act)?;
        Ok(true)
    }

    fn race_of(&mut self, worker: u16, ring: u16, act: Act) -> Result<(), Failure> {
        // The first store of a turn is often the one that asks for kicks.
        let stores = *pick(&mut self.random, &[0, 0, 0, 1, 2, 3, 5, 9]);
        self.counts.races += 1;
        self.trace.say(Who::Driver, || {
            format!("ring {ring}: {act:?}, after {stores} stores of worker {worker}'s next turn")
        });
        if matches!(act, Act::Publish) {
            self.announce(ring)?;
        }
        let index = usize::from(ring);
        let shared = Shared { ring: self.guest.rings.remove(index), result: Ok(()), found: false };
        let shared = Rc::new(RefCell::new(shared));
        let acting = Rc::clone(&shared);
        let act = Box::new(move || acting.borrow_mut().act(act));
        let turn = self.turn_with(worker, Disturbance::Act(stores, act));
        let Ok(shared) = Rc::try_unwrap(shared).map(RefCell::into_inner) else {
            return Err(Failure::Simulator("a race that does not end".into()));
        };
        self.guest.rings.insert(index, shared.ring);
        turn?;
        shared.result?;
        if shared.found {
            self.wait_for_calls(ring)?;
        }
        Ok(())
    }
}

impl Shared {
    fn act(&mut self, act: Act) {
        match act {
            Act::Publish => {
                self.ring.seen = false;
                if self.ring.block.publish() {
                    self.result = self.ring.events.kick.signal().map_err(Failure::from);
                }
            }
            Act::AskForCalls => {
                self.ring.sleeping = true;
                self.found = self.ring.block.queue().enable_calls();
            }
        }
    }
}
