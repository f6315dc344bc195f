//! What the VMM and its guest do between two messages.

use driver::Event;
use virtio_spec::Status;
use virtio_spec::block::{CONFIG_WCE, DISCARD, FLUSH, MQ, WRITE_ZEROES};
use virtio_spec::features::{
    EVENT_IDX, IN_ORDER, INDIRECT_DESC, Negotiated, Offered, RING_PACKED, RING_RESET, VERSION_1,
    mask,
};
use virtio_spec::observer::DeviceStep;
use virtio_spec::vhost_user::{F_LOG_ALL, F_PROTOCOL_FEATURES, inflight};

use crate::Failure;
use crate::front_end::{Item, Local, Message, RingState};
use crate::guest::{Events, Ring};
use crate::trace::Who;
use crate::world::World;

impl World {
    /// A few lines of the front-end's script.
    pub(crate) fn some_items(&mut self) -> Result<bool, Failure> {
        let mut moved = false;
        for _ in 0..self.random.u32(1..=4) {
            moved |= self.next_item()?;
        }
        Ok(moved)
    }

    /// The next line of the front-end's script.
    pub(crate) fn next_item(&mut self) -> Result<bool, Failure> {
        if !self.is_connected() || self.back_end.as_ref().is_none_or(|process| process.is_busy()) {
            return Ok(false);
        }
        let Some(item) = self.front_end.script.front().copied() else { return Ok(false) };
        if !self.is_time_for(item) {
            return Ok(false);
        }
        self.front_end.script.pop_front();
        match item {
            // The guest needs it no longer.
            Item::Send(Message::AddRegion(at)) if !self.has_region(at)? => {}
            Item::Send(message) => self.send(message)?,
            Item::Do(local) => {
                self.trace.say(Who::FrontEnd, || format!("{local:?}"));
                self.local(local)?;
            }
        }
        Ok(true)
    }

    /// Whether the next line of the script can be taken up, as far as it depends on the guest.
    pub(crate) fn is_next_ready(&self) -> bool {
        self.front_end.script.front().is_some_and(|item| self.is_time_for(*item))
    }

    /// Memory is not taken from the back-end before it has taken up what lies there.
    fn is_time_for(&self, item: Item) -> bool {
        match item {
            Item::Send(Message::RemoveRegion(plug)) | Item::Do(Local::Unplugged(plug)) => {
                self.guest.is_taken(plug)
            }
            // A ring that waits for the lock has not even looked at what is to be drained.
            Item::Send(Message::GetBase(_) | Message::ResetDevice) => {
                !self.back_end.as_ref().is_some_and(|process| process.wants_retry())
            }
            _ => true,
        }
    }

    fn local(&mut self, local: Local) -> Result<(), Failure> {
        match local {
            Local::BeginGuest => self.begin_guest(),
            Local::ResetGuest => self.reset_guest(),
            Local::MoveRing(ring) => self.move_ring(ring),
            Local::NewKick(ring) => {
                let watch = self.guest.watch.clone();
                let there = self.guest.ring(ring)?;
                there.kicks_are_lost = true;
                let former = std::mem::replace(&mut there.events.kick, Event::kick(&watch, ring)?);
                // A driver that has kicked will not do so again.
                self.counts.lost_kicks += u64::from(former.look()?);
                Ok(())
            }
            Local::NewCall(ring) => {
                let watch = self.guest.watch.clone();
                let events = &mut self.guest.ring(ring)?.events;
                let former = std::mem::replace(&mut events.call, Event::call(&watch, ring)?);
                events.former_call = Some(former);
                Ok(())
            }
            Local::Plug(plug) => {
                self.counts.plugs += 1;
                self.guest.check_gone()?;
                self.guest.begin_plug(plug)
            }
            Local::BeginUnplug(plug) => self.guest.begin_unplug(plug),
            Local::Unplugged(plug) => {
                self.counts.unplugs += 1;
                self.guest.unplugged(plug)
            }
        }
    }

    /// The driver chooses features and sets its rings up.
    fn begin_guest(&mut self) -> Result<(), Failure> {
        let features = self.choose_features();
        self.guest.features = Some(features);
        self.cache.new_driver();
        self.trace.say(Who::Driver, || {
            format!(
                "accepts {:?}",
                virtio_spec::names(virtio_spec::DeviceType::BLOCK, features.bits())
            )
        });
        self.show_beginning(features)?;
        for ring in 0..self.scenario.queues {
            let events = match self.guest.rings.get(usize::from(ring)) {
                Some(before) => before.events.clone(),
                None => Events::new(&self.guest.watch, ring)?,
            };
            self.set_up_ring(ring, features, events)?;
        }
        Ok(())
    }

