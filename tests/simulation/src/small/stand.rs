//! A driver's rings, and a worker that serves them until it is killed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use driver::{Buffer, Memory, Part, Placement, Queue, RegionSpec, Token, Used};
use fastrand::Rng;
use framework::device::Service;
use framework::engine::{Faults, Outside, Simulated, SimulatedDisk};
use framework::memory::{GuestAddress, Mapping, MemoryTable, Region, UserAddress};
use framework::ring::{Call, kill};
use framework::stats::QueueStats;
use framework::worker::{Answer, Command, InFlightArea, PollWindow, RingSetup, Worker};
use virtio_spec::features::{Negotiated, RING_PACKED};
use virtio_spec::vhost_user::inflight::{packed_region_size, split_region_size};

use crate::Failure;
use crate::scenario::pick;

/// Where rings and buffers are.
pub(super) const WORK: RegionSpec = RegionSpec::new(1 << 20, 8 << 20);

/// What a stand is made of.
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) features: Negotiated,
    /// Indexes on the device of the queues that are used.
    pub(super) queues: Vec<u16>,
    /// All queues of the worker, as the device counts them.
    pub(super) all: u16,
    pub(super) size: u16,
    /// Memory beside [`WORK`].
    pub(super) regions: Vec<RegionSpec>,
}

/// Rings and worker.
pub(super) struct Stand<S: Service> {
    pub(super) memory: Memory,
    pub(super) outside: Outside,
    rings: Vec<Ring>,
    worker: Worker<S, Simulated>,
    answers: Arc<Mutex<Vec<Answer>>>,
    plan: Plan,
    processes: u64,
    stops: u64,
}

/// A ring, as driver and front-end know it.
struct Ring {
    index: u16,
    queue: Queue,
    region: InFlightArea,
    life: Life,
    enabled: bool,
    /// Where it last stopped.
    base: Option<u32>,
    sent: BTreeMap<Token, Sent>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Stopped,
    Running,
    Stopping,
}

/// A chain that the device has.
pub(super) struct Sent {
    pub(super) number: u32,
    pub(super) buffers: Vec<Buffer>,
}

impl<S: Service> Stand<S> {
    pub(super) fn new(plan: Plan, service: S) -> Result<Self, Failure> {
        let specs: Vec<_> = [WORK].into_iter().chain(plan.regions.iter().copied()).collect();
        let memory = Memory::with_regions(&specs)?;
        let answers = Arc::default();
        let (worker, outside) = worker(service, &plan, 0, &answers);
        let rings = plan.queues.iter().map(|index| Ring::new(*index, &memory, &plan));
        let rings = rings.collect::<Result<_, _>>()?;
        let mut stand =
            Stand { memory, outside, rings, worker, answers, plan, processes: 0, stops: 0 };
        for ring in 0..stand.rings.len() {
            stand.start(ring)?;
        }
        Ok(stand)
    }

    /// The process is gone, and another one goes on.
    pub(super) fn replace(&mut self, service: S) -> Result<(), Failure> {
        self.processes += 1;
        self.answers = Arc::default();
        (self.worker, self.outside) = worker(service, &self.plan, self.processes, &self.answers);
        for ring in 0..self.rings.len() {
            let there = self.ring(ring)?;
            if std::mem::replace(&mut there.life, Life::Stopped) != Life::Stopped {
                there.base = None;
                self.start(ring)?;
            }
        }
        Ok(())
    }

    fn ring(&mut self, ring: usize) -> Result<&mut Ring, Failure> {
        self.rings.get_mut(ring).ok_or_else(|| Failure::Simulator("no such ring".into()))
    }

    /// Starts a ring that has stopped. False: it has not.
    pub(super) fn start(&mut self, ring: usize) -> Result<bool, Failure> {
        let (memory, features) = (self.memory.clone(), self.plan.features);
        let table = Arc::new(table(&memory)?);
        let there = self.ring(ring)?;
        if there.life != Life::Stopped {
            return Ok(false);
        }
        there.life = Life::Running;
        let at = there.queue.addresses();
        let user = |addr| memory.user_addr(addr, 1).map(UserAddress);
        let setup = RingSetup {
            queue: there.index,
            size: there.queue.size(),
            features,
            descriptors: user(at.descriptor)?,
            driver: user(at.driver)?,
            device: user(at.device)?,
            base: there.base.take().unwrap_or_else(|| there.queue.reaped_base()),
            memory: table,
            log: None,
            used_log: None,
            in_flight: Some(there.region.clone()),
            kick: None,
            call: Call::None,
            error: None,
            enabled: there.enabled,
            serve_disabled: false,
        };
        self.worker.command(Command::Start(Box::new(setup)));
        self.hear()?;
        Ok(true)
    }

    /// Asks a ring to stop. False: it does not run.
    pub(super) fn stop(&mut self, ring: usize) -> Result<bool, Failure> {
        let there = self.ring(ring)?;
        if there.life != Life::Running {
            return Ok(false);
        }
        there.life = Life::Stopping;
        let queue = there.index;
        self.worker.command(Command::Stop { queue });
        self.hear()?;
        Ok(true)
    }

    /// Disables a ring, or enables it again.
    pub(super) fn enable(&mut self, ring: usize, enabled: bool) -> Result<(), Failure> {
        let there = self.ring(ring)?;
        there.enabled = enabled;
        let (queue, running) = (there.index, there.life == Life::Running);
        if running {
            self.worker.command(Command::Enable { queue, enabled });
        }
        self.hear()
    }

