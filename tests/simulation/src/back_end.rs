//! The back-end's process: device, session and workers, and what a kill takes with it.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use framework::device::Device;
use framework::session::{Action, Session};
use framework::worker::Answer;
use outrigger_blk::device::{BlockDevice, Settings};
use outrigger_blk::image::Image;
use virtio_spec::block::ID_LEN;
use wire::{BackendRequest, Frame, Request};

use crate::Failure;
use crate::device::LockedDevice;
use crate::fleet::{Disturbance, Fleet, FleetSettings, Turn};
use crate::scenario::Scenario;

/// What GET_ID answers.
pub(crate) const SERIAL: &[u8; ID_LEN] = b"simulated\0\0\0\0\0\0\0\0\0\0\0";

type Result<T> = std::result::Result<T, framework::Error>;

/// A process. Dropping it kills it: nothing is cleaned up, and what its engines had under way stays
/// with the disk.
pub(crate) struct BackEnd {
    device: LockedDevice,
    connection: Option<Connection>,
    offer: framework::session::RingOffer,
    fleet: FleetSettings,
    waker: Arc<OwnedFd>,
    connections: u64,
}

struct Connection {
    session: Session,
    fleet: Fleet,
}

impl BackEnd {
    /// A process that has just been started. `saved`: the device's state as the former one left it.
    pub(crate) fn start(
        scenario: &Scenario,
        fleet: FleetSettings,
        saved: Option<&[u8]>,
    ) -> std::result::Result<Self, Failure> {
        let settings = Settings {
            num_queues: scenario.queues,
            queue_size: scenario.size,
            workers: Some(scenario.workers),
            serial: *SERIAL,
            writeback: scenario.writeback,
        };
        let inner = BlockDevice::new(Image::described(scenario.image), settings);
        let mut device = LockedDevice::new(inner, fleet.disk.clone(), scenario.lock);
        if let Some(saved) = saved {
            device.load(saved).map_err(|error| Failure::Answer {
                what: "the saved state",
                found: error.to_string(),
                expected: "what this device saved itself".into(),
            })?;
        }
        let waker = rustix::event::eventfd(0, rustix::event::EventfdFlags::NONBLOCK)
            .map_err(|errno| Failure::Simulator(format!("no eventfd: {errno}")))?;
        Ok(BackEnd {
            device,
            connection: None,
            offer: scenario.offer,
            fleet,
            waker: Arc::new(waker),
            connections: 0,
        })
    }

    /// Whether a front-end may connect: one at a time.
    pub(crate) fn is_free(&self) -> bool {
        self.connection.is_none()
    }

    /// A front-end has connected.
    pub(crate) fn connect(&mut self) {
        self.connections += 1;
        let seed = self.fleet.seed.wrapping_mul(31).wrapping_add(self.connections);
        let fleet = Fleet::new(FleetSettings { seed, ..self.fleet.clone() });
        let session = Session::new(&self.device, self.offer, &self.waker);
        self.connection = Some(Connection { session, fleet });
    }

    /// A message has come.
    pub(crate) fn handle(&mut self, frame: Frame) -> Option<Result<Action>> {
        let connection = self.connection.as_mut()?;
        let need_reply = frame.need_reply;
        let request = match Request::decode(frame) {
            Ok(request) => request,
            Err(error) => return Some(Err(error.into())),
        };
        let Connection { session, fleet } = connection;
        Some(session.handle(&mut self.device, request, need_reply, fleet))
    }

    /// The connection thread hears the next thing that a worker has said. None: nothing was said.
    pub(crate) fn hear(&mut self) -> Option<(u16, String, Result<Action>)> {
        let Connection { session, fleet } = self.connection.as_mut()?;
        let (worker, answer) = fleet.next_answer()?;
        let said = describe(&answer);
        let action = session.answered(&mut self.device, worker, answer);
        if session.is_closed() {
            self.connection = None;
        }
        Some((worker, said, action))
    }

