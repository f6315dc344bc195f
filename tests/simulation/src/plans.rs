//! What front-ends get to do, as scripts.

use virtio_spec::Status;
use virtio_spec::block::CONFIG_WCE;
use virtio_spec::features::RING_RESET;
use virtio_spec::vhost_user::ProtocolFeatures;

use crate::Failure;
use crate::front_end::{Item, Local, Message, ring_start, sending};
use crate::guest::PlugState;
use crate::scenario::pick;
use crate::trace::Who;
use crate::world::World;

/// Something for a front-end to do.
#[derive(Clone, Copy, Debug)]
enum Errand {
    PauseRing,
    PauseAll,
    MoveRing,
    ToggleRing,
    NewKick,
    NewCall,
    AddMemory,
    RemoveMemory,
    RepeatTable,
    CacheMode,
    ReadConfig,
    Reset,
}

const ERRANDS: [Errand; 12] = [
    Errand::PauseRing,
    Errand::PauseAll,
    Errand::MoveRing,
    Errand::ToggleRing,
    Errand::NewKick,
    Errand::NewCall,
    Errand::AddMemory,
    Errand::RemoveMemory,
    Errand::RepeatTable,
    Errand::CacheMode,
    Errand::ReadConfig,
    Errand::Reset,
];

impl World {
    /// All that is said at the begin of a connection. `must_reset`: the driver begins anew.
    pub(crate) fn plan_handshake(&mut self, must_reset: bool) {
        let mut script: Vec<Item> = sending(&[Message::GetFeatures]).collect();
        if self.scenario.protocol.is_some() {
            let both = [Message::GetProtocolFeatures, Message::SetProtocolFeatures];
            script.extend(sending(&both));
        }
        script.extend(sending(&[Message::SetOwner]));
        if self.takes(ProtocolFeatures::MQ) {
            script.extend(sending(&[Message::GetQueueNum]));
        }
        if must_reset {
            script.push(Item::Do(Local::ResetGuest));
        }
        if must_reset || self.guest.features.is_none() {
            script.push(Item::Do(Local::BeginGuest));
        }
        script.extend(sending(&[Message::SetFeatures]));
        self.front_end.plan(script);
        self.plan_memory();
        let keeps_region = !must_reset && self.front_end.region.is_some();
        self.plan_rings(keeps_region);
    }

    fn plan_memory(&mut self) {
        if !self.takes(ProtocolFeatures::CONFIGURE_MEM_SLOTS) {
            self.front_end.plan(sending(&[Message::SetMemTable]));
            return;
        }
        let mut regions: Vec<u64> =
            self.guest.memory.regions().iter().map(|region| region.guest_addr).collect();
        regions.extend(self.guest.leaving().map(|leaving| leaving.description.guest_addr));
        self.random.shuffle(&mut regions);
        self.front_end.plan(regions.into_iter().map(|at| Item::Send(Message::AddRegion(at))));
    }

    /// The in-flight region and all rings.
    fn plan_rings(&mut self, keeps_region: bool) {
        if self.takes(ProtocolFeatures::INFLIGHT_SHMFD) {
            if !keeps_region {
                self.front_end.plan(sending(&[Message::GetInflight]));
            }
            self.front_end.plan(sending(&[Message::SetInflight]));
        }
        let mut rings: Vec<u16> = (0..self.scenario.queues).collect();
        self.random.shuffle(&mut rings);
        for ring in rings {
            self.plan_start(ring);
        }
        if self.takes(ProtocolFeatures::STATUS) {
            let running =
                Status::ACKNOWLEDGE | Status::DRIVER | Status::FEATURES_OK | Status::DRIVER_OK;
            self.front_end.plan(sending(&[Message::SetStatus(running)]));
        }
    }

    pub(crate) fn plan_start(&mut self, ring: u16) {
        let start = ring_start(ring, self.scenario.protocol.is_some(), &mut self.random);
        self.front_end.plan(start);
    }

    /// Gives an idle front-end something to do.
    pub(crate) fn plan_something(&mut self) -> Result<bool, Failure> {
        if !self.front_end.is_idle() {
            return Ok(false);
        }
        let failed = self.guest.rings.iter().any(|ring| ring.failed);
        let errand = if failed { Errand::Reset } else { *pick(&mut self.random, &ERRANDS) };
        let ring = self.random.u16(..self.scenario.queues);
        if !self.plan(errand, ring)? {
            return Ok(false);
        }
        self.trace.say(Who::FrontEnd, || format!("is to do: {errand:?}"));
        Ok(true)
    }

