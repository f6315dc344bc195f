//! Workers without threads: a simulation steps them, in the order it likes.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Answer, Command, Flow, PollWindow, Worker};
use crate::device::{Assembly, Service};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::session::Workers;
use crate::stats::QueueStats;

/// The answers of all workers, oldest first.
type Answers = Arc<Mutex<VecDeque<(u16, Answer)>>>;

/// Makes a worker's engine, for so many queues.
type MakeEngine<E> = Box<dyn FnMut(u16, usize) -> E>;

/// The workers of one connection, each of which does something only when it is stepped.
pub struct LocalWorkers<S, E> {
    make: MakeEngine<E>,
    workers: BTreeMap<u16, Local<S, E>>,
    answers: Answers,
}

struct Local<S, E> {
    worker: Worker<S, E>,
    commands: VecDeque<Command>,
}

impl<S: Service, E: Engine> LocalWorkers<S, E> {
    /// No workers yet. `make` makes the engine of a worker, by its number and that of its queues.
    pub fn new(make: impl FnMut(u16, usize) -> E + 'static) -> Self {
        LocalWorkers { make: Box::new(make), workers: BTreeMap::new(), answers: Answers::default() }
    }

    /// The numbers of the workers that live.
    pub fn numbers(&self) -> Vec<u16> {
        self.workers.keys().copied().collect()
    }

    /// Lets a worker carry out its commands and do one turn. False: there is no such worker.
    pub fn step(&mut self, number: u16) -> bool {
        let Some(local) = self.workers.get_mut(&number) else { return false };
        while let Some(command) = local.commands.pop_front() {
            local.worker.command(command);
        }
        if local.worker.turn() == Flow::Ended {
            self.workers.remove(&number);
        }
        true
    }

    /// The engine of a worker, to be driven.
    pub fn engine(&mut self, number: u16) -> Option<&mut E> {
        self.workers.get_mut(&number).map(|local| local.worker.engine())
    }

    /// The oldest answer that was not taken, and whose it is.
    pub fn take_answer(&mut self) -> Option<(u16, Answer)> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

impl<S: Service, E: Engine> Workers<S> for LocalWorkers<S, E> {
    fn spawn(&mut self, number: u16, queues: &[u16], assembly: Assembly<S>) -> Result<()> {
        let mut engine = (self.make)(number, queues.len());
        let failed = |source| Error::WorkerThread { worker: number, source };
        engine.files(assembly.files).map_err(failed)?;
        let queues = queues.iter().map(|queue| (*queue, QueueStats::new())).collect();
        let answers = Arc::clone(&self.answers);
        let told = Box::new(move |answer| {
            answers.lock().unwrap_or_else(PoisonError::into_inner).push_back((number, answer));
        });
        let polling = PollWindow::Fixed(std::time::Duration::ZERO);
        let worker = Worker::new(assembly.service, engine, queues, polling, told);
        self.workers.insert(number, Local { worker, commands: VecDeque::new() });
        Ok(())
    }

    fn command(&mut self, number: u16, command: Command) {
        if let Some(local) = self.workers.get_mut(&number) {
            local.commands.push_back(command);
        }
    }
}

impl<S, E> fmt::Debug for LocalWorkers<S, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalWorkers").field("workers", &self.workers.keys()).finish()
    }
}
