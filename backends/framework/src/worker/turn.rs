//! One turn of a worker: the hot path, from top to bottom.
//!
//! # Theory of operation
//! A turn lets the engine start what was submitted and collect what has happened (waiting only when
//! there is nothing to do), hands completions to the device, offers it the rings that have chains,
//! publishes what it completed, and calls the driver where it wants that. Stopping a ring takes as
//! many turns as its last operation does; the connection thread waits for the answer, not the worker.

use std::sync::Arc;

use rustix::io::Errno;

use crate::Error;
use crate::device::{Service, Wake};
use crate::engine::{Engine, Event, Wait};
use crate::memory::{MemoryTable, fault_count};
use crate::ring::{Call, Ring, Rings};
use crate::stats::QueueStats;

use super::polling::Polling;
use super::{Answer, Command, PollWindow, RingSetup};

/// What the worker's thread does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Another turn.
    Continue,
    /// Hand over the commands that are waiting, then another turn.
    Commands,
    /// Nothing: the worker has ended.
    Ended,
}

/// A worker: a device's data side, its rings and its engine.
pub struct Worker<S, E> {
    service: S,
    engine: E,
    rings: Rings,
    /// Index on the device of each of the worker's queues, and its counters.
    queues: Vec<(u16, QueueStats)>,
    polling: Polling,
    events: Vec<Event>,
    answers: Box<dyn FnMut(Answer) + Send>,
    /// Queues that are stopping, and whether somebody waits for the base.
    stopping: Vec<(usize, bool)>,
    /// Of each queue, whether its ring has stopped with nothing in flight and somebody was told where.
    told: Vec<bool>,
    /// Somebody waits for the former memory table to be out of use.
    releasing: bool,
    quitting: bool,
    ended: bool,
    /// A command was carried out: what follows from it is to be looked at before any waiting.
    commanded: bool,
    faults_seen: usize,
}

impl<S: Service, E: Engine> Worker<S, E> {
    /// A worker for these queues, none of them started. The engine has its files already.
    pub fn new(
        service: S,
        engine: E,
        queues: Vec<(u16, QueueStats)>,
        polling: PollWindow,
        answers: Box<dyn FnMut(Answer) + Send>,
    ) -> Self {
        Worker {
            service,
            engine,
            rings: Rings { rings: queues.iter().map(|_| None).collect() },
            told: vec![false; queues.len()],
            queues,
            polling: Polling::new(polling),
            events: Vec::with_capacity(1024),
            answers,
            stopping: Vec::new(),
            releasing: false,
            quitting: false,
            ended: false,
            commanded: false,
            faults_seen: fault_count(),
        }
    }

    /// The engine: for simulations, which drive it.
    pub fn engine(&mut self) -> &mut E {
        &mut self.engine
    }

    /// Does what there is to do, or waits for it.
    pub fn turn(&mut self) -> Flow {
        let wait = self.rest();
        if let Err(error) = self.engine.turn(wait, &mut self.events) {
            return self.broken(format!("the I/O engine failed: {error}"));
        }
        // A timer rings when it was asked to: to have spun until then would have gained nothing.
        let mut worked = self.events.iter().any(|event| !matches!(event, Event::Timer));
        let commands = self.dispatch();
        worked |= self.serve();
        self.settle();
        if worked && !self.polling.is_off() {
            self.polling.worked(self.engine.now());
        }
        match (self.ended, commands) {
            (true, _) => Flow::Ended,
            (false, true) => Flow::Commands,
            (false, false) => Flow::Continue,
        }
    }

    /// Hands what has happened to the device. True: there are commands.
    #[inline]
    fn dispatch(&mut self) -> bool {
        if self.events.is_empty() {
            return false;
        }
        self.rings.rings.iter_mut().flatten().for_each(Ring::offer_again);
        let mut commands = false;
        let mut events = std::mem::take(&mut self.events);
        for event in events.drain(..) {
            let wake = match event {
                Event::Done(completion) => Wake::Done(completion),
                Event::Ready(file, direction) => Wake::Ready(file, direction),
                Event::Timer => Wake::Timer,
                Event::Kick(queue) => {
                    self.count_kick(queue);
                    continue;
                }
                Event::KickLost(queue, why) => {
                    self.kick_lost(queue, why);
                    continue;
                }
                Event::Commands => {
                    commands = true;
                    continue;
                }
            };
            self.service.service(&mut self.rings, &mut self.engine, wake);
        }
        self.events = events;
        commands
    }

