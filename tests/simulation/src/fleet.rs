//! The workers of one connection, without threads: each gets its turn when the scheduler says so.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use framework::device::Assembly;
use framework::engine::{Engine, Faults, Outside, Simulated, SimulatedDisk};
use framework::ring::kill;
use framework::session::Workers;
use framework::stats::QueueStats;
use framework::worker::{Answer, Command, Flow, PollWindow, Worker};

use crate::device::Watched;
use crate::engine::{Sleep, Stepped};

/// How workers are made.
#[derive(Clone, Debug)]
pub(crate) struct FleetSettings {
    pub(crate) seed: u64,
    pub(crate) faults: Faults,
    pub(crate) polling: PollWindow,
    pub(crate) disk: SimulatedDisk,
    /// Whether what engines do is told.
    pub(crate) told: bool,
}

/// What happens in the middle of a worker's turn, and after how many stores.
pub(crate) enum Disturbance {
    None,
    /// The process is killed.
    Kill(u32),
    /// Somebody else does this.
    Act(u32, Box<dyn FnOnce()>),
}

/// What became of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    Taken,
    /// The process was killed in the middle of it.
    Killed,
}

/// The workers.
pub(crate) struct Fleet {
    settings: FleetSettings,
    members: BTreeMap<u16, Member>,
    answers: Answers,
    /// Workers that were ever started.
    spawned: u64,
}

struct Member {
    worker: Worker<Watched, Stepped>,
    commands: VecDeque<Command>,
    outside: Outside,
    sleep: Arc<Sleep>,
}

/// What workers have said and nobody has heard, in the order in which they said it.
#[derive(Clone, Debug, Default)]
struct Answers(Arc<Mutex<VecDeque<(u16, Answer)>>>);

impl Answers {
    fn lock(&self) -> MutexGuard<'_, VecDeque<(u16, Answer)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Fleet {
    pub(crate) fn new(settings: FleetSettings) -> Self {
        Fleet { settings, members: BTreeMap::new(), answers: Answers::default(), spawned: 0 }
    }

    /// The next thing that a worker has said.
    pub(crate) fn next_answer(&mut self) -> Option<(u16, Answer)> {
        self.answers.lock().pop_front()
    }

    /// Workers that have something to do, or are awake.
    pub(crate) fn runnable(&mut self) -> Vec<u16> {
        let members = self.members.iter_mut();
        members.filter_map(|(number, member)| member.is_runnable().then_some(*number)).collect()
    }

    /// A worker that went to sleep when it should not have.
    pub(crate) fn overslept(&self) -> Option<u16> {
        let mut members = self.members.iter();
        members.find_map(|(number, member)| member.sleep.has_overslept().then_some(*number))
    }

    /// What a worker's engine has done since the last time.
    pub(crate) fn take_story(&self, worker: u16) -> Vec<String> {
        self.members.get(&worker).map_or(Vec::new(), |member| member.sleep.take_story())
    }

    /// Whether a worker has done anything since the last time, or waits for its engine.
    pub(crate) fn take_moved(&mut self, worker: u16) -> bool {
        let Some(member) = self.members.get_mut(&worker) else { return true };
        member.sleep.take_moved() || member.worker.engine().in_flight() > 0
    }

    /// Lets time pass for a worker.
    pub(crate) fn pass(&self, worker: u16, time: Duration) {
        self.members.get(&worker).into_iter().for_each(|member| member.outside.advance(time));
    }

    /// How many operations a worker has under way.
    pub(crate) fn in_flight(&mut self, worker: u16) -> usize {
        self.members.get_mut(&worker).map_or(0, |member| member.worker.engine().in_flight())
    }

    /// Gives a worker its turn, and lets something happen in the middle of it: before a certain store
    /// into a ring or an in-flight region.
    pub(crate) fn turn(&mut self, worker: u16, disturbance: Disturbance) -> Turn {
        let Some(member) = self.members.get_mut(&worker) else { return Turn::Taken };
        let mut ended = false;
        let mut step = || ended = member.turn();
        match disturbance {
            Disturbance::None => step(),
            Disturbance::Act(stores, act) => kill::meanwhile(stores, act, step),
            Disturbance::Kill(stores) => {
                if kill::after(stores, step) {
                    return Turn::Killed;
                }
            }
        }
        if ended {
            self.members.remove(&worker);
            self.answers.lock().push_back((worker, Answer::Ended));
        }
        Turn::Taken
    }
}

impl Member {
    fn is_runnable(&mut self) -> bool {
        !self.sleep.is_asleep() || !self.commands.is_empty() || self.worker.engine().is_kicked()
    }

    /// One turn, as the worker's thread has it. True: the worker has ended.
    fn turn(&mut self) -> bool {
        match self.worker.turn() {
            Flow::Continue => {}
            Flow::Commands => {
                for command in self.commands.drain(..) {
                    self.worker.command(command);
                }
            }
            Flow::Ended => return true,
        }
        false
    }
}

impl Workers<Watched> for Fleet {
    fn spawn(
        &mut self,
        worker: u16,
        queues: &[u16],
        assembly: Assembly<Watched>,
    ) -> Result<(), framework::Error> {
        let FleetSettings { seed, faults, polling, disk, told } = self.settings.clone();
        self.spawned += 1;
        let seed = seed.wrapping_mul(1_000_003).wrapping_add(self.spawned);
        let count = u16::try_from(queues.len()).unwrap_or(u16::MAX);
        // The second file, beside one for direct I/O, is the same disk through the page cache.
        let engine = Simulated::new(seed, faults, count, vec![disk.clone(), disk]);
        let (outside, sleep) = (engine.outside(), Arc::clone(&assembly.service.sleep));
        if told {
            sleep.listen();
        }
        let engine = Stepped::new(engine, Arc::clone(&sleep));
        let queues = queues.iter().map(|queue| (*queue, QueueStats::new())).collect();
        let answers = self.answers.clone();
        // That a worker has ended is said when it is gone, with all that it held.
        let watch = Arc::clone(&sleep);
        let said = Box::new(move |answer| match answer {
            Answer::Ended => {}
            answer => {
                watch.active();
                answers.lock().push_back((worker, answer));
            }
        });
        let worker_of = Worker::new(assembly.service, engine, queues, polling, said);
        let member = Member { worker: worker_of, commands: VecDeque::new(), outside, sleep };
        self.members.insert(worker, member);
        Ok(())
    }

    fn command(&mut self, worker: u16, command: Command) {
        if let Some(member) = self.members.get_mut(&worker) {
            member.commands.push_back(command);
            member.outside.commands();
        }
    }
}
