//! A worker with one ring, stepped by hand: its device takes and completes what it is told to.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use framework::device::{Service, Wake};
use framework::engine::{
    Bounce, Direction, Engine, Event, FileIndex, Io, Op, Submitted, Token, Wait,
};
use framework::memory::{MemoryTable, UserAddress};
use framework::ring::{Call, Chain, Ring, Rings};
use framework::stats::QueueStats;
use framework::worker::{Answer, Command, InFlightArea, PollWindow, RingSetup, Worker};
use rustix::io::Errno;
use virtio_spec::features::Negotiated;

use crate::guest::{DESCRIPTORS, DEVICE, DRIVER, Guest};

/// Bytes of a chain that are looked at, at most: the driver may name the same memory many times.
const LOOKED_AT: usize = 64 << 10;

/// What the device saw of a chain when it took it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The first bytes to read.
    pub(crate) readable: Vec<u8>,
    /// How many there are.
    pub(crate) readable_len: usize,
    /// How many there are to write.
    pub(crate) writable_len: usize,
}

/// One chain to be completed: the n-th that is held, with so many bytes of this value written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Completion {
    pub(crate) which: usize,
    pub(crate) written: u32,
    pub(crate) fill: u8,
}

/// What the device is to do, and what it has seen.
#[derive(Debug, Default)]
struct Script {
    take: usize,
    complete: Vec<Completion>,
    taken: Vec<Seen>,
    held: usize,
}

/// The device.
#[derive(Debug)]
struct Scripted {
    script: Arc<Mutex<Script>>,
    held: Vec<Chain>,
}

impl Service for Scripted {
    fn service<I: Io>(&mut self, rings: &mut Rings, _io: &mut I, wake: Wake) {
        let mut script = self.script.lock().unwrap();
        let Some(ring) = rings.get(0) else { return };
        match wake {
            Wake::Nudge => {}
            Wake::Ready(..) => {
                for completion in std::mem::take(&mut script.complete) {
                    complete(ring, self.held.remove(completion.which), completion);
                }
            }
            Wake::Kick(_) => {
                while script.take > 0
                    && let Some(chain) = ring.take()
                {
                    script.take -= 1;
                    script.taken.push(see(ring, &chain));
                    self.held.push(chain);
                }
            }
            Wake::Done(_) | Wake::Timer | Wake::Stop(_) => {}
        }
        script.held = self.held.len();
        // In order, a chain that is complete is in flight until its turn comes.
        assert!(ring.in_flight() >= self.held.len());
        assert!(ring.in_flight() <= ring.size().into());
    }
}

fn see(ring: &Ring, chain: &Chain) -> Seen {
    assert!(chain.slot() < ring.size());
    assert!(ring.readable(chain).len() + ring.writable(chain).len() <= 2048);
    let (readable_len, writable_len) = (ring.readable_len(chain), ring.writable_len(chain));
    assert!(readable_len + writable_len <= u32::MAX as usize);
    let mut readable = vec![0; readable_len.min(LOOKED_AT)];
    assert_eq!(ring.read(chain, 0, &mut readable), readable.len());
    Seen { readable, readable_len, writable_len }
}

fn complete(ring: &mut Ring, chain: Chain, Completion { written, fill, .. }: Completion) {
    let written = written.min(u32::try_from(ring.writable_len(&chain)).unwrap());
    let bytes = vec![fill; LOOKED_AT.min(written as usize)];
    assert_eq!(ring.write(&chain, 0, &bytes), bytes.len());
    ring.complete(chain, written);
}

/// An engine without I/O that wakes its worker at every turn.
#[derive(Debug)]
struct Idle {
    bounce: Bounce,
    waited: Option<Wait>,
}

impl Io for Idle {
    fn submit(&mut self, _: &Op<'_>, _: Token) -> Submitted {
        Submitted::Now(Err(Errno::NOSYS))
    }

    fn bounce(&mut self) -> &mut Bounce {
        &mut self.bounce
    }

    fn now(&self) -> Duration {
        Duration::ZERO
    }

    fn set_timer(&mut self, _: Option<Duration>) {}
}

impl Engine for Idle {
    fn files(&mut self, _: Vec<Arc<OwnedFd>>) -> std::io::Result<()> {
        Ok(())
    }

    fn watch_kick(&mut self, _: usize, _: Option<Arc<OwnedFd>>) -> std::io::Result<()> {
        Ok(())
    }

