//! The block device of the simulation: the real one, with the lock of its image played by the
//! simulated disk.
//!
//! The real lock stays with a killed process until its last operation has ended. The simulated disk
//! knows whether such operations are still to land; until they have, nobody gets the lock.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use framework::device::{Acquired, Assembly, ConfigWriter, Device, Outcome, QueueLimits};
use framework::device::{Service, Wake};
use framework::engine::{Io, SimulatedDisk};
use framework::ring::Rings;
use outrigger_blk::device::BlockDevice;
use outrigger_blk::service::BlockService;
use serde_json::Value;
use virtio_spec::DeviceType;
use virtio_spec::features::Negotiated;

use crate::engine::Sleep;

type Result<T> = std::result::Result<T, framework::Error>;

/// The control side.
#[derive(Debug)]
pub(crate) struct LockedDevice {
    inner: BlockDevice,
    disk: SimulatedDisk,
    /// Whether it waits for the lock at all.
    waits_for_lock: bool,
    /// How often the lock was not to be had.
    pub(crate) waits: u64,
}

impl LockedDevice {
    pub(crate) fn new(inner: BlockDevice, disk: SimulatedDisk, waits_for_lock: bool) -> Self {
        LockedDevice { inner, disk, waits_for_lock, waits: 0 }
    }
}

impl Device for LockedDevice {
    type Service = Watched;

    fn acquire(&mut self) -> Result<Acquired> {
        if self.waits_for_lock && !self.disk.is_settled() {
            self.waits += 1;
            return Ok(Acquired::NotYet);
        }
        self.inner.acquire()
    }

    fn release(&mut self) {
        self.inner.release();
    }

    fn service(&mut self, worker: u16) -> Result<Assembly<Watched>> {
        let Assembly { service, files } = self.inner.service(worker)?;
        Ok(Assembly { service: Watched { inner: service, sleep: Arc::default() }, files })
    }

    fn device_type(&self) -> DeviceType {
        self.inner.device_type()
    }

    fn limits(&self) -> QueueLimits {
        self.inner.limits()
    }

    fn features(&self) -> u64 {
        self.inner.features()
    }

    fn negotiated(&mut self, features: Negotiated) {
        self.inner.negotiated(features);
    }

    fn config(&self) -> Vec<u8> {
        self.inner.config()
    }

    fn write_config(&mut self, offset: usize, data: &[u8], by: ConfigWriter) -> Result<()> {
        self.inner.write_config(offset, data, by)
    }

    fn worker_of(&self, queue: u16) -> u16 {
        self.inner.worker_of(queue)
    }

    fn reset(&mut self) {
        self.inner.reset();
    }

    fn save(&self) -> Vec<u8> {
        self.inner.save()
    }

    fn load(&mut self, state: &[u8]) -> Result<()> {
        self.inner.load(state)
    }

    fn control(
        &mut self,
        command: &str,
        arguments: &Value,
        fds: Vec<OwnedFd>,
    ) -> Option<Result<Outcome>> {
        self.inner.control(command, arguments, fds)
    }
}

/// The data side, which notices when it is offered a ring by a worker that sleeps.
#[derive(Debug)]
pub(crate) struct Watched {
    inner: BlockService,
    pub(crate) sleep: Arc<Sleep>,
}

impl Service for Watched {
    fn service<I: Io>(&mut self, rings: &mut Rings, io: &mut I, wake: Wake) {
        if matches!(wake, Wake::Kick(_)) {
            self.sleep.active();
        }
        self.inner.service(rings, io, wake);
    }
}
