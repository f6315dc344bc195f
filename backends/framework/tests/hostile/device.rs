//! A device with two queues and eight bytes of configuration: echoes what it reads.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use framework::Error;
use framework::device::{
    Acquired, Assembly, ConfigWriter, Device, Outcome, QueueLimits, Service, Wake,
};
use framework::engine::Io;
use framework::ring::Rings;
use serde_json::Value;
use virtio_spec::DeviceType;
use virtio_spec::features::Negotiated;

/// Queues of the device.
pub(crate) const QUEUES: u16 = 2;
/// The largest of them.
pub(crate) const QUEUE_SIZE: u16 = 64;
/// Its configuration.
pub(crate) const CONFIG: [u8; 8] = *b"hostile?";

/// The control side. What it holds while rings run is counted.
#[derive(Debug, Default)]
pub(crate) struct Echo {
    pub(crate) holds: Arc<AtomicUsize>,
    pub(crate) negotiated: Option<Negotiated>,
}

impl Device for Echo {
    type Service = EchoService;

    fn device_type(&self) -> DeviceType {
        DeviceType::ENTROPY
    }

    fn limits(&self) -> QueueLimits {
        QueueLimits { count: QUEUES, size: QUEUE_SIZE }
    }

    fn features(&self) -> u64 {
        1
    }

    fn negotiated(&mut self, features: Negotiated) {
        self.negotiated = Some(features);
    }

    fn config(&self) -> Vec<u8> {
        CONFIG.to_vec()
    }

    fn write_config(&mut self, _: usize, _: &[u8], _: ConfigWriter) -> Result<(), Error> {
        Err(Error::NotThisDevice { request: "a write to the configuration" })
    }

    fn worker_of(&self, queue: u16) -> u16 {
        queue
    }

    fn service(&mut self, _: u16) -> Result<Assembly<EchoService>, Error> {
        Ok(Assembly { service: EchoService, files: Vec::new() })
    }

    fn acquire(&mut self) -> Result<Acquired, Error> {
        self.holds.fetch_add(1, SeqCst);
        Ok(Acquired::Yes)
    }

    fn release(&mut self) {
        self.holds.fetch_sub(1, SeqCst);
    }

    fn reset(&mut self) {}

    fn control(&mut self, _: &str, _: &Value, _: Vec<OwnedFd>) -> Option<Result<Outcome, Error>> {
        None
    }
}

/// The data side.
#[derive(Debug)]
pub(crate) struct EchoService;

impl Service for EchoService {
    fn service<I: Io>(&mut self, rings: &mut Rings, _: &mut I, wake: Wake) {
        let Wake::Kick(queue) = wake else { return };
        let Some(ring) = rings.get(queue) else { return };
        while let Some(chain) = ring.take() {
            let mut bytes = vec![0; ring.readable_len(&chain)];
            ring.read(&chain, 0, &mut bytes);
            let written = ring.write(&chain, 0, &bytes);
            ring.complete(chain, written as u32);
        }
    }
}
