//! The end of a run: everything comes to rest, or does not.
//!
//! From here on nobody does anything that is not asked for. The driver kicks where the device wants a
//! kick and looks at its rings where it is called; workers get a turn when there is something to wake
//! them. Whatever was forgotten on the way shows as a request that does not end.

use std::time::Duration;

use virtio_spec::vhost_user::ProtocolFeatures;

use crate::Failure;
use crate::back_end::BackEnd;
use crate::front_end::{Item, Local, Message, sending};
use crate::guest::PlugState;
use crate::trace::Who;
use crate::world::World;

/// Rounds after which nothing can be under way any more.
const ROUNDS: u32 = 3000;
/// How much time passes after each turn, at least.
const SOME_TIME: Duration = Duration::from_micros(20);
/// Rounds without any movement after which nothing moves any more.
const STILL: u32 = 30;

impl World {
    /// Lets everything end that was begun, and looks at what is left.
    pub(crate) fn come_to_rest(&mut self) -> Result<(), Failure> {
        self.trace.say(Who::World, || "all come to rest".into());
        for ring in 0..u16::try_from(self.guest.rings.len()).unwrap_or(0) {
            // One that waits already must have been called for whatever there is.
            if !self.guest.ring(ring)?.sleeping {
                self.wait_for_calls(ring)?;
            }
        }
        let mut still = 0;
        for _ in 0..ROUNDS {
            still = if self.round()? { 0 } else { still + 1 };
            if still == STILL {
                return self.look_at_the_rest();
            }
        }
        Err(Failure::Hang { what: "it goes on and on".into() })
    }

    /// Everybody does what there is to do. False: there was nothing.
    fn round(&mut self) -> Result<bool, Failure> {
        let mut moved = self.connect()?;
        moved |= self.front_end_works()?;
        while self.hear()? {
            moved = true;
        }
        moved |= self.land();
        if self.disk.is_settled() {
            moved |= self.retry()?;
        }
        moved |= self.driver_works()?;
        for worker in self.back_end.as_mut().map_or(Vec::new(), BackEnd::runnable) {
            self.turn(worker)?;
            if let Some(process) = &mut self.back_end {
                process.pass(worker, SOME_TIME);
                // One that looks in vain for something to do does not move.
                moved |= process.take_moved(worker);
            }
        }
        Ok(moved)
    }

    fn front_end_works(&mut self) -> Result<bool, Failure> {
        if self.front_end.is_idle() {
            self.plan_rest()?;
        }
        // Memory whose requests nobody takes any more stays.
        let unready = |item: &Item| {
            matches!(item, Item::Send(Message::RemoveRegion(_)) | Item::Do(Local::Unplugged(_)))
        };
        while self.front_end.script.front().is_some_and(unready) && !self.is_next_ready() {
            self.front_end.script.pop_front();
        }
        self.next_item()
    }

    /// What is missing until all rings are served and no memory is on its way out.
    fn plan_rest(&mut self) -> Result<(), Failure> {
        if self.guest.rings.iter().any(|ring| ring.failed) {
            self.plan_reset();
            return Ok(());
        }
        for ring in 0..self.scenario.queues {
            let state = self.front_end.ring(ring);
            if !state.running {
                self.plan_start(ring);
            } else if !state.enabled && self.scenario.protocol.is_some() {
                self.front_end.plan(sending(&[Message::Enable(ring, true)]));
            }
        }
        if !self.front_end.script.is_empty() || !self.takes(ProtocolFeatures::CONFIGURE_MEM_SLOTS) {
            return Ok(());
        }
        for plug in 0..self.guest.plugs.len() {
            if matches!(self.guest.plug(plug)?.state, PlugState::Leaving(_)) {
                self.front_end.plan([Item::Send(Message::RemoveRegion(plug))]);
            }
        }
        Ok(())
    }

    fn driver_works(&mut self) -> Result<bool, Failure> {
        let mut moved = false;
        if self.guest.features.is_none() {
            return Ok(false);
        }
        for ring in 0..u16::try_from(self.guest.rings.len()).unwrap_or(0) {
            if !self.guest.ring(ring)?.unpublished.is_empty() {
                self.publish(ring)?;
                moved = true;
            }
            if self.guest.ring(ring)?.owes_kick {
                self.kick(ring)?;
                moved = true;
            }
            moved |= self.answer_calls(ring)?;
        }
        Ok(moved)
    }

    /// Nothing moves any more.
    fn look_at_the_rest(&mut self) -> Result<(), Failure> {
        if !self.front_end.is_idle() {
            let script: Vec<Item> = self.front_end.script.iter().copied().take(2).collect();
            let awaited = self.front_end.awaited;
            let what = format!("the front-end waits: {awaited:?}, then {script:?}");
            return Err(Failure::Hang { what });
        }
        for (ring, there) in (0..).zip(&mut self.guest.rings) {
            if there.spoilt {
                return Err(Failure::Unnoticed { ring });
            }
            let requests: Vec<u32> = there.sent.values().map(|sent| sent.id).collect();
            if there.block.queue().has_used() {
                return Err(Failure::Uncalled { ring, requests });
            }
            if !requests.is_empty() {
                let what = format!("ring {ring} has not ended {requests:?}");
                return Err(Failure::Hang { what });
            }
        }
        self.guest.watch.quiesce()?;
        self.guest.check_gone()?;
        self.model.check(&self.disk.content())?;
        if self.random.bool() {
            self.lose_power()?;
        }
        Ok(())
    }
}