    fn plan(&mut self, errand: Errand, ring: u16) -> Result<bool, Failure> {
        let running = self.front_end.ring(ring).running;
        match errand {
            Errand::PauseRing => self.plan_pause(ring..ring + 1),
            Errand::PauseAll => self.plan_pause(0..self.scenario.queues),
            // What a killed process has left behind must have been taken up: the in-flight region
            // still lists it, and knows nothing of a ring's reset.
            Errand::MoveRing if self.guest.has(RING_RESET) && !self.has_survivors(ring) => {
                self.plan_stop(ring);
                self.front_end.plan([Item::Do(Local::MoveRing(ring))]);
                self.plan_start(ring);
            }
            Errand::ToggleRing if running && self.scenario.protocol.is_some() => {
                let on = self.front_end.ring(ring).enabled;
                self.front_end.plan(sending(&[Message::Enable(ring, !on)]));
                if on && self.random.bool() {
                    self.front_end.plan(sending(&[Message::Enable(ring, true)]));
                }
            }
            Errand::NewKick if running => {
                let items = [Item::Do(Local::NewKick(ring)), Item::Send(Message::Kick(ring))];
                self.front_end.plan(items);
            }
            Errand::NewCall => {
                let items = [Item::Do(Local::NewCall(ring)), Item::Send(Message::Call(ring))];
                self.front_end.plan(items);
            }
            Errand::AddMemory | Errand::RemoveMemory => return self.plan_plug(errand),
            Errand::RepeatTable if !self.takes(ProtocolFeatures::CONFIGURE_MEM_SLOTS) => {
                self.front_end.plan(sending(&[Message::SetMemTable]));
            }
            Errand::CacheMode
                if self.guest.has(CONFIG_WCE) && self.takes(ProtocolFeatures::CONFIG) =>
            {
                let on = self.random.bool();
                self.front_end.plan(sending(&[Message::SetWriteback(on), Message::GetConfig]));
            }
            Errand::ReadConfig if self.takes(ProtocolFeatures::CONFIG) => {
                self.front_end.plan(sending(&[Message::GetConfig]));
            }
            Errand::Reset => self.plan_reset(),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Stops a ring that runs. What a killed process has left behind is drained only while the ring
    /// is enabled.
    fn plan_stop(&mut self, ring: u16) {
        let state = self.front_end.ring(ring);
        if !state.running {
            return;
        }
        if !state.enabled && self.scenario.protocol.is_some() && self.has_survivors(ring) {
            self.front_end.plan(sending(&[Message::Enable(ring, true)]));
        }
        self.front_end.plan(sending(&[Message::GetBase(ring)]));
    }

    fn has_survivors(&self, ring: u16) -> bool {
        let ring = self.guest.rings.get(usize::from(ring));
        ring.is_some_and(|ring| ring.sent.values().any(|sent| sent.survived))
    }

    /// Stops rings and starts them again, as a machine that pauses does.
    fn plan_pause(&mut self, rings: std::ops::Range<u16>) {
        rings.clone().for_each(|ring| self.plan_stop(ring));
        rings.for_each(|ring| self.plan_start(ring));
    }

    fn plan_plug(&mut self, errand: Errand) -> Result<bool, Failure> {
        let plug = self.random.usize(..self.guest.plugs.len());
        let slots = self.takes(ProtocolFeatures::CONFIGURE_MEM_SLOTS);
        let has_ring = self.guest.has_ring_in(plug);
        let used = self.guest.user_of(plug).is_some();
        let there = self.guest.plug(plug)?;
        let at = there.spec.guest_addr;
        let change = |message| if slots { message } else { Message::SetMemTable };
        match (&there.state, errand) {
            (PlugState::Out, Errand::AddMemory) if !used => {
                let add = Item::Send(change(Message::AddRegion(at)));
                self.front_end.plan([Item::Do(Local::Plug(plug)), add]);
            }
            (PlugState::In | PlugState::Leaving(_), Errand::RemoveMemory) if !has_ring => {
                let inside = matches!(there.state, PlugState::In);
                self.front_end.plan(inside.then_some(Item::Do(Local::BeginUnplug(plug))));
                if slots {
                    self.front_end.plan(sending(&[Message::RemoveRegion(plug)]));
                } else {
                    let table = Item::Send(Message::SetMemTable);
                    self.front_end.plan([Item::Do(Local::Unplugged(plug)), table]);
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The driver resets the device: by its own message, or by stopping all rings.
    pub(crate) fn plan_reset(&mut self) {
        // Without an answer a front-end would not know when the rings have drained.
        if self.front_end.acks && self.takes(ProtocolFeatures::RESET_DEVICE) && self.random.bool() {
            self.front_end.plan(sending(&[Message::ResetDevice]));
        } else {
            (0..self.scenario.queues).for_each(|ring| self.plan_stop(ring));
            if self.takes(ProtocolFeatures::STATUS) {
                let both = [Message::SetStatus(Status::RESET), Message::GetStatus];
                self.front_end.plan(sending(&both));
            }
        }
        let begin = [Item::Do(Local::ResetGuest), Item::Do(Local::BeginGuest)];
        self.front_end.plan(begin);
        self.front_end.plan(sending(&[Message::SetFeatures]));
        self.plan_rings(false);
    }
}
