//! The VMM's side of the connection: what it knows, and the messages that it is about to send.
//!
//! A front-end works through a script, item by item; anything else may happen between two of them.
//! When the connection is lost, so is the script: after the next connection everything is said again.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use fastrand::Rng;
use virtio_spec::Status;
use virtio_spec::vhost_user::{Inflight, ProtocolFeatures};

/// A message, to be made when it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    GetFeatures,
    GetProtocolFeatures,
    SetProtocolFeatures,
    SetOwner,
    GetQueueNum,
    SetFeatures,
    GetConfig,
    SetWriteback(bool),
    SetStatus(Status),
    GetStatus,
    SetMemTable,
    /// The region at this guest address.
    AddRegion(u64),
    /// The region in this place.
    RemoveRegion(usize),
    GetInflight,
    SetInflight,
    Num(u16),
    Base(u16),
    Address(u16),
    Err(u16),
    Call(u16),
    Kick(u16),
    Enable(u16, bool),
    GetBase(u16),
    ResetDevice,
}

/// Something that the VMM or its guest does between two messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Local {
    /// The driver begins: chooses features and sets rings up.
    BeginGuest,
    /// The driver resets the device, whose rings have stopped.
    ResetGuest,
    /// The driver resets one ring, which has stopped, and sets it up somewhere else.
    MoveRing(u16),
    /// The ring gets another kick eventfd; kicks in the former one are lost.
    NewKick(u16),
    /// The ring gets another call eventfd.
    NewCall(u16),
    /// Memory is plugged in here.
    Plug(usize),
    /// The guest takes no more buffers from this memory.
    BeginUnplug(usize),
    /// The back-end was given a table without this memory.
    Unplugged(usize),
}

/// A line of the script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    Send(Message),
    Do(Local),
}

/// A message whose handling has begun.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Awaited {
    pub(crate) message: Message,
    pub(crate) code: u32,
    /// Whether there is to be an answer.
    pub(crate) answer: bool,
}

/// What the front-end knows of a ring on this connection.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RingState {
    /// It was started and has not stopped.
    pub(crate) running: bool,
    pub(crate) enabled: bool,
    /// The back-end knows how to call.
    pub(crate) calls: bool,
    /// Where it last stopped, as the back-end told.
    pub(crate) base: Option<u32>,
    /// The connection was lost while it ran, and how: nobody knows where it is but the back-end.
    pub(crate) stale: Option<Loss>,
    /// The driver has reset the ring since it last ran, and the in-flight region was not cleared.
    pub(crate) moved: bool,
}

/// The front-end.
#[derive(Debug, Default)]
pub(crate) struct FrontEnd {
    pub(crate) connected: bool,
    pub(crate) script: VecDeque<Item>,
    pub(crate) awaited: Option<Awaited>,
    pub(crate) offered: u64,
    /// In use on this connection.
    pub(crate) protocol: ProtocolFeatures,
    /// Whether messages can be acknowledged by now.
    pub(crate) acks: bool,
    /// The in-flight region, which outlives connections.
    pub(crate) region: Option<(Inflight, OwnedFd)>,
    pub(crate) rings: Vec<RingState>,
}

/// How a connection was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Loss {
    /// The front-end cut it, and the back-end finished what it had taken.
    Cut,
    /// The back-end was killed.
    Killed,
}

impl FrontEnd {
    pub(crate) fn new(rings: u16) -> Self {
        let rings = (0..rings).map(|_| RingState::default()).collect();
        FrontEnd { rings, ..FrontEnd::default() }
    }

    /// The connection is gone.
    pub(crate) fn disconnected(&mut self, loss: Loss) {
        if loss == Loss::Killed {
            // Of a connection that was cut before, too, if it was not finished.
            self.rings.iter_mut().for_each(|ring| ring.stale = ring.stale.map(|_| loss));
        }
        self.connected = false;
        self.script.clear();
        self.awaited = None;
        self.protocol = ProtocolFeatures::empty();
        self.acks = false;
        for ring in &mut self.rings {
            let running = std::mem::take(&mut ring.running);
            ring.stale = ring.stale.max(running.then_some(loss));
            (ring.enabled, ring.calls) = (false, false);
        }
        if self.rings.iter().any(|ring| ring.moved) {
            self.give_rings_up();
        }
    }

    /// Nobody will go on in the rings as they are.
    pub(crate) fn give_rings_up(&mut self) {
        self.region = None;
        self.rings.iter_mut().for_each(|ring| ring.stale = Some(Loss::Killed));
    }

    pub(crate) fn ring(&self, ring: u16) -> RingState {
        self.rings.get(usize::from(ring)).copied().unwrap_or_default()
    }

    pub(crate) fn change(&mut self, ring: u16, change: impl FnOnce(&mut RingState)) {
        if let Some(ring) = self.rings.get_mut(usize::from(ring)) {
            change(ring);
        }
    }

    /// Whether a ring is being served.
    pub(crate) fn is_served(&self, ring: u16) -> bool {
        let state = self.ring(ring);
        state.running && (state.enabled || self.protocol.is_empty())
    }

    pub(crate) fn has(&self, feature: ProtocolFeatures) -> bool {
        self.protocol.contains(feature)
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.connected && self.script.is_empty() && self.awaited.is_none()
    }

    /// Adds to the script.
    pub(crate) fn plan(&mut self, items: impl IntoIterator<Item = Item>) {
        self.script.extend(items);
    }
}

/// Sending these.
pub(crate) fn sending(messages: &[Message]) -> impl Iterator<Item = Item> + '_ {
    messages.iter().copied().map(Item::Send)
}

/// The messages that start a ring, in one of the orders that front-ends have. A failure shows only
/// on an error eventfd that is there before the ring starts.
pub(crate) fn ring_start(ring: u16, protocol: bool, random: &mut Rng) -> Vec<Item> {
    let mut set_up =
        [Message::Num(ring), Message::Base(ring), Message::Address(ring), Message::Err(ring)];
    random.shuffle(&mut set_up);
    let mut start = vec![Message::Call(ring), Message::Kick(ring)];
    if protocol {
        start.push(Message::Enable(ring, true));
    }
    random.shuffle(&mut start);
    sending(&set_up).chain(sending(&start)).collect()
}