    /// Offers rings that have chains to the device, then shows the driver what was completed.
    #[inline]
    fn serve(&mut self) -> bool {
        let mut worked = false;
        for queue in 0..self.queues.len() {
            let Some(ring) = self.rings.get(queue) else { continue };
            if !ring.has_work() {
                continue;
            }
            ring.disable_kicks();
            let before = ring.taken();
            self.service.service(&mut self.rings, &mut self.engine, Wake::Kick(queue));
            if let Some(ring) = self.rings.get(queue) {
                ring.note_offer(before);
            }
            worked = true;
        }
        for ring in self.rings.rings.iter_mut().flatten() {
            ring.publish_and_call();
        }
        worked
    }

    /// How the next wait goes: not at all while there is work or while polling pays, else for ever,
    /// with kicks asked for.
    #[inline]
    fn rest(&mut self) -> Wait {
        let rings = &mut self.rings.rings;
        if std::mem::take(&mut self.commanded) || rings.iter_mut().flatten().any(Ring::keeps_awake)
        {
            return Wait::No;
        }
        if !self.engine.needs_this_cpu() && self.polling.spins(|| self.engine.now()) {
            std::hint::spin_loop();
            return Wait::No;
        }
        // Every ring is asked, hence no short cut at the first that has something.
        if rings.iter_mut().flatten().fold(false, |more, ring| ring.enable_kicks() | more) {
            return Wait::No;
        }
        // A ring that was found to have failed just now is to be reported first.
        if !self.rings.rings.iter().flatten().all(Ring::is_sound) {
            return Wait::No;
        }
        self.polling.sleeps();
        Wait::ForEver
    }
}

/// What happens now and then.
impl<S: Service, E: Engine> Worker<S, E> {
    /// Carries out a command of the connection thread.
    pub fn command(&mut self, command: Command) {
        self.commanded = true;
        match command {
            Command::Start(setup) => self.start(*setup),
            Command::Stop { queue } => self.stop(queue),
            Command::Memory { table, release } => self.switch_memory(&table, release),
            Command::Quit => self.quit(),
            Command::Nudge => {
                self.service.service(&mut self.rings, &mut self.engine, Wake::Nudge);
            }
            Command::Enable { queue, enabled } => {
                self.with_ring(queue, |ring| ring.set_enabled(enabled));
            }
            Command::Poll { queue } => {
                self.with_ring(queue, |ring| ring.set_polled(true));
            }
            Command::Kick { queue } => self.with_ring(queue, Ring::offer_again),
            Command::Log(log) => {
                let rings = self.rings.rings.iter_mut().flatten();
                rings.for_each(|ring| ring.set_log(log.clone()));
                self.answer(Answer::Done);
            }
            Command::UsedLog { queue, at } => self.with_ring(queue, |ring| ring.set_used_log(at)),
            Command::SetCall { queue, call } => self.with_ring(queue, |ring| ring.set_call(call)),
            Command::SetError { queue, error } => {
                self.with_ring(queue, |ring| ring.set_error(error));
            }
            Command::SetKick { queue, kick } => {
                if let Some(local) = self.local(queue)
                    && let Err(error) = self.engine.watch_kick(local, kick)
                {
                    let why = format!("its kick cannot be watched: {error}");
                    self.answer(Answer::RingFailed { queue, why });
                }
                self.with_ring(queue, |ring| {
                    ring.set_polled(false);
                    ring.offer_again();
                });
            }
        }
    }

    fn answer(&mut self, answer: Answer) {
        (self.answers)(answer);
    }

    fn local(&self, queue: u16) -> Option<usize> {
        self.queues.iter().position(|(index, _)| *index == queue)
    }

    fn with_ring(&mut self, queue: u16, change: impl FnOnce(&mut Ring)) {
        if let Some(ring) = self.local(queue).and_then(|local| self.rings.get(local)) {
            change(ring);
        }
        self.answer(Answer::Done);
    }

    fn start(&mut self, setup: RingSetup) {
        let queue = setup.queue;
        let result = self.try_start(setup);
        self.answer(Answer::Started { queue, result });
    }

    fn try_start(&mut self, setup: RingSetup) -> Result<(), Error> {
        let queue = setup.queue;
        let local = self.local(queue).ok_or(Error::NoSuchQueue { queue })?;
        let stats = self.queues.get(local).map(|(_, stats)| stats.clone()).unwrap_or_default();
        let kick = setup.kick.clone();
        let error = setup.error.clone();
        if self.told.get_mut(local).is_some_and(std::mem::take) {
            Ring::forget_place(&setup);
        }
        let ring = Ring::start(setup, stats).map_err(|fault| {
            error.map(Call::to_fd).unwrap_or_default().signal();
            Error::Ring { queue, fault }
        })?;
        self.engine.watch_kick(local, kick).map_err(|source| Error::Kick { queue, source })?;
        if let Some(place) = self.rings.rings.get_mut(local) {
            *place = Some(ring);
        }
        Ok(())
    }