    /// The worker gets a new table of the same memory.
    pub(super) fn switch_memory(&mut self, release: bool) -> Result<(), Failure> {
        let table = Arc::new(table(&self.memory)?);
        self.worker.command(Command::Memory { table, release });
        self.hear()
    }

    /// The worker is told that there is something for it.
    pub(super) fn nudge(&mut self) -> Result<(), Failure> {
        self.worker.command(Command::Nudge);
        self.hear()
    }

    pub(super) fn turn(&mut self) -> Result<(), Failure> {
        self.worker.turn();
        self.hear()
    }

    /// A turn that the process does not survive, if it comes to so many stores. True: it is dead.
    pub(super) fn kill_in_turn(&mut self, stores: u32) -> Result<bool, Failure> {
        let mut step = || _ = self.worker.turn();
        if kill::after(stores, &mut step) {
            return Ok(true);
        }
        self.hear()?;
        Ok(false)
    }

    fn hear(&mut self) -> Result<(), Failure> {
        let said =
            std::mem::take(&mut *self.answers.lock().unwrap_or_else(PoisonError::into_inner));
        for answer in said {
            match answer {
                Answer::RingFailed { queue, why } => {
                    return Err(Failure::RingFailed { ring: queue, why });
                }
                Answer::Started { queue, result: Err(error) } => {
                    return Err(Failure::RingFailed { ring: queue, why: error.to_string() });
                }
                Answer::Broken { why } => return Err(Failure::Hang { what: why }),
                Answer::Stopped { queue, base } => {
                    let ring = self.rings.iter_mut().find(|ring| ring.index == queue);
                    self.stops += 1;
                    if let Some(ring) = ring {
                        (ring.life, ring.base) = (Life::Stopped, Some(base));
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Makes a chain of these parts available, if there is room. `buffers` are theirs.
    pub(super) fn send(
        &mut self,
        ring: usize,
        parts: &[Part],
        sent: Sent,
        random: &mut Rng,
    ) -> Result<bool, Failure> {
        let placement = *pick(random, &[Placement::Direct, Placement::Indirect]);
        let there = self.ring(ring)?;
        if there.queue.free() < parts.len() {
            return Ok(false);
        }
        let token = there.queue.add(parts, placement)?;
        there.queue.publish();
        there.sent.insert(token, sent);
        Ok(true)
    }

    /// The next chain that was used.
    pub(super) fn reap(&mut self, ring: usize) -> Result<Option<(Sent, Used)>, Failure> {
        let there = self.ring(ring)?;
        let Some(used) = there.queue.reap()? else { return Ok(None) };
        let error = || Failure::Driver {
            ring: ring.try_into().unwrap_or(0),
            error: "a chain was used that is not in flight".into(),
        };
        let sent = there.sent.remove(&used.token).ok_or_else(error)?;
        Ok(Some((sent, used)))
    }

    /// The numbers of the chains of a ring that were not reaped.
    pub(super) fn under_way(&self, ring: usize) -> Vec<u32> {
        let sent = self.rings.get(ring).into_iter().flat_map(|ring| ring.sent.values());
        sent.map(|sent| sent.number).collect()
    }

    /// How many descriptors a ring has room for.
    pub(super) fn free(&self, ring: usize) -> usize {
        self.rings.get(ring).map_or(0, |ring| ring.queue.free())
    }

    /// Whether a ring has ever stopped.
    pub(super) fn has_stopped(&self) -> bool {
        self.stops > 0
    }

    pub(super) fn count(&self) -> usize {
        self.rings.len()
    }
}

impl Ring {
    fn new(index: u16, memory: &Memory, plan: &Plan) -> Result<Self, Failure> {
        let queue = Queue::new(memory, plan.size, plan.features)?;
        let bytes = match plan.features.has(RING_PACKED) {
            true => packed_region_size(plan.size),
            false => split_region_size(plan.size),
        };
        let simulator = |error: framework::Error| Failure::Simulator(error.to_string());
        let mapping = Arc::new(Mapping::owned(bytes.next_multiple_of(4096)).map_err(simulator)?);
        let region = InFlightArea { mapping, offset: 0, size: plan.size };
        let (life, sent) = (Life::Stopped, BTreeMap::new());
        Ok(Ring { index, queue, region, life, enabled: true, base: None, sent })
    }
}

fn worker<S: Service>(
    service: S,
    plan: &Plan,
    process: u64,
    answers: &Arc<Mutex<Vec<Answer>>>,
) -> (Worker<S, Simulated>, Outside) {
    let seed = plan.seed.wrapping_mul(1_000_003).wrapping_add(process);
    let engine = Simulated::new(seed, Faults::none(), plan.all, vec![SimulatedDisk::new(512)]);
    let (outside, tell) = (engine.outside(), Arc::clone(answers));
    let worker = Worker::new(
        service,
        engine,
        (0..plan.all).map(|index| (index, QueueStats::new())).collect(),
        PollWindow::Fixed(Duration::ZERO),
        Box::new(move |answer| {
            tell.lock().unwrap_or_else(PoisonError::into_inner).push(answer);
        }),
    );
    (worker, outside)
}

/// Memory as a back-end has it.
fn table(memory: &Memory) -> Result<MemoryTable, Failure> {
    let simulator = |error: framework::Error| Failure::Simulator(error.to_string());
    let regions = memory.regions().into_iter().map(|region| {
        let file = memory.file(region.guest_addr)?;
        let (guest, user) = (GuestAddress(region.guest_addr), UserAddress(region.user_addr));
        Region::map(guest, user, region.size, file, region.mmap_offset).map_err(simulator)
    });
    MemoryTable::new(regions.collect::<Result<_, _>>()?).map_err(simulator)
}
