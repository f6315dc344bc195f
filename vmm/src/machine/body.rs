//! A machine that is put together.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hypervisor::memory::Memory;

use super::back_ends::BackEnds;
use super::desk::Body;
use super::exits::Devices;
use super::guest::Guest;
use super::outcome::Outcome;
use crate::devices::power::Power;
use crate::vcpu::crew::{Crew, CrewError};
use crate::vcpu::tally::Counts;

/// How long back-ends may take to finish what is in flight when the machine ends.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// vCPUs, devices and memory.
pub struct Machine {
    pub(super) crew: Crew,
    pub(super) devices: Arc<Devices>,
    pub(super) power: Arc<Power>,
    pub(super) back_ends: BackEnds,
    pub(super) memory: Memory,
    pub(super) guest: Guest,
}

impl Body for Machine {
    fn press_power_button(&mut self) {
        self.power.press_button();
    }

    fn park(&mut self) -> Result<(), Outcome> {
        self.crew.park().map_err(|error| stuck(&error))
    }

    fn quiesce(&mut self) {
        self.back_ends.front_ends().for_each(|front_end| front_end.quiesce());
    }

    fn is_quiesced(&self) -> bool {
        self.back_ends.front_ends().all(|front_end| front_end.is_quiesced())
    }

    fn release(&mut self) {
        self.back_ends.front_ends().for_each(|front_end| front_end.resume());
        self.crew.run();
    }

    fn drain(&mut self) {
        self.devices.fixed.reset();
        self.devices.pci.reset();
    }

    fn is_drained(&self) -> bool {
        self.devices.pci.is_reset()
    }

    fn reload(&mut self) -> Result<(), Outcome> {
        let start = self.guest.load(&self.memory);
        let start = start.map_err(|error| Outcome::Failed(format!("at the reset: {error}")))?;
        self.crew.reset(start).map_err(|error| stuck(&error))
    }
}

impl Machine {
    /// The back-ends, to ask them for reports.
    #[must_use]
    pub fn back_ends(&self) -> &BackEnds {
        &self.back_ends
    }

    /// Guest memory, to ask it for its size.
    #[must_use]
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// How often each vCPU has left the guest, and why.
    pub fn tallies(&self) -> impl Iterator<Item = Counts> {
        self.crew.tallies()
    }

    /// Takes the machine down: the vCPUs first, so that nobody makes new requests; then the rings, so that
    /// back-ends finish those there are; then the connections. The daemons end when their links are dropped
    /// with the rest. Says whether all back-ends have finished; who is in a `hurry` does not wait for them.
    pub fn take_down(self, hurry: &dyn Fn() -> bool) -> bool {
        if let Err(error) = self.crew.quit() {
            tracing::warn!(%error, "at the end");
        }
        let late = self.back_ends.stop(Instant::now() + STOP_LIMIT, hurry);
        for device in &late {
            tracing::warn!(device, "its back-end did not stop in time");
        }
        late.is_empty()
    }
}

fn stuck(error: &CrewError) -> Outcome {
    Outcome::Failed(error.to_string())
}
