//! A port: one device, the way to its front-end, and the connection being served.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;

use super::connection::Connection;
use super::host::Host;
use super::interest::{Interest, Poller, Source};
use super::workers::{AnswerPath, Seats, Threads};
use crate::Error;
use crate::device::{Device, Outcome};
use crate::error::Result;
use crate::program::listener::{Connector, Endpoint, Listener};
use crate::program::signals::Signal;
use crate::program::state_file::StateFile;
use crate::session::{RingOffer, Session};
use crate::stats::QueueStats;
use crate::worker::{Answer, ThreadSettings};

/// How often a device is asked again for what it must hold while rings run.
const RETRY: Duration = Duration::from_millis(5);
/// How long nothing is accepted after the system refused to.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// What a port is made from.
pub(super) struct PortSetup<D> {
    /// The device.
    pub(super) device: D,
    /// The way to its front-end.
    pub(super) endpoint: Endpoint,
    /// Where its state is kept.
    pub(super) state: Option<StateFile>,
    /// What is set aside for its workers.
    pub(super) seats: Seats,
}

/// A port.
pub(super) struct Port<D: Device> {
    number: u32,
    pub(super) device: D,
    way: Way,
    listening: Interest,
    pub(super) host: Host,
    offer: RingOffer,
    settings: ThreadSettings,
    pub(super) stats: Vec<QueueStats>,
    path: AnswerPath,
    /// Those of the connection, while there is one.
    seats: Seats,
    pub(super) connection: Option<Connection>,
    /// When rings that wait are tried again.
    retry_at: Option<Instant>,
    stopping: bool,
    /// Connections that there have been.
    pub(super) connections: u64,
    /// The engine of the latest workers.
    pub(super) engine: Option<&'static str>,
}

/// How the next connection comes.
enum Way {
    /// By being accepted, but not before the time given.
    Listening(Listener, Option<Instant>),
    /// By connecting, at the time given.
    Connecting(Connector, Instant),
    /// Not at all.
    Nowhere,
}

impl<D: Device> Port<D> {
    pub(super) fn new(
        number: u32,
        setup: PortSetup<D>,
        offer: RingOffer,
        settings: ThreadSettings,
        path: AnswerPath,
    ) -> Result<Self> {
        let PortSetup { mut device, endpoint, state, seats } = setup;
        let host = Host::new(state, number, path.clone());
        device.attach(host.clone());
        if let Some(saved) = host.kept() {
            device.load(&saved)?;
        }
        let stats = (0..device.limits().count).map(|_| QueueStats::new()).collect();
        let mut port = Port {
            number,
            device,
            way: Way::Nowhere,
            listening: Interest::default(),
            host,
            offer,
            settings,
            stats,
            path,
            seats,
            connection: None,
            retry_at: None,
            stopping: false,
            connections: 0,
            engine: None,
        };
        match endpoint {
            Endpoint::Listening(listener) => port.way = Way::Listening(listener, None),
            Endpoint::Connecting(connector) => {
                port.way = Way::Connecting(connector, Instant::now());
            }
            Endpoint::Connected(socket) => port.begin(socket.into()),
        }
        Ok(port)
    }