    fn set_up_ring(
        &mut self,
        ring: u16,
        features: Negotiated,
        events: Events,
    ) -> Result<(), Failure> {
        let size = if self.random.bool() { self.scenario.size } else { self.scenario.size / 2 };
        let (memory, watch) = (self.guest.memory.clone(), self.guest.watch.clone());
        let new = Ring::new(&memory, &watch, (ring, size), features, events)?;
        match self.guest.rings.get_mut(usize::from(ring)) {
            Some(place) => *place = new,
            None => self.guest.rings.push(new),
        }
        self.front_end.change(ring, |state| {
            let RingState { enabled, calls, .. } = *state;
            *state = RingState { enabled, calls, ..RingState::default() };
        });
        Ok(())
    }

    fn choose_features(&mut self) -> Negotiated {
        let mut bits = mask(VERSION_1);
        let mut perhaps = |feature, of_ten: u8| {
            if self.random.u8(..10) < of_ten {
                bits |= mask(feature);
            }
        };
        perhaps(INDIRECT_DESC, 7);
        perhaps(EVENT_IDX, 5);
        perhaps(RING_PACKED, 7);
        perhaps(IN_ORDER, 4);
        perhaps(RING_RESET, 8);
        perhaps(FLUSH, 9);
        perhaps(CONFIG_WCE, 6);
        perhaps(DISCARD, 8);
        perhaps(WRITE_ZEROES, 8);
        perhaps(MQ, if self.scenario.queues > 1 { 10 } else { 3 });
        Negotiated::assume(bits & self.front_end.offered)
    }

    /// Shows the observer a driver that begins (virtio 1.4, 3.1.1).
    fn show_beginning(&mut self, features: Negotiated) -> Result<(), Failure> {
        let transport = mask(F_PROTOCOL_FEATURES) | mask(F_LOG_ALL);
        let offered = Offered::new(self.front_end.offered & !transport);
        let begun = Status::ACKNOWLEDGE | Status::DRIVER;
        let chosen = begun | Status::FEATURES_OK;
        let steps = [
            DeviceStep::StatusWritten(Status::ACKNOWLEDGE),
            DeviceStep::StatusWritten(begun),
            DeviceStep::FeaturesOffered(offered),
            DeviceStep::FeaturesAcked(features.bits()),
            DeviceStep::StatusWritten(chosen),
            DeviceStep::StatusRead(chosen),
            DeviceStep::StatusWritten(chosen | Status::DRIVER_OK),
        ];
        steps.into_iter().try_for_each(|step| Ok(self.guest.watch.show(step)?))
    }

    /// The driver resets the device: what has not ended is given up. Unless the back-end was killed,
    /// all that it had taken has ended.
    fn reset_guest(&mut self) -> Result<(), Failure> {
        self.counts.resets += 1;
        for ring in 0..self.scenario.queues {
            self.give_up(ring)?;
        }
        self.guest.features = None;
        self.front_end.region = None;
        for status in
            [DeviceStep::StatusWritten(Status::RESET), DeviceStep::StatusRead(Status::RESET)]
        {
            self.guest.watch.show(status)?;
        }
        self.guest.check_gone()
    }

    /// Gives up what has not ended in a ring that has stopped.
    fn give_up(&mut self, ring: u16) -> Result<(), Failure> {
        self.reap(ring, usize::MAX)?;
        let Some(there) = self.guest.rings.get_mut(usize::from(ring)) else { return Ok(()) };
        // What was signalled belongs to the ring as it was.
        there.events.error.take()?;
        there.unpublished.clear();
        there.owes_kick = false;
        let spoilt = there.spoilt;
        for sent in std::mem::take(&mut there.sent).into_values() {
            self.counts.given_up += 1;
            // In a ring that makes no sense the driver cannot tell what has ended.
            if sent.survived || spoilt {
                self.model.lost(sent.id);
            } else {
                self.model.never_taken(sent.id);
            }
        }
        Ok(())
    }

    /// A ring that begins anew has nothing in flight. On the same connection the back-end knows that
    /// by itself.
    fn clear_region(&self, ring: u16) -> Result<(), Failure> {
        let Some((region, file)) = &self.front_end.region else { return Ok(()) };
        let size = inflight::region_size(self.guest.has(RING_PACKED), region.queue_size);
        let offset = region.mmap_offset + u64::from(ring) * size as u64;
        let written = rustix::io::pwrite(file, &vec![0; size], offset);
        written
            .map(drop)
            .map_err(|errno| Failure::Simulator(format!("no in-flight region: {errno}")))
    }

    /// The driver resets one ring and sets it up somewhere else (virtio 1.4, 2.6.1).
    fn move_ring(&mut self, ring: u16) -> Result<(), Failure> {
        self.counts.moves += 1;
        self.give_up(ring)?;
        let features = self.guest.features.unwrap_or_default();
        let events = self.guest.ring(ring)?.events.clone();
        self.guest.ring(ring)?.block.queue().show(virtio_spec::observer::RingStep::Reset)?;
        self.set_up_ring(ring, features, events)?;
        if self.random.bool() {
            self.clear_region(ring)?;
        } else {
            self.front_end.change(ring, |state| state.moved = true);
        }
        self.guest.check_gone()
    }
}
