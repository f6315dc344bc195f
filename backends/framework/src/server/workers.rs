//! The worker threads of one connection.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crossbeam_channel::Sender;

use crate::device::{Assembly, Device, Service};
use crate::error::Result;
use crate::session::Workers;
use crate::stats::QueueStats;
use crate::worker::{Answer, Command, Seat, ThreadSettings, WorkerThread};

/// What a worker has said, and which one.
#[derive(Debug)]
pub(super) struct FromWorker {
    pub(super) port: u32,
    pub(super) worker: u16,
    pub(super) answer: Answer,
}

/// The way from workers to the event loop.
#[derive(Clone, Debug)]
pub(super) struct AnswerPath {
    pub(super) sender: Sender<FromWorker>,
    pub(super) waker: Arc<OwnedFd>,
}

impl AnswerPath {
    pub(super) fn send(&self, from: FromWorker) {
        // Nobody listens any more only when the daemon ends.
        let _ = self.sender.send(from);
        let _ = rustix::io::write(&self.waker, &1_u64.to_ne_bytes());
    }
}

/// What is set aside for a port's workers, by their numbers.
#[derive(Default)]
pub(super) struct Seats(BTreeMap<u16, Seat>);

impl Seats {
    /// Sets aside what a device's workers will need, while the process is not confined yet.
    ///
    /// # Errors
    /// When io_uring was asked for and is not to be had.
    pub(super) fn reserve<D: Device>(device: &D, settings: &ThreadSettings) -> Result<Self> {
        let mut queues = BTreeMap::new();
        for queue in 0..device.limits().count {
            *queues.entry(device.worker_of(queue)).or_insert(0_u16) += 1;
        }
        let seats = queues.into_iter().map(|(worker, queues)| {
            Seat::reserve(settings, worker, queues).map(|seat| (worker, seat))
        });
        seats.collect::<Result<_>>().map(Seats)
    }

    fn of(&mut self, worker: u16) -> &mut Seat {
        self.0.entry(worker).or_insert_with(|| Seat::without_ring(worker))
    }
}

/// A port's worker threads, as one connection has them.
pub(super) struct Threads {
    port: u32,
    settings: ThreadSettings,
    stats: Vec<QueueStats>,
    path: AnswerPath,
    seats: Seats,
    connection: Option<Arc<OwnedFd>>,
    threads: BTreeMap<u16, WorkerThread>,
}

impl Threads {
    pub(super) fn new(
        port: u32,
        settings: ThreadSettings,
        stats: Vec<QueueStats>,
        path: AnswerPath,
        (seats, connection): (Seats, Option<Arc<OwnedFd>>),
    ) -> Self {
        Threads { port, settings, stats, path, seats, connection, threads: BTreeMap::new() }
    }

    /// A worker has ended.
    pub(super) fn ended(&mut self, worker: u16) {
        if self.threads.remove(&worker).is_some() {
            self.seats.of(worker).leave();
        }
    }

    /// What the next connection's workers take over.
    pub(super) fn into_seats(self) -> Seats {
        self.seats
    }

    /// The engine that the workers use, if there are any.
    pub(super) fn engine(&self) -> Option<&'static str> {
        self.threads.values().find_map(WorkerThread::engine)
    }
}

impl<S: Service> Workers<S> for Threads {
    fn spawn(&mut self, worker: u16, queues: &[u16], assembly: Assembly<S>) -> Result<()> {
        let stats = |queue: &u16| self.stats.get(usize::from(*queue)).cloned().unwrap_or_default();
        let queues = queues.iter().map(|queue| (*queue, stats(queue))).collect();
        let (path, port) = (self.path.clone(), self.port);
        let answers = move |answer| path.send(FromWorker { port, worker, answer });
        let seat = self.seats.of(worker);
        let start = (assembly, self.connection.clone());
        let thread = WorkerThread::spawn(&self.settings, seat, queues, start, answers)?;
        self.threads.insert(worker, thread);
        Ok(())
    }

    fn command(&mut self, worker: u16, command: Command) {
        if let Some(thread) = self.threads.get(&worker) {
            thread.send(command);
        }
    }
}
