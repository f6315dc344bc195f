//! The data side of a card: one worker for each queue pair, and one for the control queue.
//!
//! Even queues receive, odd ones transmit, and the last one, if it was negotiated, takes commands
//! (virtio 1.4, 5.1.2). A kick on either ring of a pair, or a packet at the uplink, leads to
//! `transmit` or `receive`; these two files are the hot path. Which queue is the last depends on what
//! was negotiated: so a worker learns at each wake what the queue in question is for.

use std::sync::Arc;

use framework::device::{Host, Service, Wake};
use framework::engine::{Direction, FileIndex, Io};
use framework::ring::Rings;

use crate::control::queue::ControlQueue;
use crate::counts::Counts;
use crate::device::Card;
use crate::limits::{Metered, Way};
use crate::rate::Admission;
use crate::receive::{self, Receive};
use crate::timers::Timers;
use crate::transmit::{self, Transmit};
use crate::uplink::Uplink;
use crate::uplink::stream::link::Link;
use crate::uplink::switch::attachment::Attachment;
use crate::view::{Budget, View};

/// The data side of one queue pair, or of the control queue.
#[derive(Debug)]
pub struct NetService {
    card: Arc<Card>,
    host: Host,
    counts: Arc<Counts>,
    /// The worker's number, which is that of its queue pair.
    pair: u16,
    view: View,
    seen: Option<u32>,
    /// Whether the uplink's queue is plugged in: packets come only then.
    plugged: bool,
    transmit: Transmit,
    receive: Receive,
    link: Link,
    /// Where the uplink is a switch.
    port: Option<Attachment>,
    control: ControlQueue,
    timers: Timers,
    metered: Metered,
}

/// What a queue is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// From the uplink to the guest.
    Receive,
    /// From the guest to the uplink.
    Transmit,
    /// From the driver to the device.
    Control,
}

/// The first file of a worker is the uplink's.
const UPLINK: FileIndex = FileIndex(0);
/// Where in a worker its pair's rings are: receiving, transmitting.
const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;

impl NetService {
    /// The data side of a queue pair.
    pub(crate) fn new(card: Arc<Card>, host: Host, counts: Arc<Counts>, pair: u16) -> Self {
        let view = card.state.view();
        NetService {
            // The first queue of an uplink is always plugged in, and so is all that has no queues.
            port: attach(&card.uplink, pair),
            plugged: !card.uplink.has_sockets(pair),
            card,
            host,
            counts,
            pair,
            view,
            seen: None,
            transmit: Transmit::default(),
            receive: Receive::new(),
            link: Link::default(),
            control: ControlQueue::default(),
            timers: Timers::default(),
            metered: Metered::default(),
        }
    }

    #[inline]
    fn serve<I: Io>(&mut self, rings: &mut Rings, io: &mut I, queue: usize) {
        let Some(ring) = rings.get(queue) else { return };
        match self.view.role(ring.queue()) {
            Role::Control => self.control.serve(ring, &self.card, &self.host, &self.counts),
            Role::Transmit if !ring.is_enabled() || !self.view.link_up => {
                transmit::discard(ring, &self.counts);
            }
            Role::Transmit if !self.admit(TRANSMIT, io) => {}
            Role::Transmit => match &self.card.uplink {
                Uplink::Tap(_) => {
                    self.transmit.run(ring, io, UPLINK, &self.view, &self.counts);
                }
                Uplink::Stream(stream) => {
                    self.link.transmit(ring, io, stream, &self.view, &self.counts);
                }
                Uplink::Switch(_) => {
                    if let Some(port) = &mut self.port {
                        port.transmit(ring, &self.view, &self.counts);
                    }
                }
                Uplink::Null { .. } => transmit::to_nowhere(ring, &self.view, &self.counts),
                Uplink::Echo => self.echo(rings),
            },
            Role::Receive => self.receive(rings, io),
        }
    }

    /// Gives the guest what the uplink has, if it is to have anything.
    #[inline]
    fn receive<I: Io>(&mut self, rings: &mut Rings, io: &mut I) {
        let ring = rings.get(RECEIVE).filter(|ring| self.view.role(ring.queue()) == Role::Receive);
        let open = ring.as_ref().is_some_and(|ring| ring.is_enabled()) && self.is_in_use();
        self.plug(open);
        let open = open && self.plugged;
        let Some(ring) = ring.filter(|_| open) else {
            return self.port.iter_mut().for_each(Attachment::close);
        };
        if !self.admit(RECEIVE, io) {
            return self.port.iter_mut().for_each(Attachment::set_aside);
        }
        match &self.card.uplink {
            Uplink::Tap(_) => {
                self.receive.run(ring, io, UPLINK, &self.view, &self.counts);
                if self.receive.take_failure() {
                    self.timers.pause(io.now());
                }
            }
            Uplink::Stream(stream) => {
                self.link.receive(ring, io, stream, &self.view, &self.counts);
            }
            Uplink::Switch(_) => {
                if let Some(port) = &mut self.port {
                    port.receive(ring, &self.view, &self.counts);
                }
            }
            Uplink::Null { load: 0 } => {}
            Uplink::Echo => {
                if self.admit(TRANSMIT, io) {
                    self.echo(rings);
                }
            }
            Uplink::Null { load } => receive::load(ring, *load, &self.view, &self.counts),
        }
    }

    /// Whether the driver uses this pair (5.1.6.5.6), and there is a link.
    #[inline]
    fn is_in_use(&self) -> bool {
        self.view.link_up && self.pair < self.view.pairs
    }