    /// Whether a ring waits for the lock.
    pub(crate) fn wants_retry(&self) -> bool {
        self.connection.as_ref().is_some_and(|connection| connection.session.wants_retry())
    }

    /// Some milliseconds have passed: the lock is tried again.
    pub(crate) fn retry(&mut self) -> Result<()> {
        let Some(Connection { session, fleet }) = &mut self.connection else { return Ok(()) };
        session.retry(&mut self.device, fleet)
    }

    /// Whether the message at hand is not finished yet.
    pub(crate) fn is_busy(&self) -> bool {
        self.connection.as_ref().is_none_or(|connection| connection.session.is_waiting())
    }

    /// The front-end has gone.
    pub(crate) fn hang_up(&mut self) {
        let Some(Connection { session, fleet }) = &mut self.connection else { return };
        session.close(&mut self.device, fleet);
        if session.is_closed() {
            self.connection = None;
        }
    }

    /// What is to be said to the front-end on the back-end's own channel.
    pub(crate) fn next_request(&mut self) -> Option<BackendRequest> {
        self.connection.as_mut()?.session.next_backend_request()
    }

    /// The device's state, if it may have changed since it was last kept.
    pub(crate) fn take_state(&mut self) -> Option<Vec<u8>> {
        let changed = self.connection.as_mut()?.session.take_state_changed();
        changed.then(|| self.device.save())
    }

    /// Workers that have something to do.
    pub(crate) fn runnable(&mut self) -> Vec<u16> {
        self.connection.as_mut().map_or(Vec::new(), |connection| connection.fleet.runnable())
    }

    /// A worker's turn; see [`Fleet::turn`].
    pub(crate) fn turn(&mut self, worker: u16, disturbance: Disturbance) -> Turn {
        let connection = self.connection.as_mut();
        connection.map_or(Turn::Taken, |connection| connection.fleet.turn(worker, disturbance))
    }

    /// See [`Fleet::take_story`].
    pub(crate) fn take_story(&self, worker: u16) -> Vec<String> {
        self.connection.as_ref().map_or(Vec::new(), |c| c.fleet.take_story(worker))
    }

    /// See [`Fleet::take_moved`].
    pub(crate) fn take_moved(&mut self, worker: u16) -> bool {
        self.connection.as_mut().is_none_or(|connection| connection.fleet.take_moved(worker))
    }

    /// Lets time pass for a worker.
    pub(crate) fn pass(&self, worker: u16, time: Duration) {
        self.connection.iter().for_each(|connection| connection.fleet.pass(worker, time));
    }

    /// How many operations a worker has under way.
    pub(crate) fn in_flight(&mut self, worker: u16) -> usize {
        self.connection.as_mut().map_or(0, |connection| connection.fleet.in_flight(worker))
    }

    /// A worker that went to sleep when it should not have.
    pub(crate) fn overslept(&self) -> Option<u16> {
        self.connection.as_ref()?.fleet.overslept()
    }

    /// Which worker serves a ring.
    pub(crate) fn worker_of(&self, ring: u16) -> u16 {
        self.device.worker_of(ring)
    }

    /// How often the lock was not to be had.
    pub(crate) fn waits(&self) -> u64 {
        self.device.waits
    }
}

fn describe(answer: &Answer) -> String {
    match answer {
        Answer::Started { queue, result: Ok(()) } => format!("ring {queue} runs"),
        Answer::Started { queue, result: Err(error) } => format!("ring {queue}: {error}"),
        Answer::Stopped { queue, base } => format!("ring {queue} has stopped at {base:#x}"),
        Answer::Done => "done".into(),
        Answer::RingFailed { queue, why } => format!("ring {queue} failed: {why}"),
        Answer::Broken { why } => format!("broken: {why}"),
        Answer::Rung => "it rings".into(),
        Answer::Ended => "it has ended".into(),
    }
}
