//! What the worker does with a ring: publish, notify, stop, move.

use std::sync::Arc;

use virtio_spec::packed::Position;

use super::Call;
use super::fault::RingFault;
use super::running::{Half, Ring};
use crate::memory::{DirtyLog, MemoryTable};

/// What the worker does with a ring.
impl Ring {
    /// Shows the driver what was completed, and calls it if it wants that.
    #[inline]
    pub(crate) fn publish_and_call(&mut self) {
        if self.uncalled == 0 {
            return;
        }
        self.publish();
        if self.call_held {
            return;
        }
        (self.uncalled, self.call_due) = (0, false);
        let wanted = match &mut self.half {
            Half::Split(split, _) => split.wants_call(),
            Half::Packed(packed, _) => packed.wants_call(),
        };
        if wanted {
            self.setup.call.signal();
            self.stats.calls.add(1);
        } else {
            self.stats.calls_suppressed.add(1);
        }
    }

    /// Whether something was used in the ring before it was started, as far as it tells by itself.
    pub(super) fn was_used(&self) -> bool {
        match &self.half {
            Half::Split(split, _) => split.used_idx() != 0,
            Half::Packed(packed, _) => packed.used != Position::START,
        }
    }

    /// Calls for what another back-end has used: it may have died between showing it and calling.
    pub(super) fn call_for_predecessor(&self) {
        let wanted = match &self.half {
            Half::Split(split, _) => split.takes_calls(),
            Half::Packed(packed, _) => packed.takes_calls(),
        };
        if wanted {
            self.setup.call.signal();
            self.stats.calls.add(1);
        }
    }

    /// Whether there are chains to take, as far as one look tells.
    #[inline]
    pub(crate) fn has_work(&mut self) -> bool {
        if !self.is_served() || self.stopping || self.fault.is_some() {
            return false;
        }
        if self.declined {
            return self.exhausted && self.has_grown();
        }
        !self.looked.is_empty() || !self.resume.is_empty() || self.has_unseen()
    }

    /// Whether there are chains for a device that wanted more than it found: it is offered the ring
    /// again. Should it not look at them, it waits for something else after all.
    fn has_grown(&mut self) -> bool {
        let grown = self.has_unseen();
        if grown {
            (self.declined, self.exhausted) = (false, false);
        }
        grown
    }

    /// Whether there are chains behind those that were looked at.
    #[inline]
    fn has_unseen(&mut self) -> bool {
        match &mut self.half {
            Half::Packed(packed, _) => packed.look(),
            Half::Split(split, _) => match split.has_more() {
                Ok(more) => more,
                Err(fault) => {
                    self.fail(fault);
                    false
                }
            },
        }
    }

    /// Whether to look for chains all the time, since no kicks will come.
    pub(crate) fn set_polled(&mut self, polled: bool) {
        self.polled = polled;
    }

    /// Whether the worker may not sleep: there is work, or it would not hear of any.
    #[inline]
    pub(crate) fn keeps_awake(&mut self) -> bool {
        self.has_work()
            || (self.polled && self.is_served() && !self.stopping && self.fault.is_none())
    }

    /// How many chains were taken so far; wraps.
    #[inline]
    pub(crate) fn taken(&self) -> u32 {
        self.taken
    }

    /// After chains were offered: a device that took none is not offered them again until
    /// something happens.
    #[inline]
    pub(crate) fn note_offer(&mut self, taken_before: u32) {
        self.declined = self.taken == taken_before;
    }

    /// Something has happened: offer again.
    #[inline]
    pub(crate) fn offer_again(&mut self) {
        self.declined = false;
    }

    /// Asks the driver for kicks. True: there is work already, for which no kick will come.
    ///
    /// A device that leaves chains although it has seen that there are more waits for something else
    /// than chains: the driver is not troubled for it. One that found too few of them is offered the
    /// ring again as soon as there are more.
    pub(crate) fn enable_kicks(&mut self) -> bool {
        if self.declined && !self.exhausted {
            return false;
        }
        self.kicks_enabled = true;
        let more = match &mut self.half {
            Half::Split(split, _) => split.enable_kicks(),
            Half::Packed(packed, _) => Ok(packed.enable_kicks(self.declined)),
        };
        self.log_event();
        match more {
            Ok(more) => {
                self.declined &= !more;
                self.has_work()
            }
            Err(fault) => {
                self.fail(fault);
                false
            }
        }
    }

