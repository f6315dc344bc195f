//! A worker on the thread of its seat.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use crossbeam_channel::{Receiver, Sender, TrySendError};
use rustix::event::{EventfdFlags, eventfd};

use super::{Answer, Command, Flow, PollWindow, Seat, Worker};
use crate::cpus::{CpuList, pin_current_thread};
use crate::device::{Assembly, Service};
use crate::engine::{self, Choice, Config, Engine, ReservedRing, Selected};
use crate::error::{Error, Result};
use crate::stats::QueueStats;

/// How a daemon's worker threads are made.
#[derive(Clone, Debug)]
pub struct ThreadSettings {
    /// What their names begin with, such as `blk`: threads are `blk-q0`, `blk-q1` and so on.
    pub name: String,
    /// Which engine they get.
    pub engine: Choice,
    /// Whether an engine gives up what it does not need.
    pub restricted: bool,
    /// How long they spin after work.
    pub polling: PollWindow,
    /// Where they run, one after the other.
    pub cpus: Option<CpuList>,
}

/// The connection thread's hold on a worker.
#[derive(Debug)]
pub struct WorkerThread {
    commands: Sender<Command>,
    waker: Arc<OwnedFd>,
    /// There is a nudge: however many came, the device looks once.
    nudged: Arc<AtomicBool>,
    engine: Arc<OnceLock<&'static str>>,
}

/// What the thread begins with.
struct Start<S> {
    settings: ThreadSettings,
    number: u16,
    queues: Vec<(u16, QueueStats)>,
    assembly: Assembly<S>,
    commands: Receiver<Command>,
    waker: Arc<OwnedFd>,
    connection: Option<Arc<OwnedFd>>,
    nudged: Arc<AtomicBool>,
    engine: Arc<OnceLock<&'static str>>,
}

impl WorkerThread {
    /// Starts the worker of a seat for `queues` (indexes on the device). Whatever it has to say comes by
    /// `answers`, from its thread; the last thing is [`Answer::Ended`], when all that it used is gone.
    /// Until then it keeps the front-end's `connection` open ([`Config::connection`]).
    ///
    /// # Errors
    /// When the system has no thread or descriptor to give. An engine that cannot be had shows as
    /// [`Answer::Broken`].
    pub fn spawn<S: Service>(
        settings: &ThreadSettings,
        seat: &mut Seat,
        queues: Vec<(u16, QueueStats)>,
        (assembly, connection): (Assembly<S>, Option<Arc<OwnedFd>>),
        answers: impl Fn(Answer) + Clone + Send + 'static,
    ) -> Result<Self> {
        let number = seat.number();
        let failed = |source| Error::WorkerThread { worker: number, source };
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let waker = Arc::new(eventfd(0, flags).map_err(|errno| failed(errno.into()))?);
        // At most one command for each queue, one for the worker and the last one are on their way.
        let (sender, commands) = crossbeam_channel::bounded(queues.len().saturating_mul(2) + 16);
        let engine = Arc::new(OnceLock::new());
        let nudged = Arc::new(AtomicBool::new(false));
        let start = Start {
            settings: settings.clone(),
            number,
            queues,
            assembly,
            commands,
            waker: Arc::clone(&waker),
            connection,
            nudged: Arc::clone(&nudged),
            engine: Arc::clone(&engine),
        };
        let job = move |ring: Option<&mut ReservedRing>| {
            // Dropped last, hence said last.
            let _farewell = Farewell(answers.clone());
            start.run(ring, answers);
        };
        seat.take(settings, Box::new(job))?;
        Ok(WorkerThread { commands: sender, waker, nudged, engine })
    }

    /// Sends a command. One to a worker that has ended is lost: its end was told.
    pub fn send(&self, command: Command) {
        if matches!(command, Command::Nudge) {
            self.nudged.store(true, Ordering::Release);
            return self.wake();
        }
        match self.commands.try_send(command) {
            Ok(()) => self.wake(),
            Err(TrySendError::Disconnected(_)) => {}
            Err(TrySendError::Full(command)) => {
                tracing::error!(?command, "a worker has too many commands to carry out");
            }
        }
    }

    fn wake(&self) {
        // An eventfd that is full is readable, which is all that is wanted.
        let _ = rustix::io::write(&self.waker, &1_u64.to_ne_bytes());
    }

    /// The engine's name, once the thread has one.
    pub fn engine(&self) -> Option<&'static str> {
        self.engine.get().copied()
    }
}

impl<S: Service> Start<S> {
    fn run(
        self,
        ring: Option<&mut ReservedRing>,
        answers: impl Fn(Answer) + Clone + Send + 'static,
    ) {
        self.pin();
        let count = u16::try_from(self.queues.len()).unwrap_or(u16::MAX);
        let config = Config {
            connection: self.connection.clone(),
            restricted: self.settings.restricted,
            ..Config::new(count, Arc::clone(&self.waker))
        };
        match engine::open(self.settings.engine, ring, &config) {
            Ok(Selected::Uring(engine)) => self.work(*engine, "io_uring", answers),
            Ok(Selected::Threads(engine)) => self.work(*engine, "threads", answers),
            Err(error) => answers(Answer::Broken { why: format!("no I/O engine: {error}") }),
        }
    }

    fn pin(&self) {
        let Some(cpus) = &self.settings.cpus else { return };
        if let Err(error) = pin_current_thread(cpus.for_worker(self.number.into())) {
            tracing::warn!(%error, "the worker runs on any CPU");
        }
    }

    fn work<E: Engine>(
        self,
        mut engine: E,
        name: &'static str,
        answers: impl Fn(Answer) + Send + 'static,
    ) {
        if let Err(error) = engine.files(self.assembly.files) {
            let why = format!("the I/O engine does not take the device's files: {error}");
            return answers(Answer::Broken { why });
        }
        // Set once, here.
        let _ = self.engine.set(name);
        let told = Box::new(move |answer| match answer {
            // The thread says so itself, when the worker has gone with all that it held.
            Answer::Ended => {}
            other => answers(other),
        });
        let polling = self.settings.polling;
        let mut worker = Worker::new(self.assembly.service, engine, self.queues, polling, told);
        loop {
            match worker.turn() {
                Flow::Continue => {}
                Flow::Commands => {
                    self.commands.try_iter().for_each(|command| worker.command(command));
                    if self.nudged.swap(false, Ordering::AcqRel) {
                        worker.command(Command::Nudge);
                    }
                }
                Flow::Ended => return,
            }
        }
    }
}

/// Says that the worker has ended, even when it panicked.
struct Farewell<A: Fn(Answer)>(A);

impl<A: Fn(Answer)> Drop for Farewell<A> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            (self.0)(Answer::Broken { why: "a worker panicked, which is a bug".into() });
        }
        (self.0)(Answer::Ended);
    }
}
