//! What waits for a port's guest: frames that other ports' workers have left there.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use virtio_spec::net::Header;

/// The most frames that wait, and their bytes: a guest that takes none costs no more.
const FRAMES_MAX: usize = 1024;
const BYTES_MAX: usize = 8 << 20;

/// A frame on its way, in memory that belongs to no guest.
#[derive(Debug)]
pub(super) struct Packet {
    /// A header of ours: what the frame leaves to its receiver.
    pub(super) header: Header,
    pub(super) bytes: Vec<u8>,
}

impl Packet {
    /// A frame that leaves nothing to its receiver.
    pub(super) fn complete(bytes: Vec<u8>) -> Self {
        Packet { header: Header::default(), bytes }
    }
}

/// A port's queue. Any worker adds to it; the port's own empties it.
#[derive(Debug)]
pub(super) struct Outlet {
    queue: Mutex<Queue>,
    /// Whether the port's worker sleeps until the bell rings.
    sleeping: AtomicBool,
    bell: Arc<OwnedFd>,
    pub(super) overflowed: AtomicU64,
}

#[derive(Debug, Default)]
struct Queue {
    packets: VecDeque<Arc<Packet>>,
    bytes: usize,
    /// Whether somebody takes them: else they would wait for a guest that is yet to come.
    open: bool,
}

impl Outlet {
    pub(super) fn new() -> Result<Self, Errno> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Outlet {
            queue: Mutex::default(),
            sleeping: AtomicBool::new(false),
            bell: Arc::new(bell),
            overflowed: AtomicU64::new(0),
        })
    }

    /// What becomes readable when there are frames for a worker that sleeps.
    pub(super) fn bell(&self) -> &Arc<OwnedFd> {
        &self.bell
    }

    /// Opens or closes the queue, which is empty then.
    pub(super) fn set_open(&self, open: bool) {
        *self.lock() = Queue { open, ..Queue::default() };
    }

    /// Adds a frame, or drops it if too many wait.
    pub(super) fn push(&self, packet: &Arc<Packet>) {
        let mut queue = self.lock();
        if !queue.open {
            return;
        }
        if queue.packets.len() >= FRAMES_MAX || queue.bytes + packet.bytes.len() > BYTES_MAX {
            self.overflowed.fetch_add(1, Ordering::Relaxed);
            return;
        }
        queue.bytes += packet.bytes.len();
        queue.packets.push_back(Arc::clone(packet));
    }

    /// Wakes the port's worker if it sleeps and has frames now.
    pub(super) fn wake_if_any(&self) {
        let wake = self.sleeping.load(Ordering::SeqCst) && !self.lock().packets.is_empty();
        if wake && self.sleeping.swap(false, Ordering::SeqCst) {
            self.ring();
        }
    }

    /// Makes the bell readable.
    pub(super) fn ring(&self) {
        // A counter that is full is readable as well.
        let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
    }

    /// Takes a frame.
    pub(super) fn pop(&self) -> Option<Arc<Packet>> {
        let mut queue = self.lock();
        let packet = queue.packets.pop_front()?;
        queue.bytes -= packet.bytes.len();
        Some(packet)
    }

    /// Says that the worker is about to sleep. False: there are frames.
    pub(super) fn sleep(&self) -> bool {
        self.sleeping.store(true, Ordering::SeqCst);
        // Whoever adds one after this look finds the worker sleeping, and rings.
        if self.lock().packets.is_empty() {
            return true;
        }
        self.sleeping.store(false, Ordering::SeqCst);
        false
    }

    /// The bell was heard.
    pub(super) fn heard(&self) {
        // Not readable any more, or never was.
        let _ = rustix::io::read(&self.bell, &mut [0; 8]);
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
