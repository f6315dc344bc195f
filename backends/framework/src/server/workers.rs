//! The worker threads of one connection.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crossbeam_channel::Sender;

use crate::device::{Assembly, Service};
use crate::error::Result;
use crate::session::Workers;
use crate::stats::QueueStats;
use crate::worker::{Answer, Command, ThreadSettings, WorkerThread};

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

/// A port's worker threads.
#[derive(Debug)]
pub(super) struct Threads {
    port: u32,
    settings: ThreadSettings,
    stats: Vec<QueueStats>,
    path: AnswerPath,
    threads: BTreeMap<u16, WorkerThread>,
}

impl Threads {
    pub(super) fn new(
        port: u32,
        settings: ThreadSettings,
        stats: Vec<QueueStats>,
        path: AnswerPath,
    ) -> Self {
        Threads { port, settings, stats, path, threads: BTreeMap::new() }
    }

    /// A worker has ended.
    pub(super) fn ended(&mut self, worker: u16) {
        if let Some(thread) = self.threads.remove(&worker) {
            thread.join();
        }
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
        let thread = WorkerThread::spawn(&self.settings, worker, queues, assembly, answers)?;
        self.threads.insert(worker, thread);
        Ok(())
    }

    fn command(&mut self, worker: u16, command: Command) {
        if let Some(thread) = self.threads.get(&worker) {
            thread.send(command);
        }
    }
}
