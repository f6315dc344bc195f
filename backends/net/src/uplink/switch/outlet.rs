//! What waits for the worker of a port: frames for its guest, and news of those that it has sent.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

use super::parcel::Parcel;

/// The most frames that wait. Their senders' buffers wait with them: so it is for the worker to take
/// them soon, whatever its guest does.
const FRAMES_MAX: usize = 4096;

/// Frames of a parcel that go the same way.
#[derive(Debug)]
pub(super) struct Share {
    pub(super) parcel: Arc<Parcel>,
    /// Which.
    pub(super) frames: Vec<u16>,
}

/// A worker's letter box. Any worker puts something in; its own one empties it.
#[derive(Debug)]
pub(super) struct Outlet {
    queue: Mutex<Queue>,
    bell: Arc<OwnedFd>,
    /// Frames for which there was no room, here or further on.
    overflowed: AtomicU64,
}

#[derive(Debug, Default)]
struct Queue {
    shares: VecDeque<Share>,
    frames: usize,
    /// Numbers of the worker's own parcels that nobody reads any more.
    returned: Vec<u64>,
    /// Whether the worker takes frames for its guest.
    open: bool,
    /// Whether the worker sleeps until the bell rings.
    asleep: bool,
}

/// What the worker found.
#[derive(Debug, Default)]
pub(super) struct Mail {
    pub(super) shares: VecDeque<Share>,
    pub(super) returned: Vec<u64>,
}

impl Outlet {
    pub(super) fn new() -> Result<Self, Errno> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Outlet { queue: Mutex::default(), bell: Arc::new(bell), overflowed: AtomicU64::new(0) })
    }

    /// What becomes readable when there is something for a worker that sleeps.
    pub(super) fn bell(&self) -> &Arc<OwnedFd> {
        &self.bell
    }

    /// Opens or closes it for frames; none wait where it is closed.
    pub(super) fn set_open(&self, open: bool) {
        let mut queue = self.lock();
        queue.open = open;
        let waiting = if open { VecDeque::new() } else { std::mem::take(&mut queue.shares) };
        queue.frames = if open { queue.frames } else { 0 };
        drop(queue);
        // Their senders hear of it, at outlets of their own: so no lock is held meanwhile.
        drop(waiting);
    }

    /// Whether somebody takes frames here.
    pub(super) fn is_open(&self) -> bool {
        self.lock().open
    }

    /// Leaves frames there. Too many are dropped, and counted.
    pub(super) fn push(&self, share: Share) {
        let count = share.frames.len();
        let mut queue = self.lock();
        if !queue.open {
            return;
        }
        if queue.frames >= FRAMES_MAX {
            drop(queue);
            return self.overflow(count);
        }
        queue.frames += count;
        queue.shares.push_back(share);
        let asleep = std::mem::take(&mut queue.asleep);
        drop(queue);
        if asleep {
            self.ring();
        }
    }

    /// A parcel of this worker's is at an end.
    pub(super) fn give_back(&self, number: u64) {
        let mut queue = self.lock();
        queue.returned.push(number);
        let asleep = std::mem::take(&mut queue.asleep);
        drop(queue);
        if asleep {
            self.ring();
        }
    }

    /// Takes all that there is.
    pub(super) fn take(&self, mail: &mut Mail) {
        let mut queue = self.lock();
        queue.frames = 0;
        mail.shares.append(&mut queue.shares);
        mail.returned.append(&mut queue.returned);
    }

    /// So many frames found no room.
    pub(super) fn overflow(&self, frames: usize) {
        self.overflowed.fetch_add(u64::try_from(frames).unwrap_or(0), Ordering::Relaxed);
    }

    /// How many frames found no room.
    pub(super) fn overflowed(&self) -> u64 {
        self.overflowed.load(Ordering::Relaxed)
    }

    /// Says that the worker is about to sleep. False: there is something.
    pub(super) fn sleep(&self) -> bool {
        let mut queue = self.lock();
        queue.asleep = queue.shares.is_empty() && queue.returned.is_empty();
        queue.asleep
    }

    /// Makes the bell readable.
    pub(super) fn ring(&self) {
        // A counter that is full is readable as well.
        let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
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
