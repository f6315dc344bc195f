//! The other devices in worlds of their own: a driver, a worker, and what lies behind the device.
//!
//! What all devices have in common (messages, connections, kicks and calls, memory that comes and goes)
//! is the block device's to show. Here the data sides of the others go through what may happen to a
//! ring: turns in any order, rings stopped, disabled and started again, memory tables switched, the
//! process killed between any two stores and another one going on from the in-flight region. A model
//! of each says what may come out.

mod balloon;
mod console;
mod net;
mod sequence;
mod stand;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use fastrand::Rng;
use framework::device::Service;
use virtio_spec::features::{
    EVENT_IDX, IN_ORDER, INDIRECT_DESC, Negotiated, RING_PACKED, VERSION_1, mask,
};

use crate::trace::{Trace, Who};
use crate::world::step_random;
use crate::{Counts, Failure, Options, Outcome, message, scenario};
use stand::{Plan, Stand};

/// The most turns in which everything must come to rest.
const REST: u32 = 100;

/// A device with a model of what it does.
trait Scene: Sized {
    type Service: Service;

    /// The scene of a generator's next numbers, and what its rings are like.
    fn choose(random: &mut Rng, seed: u64) -> (Self, Plan);

    /// A process is started: the former one is dead, if there was one.
    fn service(&mut self) -> Result<Self::Service, Failure>;

    /// The driver, or somebody behind the device, does something; in words. None: nothing can be done.
    fn act(
        &mut self,
        stand: &mut Stand<Self::Service>,
        random: &mut Rng,
    ) -> Result<Option<String>, Failure>;

    /// Looks at what has come out. Returns how many chains the driver has back.
    fn look(&mut self, stand: &mut Stand<Self::Service>) -> Result<u64, Failure>;

    /// The process was killed, and all that had come out was looked at.
    fn killed(&mut self, stand: &Stand<Self::Service>);

    /// Everything has come to rest.
    fn check_end(&mut self, stand: &mut Stand<Self::Service>) -> Result<(), Failure>;
}

/// Which device is simulated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum DeviceKind {
    /// The disk, with everything around it.
    #[default]
    Block,
    /// The network card.
    Net,
    /// The console.
    Console,
    /// The balloon.
    Balloon,
}

impl DeviceKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Block, Self::Net, Self::Console, Self::Balloon];
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Block => "block",
            Self::Net => "net",
            Self::Console => "console",
            Self::Balloon => "balloon",
        })
    }
}

/// Runs one seed of the network card.
pub(crate) fn net(seed: u64, options: &Options) -> Outcome {
    run::<net::Card>(seed, options)
}

/// Runs one seed of the console.
pub(crate) fn console(seed: u64, options: &Options) -> Outcome {
    run::<console::Port>(seed, options)
}

/// Runs one seed of the balloon.
pub(crate) fn balloon(seed: u64, options: &Options) -> Outcome {
    run::<balloon::Guest>(seed, options)
}

fn run<S: Scene>(seed: u64, options: &Options) -> Outcome {
    let (mut trace, mut counts) = (Trace::new(options.trace), Counts::default());
    let told = (&mut trace, &mut counts);
    let result = catch_unwind(AssertUnwindSafe(|| World::<S>::live(seed, options, told)))
        .unwrap_or_else(|payload| Err(Failure::Panicked(message(&*payload))));
    let step = trace.step();
    let failure = result.err().map(|failure| (step, failure));
    Outcome { seed, failure, trace: trace.into_lines(), counts }
}

/// Features that any device has, and some of these.
fn some_features(random: &mut Rng, of_device: &[u32]) -> Negotiated {
    let always = mask(VERSION_1) | mask(INDIRECT_DESC);
    let some = [EVENT_IDX, RING_PACKED, IN_ORDER].iter().chain(of_device);
    Negotiated::assume(
        some.fold(always, |bits, bit| bits | (mask(*bit) * u64::from(random.bool()))),
    )
}

/// Something that can happen.
#[derive(Clone, Copy)]
enum Event {
    Act,
    Look,
    Turn,
    Nudge,
    Stop,
    Start,
    Disable,
    Enable,
    Memory,
    Kill,
    KillInTurn,
}

