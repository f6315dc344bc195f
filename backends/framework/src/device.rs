//! What a device is to the framework: a state machine, with its I/O injected.
//!
//! A device has two sides. The control side ([`Device`]) lives on the connection thread: features,
//! config space, saved state. The data side ([`Service`]) is owned by one worker thread together
//! with its rings, and sees only chains, guest memory and completions. Neither ever sees a socket,
//! an eventfd or io_uring, so the same code runs under the real engines, under the simulated one,
//! under the fake driver and under the fuzzers.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use serde_json::Value;
use virtio_spec::DeviceType;
use virtio_spec::features::Negotiated;

use crate::Error;
use crate::engine::{Completion, Direction, FileIndex, Io};
use crate::program::signals::Signal;
use crate::ring::Rings;
pub use crate::server::host::Host;

/// The control side of a device: owned by the connection thread.
pub trait Device: Send + 'static {
    /// The data side.
    type Service: Service;

    /// Called once, before anything else: the way to what is around the device.
    fn attach(&mut self, _host: Host) {}

    /// Somebody rang ([`Host::ring`]) since the last time.
    fn rung(&mut self) -> Outcome {
        Outcome::default()
    }

    /// SIGHUP or SIGWINCH came: files may have been moved away, a terminal may have another size.
    fn signalled(&mut self, _signal: Signal) -> Outcome {
        Outcome::default()
    }

    /// Which virtio device it is.
    fn device_type(&self) -> DeviceType;

    /// The most queues, and the largest queue, that are offered.
    fn limits(&self) -> QueueLimits;

    /// The device's own feature bits that it offers (virtio 1.4, 2.2): bits 0 to 23 and 50 and up.
    /// Those of rings and transport are the framework's.
    fn features(&self) -> u64;

    /// The driver's choice: called at each SET_FEATURES, before any ring starts.
    fn negotiated(&mut self, features: Negotiated);

    /// The config space as it is now (virtio 1.4, 2.5), from its first byte to its last.
    fn config(&self) -> Vec<u8>;

    /// The driver (or a migration, which may set every field) writes `data` at byte `offset`.
    /// The range was checked against [`Device::config`]'s length.
    ///
    /// # Errors
    /// When a field is not writable, or the value is not acceptable. Nothing has changed then.
    fn write_config(&mut self, offset: usize, data: &[u8], by: ConfigWriter) -> Result<(), Error>;

    /// Which worker serves `queue`: queues with the same answer share a thread.
    fn worker_of(&self, queue: u16) -> u16;

    /// Whether the device goes on with this queue's chains while its ring is disabled. Only network
    /// devices do: they discard what is transmitted (vhost-user, "Ring states").
    fn serves_disabled(&self, _queue: u16) -> bool {
        false
    }

    /// Makes the data side for one worker, and the files it does I/O on: [`crate::engine::FileIndex`] n is the
    /// n-th of them.
    ///
    /// # Errors
    /// When what it needs cannot be had.
    fn service(&mut self, worker: u16) -> Result<Assembly<Self::Service>, Error>;

    /// Called before the first ring starts, and again every few milliseconds while the answer is
    /// "not yet": takes what must be held while rings run (the lock on the image). Never waits.
    ///
    /// # Errors
    /// When it can never be had.
    fn acquire(&mut self) -> Result<Acquired, Error> {
        Ok(Acquired::Yes)
    }

    /// Called after the last ring has drained: gives back what [`Device::acquire`] took.
    fn release(&mut self) {}

    /// The driver's reset of the whole device (RESET_DEVICE): forget what the driver had set.
    fn reset(&mut self);

    /// What the driver set once and never sends again, encoded by the device; bounded.
    fn save(&self) -> Vec<u8> {
        Vec::new()
    }

    /// Takes over what [`Device::save`] wrote, perhaps in another process or an older version.
    ///
    /// # Errors
    /// When it cannot be read; nothing has changed then.
    fn load(&mut self, _state: &[u8]) -> Result<(), Error> {
        Ok(())
    }

    /// A command of the control socket that the framework does not know, with the descriptors that
    /// came with it. None: nor does the device.
    ///
    /// # Errors
    /// What was wrong, in words that tell the user what to do.
    fn control(
        &mut self,
        command: &str,
        arguments: &Value,
        fds: Vec<OwnedFd>,
    ) -> Option<Result<Outcome, Error>>;

    /// What `stats` shows of the device beside the counters of its queues.
    fn stats(&self) -> Value {
        Value::Null
    }

    /// NET_SET_MTU, where the device has it.
    ///
    /// # Errors
    /// An MTU that cannot be served.
    fn set_mtu(&mut self, _mtu: u64) -> Result<(), Error> {
        Err(Error::NotThisDevice { request: "NET_SET_MTU" })
    }

    /// SEND_RARP, where the device has it.
    ///
    /// # Errors
    /// When it cannot be sent.
    fn send_rarp(&mut self, _mac: [u8; 6]) -> Result<(), Error> {
        Err(Error::NotThisDevice { request: "SEND_RARP" })
    }

    /// Whether NET_MTU and RARP are among the protocol features.
    fn is_network(&self) -> bool {
        false
    }
}

/// The most that a device offers.
#[derive(Clone, Copy, Debug)]
pub struct QueueLimits {
    /// How many queues.
    pub count: u16,
    /// The largest size that SET_VRING_NUM may ask for, a power of two.
    pub size: u16,
}

/// Who writes the config space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigWriter {
    /// The driver: fields that the spec makes writable, and no others.
    Driver,
    /// The front-end at a migration's destination: any field.
    Migration,
}

/// Whether a device has what it must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acquired {
    /// Rings may run.
    Yes,
    /// Somebody else holds it still: ask again.
    NotYet,
}

/// What a control command, or a ring of the bell, has changed.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Fields of the answer, an object; `"ok": true` is added.
    pub answer: Value,
    /// Whether the config space changed: the front-end is told.
    pub config_changed: bool,
    /// Whether the saved state changed.
    pub state_changed: bool,
    /// Whether the data side is to be woken ([`Wake::Nudge`]): there is something for it.
    pub nudge: bool,
}

/// A worker's data side and the files it may touch.
#[derive(Debug)]
pub struct Assembly<S> {
    /// The data side.
    pub service: S,
    /// What its operations name by index.
    pub files: Vec<Arc<OwnedFd>>,
}

/// The data side of a device: owned by one worker thread, with its rings.
pub trait Service: Send + 'static {
    /// Deals with one thing that happened. It may take chains, submit operations, complete chains;
    /// it must not wait. `used` is published, and the driver called, after all wakes of a batch.
    fn service<I: Io>(&mut self, rings: &mut Rings, io: &mut I, wake: Wake);
}

/// What happened. Queues are counted within the worker: 0 is the first queue that it serves.
#[derive(Debug)]
pub enum Wake {
    /// The ring of this queue may have chains to take.
    Kick(usize),
    /// An operation has ended.
    Done(Completion),
    /// A file that the device watches is ready ([`Io::watch`]).
    Ready(FileIndex, Direction),
    /// The time that the device asked for has come.
    Timer,
    /// The control side has left something for the data side ([`Outcome::nudge`]).
    Nudge,
    /// The ring of this queue is to stop: no more chains will be offered. Chains that would wait
    /// for ever must be completed now; those with an operation under way end when it ends.
    Stop(usize),
}