    fn turn(&mut self, wait: Wait, events: &mut Vec<Event>) -> std::io::Result<()> {
        self.waited = Some(wait);
        events.push(Event::Ready(FileIndex(0), Direction::Readable));
        Ok(())
    }

    fn in_flight(&self) -> usize {
        0
    }
}

/// How the ring is started.
#[derive(Clone, Debug)]
pub(crate) struct Start {
    pub(crate) size: u16,
    pub(crate) features: Negotiated,
    pub(crate) base: u32,
    pub(crate) in_flight: Option<InFlightArea>,
}

/// The worker, and what is known of its ring.
pub(crate) struct Stand {
    worker: Worker<Scripted, Idle>,
    script: Arc<Mutex<Script>>,
    answers: Arc<Mutex<Vec<Answer>>>,
    calls: Arc<AtomicU64>,
}

impl Stand {
    pub(crate) fn new() -> Self {
        let script = Arc::<Mutex<Script>>::default();
        let answers = Arc::<Mutex<Vec<Answer>>>::default();
        let told = Arc::clone(&answers);
        let worker = Worker::new(
            Scripted { script: Arc::clone(&script), held: Vec::new() },
            Idle { bounce: Bounce::new(4096, 1), waited: None },
            vec![(0, QueueStats::new())],
            PollWindow::Fixed(Duration::ZERO),
            Box::new(move |answer| told.lock().unwrap().push(answer)),
        );
        Stand { worker, script, answers, calls: Arc::default() }
    }

    /// Starts the ring; false if that is refused.
    pub(crate) fn start(&mut self, guest: &Guest, start: &Start) -> bool {
        let setup = RingSetup {
            queue: 0,
            size: start.size,
            features: start.features,
            descriptors: UserAddress(DESCRIPTORS),
            driver: UserAddress(DRIVER),
            device: UserAddress(DEVICE),
            base: start.base,
            memory: guest.table(),
            log: None,
            used_log: None,
            in_flight: start.in_flight.clone(),
            kick: None,
            call: Call::Counter(Arc::clone(&self.calls)),
            error: None,
            enabled: true,
            serve_disabled: false,
        };
        self.worker.command(Command::Start(Box::new(setup)));
        match self.answers.lock().unwrap().pop() {
            Some(Answer::Started { result, .. }) => result.is_ok(),
            other => panic!("a start was answered with {other:?}"),
        }
    }

    /// One turn, in which these are completed and so many are taken; gives what was taken.
    pub(crate) fn turn(&mut self, complete: Vec<Completion>, take: usize) -> Vec<Seen> {
        {
            let mut script = self.script.lock().unwrap();
            (script.take, script.complete) = (take, complete);
        }
        self.worker.turn();
        let mut script = self.script.lock().unwrap();
        script.take = 0;
        std::mem::take(&mut script.taken)
    }

    /// Chains that the device holds.
    pub(crate) fn held(&self) -> usize {
        self.script.lock().unwrap().held
    }

    /// Calls so far.
    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Whether the last turn would have slept.
    pub(crate) fn slept(&mut self) -> bool {
        self.worker.engine().waited == Some(Wait::ForEver)
    }

    /// What the worker has said since the last time.
    pub(crate) fn answers(&mut self) -> Vec<Answer> {
        std::mem::take(&mut self.answers.lock().unwrap())
    }

    /// Whether the worker has said that the ring has failed; forgets all else that it said.
    pub(crate) fn has_failed(&mut self) -> bool {
        self.answers().iter().any(|answer| matches!(answer, Answer::RingFailed { .. }))
    }

    pub(crate) fn enable(&mut self, enabled: bool) {
        self.worker.command(Command::Enable { queue: 0, enabled });
    }

    pub(crate) fn switch_memory(&mut self, table: Arc<MemoryTable>, release: bool) {
        self.worker.command(Command::Memory { table, release });
    }

    /// Completes all that is held.
    pub(crate) fn complete_all(&mut self) {
        let complete = (0..self.held()).map(|_| Completion { which: 0, written: 1, fill: 0xcc });
        let complete = complete.collect();
        self.turn(complete, 0);
        assert_eq!(self.held(), 0);
    }

    /// Completes all, and stops the ring, which it must do at once then; gives its base.
    pub(crate) fn stop(&mut self) -> u32 {
        self.complete_all();
        self.answers();
        self.worker.command(Command::Stop { queue: 0 });
        self.turn(Vec::new(), usize::MAX);
        for answer in self.answers() {
            if let Answer::Stopped { base, .. } = answer {
                return base;
            }
        }
        panic!("a ring with nothing in flight does not stop");
    }
}