/// How often what happens.
const EVENTS: &[Event] = {
    use Event::{Act, Disable, Enable, Kill, KillInTurn, Look, Memory, Nudge, Start, Stop, Turn};
    &[
        Act, Act, Act, Act, Act, Act, Act, Act, Act, Act, Look, Look, Look, Turn, Turn, Turn, Turn,
        Turn, Turn, Turn, Turn, Turn, Nudge, Stop, Start, Start, Start, Disable, Enable, Enable,
        Memory, Kill, KillInTurn, KillInTurn,
    ]
};

struct World<'a, S: Scene> {
    scene: S,
    stand: Stand<S::Service>,
    /// Whether rings are stopped now and then.
    stops: bool,
    trace: &'a mut Trace,
    counts: &'a mut Counts,
}

impl<'a, S: Scene> World<'a, S> {
    fn live(
        seed: u64,
        options: &Options,
        (trace, counts): (&'a mut Trace, &'a mut Counts),
    ) -> Result<(), Failure> {
        let (mut scene, plan) = S::choose(&mut Rng::with_seed(seed), seed);
        let service = scene.service()?;
        let stand = Stand::new(plan, service)?;
        let mut world = World { scene, stand, stops: seed % 2 == 1, trace, counts };
        for step in 0..options.steps {
            if !options.without.contains(&step) {
                world.trace.begin(step);
                world.step(&mut step_random(seed, step))?;
            }
        }
        world.come_to_rest()
    }

    fn step(&mut self, random: &mut Rng) -> Result<(), Failure> {
        let ring = random.usize(..self.stand.count());
        match *scenario::pick(random, EVENTS) {
            Event::Act => {
                if let Some(what) = self.scene.act(&mut self.stand, random)? {
                    self.counts.requests += 1;
                    self.trace.say(Who::Driver, || what);
                }
            }
            Event::Look => self.look()?,
            Event::Turn => self.turn()?,
            Event::Nudge => self.stand.nudge()?,
            Event::Stop => {
                if self.stops && self.stand.stop(ring)? {
                    self.counts.stops += 1;
                    self.trace.say(Who::FrontEnd, || format!("ring {ring} is to stop"));
                }
            }
            Event::Start => {
                if self.stand.start(ring)? {
                    self.trace.say(Who::FrontEnd, || format!("ring {ring} starts again"));
                }
            }
            Event::Disable => {
                self.trace.say(Who::FrontEnd, || format!("ring {ring} is disabled"));
                self.stand.enable(ring, false)?;
            }
            Event::Enable => self.stand.enable(ring, true)?,
            Event::Memory => {
                self.trace.say(Who::FrontEnd, || "memory is shared anew".into());
                self.stand.switch_memory(random.bool())?;
            }
            Event::Kill => {
                self.counts.kills += 1;
                self.succeed("is killed")?;
            }
            Event::KillInTurn => {
                let most = *scenario::pick(random, &[2, 8, 30]);
                let stores = random.u32(..most);
                self.counts.turns += 1;
                if self.stand.kill_in_turn(stores)? {
                    self.counts.kills_in_turns += 1;
                    self.succeed(&format!("is killed in its turn, after {stores} stores"))?;
                }
            }
        }
        Ok(())
    }

    fn look(&mut self) -> Result<(), Failure> {
        let back = self.scene.look(&mut self.stand)?;
        self.counts.good += back;
        if back > 0 {
            self.trace.say(Who::Driver, || format!("has {back} chains back"));
        }
        Ok(())
    }

    fn turn(&mut self) -> Result<(), Failure> {
        self.counts.turns += 1;
        self.trace.say(Who::Worker(0), || "has its turn".into());
        self.stand.turn()
    }

    /// The process is dead: what it has done is looked at, and another one takes its place.
    fn succeed(&mut self, how: &str) -> Result<(), Failure> {
        self.trace.say(Who::World, || format!("the back-end {how}"));
        self.look()?;
        self.scene.killed(&self.stand);
        self.counts.recovered += (0..self.stand.count())
            .map(|ring| self.stand.under_way(ring).len() as u64)
            .sum::<u64>();
        let service = self.scene.service()?;
        self.stand.replace(service)
    }

    fn come_to_rest(&mut self) -> Result<(), Failure> {
        self.trace.say(Who::World, || "all come to rest".into());
        for round in 0..REST {
            for ring in 0..self.stand.count() {
                self.stand.start(ring)?;
                if round == 0 {
                    self.stand.enable(ring, true)?;
                }
            }
            self.stand.turn()?;
            self.look()?;
        }
        self.scene.check_end(&mut self.stand)
    }
}
