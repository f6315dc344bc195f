//! Doorbells: where a driver's kicks become signals of an eventfd.
//!
//! A queue's doorbell is connected once the driver uses the queue, and from then on follows the
//! BAR. It stays connected through resets: a kick that a queue gets while it does not run does no
//! harm, and connecting costs far more.

use std::os::fd::AsFd;
use std::sync::Arc;

use hypervisor::{GuestAddress, Machine};

use crate::bar::{Area, DOORBELL};
use crate::event::Event;

/// The doorbells of one function.
pub(crate) struct Kicks {
    machine: Arc<dyn Machine>,
    area: Area,
    /// Where the BAR is, if it is anywhere.
    base: Option<u64>,
    doorbells: Vec<Doorbell>,
    complained: bool,
}

struct Doorbell {
    event: Arc<Event>,
    used: bool,
    connected: Option<GuestAddress>,
}

impl Kicks {
    /// The doorbells of queues with these events, at `area` of a BAR that is nowhere yet.
    pub(crate) fn new(machine: Arc<dyn Machine>, area: Area, events: &[Arc<Event>]) -> Self {
        let doorbell =
            |event: &Arc<Event>| Doorbell { event: event.clone(), used: false, connected: None };
        let doorbells = events.iter().map(doorbell).collect();
        Self { machine, area, base: None, doorbells, complained: false }
    }

    /// The event of a queue's kicks.
    pub(crate) fn event(&self, queue: u16) -> Option<&Arc<Event>> {
        self.doorbells.get(usize::from(queue)).map(|doorbell| &doorbell.event)
    }

    /// The driver uses this queue.
    pub(crate) fn use_queue(&mut self, queue: u16) {
        if let Some(doorbell) = self.doorbells.get_mut(usize::from(queue)) {
            doorbell.used = true;
        }
        self.connect(usize::from(queue));
    }

    /// The BAR is here now, or answers nowhere.
    pub(crate) fn move_to(&mut self, base: Option<u64>) {
        if self.base == base {
            return;
        }
        for queue in 0..self.doorbells.len() {
            self.disconnect(queue);
        }
        self.base = base;
        for queue in 0..self.doorbells.len() {
            self.connect(queue);
        }
    }

    fn connect(&mut self, queue: usize) {
        let Some(doorbell) = self.doorbells.get(queue) else { return };
        let Some(base) = self.base else { return };
        if !doorbell.used || doorbell.connected.is_some() {
            return;
        }
        let Ok(index) = u64::try_from(queue) else { return };
        let offset = u64::from(self.area.offset) + index * u64::from(DOORBELL);
        let at = GuestAddress(base.saturating_add(offset));
        // Where it fails, kicks exit to `Function`, which signals the same event.
        let outcome = self.machine.connect_kick(at, doorbell.event.as_fd());
        let connected = outcome.is_ok().then_some(at);
        if let Some(doorbell) = self.doorbells.get_mut(queue) {
            doorbell.connected = connected;
        }
        self.complain("connecting a doorbell", outcome);
    }

    fn disconnect(&mut self, queue: usize) {
        let Some(doorbell) = self.doorbells.get_mut(queue) else { return };
        let Some(at) = doorbell.connected.take() else { return };
        let outcome = self.machine.disconnect_kick(at, doorbell.event.as_fd());
        self.complain("disconnecting a doorbell", outcome);
    }

    /// Says once that the hypervisor refused something: a guest can make it happen again.
    fn complain(&mut self, what: &str, outcome: hypervisor::Result<()>) {
        if let Err(error) = outcome
            && !self.complained
        {
            self.complained = true;
            tracing::warn!(%error, "{what} failed; the device is slower for it");
        }
    }
}