    /// Somebody wants to connect.
    pub(super) fn accept(&mut self) {
        let (Way::Listening(listener, pause), None) = (&mut self.way, &self.connection) else {
            return;
        };
        match listener.accept() {
            Ok(Some(socket)) => self.begin(socket.into()),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%error, "a front-end cannot be accepted now");
                *pause = Some(Instant::now() + ACCEPT_PAUSE);
            }
        }
    }

    fn begin(&mut self, socket: std::os::fd::OwnedFd) {
        self.connections += 1;
        tracing::info!(connection = self.connections, "a front-end is connected");
        let session = Session::new(&self.device, self.offer, &self.path.waker);
        let (settings, stats, path) =
            (self.settings.clone(), self.stats.clone(), self.path.clone());
        let seats = std::mem::take(&mut self.seats);
        let connection = socket.try_clone().map(Arc::new);
        let connection = connection.inspect_err(|error| {
            tracing::warn!(%error, "if this process is killed, the front-end will not wait for its last I/O");
        });
        let workers = (seats, connection.ok());
        let workers = Threads::new(self.number, settings, stats, path, workers);
        let host = self.host.clone();
        self.connection = Some(Connection::new(socket, session, workers, host, self.number));
    }

    /// The connection has messages, takes more, or is gone.
    pub(super) fn front_end_ready(&mut self, flags: EventFlags) {
        self.with_connection(|connection, device| connection.ready(device, flags));
    }

    /// The channel for our own requests has answers, or takes more.
    pub(super) fn backend_ready(&mut self) {
        if let Some(connection) = &mut self.connection {
            connection.backend_ready();
        }
    }

    /// The transfer of the device's state can go on.
    pub(super) fn transfer_ready(&mut self) {
        self.with_connection(Connection::continue_transfer);
    }

    /// A worker has said something.
    pub(super) fn answered(&mut self, worker: u16, answer: Answer) {
        if matches!(answer, Answer::Rung) {
            self.host.heard();
            let outcome = self.device.rung();
            return self.follow(&outcome);
        }
        if let Some(connection) = &self.connection {
            self.engine = connection.workers.engine().or(self.engine);
        }
        self.with_connection(|connection, device| connection.answered(device, worker, answer));
    }

    /// A signal came that is not about ending.
    pub(super) fn signalled(&mut self, signal: Signal) {
        let outcome = self.device.signalled(signal);
        self.follow(&outcome);
    }

    /// Does what follows from a change that the device made: its state is kept, the front-end is told
    /// of a new config space when it may be, the data side is woken.
    pub(super) fn follow(&mut self, outcome: &Outcome) {
        if outcome.state_changed {
            self.save();
        }
        let Some(connection) = &mut self.connection else { return };
        if outcome.config_changed {
            connection.session.config_changed();
        }
        if outcome.nudge {
            connection.nudge::<D>();
        }
    }

    /// Ends the connection when its rings have drained, and serves no other.
    pub(super) fn stop(&mut self) {
        self.stopping = true;
        if let Some(connection) = &mut self.connection {
            connection.close(&mut self.device);
        }
    }

    /// Whether there is nothing left to serve, now and later.
    pub(super) fn is_finished(&self) -> bool {
        self.connection.is_none() && (self.stopping || matches!(self.way, Way::Nowhere))
    }

    fn with_connection(&mut self, event: impl FnOnce(&mut Connection, &mut D) -> Result<()>) {
        let Some(connection) = &mut self.connection else { return };
        if let Err(error) = event(connection, &mut self.device) {
            if !connection.session.is_closing() {
                say_why(&error);
            }
            connection.close(&mut self.device);
        }
    }

    /// Does what follows from the events since the last time, and notes what is waited for now.
    ///
    /// # Errors
    /// When this port can be served no longer.
    pub(super) fn settle(&mut self, poller: &Poller, now: Instant) -> Result<()> {
        self.retry(now);
        loop {
            self.connect(now)?;
            self.settle_connection(poller);
            if !self.end_if_closed(poller, now) {
                return self.listen(poller, now);
            }
        }
    }

    fn settle_connection(&mut self, poller: &Poller) {
        self.with_connection(|connection, device| {
            if connection.session.is_closing() {
                connection.deafen(poller);
                return Ok(());
            }
            connection.settle(device, poller)
        });
    }

    fn retry(&mut self, now: Instant) {
        let wanted = self.connection.as_ref().is_some_and(|c| c.session.wants_retry());
        if !wanted {
            self.retry_at = None;
        } else if self.retry_at.is_none_or(|at| at <= now) {
            self.retry_at = Some(now + RETRY);
            self.with_connection(Connection::retry);
        }
    }

    /// Whether there was a connection that is closed now.
    fn end_if_closed(&mut self, poller: &Poller, now: Instant) -> bool {
        let Some(mut connection) = self.connection.take_if(|c| c.session.is_closed()) else {
            return false;
        };
        connection.deafen(poller);
        self.seats = connection.workers.into_seats();
        self.save();
        if let Way::Connecting(connector, at) = &mut self.way {
            *at = now + connector.delay();
        }
        true
    }

    fn connect(&mut self, now: Instant) -> Result<()> {
        let (Way::Connecting(connector, at), None, false) =
            (&mut self.way, &self.connection, self.stopping)
        else {
            return Ok(());
        };
        if *at <= now {
            *at = now + connector.delay();
            if let Some(socket) = connector.attempt()? {
                self.begin(socket.into());
            }
        }
        Ok(())
    }

    /// Watches the listening socket while there is room for a connection.
    fn listen(&mut self, poller: &Poller, now: Instant) -> Result<()> {
        let free = self.connection.is_none() && !self.stopping;
        let Way::Listening(listener, pause) = &mut self.way else { return Ok(()) };
        let paused = pause.take_if(|until| *until <= now).is_none() && pause.is_some();
        let wanted = if free && !paused { EventFlags::IN } else { EventFlags::empty() };
        self.listening.set(poller, listener, Source::Listener(self.number), wanted)
    }

    /// When [`Port::settle`] has something to do without any event.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let way = match &self.way {
            _ if self.stopping || self.connection.is_some() => None,
            Way::Listening(_, pause) => *pause,
            Way::Connecting(_, at) => Some(*at),
            Way::Nowhere => None,
        };
        way.or(self.retry_at)
    }

    /// Keeps the device's state, if there is a place for it.
    fn save(&self) {
        save(&self.host, &self.device);
    }
}

/// Keeps a device's state, if there is a place for it.
pub(super) fn save<D: Device>(host: &Host, device: &D) {
    if let Err(error) = host.keep(|| device.save()) {
        tracing::error!(%error, "the device's state is not kept");
    }
}

/// Why a connection ends.
fn say_why(error: &Error) {
    match error {
        Error::Wire(wire::Error::Closed) => tracing::info!("the front-end has left"),
        error => tracing::warn!(%error, "the connection ends"),
    }
}
