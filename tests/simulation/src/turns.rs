//! What happens in the back-end, and on the disk.

use std::time::Duration;

use crate::Failure;
use crate::back_end::BackEnd;
use crate::fleet::{Disturbance, Turn};
use crate::scenario::pick;
use crate::trace::Who;
use crate::world::World;

impl World {
    /// A worker that has something to do.
    fn some_worker(&mut self) -> Option<u16> {
        let workers = self.back_end.as_mut().map_or(Vec::new(), BackEnd::runnable);
        (!workers.is_empty()).then(|| *pick(&mut self.random, &workers))
    }

    pub(crate) fn turn_of_some_worker(&mut self) -> Result<bool, Failure> {
        let Some(worker) = self.some_worker() else { return Ok(false) };
        self.turn(worker)?;
        Ok(true)
    }

    /// A worker's whole turn.
    pub(crate) fn turn(&mut self, worker: u16) -> Result<(), Failure> {
        self.turn_with(worker, Disturbance::None)?;
        let process = self.back_end.as_ref();
        // Rings that were started by then were looked at, and all that was there was taken.
        if process.is_some_and(|process| !process.is_busy() && !process.wants_retry()) {
            for ring in 0..self.scenario.queues {
                let served = process.is_some_and(|process| process.worker_of(ring) == worker)
                    && self.front_end.is_served(ring);
                if let Some(there) = self.guest.rings.get_mut(usize::from(ring)) {
                    there.seen |= served;
                }
            }
        }
        self.check_idle(worker)
    }

    /// A worker that sleeps, with nothing to wake it, has left nothing undone.
    fn check_idle(&mut self, worker: u16) -> Result<(), Failure> {
        let Some(process) = &mut self.back_end else { return Ok(()) };
        if process.is_busy() || process.wants_retry() || process.runnable().contains(&worker) {
            return Ok(());
        }
        for ring in 0..self.scenario.queues {
            let process = self.back_end.as_ref();
            if process.is_some_and(|process| process.worker_of(ring) == worker)
                && self.front_end.is_served(ring)
            {
                self.check_idle_ring(ring)?;
            }
        }
        Ok(())
    }

    fn check_idle_ring(&mut self, ring: u16) -> Result<(), Failure> {
        let calls = self.front_end.ring(ring).calls;
        let there = self.guest.ring(ring)?;
        if there.spoilt || there.kicks_are_lost {
            return Ok(());
        }
        let published = there.sent.iter().filter(|(token, _)| there.is_published(**token));
        let requests: Vec<u32> = published.map(|(_, sent)| sent.id).collect();
        let used = there.block.queue().has_used();
        if used && calls && there.sleeping && !there.events.is_called()? {
            return Err(Failure::Uncalled { ring, requests });
        }
        if !used && !requests.is_empty() && !there.owes_kick {
            let what = format!("ring {ring} has not ended {requests:?}");
            return Err(Failure::Hang { what });
        }
        Ok(())
    }

    /// A worker's turn in which something else happens.
    pub(crate) fn turn_with(
        &mut self,
        worker: u16,
        disturbance: Disturbance,
    ) -> Result<(), Failure> {
        let Some(process) = &mut self.back_end else { return Ok(()) };
        process.turn(worker, disturbance);
        self.counts.turns += 1;
        let under_way = process.in_flight(worker);
        self.trace.say(Who::Worker(worker), || format!("has its turn; {under_way} under way"));
        self.tell_story(worker);
        match self.back_end.as_ref().and_then(BackEnd::overslept) {
            Some(worker) => Err(Failure::Overslept { worker }),
            None => Ok(()),
        }
    }

    pub(crate) fn let_time_pass(&mut self) -> bool {
        let Some(worker) = self.some_worker() else { return false };
        let time = Duration::from_micros(self.random.u64(..500));
        self.back_end.iter().for_each(|process| process.pass(worker, time));
        true
    }

    fn tell_story(&mut self, worker: u16) {
        let story = self.back_end.as_ref().map_or(Vec::new(), |p| p.take_story(worker));
        story.into_iter().for_each(|line| self.trace.say(Who::Worker(worker), || line));
    }

    /// A worker's turn that the process does not survive, if it comes to so many stores.
    pub(crate) fn kill_in_turn(&mut self) -> Result<bool, Failure> {
        let Some(worker) = self.some_worker() else { return Ok(false) };
        let stores = *pick(&mut self.random, &[2, 8, 30]);
        let stores = self.random.u32(..stores);
        let Some(process) = &mut self.back_end else { return Ok(false) };
        self.counts.turns += 1;
        if process.turn(worker, Disturbance::Kill(stores)) == Turn::Killed {
            self.counts.kills_in_turns += 1;
            self.trace.say(Who::World, || {
                format!("kills the back-end in worker {worker}'s turn, after {stores} stores")
            });
            self.process_died();
        } else {
            self.trace.say(Who::Worker(worker), || "has its turn, and is spared".into());
            self.tell_story(worker);
        }
        Ok(true)
    }

    /// The connection thread hears what a worker has said.
    pub(crate) fn hear(&mut self) -> Result<bool, Failure> {
        let Some((worker, said, action)) = self.back_end.as_mut().and_then(BackEnd::hear) else {
            return Ok(false);
        };
        self.trace.say(Who::BackEnd, || format!("hears from worker {worker}: {said}"));
        self.check_rings()?;
        self.acted(action)?;
        Ok(true)
    }

    /// A ring of a driver that breaks no rules must not fail.
    fn check_rings(&mut self) -> Result<(), Failure> {
        for (ring, there) in (0..).zip(&mut self.guest.rings) {
            if there.events.error.take()? > 0 {
                if !there.spoilt {
                    let why = "the error eventfd was signalled".into();
                    return Err(Failure::RingFailed { ring, why });
                }
                there.failed = true;
            }
        }
        Ok(())
    }

    pub(crate) fn retry(&mut self) -> Result<bool, Failure> {
        let Some(process) = self.back_end.as_mut().filter(|process| process.wants_retry()) else {
            return Ok(false);
        };
        let waits = process.waits();
        let retried = process.retry();
        let got = process.waits() == waits;
        self.trace.say(Who::BackEnd, || {
            format!("tries to get the lock, {}", if got { "and has it" } else { "in vain" })
        });
        retried.map_err(|error| Failure::Disconnected {
            during: "the wait for the lock".into(),
            error: error.to_string(),
        })?;
        Ok(true)
    }

    pub(crate) fn land(&mut self) -> bool {
        if self.disk.is_settled() {
            return false;
        }
        self.disk.land_one(&mut self.random);
        self.trace.say(Who::World, || "something that a killed process had begun lands".into());
        true
    }
}
