//! The port of a switch that leads outside: to a tap, or to the peer of a stream.
//!
//! # Theory of operation
//! No guest has this port, so a thread of its own serves it, with an engine like a worker's. It waits
//! for two things: its bell (guests have sent something, or have read what came from outside), and
//! whatever its uplink watches. What comes from outside is read into one of a few [`slab`]s and goes to
//! the guests from there; while they have all of them, nothing more is read. What goes outside is
//! written from the memory of the guests that send it.
//!
//! - `tap.rs` and `stream.rs` are the two kinds of uplinks.

mod slab;
mod stream;
mod tap;

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use framework::engine::{
    self, Choice, Config, Direction, Engine, Event, FileIndex, ReservedRing, Selected, Wait,
};
use rustix::event::{EventfdFlags, eventfd};

use super::outlet::{Mail, Outlet};
use super::parcel::Parcel;
use super::{Port, Routes};
use crate::counts::Counts;
use crate::uplink::stream::Stream;
use crate::uplink::tap::Tap;
use slab::Slabs;

/// Files of the thread: the bell, and what the uplink has from the start.
const BELL: FileIndex = FileIndex(0);
const UPLINK: FileIndex = FileIndex(1);

/// What a switch leads to.
#[derive(Debug)]
pub enum Outside {
    /// An interface of the host.
    Tap(Tap),
    /// A stream socket.
    Stream(Stream),
}

impl Outside {
    /// For messages and `stats`.
    pub fn describe(&self) -> String {
        match self {
            Outside::Tap(tap) => format!("tap {}", tap.name()),
            Outside::Stream(stream) => stream.describe(),
        }
    }

    fn file(&self) -> Option<&Arc<OwnedFd>> {
        match self {
            Outside::Tap(tap) => tap.queues().first(),
            Outside::Stream(stream) => stream.listening(),
        }
    }
}

/// The port and what it leads to, before its thread runs.
pub struct Trunk {
    port: Port,
    outside: Outside,
    counts: Arc<Counts>,
    /// Set aside before the process is confined, which makes no rings afterwards.
    ring: Option<ReservedRing>,
}

impl Trunk {
    /// What leads outside from this port.
    pub(super) fn new(port: Port, outside: Outside, counts: Arc<Counts>) -> Self {
        Trunk { port, outside, counts, ring: None }
    }

    /// The same, with an engine of this kind.
    ///
    /// # Errors
    /// When that is not to be had.
    pub fn with_engine(self, choice: Choice, restricted: bool) -> io::Result<Self> {
        Ok(Trunk { ring: engine::reserve(choice, 1, restricted)?, ..self })
    }

    /// What it leads to.
    pub fn outside(&self) -> &Outside {
        &self.outside
    }

    /// Starts the thread, which lasts as long as the process. To be called once that is confined.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn start(self) -> io::Result<()> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let commands = Arc::new(eventfd(0, flags)?);
        let thread = std::thread::Builder::new().name("net-trunk".into());
        thread.spawn(move || {
            let Trunk { port, outside, counts, mut ring } = self;
            let config = Config::new(1, commands);
            match engine::open(Choice::Auto, ring.as_mut(), &config) {
                Ok(Selected::Uring(engine)) => run(port, outside, counts, *engine),
                Ok(Selected::Threads(engine)) => run(port, outside, counts, *engine),
                Err(error) => tracing::error!(%error, "the switch's uplink has no I/O engine"),
            }
        })?;
        Ok(())
    }
}

impl fmt::Debug for Trunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trunk").field("outside", &self.outside).finish_non_exhaustive()
    }
}

fn run(port: Port, outside: Outside, counts: Arc<Counts>, mut engine: impl Engine) {
    let Some(outlet) = port.outlet(0).cloned() else { return };
    let files = [Some(outlet.bell()), outside.file()];
    if let Err(error) = engine.files(files.into_iter().flatten().cloned().collect()) {
        return tracing::error!(%error, "the switch's uplink cannot be watched");
    }
    outlet.set_open(true);
    let slabs = Slabs::new(&outlet);
    let routes = Routes::default();
    let common = Common { port, outlet, counts, mail: Mail::default(), slabs, routes };
    match outside {
        Outside::Tap(tap) => serve(tap::TapTrunk::new(tap), common, &mut engine),
        Outside::Stream(stream) => {
            serve(stream::StreamTrunk::new(stream), common, &mut engine);
        }
    }
}

/// What both kinds of uplinks go by.
#[derive(Debug)]
struct Common {
    port: Port,
    outlet: Arc<Outlet>,
    counts: Arc<Counts>,
    mail: Mail,
    slabs: Slabs,
    routes: Routes,
}

impl Common {
    /// Hands what came from outside to the switch.
    fn arrive(&mut self, parcel: Parcel, bytes: usize) {
        let frames = parcel.frames().len();
        let (held_back, their_bytes) = self.port.send(parcel, 0, &mut self.routes);
        self.counts.tx_frames.add((frames - held_back) as u64);
        self.counts.tx_bytes.add((bytes - their_bytes) as u64);
        self.counts.tx_dropped.add(held_back as u64);
    }
}

/// An uplink as its thread has it.
trait Kind {
    /// A file is ready.
    fn ready(&mut self, file: FileIndex, direction: Direction);

    /// Sends what there is in the mail, and hands over what comes. False: there is more to do.
    fn turn<E: Engine>(&mut self, common: &mut Common, engine: &mut E) -> bool;

    /// When to look again, whatever happens.
    fn due(&self) -> Option<Duration>;
}

fn serve<E: Engine>(mut kind: impl Kind, mut common: Common, engine: &mut E) {
    let mut events = Vec::new();
    loop {
        common.outlet.take(&mut common.mail);
        common.slabs.take_back(&mut common.mail.returned);
        let idle = kind.turn(&mut common, engine);
        engine.set_timer(kind.due());
        let wait = if idle && common.outlet.sleep() { Wait::ForEver } else { Wait::No };
        engine.watch(BELL, Direction::Readable);
        if let Err(error) = engine.turn(wait, &mut events) {
            return tracing::error!(%error, "the switch's uplink has failed");
        }
        for event in events.drain(..) {
            match event {
                Event::Ready(BELL, _) => common.outlet.heard(),
                Event::Ready(file, direction) => kind.ready(file, direction),
                _ => {}
            }
        }
    }
}
