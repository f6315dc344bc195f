//! The data side of a card: one worker for each queue pair.
//!
//! Even queues receive, odd ones transmit, and the last one, if it was negotiated, takes commands
//! (virtio 1.4, 5.1.2). A kick on either ring of a pair, or a packet at the uplink, leads to
//! `transmit` or `receive`; these two files are the hot path.

use std::sync::Arc;

use framework::device::{Service, Wake};
use framework::engine::{Direction, FileIndex, Io};
use framework::ring::{Ring, Rings};

use crate::counts::Counts;
use crate::device::Card;
use crate::driver_state::View;
use crate::receive::{self, Receive};
use crate::transmit::{self, Transmit};
use crate::uplink::Uplink;

/// The data side of one queue pair.
#[derive(Debug)]
pub struct NetService {
    card: Arc<Card>,
    counts: Arc<Counts>,
    view: View,
    seen: Option<u32>,
    transmit: Transmit,
    receive: Receive,
}

/// What a queue is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// From the uplink to the guest.
    Receive,
    /// From the guest to the uplink.
    Transmit,
}

impl Role {
    /// The role of a queue, by its index on the device.
    pub fn of(queue: u16) -> Self {
        if queue.is_multiple_of(2) { Role::Receive } else { Role::Transmit }
    }
}

/// The first file of a worker is the uplink's.
const UPLINK: FileIndex = FileIndex(0);

impl NetService {
    /// The data side of a queue pair.
    pub(crate) fn new(card: Arc<Card>, counts: Arc<Counts>) -> Self {
        let view = View::from(&card.state.get());
        NetService {
            card,
            counts,
            view,
            seen: None,
            transmit: Transmit::default(),
            receive: Receive::new(),
        }
    }

    #[inline]
    fn serve<I: Io>(&mut self, rings: &mut Rings, io: &mut I, queue: usize) {
        let Some(ring) = rings.get(queue) else { return };
        match Role::of(ring.queue()) {
            Role::Transmit if !ring.is_enabled() => transmit::discard(ring, &self.counts),
            Role::Transmit => match self.card.uplink {
                Uplink::Tap(_) => {
                    self.transmit.run(ring, io, UPLINK, &self.view, &self.counts);
                }
                Uplink::Null { .. } => transmit::to_nowhere(ring, &self.view, &self.counts),
                Uplink::Echo => self.echo(rings),
            },
            Role::Receive => self.receive(ring, io),
        }
    }

    #[inline]
    fn receive<I: Io>(&mut self, ring: &mut Ring, io: &mut I) {
        match self.card.uplink {
            Uplink::Tap(_) => self.receive.run(ring, io, UPLINK, &self.view, &self.counts),
            Uplink::Null { load: 0 } | Uplink::Echo => {}
            Uplink::Null { load } => receive::load(ring, load, &self.view, &self.counts),
        }
    }

    fn echo(&mut self, rings: &mut Rings) {
        if let (Some(receive), Some(transmit)) = rings.pair() {
            crate::echo::mirror(transmit, receive, &self.view, &self.counts);
        }
    }

    /// The uplink has something: every ring that receives is to look.
    fn uplink_ready<I: Io>(&mut self, rings: &mut Rings, io: &mut I) {
        self.receive.uplink_ready();
        if let Some(ring) = rings.get(0) {
            self.receive(ring, io);
        }
    }
}

impl Service for NetService {
    #[inline]
    fn service<I: Io>(&mut self, rings: &mut Rings, io: &mut I, wake: Wake) {
        if let Some(view) = self.card.state.view_if_changed(&mut self.seen) {
            self.view = view;
        }
        match wake {
            Wake::Kick(queue) => self.serve(rings, io, queue),
            Wake::Ready(UPLINK, Direction::Readable) => self.uplink_ready(rings, io),
            Wake::Ready(..) | Wake::Done(_) | Wake::Timer | Wake::Nudge | Wake::Stop(_) => {}
        }
    }
}
