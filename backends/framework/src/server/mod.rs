//! The connection thread: one event loop for front-ends, workers, control clients and signals.
//!
//! # Theory of operation
//! A daemon has one or several *ports*: a device and the way to its front-end. A port serves one
//! connection at a time; the next one waits in the socket's backlog until the workers of the one
//! before have drained. The loop sleeps in epoll, hands each event to the port or part that it is
//! about, and then lets every port *settle*: send what may be sent, note what it waits for, and go on
//! to the next connection when the last one is closed. Nothing in it waits for a peer: a front-end
//! that does not read is not read from either.
//!
//! SIGTERM and SIGINT end the daemon: nothing more is accepted, all rings drain (what is in flight
//! completes, is published and called), devices give up what they hold, state is saved. A second
//! signal ends it at once. A daemon that was started with a connection (`--fd`) ends when that ends.
//!
//! - `daemon.rs` opens everything in the right order and runs the loop,
//! - `port.rs` is one device with its connections, `connection.rs` one of these,
//! - `commands.rs` answers control clients.

mod backend_channel;
mod commands;
mod connection;
mod daemon;
pub(crate) mod host;
mod interest;
mod port;
mod workers;

#[cfg(test)]
pub(crate) mod echo;
#[cfg(test)]
mod tests;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, Event, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::io::Errno;
use serde_json::Value;

pub use daemon::{Daemon, run, run_all};

use crate::control;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::program::notify::Notifier;
use crate::program::signals::{Signal, Signals};
use crate::sandbox::Report;
use interest::{Interest, Poller, Source};
use port::Port;
use workers::FromWorker;

/// The loop and all that it serves.
struct Server<D: Device> {
    poller: Poller,
    ports: Vec<Port<D>>,
    answers: Receiver<FromWorker>,
    waker: Arc<OwnedFd>,
    control: Option<control::server::Server>,
    signals: Signals,
    notifier: Notifier,
    stopping: bool,
    about: About,
}

/// What `stats` and `config` tell beside what the ports know.
struct About {
    name: String,
    sandbox: Report,
    config: Value,
}

impl<D: Device> Server<D> {
    /// Serves until there is nothing left to serve, or a signal ends it.
    fn serve(&mut self) -> Result<()> {
        self.watch()?;
        let mut events: Vec<Event> = Vec::with_capacity(64);
        while !self.settle()? {
            let timeout = self.timeout();
            events.clear();
            match self.poller.wait(spare_capacity(&mut events), timeout.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => {
                    return Err(Error::EventLoop {
                        action: "wait for events",
                        source: errno.into(),
                    });
                }
            }
            for event in &events {
                self.dispatch(event)?;
            }
        }
        Ok(())
    }

    fn watch(&mut self) -> Result<()> {
        let input = EventFlags::IN;
        Interest::default().set(&self.poller, &self.signals, Source::Signals, input)?;
        Interest::default().set(&self.poller, &self.waker, Source::Answers, input)?;
        if let Some(control) = &self.control {
            Interest::default().set(&self.poller, control, Source::Control, input)?;
        }
        Ok(())
    }

    fn dispatch(&mut self, event: &Event) -> Result<()> {
        match Source::from_mark(event.data.u64()) {
            Some(Source::Signals) => self.signalled()?,
            Some(Source::Answers) => self.answered(),
            Some(Source::Control) => self.control_requests(),
            Some(Source::Listener(port)) => self.with_port(port, Port::accept),
            Some(Source::FrontEnd(port)) => {
                let flags = event.flags;
                self.with_port(port, |port| port.front_end_ready(flags));
            }
            Some(Source::Backend(port)) => self.with_port(port, Port::backend_ready),
            Some(Source::Transfer(port)) => self.with_port(port, Port::transfer_ready),
            None => {}
        }
        Ok(())
    }

    fn with_port(&mut self, port: u32, event: impl FnOnce(&mut Port<D>)) {
        if let Some(port) = usize::try_from(port).ok().and_then(|port| self.ports.get_mut(port)) {
            event(port);
        }
    }

    fn signalled(&mut self) -> Result<()> {
        while let Some(signal) = self.signals.next()? {
            match signal {
                Signal::HangUp | Signal::WindowChange => {
                    self.ports.iter_mut().for_each(|port| port.signalled(signal));
                }
                Signal::Terminate | Signal::Interrupt if self.stopping => {
                    return Err(Error::EndedAtOnce);
                }
                Signal::Terminate | Signal::Interrupt => {
                    tracing::info!("ending: requests in flight are finished first");
                    self.stopping = true;
                    self.notifier.stopping();
                    self.ports.iter_mut().for_each(Port::stop);
                }
            }
        }
        Ok(())
    }

    /// Takes what workers have said, and calls that are to be sent as messages.
    fn answered(&mut self) {
        let mut count = [0; 8];
        // It was readable, so there is a count; that it is set back is all that matters.
        let _ = rustix::io::read(&self.waker, &mut count);
        while let Ok(FromWorker { port, worker, answer }) = self.answers.try_recv() {
            self.with_port(port, |port| port.answered(worker, answer));
        }
    }

    /// Lets every port do what follows from what has happened. True: nothing is left to serve.
    fn settle(&mut self) -> Result<bool> {
        let now = Instant::now();
        let mut finished = true;
        for port in &mut self.ports {
            port.settle(&self.poller, now)?;
            finished &= port.is_finished();
        }
        Ok(finished)
    }

    /// How long to sleep at most.
    fn timeout(&self) -> Option<Timespec> {
        let now = Instant::now();
        let next = self.ports.iter().filter_map(Port::next_deadline).min()?;
        let wait = next.saturating_duration_since(now).max(Duration::from_millis(1));
        Timespec::try_from(wait).ok()
    }
}

/// An eventfd that wakes the loop.
fn new_waker() -> Result<Arc<OwnedFd>> {
    let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
    let failed =
        |errno: Errno| Error::EventLoop { action: "make an eventfd", source: errno.into() };
    eventfd(0, flags).map(Arc::new).map_err(failed)
}

impl Poller {
    fn new() -> Result<Self> {
        let failed =
            |errno: Errno| Error::EventLoop { action: "make an epoll", source: errno.into() };
        epoll::create(epoll::CreateFlags::CLOEXEC).map(Poller).map_err(failed)
    }
}
