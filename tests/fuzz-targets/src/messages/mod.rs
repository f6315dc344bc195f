//! Sequences of vhost-user messages with descriptors, against a session with the block device and
//! real workers that are stepped by hand.
//!
//! Whatever the front-end sends: nothing panics, a request that waits is answered as soon as its
//! workers have gone on, the session closes when it is told to, and no descriptor is kept.

mod call;
mod fds;
mod local;
mod memory;

use std::sync::Arc;

use arbitrary::{Arbitrary, Unstructured};
use framework::session::{Action, RingOffer, Session};
use outrigger_blk::device::{BlockDevice, Settings};
use outrigger_blk::image::{Choice, Image};
use rustix::event::{EventfdFlags, eventfd};
use virtio_spec::DeviceType;
use wire::Request;

use call::Call;
use fds::Fds;
pub(crate) use local::Local;
use memory::Shared;

/// The most calls of one input.
const CALLS: usize = 128;
/// More turns than the slowest of inputs needs.
const TURNS: usize = 20_000;

/// A block device with nothing behind it.
pub(crate) fn null_device() -> BlockDevice {
    let settings = Settings {
        num_queues: 4,
        queue_size: 64,
        workers: Some(3),
        serial: *b"fuzzed-serial-number",
        writeback: true,
    };
    BlockDevice::new(Image::null(64 << 10, &Choice::default()).unwrap(), settings)
}

/// What is offered.
#[derive(Arbitrary, Clone, Copy, Debug)]
struct Offer {
    packed: bool,
    in_order: bool,
    inband: bool,
    seed: u16,
}

/// One input.
pub fn run(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let Ok(offer) = Offer::arbitrary(&mut input) else { return };
    let mut connection = Connection::new(offer);
    for _ in 0..CALLS {
        let Ok(call) = Call::arbitrary(&mut input) else { break };
        if !connection.make(&call) || input.is_empty() {
            break;
        }
    }
    connection.end();
}

struct Connection {
    device: BlockDevice,
    session: Session,
    workers: Local,
    shared: Shared,
    fds: Fds,
}

impl Connection {
    fn new(offer: Offer) -> Self {
        let device = null_device();
        let Offer { packed, in_order, inband, seed } = offer;
        let waker = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap());
        let session = Session::new(&device, RingOffer { packed, in_order, inband }, &waker);
        let workers = Local::new(seed.into());
        Connection { device, session, workers, shared: Shared::new(packed), fds: Fds::default() }
    }

    /// Makes a call. False: the connection is over.
    fn make(&mut self, call: &Call) -> bool {
        let go_on = match call {
            Call::Turns(turns) => self.turns((turns % 16).into()),
            Call::Guest(chain) => {
                self.shared.guest(chain);
                true
            }
            Call::Truncate(pages) => {
                self.shared.truncate((pages % 16).into());
                true
            }
            Call::Feed(bytes) => {
                self.fds.feed(bytes);
                true
            }
            Call::ConfigChanged => {
                self.session.config_changed();
                true
            }
            Call::Retry => self.session.retry(&mut self.device, &mut self.workers).is_ok(),
            Call::SetUpRing(ring) => {
                let requests = self.shared.set_up(*ring, &mut self.fds);
                requests.into_iter().all(|request| self.request(request, true))
            }
            Call::Message { message, need_reply } => {
                let request = message.request(&self.shared, &mut self.fds);
                self.request(request, *need_reply)
            }
        };
        let _ = (self.session.take_backend_channel(), self.session.take_state_changed());
        while self.session.next_backend_request().is_some() {}
        let shown = self.session.describe(DeviceType::BLOCK);
        assert!(shown.is_object());
        go_on
    }

    /// Sends a request as a message, and has it handled to its end. False: the connection is over.
    fn request(&mut self, request: Request, need_reply: bool) -> bool {
        let shown = format!("{request:?}");
        let Ok(request) = Request::decode(request.encode()) else { return true };
        match self.session.handle(&mut self.device, request, need_reply, &mut self.workers) {
            Err(_) => return false,
            Ok(Action::Wait) => {}
            Ok(action) => return self.shared.answered(action),
        }
        for _ in 0..TURNS {
            if !self.turns(1) {
                return false;
            }
            if !self.session.is_waiting() {
                return true;
            }
            if self.session.transfer().is_some() {
                self.fds.finish();
            }
        }
        panic!("{shown} is never answered");
    }

    /// Lets workers go on, and the session hear of it. False: the connection is over.
    fn turns(&mut self, turns: usize) -> bool {
        for _ in 0..turns {
            self.workers.turn();
            while let Some((worker, answer)) = self.workers.next_answer() {
                match self.session.answered(&mut self.device, worker, answer) {
                    Ok(action) => self.shared.answered(action),
                    Err(_) => return false,
                };
            }
            match self.session.continue_transfer(&mut self.device) {
                Ok(action) => self.shared.answered(action),
                Err(_) => return false,
            };
        }
        true
    }

    /// Closes the connection: it is over as soon as all workers have ended, and keeps nothing.
    fn end(mut self) {
        self.session.close(&mut self.device, &mut self.workers);
        for _ in 0..TURNS {
            if self.session.is_closed() {
                break;
            }
            // Errors mean nothing any more.
            self.turns(1);
        }
        assert!(self.session.is_closed(), "the session does not close");
        assert_eq!(self.workers.left(), 0);
        drop((self.session, self.workers, self.shared));
        self.fds.assert_closed();
    }
}
