//! What the device's threads and the vCPUs share without a lock: the transport's half of
//! [`Notices`].
//!
//! Before DRIVER_OK and after a reset nobody is to be notified (virtio 1.4, 2.4.1). What comes then
//! is held back; DRIVER_OK delivers it, a reset drops it. Each side first states its news and then
//! looks at the other's, so that one of the two sees both.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use crate::device::Notices;
use crate::event::Event;

/// Notices on their way to the driver.
#[derive(Debug)]
pub(crate) struct Signals {
    /// The source of configuration change notifications.
    event: Arc<Event>,
    /// DRIVER_OK is set.
    live: AtomicBool,
    /// DEVICE_NEEDS_RESET is set.
    needs_reset: AtomicBool,
    /// A notification is due.
    due: AtomicBool,
    /// The configuration bit of the ISR status (virtio 1.4, 4.1.4.5).
    isr: AtomicBool,
}

impl Signals {
    pub(crate) fn new(event: Arc<Event>) -> Self {
        let (live, needs_reset) = (AtomicBool::new(false), AtomicBool::new(false));
        let (due, isr) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { event, live, needs_reset, due, isr }
    }

    /// DRIVER_OK: from now on the driver is notified.
    pub(crate) fn go_live(&self) {
        self.live.store(true, SeqCst);
        self.deliver();
    }

    /// A reset begins: no more notifications.
    pub(crate) fn go_quiet(&self) {
        self.live.store(false, SeqCst);
    }

    /// A reset is over: nothing is left of what was.
    pub(crate) fn clear(&self) {
        self.needs_reset.store(false, SeqCst);
        self.due.store(false, SeqCst);
        self.isr.store(false, SeqCst);
    }

    /// Whether the device asked for a reset.
    pub(crate) fn wants_reset(&self) -> bool {
        self.needs_reset.load(SeqCst)
    }

    /// Whether the configuration bit of the ISR status is set.
    pub(crate) fn config_interrupt(&self) -> bool {
        self.isr.load(SeqCst)
    }

    /// Reads and clears the configuration bit of the ISR status.
    pub(crate) fn take_config_interrupt(&self) -> bool {
        self.isr.swap(false, SeqCst)
    }

    fn notify(&self) {
        self.due.store(true, SeqCst);
        self.deliver();
    }

    fn deliver(&self) {
        if self.live.load(SeqCst) && self.due.swap(false, SeqCst) {
            // The bit first: 4.1.4.5.1.
            self.isr.store(true, SeqCst);
            self.event.signal();
        }
    }
}

impl Notices for Signals {
    fn config_changed(&self) {
        self.notify();
    }

    fn needs_reset(&self) {
        self.needs_reset.store(true, SeqCst);
        self.notify();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signals() -> (Signals, Arc<Event>) {
        let event = Arc::new(Event::new().unwrap());
        (Signals::new(event.clone()), event)
    }

    #[test]
    fn notices_wait_for_driver_ok() {
        let (signals, event) = signals();
        signals.config_changed();
        assert!(!event.is_signalled() && !signals.config_interrupt());
        signals.go_live();
        assert!(event.take() && signals.take_config_interrupt());
        signals.config_changed();
        assert!(event.take() && signals.take_config_interrupt());
        assert!(!signals.take_config_interrupt());
    }

    #[test]
    fn a_reset_drops_what_was_not_delivered() {
        let (signals, event) = signals();
        signals.go_live();
        signals.go_quiet();
        signals.needs_reset();
        assert!(signals.wants_reset());
        signals.clear();
        signals.go_live();
        assert!(!event.is_signalled() && !signals.wants_reset());
    }
}
