//! A seat: what is set aside for a worker before the process is confined, and outlives it.
//!
//! A confined process makes no io_uring any more, since one without restrictions would be a way around
//! the filter of system calls. So each worker's ring is made beforehand. As the kernel lets nobody but
//! the thread that enabled it use such a ring, that thread stays as well: it carries out one worker
//! after the other, those of one connection after the other, and sleeps in between.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender};

use super::ThreadSettings;
use crate::engine::{self, ReservedRing};
use crate::error::{Error, Result};

/// A worker's life, on the thread of its seat.
pub(super) type Job = Box<dyn FnOnce(Option<&mut ReservedRing>) + Send>;

/// The ring and the thread of one worker after the other.
pub struct Seat {
    number: u16,
    /// Until it is given to the thread.
    ring: Option<ReservedRing>,
    thread: Option<SeatThread>,
    taken: bool,
}

struct SeatThread {
    jobs: Sender<Job>,
    handle: JoinHandle<()>,
}

impl Seat {
    /// A seat for worker `number`, which serves so many queues. Its thread starts with the first
    /// worker.
    ///
    /// # Errors
    /// When io_uring was asked for and is not to be had.
    pub fn reserve(settings: &ThreadSettings, number: u16, queues: u16) -> Result<Self> {
        let ring = engine::reserve(settings.engine, queues, settings.restricted)
            .map_err(|source| Error::NoEngine { source })?;
        Ok(Seat { number, ring, thread: None, taken: false })
    }

    /// A seat without a ring: threads do its worker's I/O.
    pub fn without_ring(number: u16) -> Self {
        Seat { number, ring: None, thread: None, taken: false }
    }

    pub(super) fn number(&self) -> u16 {
        self.number
    }

    /// Has a job done by the seat's thread, after any that it is doing.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub(super) fn take(&mut self, settings: &ThreadSettings, job: Job) -> Result<()> {
        let thread = match &mut self.thread {
            Some(thread) => thread,
            none => none.insert(SeatThread::start(settings, self.number, self.ring.take())?),
        };
        self.taken = true;
        // The thread ends only when this sender is gone.
        let _ = thread.jobs.send(job);
        Ok(())
    }

    /// Its worker has ended.
    pub fn leave(&mut self) {
        self.taken = false;
    }
}

impl Drop for Seat {
    /// Waits for the thread, unless a worker is still in its seat: a daemon that is told twice to end
    /// does not wait.
    fn drop(&mut self) {
        let Some(SeatThread { jobs, handle }) = self.thread.take() else { return };
        drop(jobs);
        if !self.taken {
            // It catches the panics of its jobs.
            let _ = handle.join();
        }
    }
}

impl SeatThread {
    fn start(
        settings: &ThreadSettings,
        number: u16,
        ring: Option<ReservedRing>,
    ) -> Result<SeatThread> {
        let (jobs, queue) = crossbeam_channel::unbounded();
        let handle = std::thread::Builder::new()
            .name(format!("{}-q{number}", settings.name))
            .spawn(move || work(&queue, ring))
            .map_err(|source| Error::WorkerThread { worker: number, source })?;
        Ok(SeatThread { jobs, handle })
    }
}

fn work(jobs: &Receiver<Job>, mut ring: Option<ReservedRing>) {
    for job in jobs {
        // A job that panics says so itself, and its engine leaves the ring as it was.
        let _ = catch_unwind(AssertUnwindSafe(|| job(ring.as_mut())));
    }
}
