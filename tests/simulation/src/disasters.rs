//! What happens to the system from outside: connections cut, processes killed, power lost.

use virtio_spec::features::RING_PACKED;
use virtio_spec::observer::Message as Seen;
use virtio_spec::vhost_user::ProtocolFeatures;

use crate::Failure;
use crate::back_end::BackEnd;
use crate::cache::CacheMode;
use crate::front_end::{FrontEnd, Loss};
use crate::guest::Guest;
use crate::trace::Who;
use crate::world::World;

impl World {
    /// The front-end cuts the connection; the back-end notices, and finishes what it has taken.
    pub(crate) fn disconnect(&mut self) -> Result<bool, Failure> {
        if !self.is_connected() {
            return Ok(false);
        }
        self.counts.disconnects += 1;
        self.trace.say(Who::FrontEnd, || "cuts the connection".into());
        self.connection_lost(Loss::Cut);
        self.back_end.iter_mut().for_each(BackEnd::hang_up);
        Ok(true)
    }

    pub(crate) fn kill(&mut self) -> Result<bool, Failure> {
        if self.back_end.is_none() {
            return Ok(false);
        }
        self.counts.kills += 1;
        self.trace.say(Who::World, || "kills the back-end".into());
        self.process_died();
        Ok(true)
    }

    /// The front-end connects, once the back-end is done with the former connection.
    pub(crate) fn connect(&mut self) -> Result<bool, Failure> {
        if self.is_connected() {
            return Ok(false);
        }
        if self.back_end.is_none() {
            self.start_process()?;
            return Ok(true);
        }
        let Some(process) = self.back_end.as_mut().filter(|process| process.is_free()) else {
            return Ok(false);
        };
        process.connect();
        self.counts.connections += 1;
        self.front_end.connected = true;
        self.trace.say(Who::FrontEnd, || "connects".into());
        self.connection_over();
        self.guest.watch.note(Seen::Connected);
        let must_reset = self.has_lost_its_place();
        self.plan_handshake(must_reset);
        Ok(true)
    }

    /// Whether nobody knows where a ring stands, so that only a reset of the device helps.
    fn has_lost_its_place(&self) -> bool {
        let recorded = self.front_end.region.is_some();
        let packed = self.guest.has(RING_PACKED);
        self.front_end.rings.iter().any(|ring| match ring.stale {
            // What was taken has ended; the used index of a split ring tells where it is.
            Some(Loss::Cut) => packed && !recorded,
            Some(Loss::Killed) => !recorded,
            None => false,
        })
    }

    /// The machine loses its power, and starts again. What the disk holds then is looked at closely.
    pub(crate) fn lose_power(&mut self) -> Result<bool, Failure> {
        self.counts.power_losses += 1;
        self.trace.say(Who::World, || "the power fails; the machine starts again".into());
        self.process_died();
        self.disk.power_loss(self.random.u64(..));
        self.model.power_lost(&self.disk.content())?;
        self.guest.check_gone()?;
        self.counts.given_up +=
            self.guest.rings.iter().map(|ring| ring.sent.len() as u64).sum::<u64>();
        self.guest = Guest::new(self.scenario.hostile)?;
        self.front_end = FrontEnd::new(self.scenario.queues);
        self.saved = None;
        self.cache = CacheMode::new(self.scenario.writeback);
        Ok(true)
    }

    /// Whether the front-end takes this protocol feature.
    pub(crate) fn takes(&self, feature: ProtocolFeatures) -> bool {
        self.scenario.protocol.is_some_and(|protocol| protocol.contains(feature))
    }
}
