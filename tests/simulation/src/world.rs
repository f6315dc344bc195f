//! The world of one run: everything there is, and the loop that lets things happen.

use driver::Operation;
use fastrand::Rng;
use framework::engine::SimulatedDisk;

use crate::action::Action;
use crate::back_end::BackEnd;
use crate::cache::CacheMode;
use crate::fleet::FleetSettings;
use crate::front_end::{FrontEnd, Loss};
use crate::guest::Guest;
use crate::model::DiskModel;
use crate::outcome::Counts;
use crate::scenario::Scenario;
use crate::trace::{Trace, Who};
use crate::{Failure, Options};

/// How often another action is tried when one is not possible.
const TRIES: u32 = 12;

/// Everything there is.
pub(crate) struct World {
    seed: u64,
    pub(crate) scenario: Scenario,
    /// The random numbers of the step at hand.
    pub(crate) random: Rng,
    pub(crate) disk: SimulatedDisk,
    pub(crate) model: DiskModel,
    pub(crate) guest: Guest,
    pub(crate) front_end: FrontEnd,
    pub(crate) back_end: Option<BackEnd>,
    /// What a back-end has kept for its successor.
    pub(crate) saved: Option<Vec<u8>>,
    pub(crate) cache: CacheMode,
    pub(crate) trace: Trace,
    pub(crate) counts: Counts,
    /// Processes that were started.
    processes: u64,
    /// The number of the last request.
    last_request: u32,
}

impl World {
    pub(crate) fn new(seed: u64, options: &Options) -> Result<Self, Failure> {
        let mut random = step_random(seed, u32::MAX);
        let scenario = Scenario::choose(&mut random, options);
        let size = usize::try_from(scenario.image.bytes).unwrap_or(0);
        let mut trace = Trace::new(options.trace);
        trace.say(Who::World, || scenario.describe());
        Ok(World {
            seed,
            random,
            disk: SimulatedDisk::new(size),
            model: DiskModel::new(scenario.sectors),
            guest: Guest::new(options.hostile)?,
            front_end: FrontEnd::new(scenario.queues),
            back_end: None,
            saved: None,
            cache: CacheMode::new(scenario.writeback),
            scenario,
            trace,
            counts: Counts::default(),
            processes: 0,
            last_request: 0,
        })
    }

    /// Lets things happen, and everything come to rest in the end.
    pub(crate) fn run(&mut self, options: &Options) -> Result<(), Failure> {
        for step in 0..options.steps {
            if !options.without.contains(&step) {
                self.trace.begin(step);
                self.random = step_random(self.seed, step);
                self.step()?;
            }
        }
        self.trace.begin(options.steps);
        self.random = step_random(self.seed, options.steps);
        self.come_to_rest()
    }

    fn step(&mut self) -> Result<(), Failure> {
        for _ in 0..TRIES {
            let action = self.scenario.weights.next(&mut self.random);
            if self.act(action)? {
                break;
            }
        }
        match self.back_end.as_ref().and_then(BackEnd::overslept) {
            Some(worker) => Err(Failure::Overslept { worker }),
            None => Ok(()),
        }
    }

    /// Lets something happen. False: it was not possible, and nothing has changed.
    fn act(&mut self, action: Action) -> Result<bool, Failure> {
        match action {
            Action::Submit => self.submit_somewhere(),
            Action::Publish => self.publish_somewhere(),
            Action::Kick => self.kick_somewhere(),
            Action::Reap => self.reap_somewhere(),
            Action::Inspect => self.inspect(),
            Action::Calls => self.switch_calls(),
            Action::Misbehave => self.misbehave(),
            Action::Turn => self.turn_of_some_worker(),
            Action::Race => self.race(),
            Action::Pass => Ok(self.let_time_pass()),
            Action::Hear => self.hear(),
            Action::Retry => self.retry(),
            Action::Land => Ok(self.land()),
            Action::Message => self.some_items(),
            Action::Plan => self.plan_something(),
            Action::Disconnect => self.disconnect(),
            Action::Connect => self.connect(),
            Action::Kill => self.kill(),
            Action::KillInTurn => self.kill_in_turn(),
            Action::PowerLoss => self.lose_power(),
        }
    }

    /// The number of the next request.
    pub(crate) fn next_request(&mut self) -> u32 {
        self.last_request += 1;
        self.last_request
    }

    /// Whether there is a back-end with a session that handles messages.
    pub(crate) fn is_connected(&self) -> bool {
        self.front_end.connected
    }

    /// A process that has just been started.
    pub(crate) fn start_process(&mut self) -> Result<(), Failure> {
        self.processes += 1;
        let settings = FleetSettings {
            seed: self.seed.wrapping_mul(1_000_003).wrapping_add(self.processes),
            faults: self.scenario.faults.clone(),
            polling: self.scenario.polling,
            disk: self.disk.clone(),
            told: self.trace.is_wanted(),
        };
        self.trace.say(Who::BackEnd, || "is started".into());
        self.cache.new_process();
        let process = BackEnd::start(&self.scenario, settings, self.saved.as_deref())?;
        self.back_end = Some(process);
        Ok(())
    }

    /// The process is gone, in whatever state it was.
    pub(crate) fn process_died(&mut self) {
        let Some(process) = self.back_end.take() else { return };
        self.counts.waits_for_lock += process.waits();
        if process.is_free() {
            // It was done with the last connection, and had nothing under way.
            return;
        }
        self.connection_lost(Loss::Killed);
        self.connection_over();
        for ring in &mut self.guest.rings {
            let published: Vec<_> =
                ring.sent.keys().copied().filter(|token| ring.is_published(*token)).collect();
            for token in published {
                ring.sent.get_mut(&token).into_iter().for_each(|sent| sent.survived = true);
            }
        }
    }

    /// The connection is gone.
    pub(crate) fn connection_lost(&mut self, loss: Loss) {
        self.front_end.disconnected(loss);
        for ring in &mut self.guest.rings {
            ring.seen = false;
        }
    }

    /// The back-end is done with a connection that was lost: what it has signalled until now belongs
    /// to that one.
    pub(crate) fn connection_over(&mut self) {
        for ring in &self.guest.rings {
            // Whatever is wrong shows at the next look.
            let _ = ring.events.is_called();
        }
        self.guest.watch.note(virtio_spec::observer::Message::Closed);
    }

    /// A request in words.
    pub(crate) fn name(id: u32, operation: &Operation) -> String {
        format!("#{id}, {operation}")
    }

    /// What was told, and what was counted.
    pub(crate) fn into_story(mut self) -> (Vec<String>, Counts, u32) {
        if let Some(process) = &self.back_end {
            self.counts.waits_for_lock += process.waits();
        }
        let step = self.trace.step();
        (self.trace.into_lines(), self.counts, step)
    }
}

/// The random numbers of one step: whatever happens in other steps, they stay the same.
pub(crate) fn step_random(seed: u64, step: u32) -> Rng {
    let mixed = (seed ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    Rng::with_seed(mixed ^ u64::from(step).wrapping_mul(0x94d0_49bb_1331_11eb))
}
