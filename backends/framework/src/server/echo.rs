//! A device for tests: copies what the driver gives it to read into what it may write, after a while.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use virtio_spec::DeviceType;
use virtio_spec::features::Negotiated;

use crate::Error;
use crate::device::{
    Acquired, Assembly, ConfigWriter, Device, Host, Outcome, QueueLimits, Service, Wake,
};
use crate::engine::Io;
use crate::ring::{Chain, Rings};

/// What a test can see and set while the device is served.
#[derive(Debug, Default)]
pub(crate) struct Knobs {
    /// How long each request takes, microseconds.
    pub(crate) delay: AtomicU64,
    /// How often the device says that it does not hold yet what it must hold.
    pub(crate) not_yet: AtomicU32,
    pub(crate) acquired: AtomicU32,
    pub(crate) released: AtomicU32,
    pub(crate) resets: AtomicU32,
    pub(crate) nudged: AtomicU32,
    pub(crate) rung: AtomicU32,
}

/// The device: 8 bytes of config, of which the driver may write the last 4.
#[derive(Debug)]
pub(crate) struct Echo {
    pub(crate) knobs: Arc<Knobs>,
    config: [u8; 8],
    host: Host,
}

impl Echo {
    pub(crate) fn new(knobs: &Arc<Knobs>) -> Self {
        Echo { knobs: Arc::clone(knobs), config: [1, 2, 3, 4, 5, 6, 7, 8], host: Host::default() }
    }
}

impl Device for Echo {
    type Service = EchoService;

    fn attach(&mut self, host: Host) {
        self.host = host;
    }

    fn rung(&mut self) -> Outcome {
        self.knobs.rung.fetch_add(1, Ordering::SeqCst);
        Outcome::default()
    }

    fn device_type(&self) -> DeviceType {
        DeviceType::ENTROPY
    }

    fn limits(&self) -> QueueLimits {
        QueueLimits { count: 4, size: 256 }
    }

    fn features(&self) -> u64 {
        1
    }

    fn negotiated(&mut self, _features: Negotiated) {}

    fn config(&self) -> Vec<u8> {
        self.config.to_vec()
    }

    fn write_config(&mut self, offset: usize, data: &[u8], by: ConfigWriter) -> Result<(), Error> {
        if offset < 4 && by == ConfigWriter::Driver {
            return Err(Error::NotThisDevice { request: "a write to a read-only field" });
        }
        self.config[offset..offset + data.len()].copy_from_slice(data);
        Ok(())
    }

    fn worker_of(&self, queue: u16) -> u16 {
        queue / 2
    }

    fn service(&mut self, _worker: u16) -> Result<Assembly<EchoService>, Error> {
        let knobs = Arc::clone(&self.knobs);
        let service = EchoService { knobs, host: self.host.clone(), held: VecDeque::new() };
        Ok(Assembly { service, files: Vec::new() })
    }

    fn acquire(&mut self) -> Result<Acquired, Error> {
        let left = &self.knobs.not_yet;
        if left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok() {
            return Ok(Acquired::NotYet);
        }
        self.knobs.acquired.fetch_add(1, Ordering::SeqCst);
        Ok(Acquired::Yes)
    }

    fn release(&mut self) {
        self.knobs.released.fetch_add(1, Ordering::SeqCst);
    }

    fn reset(&mut self) {
        self.knobs.resets.fetch_add(1, Ordering::SeqCst);
    }

    fn save(&self) -> Vec<u8> {
        self.config.to_vec()
    }

    fn load(&mut self, state: &[u8]) -> Result<(), Error> {
        let wrong = Error::NotThisDevice { request: "a state of another size" };
        self.config = state.try_into().map_err(|_| wrong)?;
        Ok(())
    }

    fn control(
        &mut self,
        command: &str,
        arguments: &Value,
        _fds: Vec<OwnedFd>,
    ) -> Option<Result<Outcome, Error>> {
        (command == "poke").then(|| {
            self.config[0] =
                arguments["value"].as_u64().and_then(|v| v.try_into().ok()).unwrap_or(0);
            let answer = json!({ "poked": self.config[0] });
            Ok(Outcome { answer, config_changed: true, state_changed: true, nudge: true })
        })
    }
}

/// The data side: chains that are held until their time has come.
#[derive(Debug)]
pub(crate) struct EchoService {
    knobs: Arc<Knobs>,
    host: Host,
    held: VecDeque<(usize, Chain, Duration)>,
}

impl Service for EchoService {
    fn service<I: Io>(&mut self, rings: &mut Rings, io: &mut I, wake: Wake) {
        if matches!(wake, Wake::Nudge) {
            self.knobs.nudged.fetch_add(1, Ordering::SeqCst);
            self.host.ring();
        }
        if let Wake::Kick(queue) = wake
            && let Some(ring) = rings.get(queue)
        {
            let delay = Duration::from_micros(self.knobs.delay.load(Ordering::SeqCst));
            while let Some(chain) = ring.take() {
                self.held.push_back((queue, chain, io.now() + delay));
            }
        }
        let now = io.now();
        while self.held.front().is_some_and(|(_, _, due)| *due <= now) {
            if let Some((queue, chain, _)) = self.held.pop_front() {
                echo(rings, queue, chain);
            }
        }
        io.set_timer(self.held.front().map(|(_, _, due)| *due));
    }
}

fn echo(rings: &mut Rings, queue: usize, chain: Chain) {
    let Some(ring) = rings.get(queue) else { panic!("the ring stopped with a chain in flight") };
    let mut bytes = vec![0; ring.readable_len(&chain)];
    ring.read(&chain, 0, &mut bytes);
    let written = ring.write(&chain, 0, &bytes);
    ring.complete(chain, u32::try_from(written).unwrap());
}