    /// Asks the driver for no kicks while the ring is polled.
    #[inline]
    pub(crate) fn disable_kicks(&mut self) {
        if !std::mem::take(&mut self.kicks_enabled) {
            return;
        }
        match &mut self.half {
            Half::Split(split, _) => split.disable_kicks(),
            Half::Packed(packed, _) => packed.disable_kicks(),
        }
        self.log_event();
    }

    /// Marks what asking for kicks wrote.
    fn log_event(&self) {
        let (Some(log), Some(at)) = (&self.setup.log, self.setup.used_log) else { return };
        match &self.half {
            Half::Split(split, _) => split.log_event(log, at),
            Half::Packed(packed, _) => packed.log_event(log),
        }
    }

    /// Gives no more chains; those that were only looked at go back.
    pub(crate) fn stop(&mut self) {
        self.stopping = true;
        self.call_held = false;
        while let Some(index) = self.looked.pop_back() {
            let Some(slot) = self.slots.get(index) else { continue };
            if slot.resumed {
                self.resume.push_front(slot.origin);
            } else {
                match &mut self.half {
                    Half::Split(split, _) => split.step_back(),
                    Half::Packed(packed, _) => packed.avail = slot.position,
                }
            }
            self.tables.leave(slot.epoch);
            self.slots.release(index);
        }
    }

    /// Whether the ring was told to stop and nothing is in flight any more.
    pub(crate) fn is_drained(&self) -> bool {
        self.stopping && self.in_flight() == 0
    }

    /// What GET_VRING_BASE replies for a ring that has drained. It consumes the ring.
    /// The in-flight region goes on saying where the ring stands: the answer may get lost.
    pub(crate) fn into_base(self) -> u32 {
        match &self.half {
            Half::Split(split, _) => split.base().into(),
            Half::Packed(packed, _) => {
                u32::from(packed.avail.to_bits()) | u32::from(packed.used.to_bits()) << 16
            }
        }
    }

    /// Whether chains from before a crash were never taken again: they are still in the in-flight
    /// region.
    pub(crate) fn has_leftovers(&self) -> bool {
        !self.resume.is_empty()
    }

    /// Enables or disables the ring. One that is not served is not looked at: its driver may have left.
    pub(crate) fn set_enabled(&mut self, enabled: bool) {
        self.setup.enabled = enabled;
        if self.is_served() {
            self.offer_again();
        }
    }

    /// Resolves the ring in another memory table; chains in flight keep theirs.
    pub(crate) fn switch_memory(&mut self, table: Arc<MemoryTable>) {
        // What was only looked at is looked at again, with the new table.
        let stopping = std::mem::replace(&mut self.stopping, true);
        self.stop();
        self.stopping = stopping;
        let moved = match &mut self.half {
            Half::Split(split, _) => split.relocate(&self.setup, &table),
            Half::Packed(packed, _) => packed.relocate(&self.setup, &table),
        };
        self.setup.memory = Arc::clone(&table);
        self.region = 0;
        self.tables.switch(table);
        if let Err(fault) = moved {
            self.fail(fault);
        }
    }

    /// Whether there is no failure to report.
    #[inline]
    pub(crate) fn is_sound(&self) -> bool {
        self.fault.is_none() || self.reported
    }

    /// The failure, once; the front-end's error descriptor is told.
    pub(crate) fn report(&mut self) -> Option<RingFault> {
        let fault = self.fault.filter(|_| !std::mem::replace(&mut self.reported, true))?;
        if let Some(fd) = &self.setup.error {
            Call::to_fd(Arc::clone(fd)).signal();
        }
        Some(fault)
    }

    /// Whether no chain in flight needs a former memory table.
    pub(crate) fn is_settled(&self) -> bool {
        self.tables.is_settled()
    }

    /// Whether a page of guest memory has vanished.
    #[inline]
    pub(crate) fn memory_is_broken(&self) -> bool {
        self.tables.current().is_broken()
    }

    pub(crate) fn set_log(&mut self, log: Option<Arc<DirtyLog>>) {
        self.setup.log = log;
    }

    pub(crate) fn set_used_log(&mut self, at: Option<u64>) {
        self.setup.used_log = at;
    }

    /// Calls the driver this way from now on, and once at once: calls that were due before went the
    /// former way, or nowhere.
    pub(crate) fn set_call(&mut self, call: Call) {
        self.setup.call = call;
        self.call_for_predecessor();
    }

    /// Sets where failures are signalled.
    pub(crate) fn set_error(&mut self, error: Option<Arc<std::os::fd::OwnedFd>>) {
        self.setup.error = error;
    }
}