    fn stop(&mut self, queue: u16) {
        let local = self.local(queue).filter(|local| self.rings.get(*local).is_some());
        match local {
            Some(local) => self.begin_stop(local, true),
            None => self.answer(Answer::Stopped { queue, base: 0 }),
        }
    }

    /// Stops a ring; [`Worker::settle`] ends it once nothing is in flight.
    fn begin_stop(&mut self, local: usize, wanted: bool) {
        if let Some(ring) = self.rings.get(local) {
            ring.stop();
            let _ = self.engine.watch_kick(local, None);
            self.service.service(&mut self.rings, &mut self.engine, Wake::Stop(local));
            self.stopping.push((local, wanted));
        }
    }

    fn switch_memory(&mut self, table: &Arc<MemoryTable>, release: bool) {
        for ring in self.rings.rings.iter_mut().flatten() {
            ring.switch_memory(Arc::clone(table));
        }
        self.releasing = release;
        if release {
            // A service that holds chains for long lets go of those that are in the former memory.
            self.service.service(&mut self.rings, &mut self.engine, Wake::Nudge);
        } else {
            self.answer(Answer::Done);
        }
    }

    fn quit(&mut self) {
        self.quitting = true;
        for local in 0..self.queues.len() {
            if self.stopping.iter().all(|(stopping, _)| *stopping != local) {
                self.begin_stop(local, false);
            }
        }
    }

    /// Ends what was waiting for operations to end, and reports what has failed.
    #[inline]
    fn settle(&mut self) {
        let faults = fault_count();
        if self.stopping.is_empty()
            && !self.releasing
            && !self.quitting
            && faults == self.faults_seen
            && self.rings.rings.iter().flatten().all(Ring::is_sound)
        {
            return;
        }
        self.faults_seen = faults;
        self.settle_slowly();
    }

    #[cold]
    fn settle_slowly(&mut self) {
        self.report_failures();
        self.end_stopped();
        if self.releasing && self.rings.rings.iter().flatten().all(Ring::is_settled) {
            self.releasing = false;
            self.answer(Answer::Done);
        }
        if self.quitting && self.stopping.is_empty() && self.engine.in_flight() == 0 && !self.ended
        {
            self.ended = true;
            self.answer(Answer::Ended);
        }
    }

    fn end_stopped(&mut self) {
        let mut index = 0;
        while let Some(&(local, wanted)) = self.stopping.get(index) {
            let place = self.rings.rings.get_mut(local);
            let Some(ring) = place.and_then(|place| place.take_if(|ring| ring.is_drained())) else {
                index += 1;
                continue;
            };
            self.stopping.swap_remove(index);
            if let Some(told) = self.told.get_mut(local) {
                *told = wanted && !ring.has_leftovers();
            }
            if wanted {
                let (queue, base) = (ring.queue(), ring.into_base());
                self.answer(Answer::Stopped { queue, base });
            }
        }
    }

    fn report_failures(&mut self) {
        let rings = self.rings.rings.iter_mut().flatten();
        let failed: Vec<_> = rings.filter_map(|r| Some((r.queue(), r.report()?))).collect();
        for (queue, fault) in failed {
            self.answer(Answer::RingFailed { queue, why: fault.to_string() });
        }
        if self.rings.rings.iter().flatten().any(Ring::memory_is_broken) {
            let why = "guest memory has vanished: its file was truncated, or huge pages ran out";
            self.answer(Answer::Broken { why: why.into() });
        }
    }

    fn count_kick(&mut self, queue: usize) {
        if let Some((_, stats)) = self.queues.get(queue) {
            stats.kicks.add(1);
            stats.wakes.add(1);
        }
    }

    #[cold]
    fn kick_lost(&mut self, local: usize, why: Errno) {
        let Some(&(queue, _)) = self.queues.get(local) else { return };
        self.answer(Answer::RingFailed {
            queue,
            why: format!("its kick cannot be watched: {why}"),
        });
    }

    /// The engine cannot go on: nothing in flight will be heard of again.
    #[cold]
    fn broken(&mut self, why: String) -> Flow {
        self.answer(Answer::Broken { why });
        self.answer(Answer::Ended);
        self.ended = true;
        Flow::Ended
    }
}
