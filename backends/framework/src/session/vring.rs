//! One ring of a session: its set-up and its state.
//!
//! ```text
//!             SET_VRING_KICK (or VRING_KICK)
//!  Stopped ──┬──────────────────────────────▶ Starting ──▶ Running ──▶ Stopping ──▶ Stopped
//!            └─▶ Waiting ──(the device holds)──▲   │ failed       GET_VRING_BASE
//!                   └── GET_VRING_BASE ──▶ Stopped ◀┘
//! ```
//! Beside that a ring is enabled or not; both states are independent (vhost-user, "Ring states").

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use virtio_spec::features::Negotiated;
use virtio_spec::vhost_user::{VringAddr, VringAddrFlags};

use super::log::Log;
use crate::Error;
use crate::error::Result;
use crate::memory::UserAddress;
use crate::ring::{Call, MessageCall};

/// Whether a ring runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Run {
    /// Not started, or stopped.
    Stopped,
    /// To be started as soon as the device holds what it must hold.
    Waiting,
    /// The worker was told to start it.
    Starting,
    /// The worker serves it.
    Running,
    /// The worker was told to stop it.
    Stopping,
}

/// A ring.
#[derive(Debug)]
pub(super) struct Vring {
    queue: u16,
    pub(super) size: Option<u16>,
    pub(super) addresses: Option<VringAddr>,
    /// SET_VRING_BASE, or where the ring stopped.
    pub(super) base: u32,
    /// None: it is polled, or kicked by message.
    pub(super) kick: Option<Arc<OwnedFd>>,
    /// None: SET_VRING_CALL has not come.
    call: Option<Call>,
    pub(super) error: Option<Arc<OwnedFd>>,
    pub(super) enabled: bool,
    run: Run,
    /// The worker that has served it, while that worker lives.
    worker: Option<u16>,
    /// Why the ring failed the last time that it ran.
    failed: Option<String>,
    message_call: Arc<MessageCall>,
}

/// The three addresses of a ring.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts {
    pub(super) descriptors: UserAddress,
    pub(super) driver: UserAddress,
    pub(super) device: UserAddress,
    /// Where writes to the used ring are logged, if they are.
    pub(super) used_log: Option<u64>,
}

impl Vring {
    /// A ring in its initial state, stopped and disabled.
    pub(super) fn new(queue: u16, waker: Arc<OwnedFd>) -> Self {
        let message_call = Arc::new(MessageCall { queue, pending: AtomicU64::new(0), waker });
        Vring {
            queue,
            size: None,
            addresses: None,
            base: 0,
            kick: None,
            call: None,
            error: None,
            enabled: false,
            run: Run::Stopped,
            worker: None,
            failed: None,
            message_call,
        }
    }

    /// Its index on the device.
    pub(super) fn queue(&self) -> u16 {
        self.queue
    }

    pub(super) fn run(&self) -> Run {
        self.run
    }

    pub(super) fn worker(&self) -> Option<u16> {
        self.worker
    }

    /// Why it failed, until it is started again.
    pub(super) fn failure(&self) -> Option<&str> {
        self.failed.as_deref()
    }

    /// The worker that serves it now, which is to hear of changes.
    pub(super) fn serving_worker(&self) -> Option<u16> {
        self.worker.filter(|_| self.run == Run::Running)
    }

    /// Its set-up may not change unless it is stopped.
    pub(super) fn check_stopped(&self, what: &'static str) -> Result<()> {
        if self.run == Run::Stopped {
            return Ok(());
        }
        Err(Error::RingFrozen { queue: self.queue, what })
    }

    /// How the driver is called. Without a descriptor ever given, in-band notifications stand in.
    pub(super) fn call(&self, inband: bool) -> Call {
        match &self.call {
            Some(call) => call.clone(),
            None if inband => Call::Message(Arc::clone(&self.message_call)),
            None => Call::None,
        }
    }

    /// SET_VRING_CALL; no descriptor: the driver polls.
    pub(super) fn set_call(&mut self, fd: Option<OwnedFd>) {
        self.call = Some(fd.map_or(Call::None, |fd| Call::to_fd(Arc::new(fd))));
    }

    /// Whether the driver is to be called by message; asked once for each time that it is.
    pub(super) fn take_message_call(&self) -> bool {
        self.message_call.pending.swap(0, Ordering::Acquire) > 0
    }

    /// SET_VRING_ADDR's content.
    pub(super) fn parts(&self) -> Option<Parts> {
        self.addresses.map(|addresses| Parts {
            descriptors: UserAddress(addresses.descriptor),
            driver: UserAddress(addresses.available),
            device: UserAddress(addresses.used),
            used_log: used_log(&addresses),
        })
    }

    /// Whether all of the used ring has its bits in the log, if it is logged at all.
    pub(super) fn used_is_covered(&self, log: &Log, packed: bool) -> bool {
        let (Some(size), Some(start)) = (self.size, self.addresses.as_ref().and_then(used_log))
        else {
            return true;
        };
        log.covers(start, used_length(size, packed))
    }

    /// Checks what can be checked of the size before the worker looks at memory.
    pub(super) fn check_size(&self, size: u16, features: Negotiated) -> Result<()> {
        let packed = features.has(virtio_spec::features::RING_PACKED);
        if packed || size.is_power_of_two() {
            return Ok(());
        }
        Err(Error::RingSizeNotPowerOfTwo { queue: self.queue, size })
    }

    pub(super) fn wait(&mut self) {
        self.run = Run::Waiting;
        self.failed = None;
    }

    /// No longer waits to be started.
    pub(super) fn forget_wait(&mut self) {
        if self.run == Run::Waiting {
            self.run = Run::Stopped;
        }
    }

    pub(super) fn starting(&mut self, worker: u16) {
        self.run = Run::Starting;
        self.worker = Some(worker);
        self.failed = None;
    }

    pub(super) fn started(&mut self) {
        self.run = Run::Running;
    }

    /// The ring could not be started.
    pub(super) fn not_started(&mut self, why: String) {
        self.run = Run::Stopped;
        self.failed = Some(why);
    }

    pub(super) fn stopping(&mut self) {
        self.run = Run::Stopping;
    }

    pub(super) fn stopped(&mut self, base: u32) {
        self.run = Run::Stopped;
        self.base = base;
    }

    /// Served no longer until it is started anew, though it still runs for the front-end.
    pub(super) fn fail(&mut self, why: String) {
        self.failed = Some(why);
    }

    pub(super) fn worker_ended(&mut self) {
        self.run = Run::Stopped;
        self.worker = None;
    }

    /// Back to the initial state, but for what belongs to the connection: call and error.
    pub(super) fn reset(&mut self) {
        let fresh = Vring::new(self.queue, Arc::clone(&self.message_call.waker));
        let (call, error) = (self.call.take(), self.error.take());
        *self = Vring { call, error, ..fresh };
    }
}

fn used_log(addresses: &VringAddr) -> Option<u64> {
    VringAddrFlags::from_bits_retain(addresses.flags)
        .contains(VringAddrFlags::LOG)
        .then_some(addresses.log)
}

/// Bytes of the used ring with its event index (virtio 1.4, 2.7.8), or of a packed ring (2.8).
fn used_length(size: u16, packed: bool) -> u64 {
    let size = u64::from(size);
    if packed { 16 * size } else { 6 + 8 * size }
}