    /// Has the uplink hand packets to this pair, or to others only.
    #[inline]
    fn plug(&mut self, plugged: bool) {
        if plugged != self.plugged && self.card.uplink.has_sockets(self.pair) {
            self.plug_slowly(plugged);
        }
    }

    #[cold]
    fn plug_slowly(&mut self, plugged: bool) {
        match self.card.uplink.plug(self.pair, plugged) {
            Ok(()) => {
                self.plugged = plugged;
                self.receive.uplink_ready();
            }
            Err(error) => self.counts.uplink_failed(error),
        }
    }

    /// Whether frames may cross in the direction of this ring, and how many.
    #[inline]
    fn admit<I: Io>(&mut self, queue: usize, io: &I) -> bool {
        if self.card.limits.are_none() {
            self.view.budget = Budget::default();
            return true;
        }
        self.admit_slowly(queue, io)
    }

    #[cold]
    fn admit_slowly<I: Io>(&mut self, queue: usize, io: &I) -> bool {
        let Budget { receive, transmit } = Budget::default();
        let now = io.now();
        let (direction, most, budget) = match queue {
            RECEIVE => (Way::Receive, receive, &mut self.view.budget.receive),
            _ => (Way::Transmit, transmit, &mut self.view.budget.transmit),
        };
        let admission = self.metered.admit(&self.card.limits, &self.counts, direction, most, now);
        let Some(until) = self.timers.limits.get_mut(queue) else { return false };
        match admission {
            Admission::Frames(frames) => (*budget, *until) = (frames, None),
            Admission::Wait(time) => *until = Some(now + time),
        }
        until.is_none()
    }

    /// Sends back what is there: one of the two rings has got what the other was waiting for.
    fn echo(&mut self, rings: &mut Rings) {
        if let (Some(receive), Some(transmit)) = rings.pair()
            && transmit.is_enabled()
            && self.view.link_up
        {
            crate::echo::mirror(transmit, receive, &self.view, &self.counts);
        }
    }

    /// The uplink has something, or is to be asked again.
    fn uplink_ready<I: Io>(&mut self, rings: &mut Rings, io: &mut I) {
        self.receive.uplink_ready();
        self.receive(rings, io);
    }

    /// The peer of a stream has something, takes more, or wants to connect.
    fn peer_ready<I: Io>(&mut self, rings: &mut Rings, io: &mut I, wake: (FileIndex, Direction)) {
        let Uplink::Stream(stream) = &self.card.uplink else { return };
        self.link.ready(io, stream, wake, &self.counts);
        self.receive(rings, io);
    }

    /// Other ports have sent something, or have got what this one has sent.
    fn bell_rung<I: Io>(&mut self, rings: &mut Rings, io: &mut I) {
        if let Some(port) = &mut self.port {
            port.heard();
            rings.get(TRANSMIT).into_iter().for_each(|ring| port.complete(ring));
        }
        self.receive(rings, io);
    }

    fn timer<I: Io>(&mut self, rings: &mut Rings, io: &mut I) {
        self.timers.rang();
        let (now, due) =
            (io.now(), self.timers.link.is_some() || self.timers.limit_is_over(io.now()));
        if self.timers.pause_is_over(now) || due {
            self.uplink_ready(rings, io);
        }
    }

    /// Calls are held back, or made, as the driver wants it.
    fn hold_calls<I: Io>(&mut self, rings: &mut Rings, io: &mut I) {
        let (now, coalescing) = (io.now(), self.view.coalescing.as_ref());
        for queue in [RECEIVE, TRANSMIT] {
            let ring = rings.get(queue);
            let ring = ring.filter(|ring| self.view.role(ring.queue()) != Role::Control);
            if let Some(ring) = ring {
                let coalesce = coalescing.map(|c| c.of(ring.queue())).unwrap_or_default();
                self.timers.hold_call(queue, ring, coalesce, now);
            }
        }
    }
}

/// Each pair has its place at the port of a switch.
fn attach(uplink: &Uplink, pair: u16) -> Option<Attachment> {
    match uplink {
        Uplink::Switch(port) => Attachment::new(port.clone(), pair),
        _ => None,
    }
}

impl Service for NetService {
    #[inline]
    fn service<I: Io>(&mut self, rings: &mut Rings, io: &mut I, wake: Wake) {
        let coalesced = self.view.coalescing.is_some();
        if let Some(view) = self.card.state.view_if_changed(&mut self.seen) {
            self.view = view;
            self.view.capture.clone_from(&self.card.capture);
        }
        match wake {
            Wake::Kick(queue) => self.serve(rings, io, queue),
            Wake::Ready(file, direction) if matches!(self.card.uplink, Uplink::Stream(_)) => {
                self.peer_ready(rings, io, (file, direction));
            }
            Wake::Ready(..) if self.port.is_some() => self.bell_rung(rings, io),
            Wake::Ready(UPLINK, Direction::Readable) | Wake::Nudge => {
                self.uplink_ready(rings, io);
            }
            Wake::Timer => self.timer(rings, io),
            Wake::Stop(RECEIVE) => {
                self.plug(false);
                self.port.iter_mut().for_each(Attachment::close);
            }
            Wake::Ready(..) | Wake::Done(_) | Wake::Stop(_) => {}
        }
        if coalesced || self.view.coalescing.is_some() {
            self.hold_calls(rings, io);
        }
        self.port.iter().for_each(|port| port.rest(io));
        self.timers.link = self.link.due();
        self.timers.arm(io);
    }
}
