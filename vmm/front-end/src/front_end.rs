//! The device, as the transport and the machine have it.

use std::sync::Arc;
use std::thread;
use std::time::Instant;

use virtio_pci::{Device, Notices, Queue, Start};
use virtio_spec::{DeviceType, Negotiated, Offered, packed};

use crate::config::{Config, Hooks};
use crate::memory::Region;
use crate::session::{DeviceReport, Ring, Session};
use crate::source::Source;
use crate::thread::{Pause, Thread};
use crate::two_sides::{Log, Shared};
use crate::{Error, Result};

/// A virtio device that is served by a vhost-user back-end.
///
/// No method waits for the back-end, except those that are given a deadline.
pub struct FrontEnd {
    device_type: DeviceType,
    queue_size: u16,
    shared: Arc<Shared>,
}

impl std::fmt::Debug for FrontEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FrontEnd").field("report", &self.report()).finish_non_exhaustive()
    }
}

impl FrontEnd {
    /// Starts the device's thread, `vhost-` and its name, which connects at once.
    ///
    /// # Errors
    /// [`Error::QueueSize`], [`Error::System`] when the system has no thread or descriptor left.
    pub fn spawn(
        config: Config,
        source: Box<dyn Source>,
        memory: Vec<Region>,
        hooks: Hooks,
    ) -> Result<Arc<Self>> {
        let name = format!("vhost-{}", config.name);
        let (front_end, shared) = Self::without_thread(config, memory)?;
        let thread = Thread { shared, source, hooks, region: None, pause: Pause::default() };
        thread::Builder::new()
            .name(name)
            .spawn(move || thread.run())
            .map_err(Error::system("starting a device's thread"))?;
        Ok(Arc::new(front_end))
    }

    /// The device alone, with what its thread shares with it.
    pub(crate) fn without_thread(
        config: Config,
        memory: Vec<Region>,
    ) -> Result<(Self, Arc<Shared>)> {
        let (device_type, queue_size) = (config.device_type, config.queue_size);
        if !queue_size.is_power_of_two() || queue_size > packed::MAX_QUEUE_SIZE {
            return Err(Error::QueueSize(queue_size));
        }
        let places = memory.iter().map(Region::place).collect();
        let shared = Arc::new(Shared::new(Session::new(config, places), memory)?);
        Ok((Self { device_type, queue_size, shared: Arc::clone(&shared) }, shared))
    }

    /// Waits for the first handshake. Before it nothing is known of the device.
    ///
    /// # Errors
    /// [`Error::NotReady`] at the deadline, with what it waits for.
    pub fn wait_until_ready(&self, deadline: Instant) -> Result<()> {
        if self.shared.wait(deadline, |state| state.session.is_known()) {
            return Ok(());
        }
        let state = self.shared.lock();
        let (name, why) = (state.session.config().name.clone(), state.session.trouble());
        Err(Error::NotReady { name, why })
    }

    /// The device as it is now, for its user.
    #[must_use]
    pub fn report(&self) -> DeviceReport {
        self.shared.lock().session.report()
    }

    /// The machine pauses: all rings are drained and stopped, where the back-end says.
    pub fn quiesce(&self) {
        self.shared.change(|state| state.session.set_paused(true));
    }

    /// Whether [`FrontEnd::quiesce`] was asked for and no ring runs.
    #[must_use]
    pub fn is_quiesced(&self) -> bool {
        self.shared.lock().session.is_paused()
    }

    /// Waits until no ring runs; `false` when some still does at the deadline.
    #[must_use]
    pub fn wait_quiesced(&self, deadline: Instant) -> bool {
        self.shared.wait(deadline, |state| state.session.is_paused())
    }

    /// The machine goes on: rings are started where they stopped.
    pub fn resume(&self) {
        self.shared.change(|state| state.session.set_paused(false));
    }

    /// Begins the end: all rings are drained and stopped, the connection is closed.
    pub fn begin_stop(&self) {
        self.shared.change(|state| state.session.stop_for_good());
    }

    /// Ends the device; `false` when its back-end has not stopped all rings by the deadline.
    #[must_use]
    pub fn stop(&self, deadline: Instant) -> bool {
        self.begin_stop();
        self.shared.wait(deadline, |state| state.ended)
    }

    /// Guest memory is this from now on.
    pub fn set_memory(&self, memory: Vec<Region>) {
        let places = memory.iter().map(Region::place).collect();
        self.shared.change(|state| {
            state.regions = memory.into();
            state.session.set_memory(places);
        });
    }

    /// Has the back-end log which pages it writes, or no longer.
    ///
    /// # Errors
    /// [`Error::Lacking`] when it cannot.
    pub fn set_log(&self, log: Option<Log>) -> Result<()> {
        self.shared.change(|state| {
            let last = state.log.as_ref().map_or(0, |(number, _)| *number);
            let number = log.is_some().then(|| last.wrapping_add(1));
            state.session.set_log(number)?;
            // One that is switched off keeps its number, so that the next has another.
            if let (Some(number), Some(log)) = (number, log) {
                state.log = Some((number, log));
            }
            Ok(())
        })
    }

    /// Whether the back-end logs as [`FrontEnd::set_log`] wants by now.
    #[must_use]
    pub fn log_is_set(&self) -> bool {
        self.shared.lock().session.log_is_set()
    }

    /// Has a network back-end announce the guest's MAC address, as after a migration.
    pub fn announce(&self, mac: [u8; 6]) {
        self.shared.change(|state| state.session.announce(mac));
    }
}

impl Drop for FrontEnd {
    fn drop(&mut self) {
        self.begin_stop();
    }
}

impl Device for FrontEnd {
    fn device_type(&self) -> DeviceType {
        self.device_type
    }

    fn offered(&self) -> Offered {
        self.shared.lock().session.offered()
    }

    fn queues(&self) -> u16 {
        self.shared.lock().session.queues()
    }

    fn max_queue_size(&self) -> u16 {
        self.queue_size
    }

    fn config_size(&self) -> u32 {
        self.shared.lock().session.config_size()
    }

    fn read_config(&self, offset: u32, into: &mut [u8]) -> u64 {
        self.shared.lock().session.read_config(offset, into)
    }

    fn write_config(&self, offset: u32, bytes: &[u8]) {
        self.shared.change(|state| state.session.write_config(offset, bytes));
    }

    fn accept_features(&self, features: Negotiated) -> bool {
        self.shared.lock().session.accepts(features)
    }

    fn start(&self, start: Start) {
        self.shared.change(|state| {
            for queue in &start.queues {
                state.know(queue);
            }
            state.session.start(start.features, start.queues.iter().map(ring));
        });
    }

    fn start_queue(&self, queue: Queue) {
        self.shared.change(|state| {
            state.know(&queue);
            state.session.start_queue(ring(&queue));
        });
    }

    fn reset_queue(&self, index: u16) {
        self.shared.change(|state| state.session.reset_queue(index));
    }

    fn queue_is_reset(&self, index: u16) -> bool {
        self.shared.lock().session.queue_is_reset(index)
    }

    fn reset(&self) {
        self.shared.change(|state| state.session.reset());
    }

    fn is_reset(&self) -> bool {
        self.shared.lock().session.is_reset()
    }

    fn subscribe(&self, notices: Arc<dyn Notices>) {
        self.shared.subscribe(notices);
    }
}

/// The queue without its events.
fn ring(queue: &Queue) -> Ring {
    Ring {
        queue: queue.index,
        size: queue.size,
        descriptors: queue.desc.0,
        driver: queue.driver.0,
        device: queue.device.0,
    }
}
