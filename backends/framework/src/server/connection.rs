//! One front-end's connection: its messages, and what is sent to it.

use std::os::fd::OwnedFd;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use virtio_spec::vhost_user::TransferDirection;
use wire::{Channel, Frame, Reply, Request};

use super::backend_channel::BackendChannel;
use super::host::Host;
use super::interest::{Interest, Poller, Source};
use super::port::save;
use super::workers::Threads;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::session::{Action, Session};
use crate::worker::Answer;

/// Messages that are handled before anything else gets its turn.
const BURST: usize = 64;

/// A connection.
pub(super) struct Connection {
    channel: Channel,
    pub(super) session: Session,
    pub(super) workers: Threads,
    host: Host,
    backend: Option<BackendChannel>,
    front_end: Interest,
    /// The transfer of a state that the loop looks at.
    armed: Option<u64>,
    port: u32,
}

impl Connection {
    pub(super) fn new(
        socket: OwnedFd,
        session: Session,
        workers: Threads,
        host: Host,
        port: u32,
    ) -> Self {
        Connection {
            channel: Channel::new(socket),
            session,
            workers,
            host,
            backend: None,
            front_end: Interest::default(),
            armed: None,
            port,
        }
    }

    /// Sends what was left, and handles messages that have come.
    ///
    /// # Errors
    /// When the connection cannot go on, or is at its end.
    pub(super) fn ready<D: Device>(&mut self, device: &mut D, flags: EventFlags) -> Result<()> {
        // While workers are waited for nothing is read, and an end would not show otherwise.
        let gone = flags.intersects(EventFlags::HUP | EventFlags::ERR);
        if gone && self.session.is_waiting() {
            return Err(wire::Error::Closed.into());
        }
        self.channel.flush()?;
        for _ in 0..BURST {
            if self.session.is_closing() {
                break;
            }
            // What cannot be sent is not asked for: a front-end that does not read waits for itself.
            if self.session.is_waiting() || self.channel.wants_write() {
                break;
            }
            let Some(frame) = self.channel.receive()? else { break };
            self.message(device, frame)?;
        }
        Ok(())
    }

    fn message<D: Device>(&mut self, device: &mut D, frame: Frame) -> Result<()> {
        let (code, need_reply) = (frame.code, frame.need_reply);
        if frame.reply {
            return Err(Error::UnaskedReply { code });
        }
        let action = match Request::decode(frame) {
            Ok(request) => {
                tracing::debug!(request = request.name(), need_reply, "message");
                self.session.handle(device, request, need_reply, &mut self.workers)?
            }
            Err(error) if need_reply && self.session.acknowledges() && !error.is_fatal() => {
                tracing::debug!(%error, "a message of the front-end is refused");
                Action::Reply { code, reply: Reply::ack(false) }
            }
            Err(error) => return Err(error.into()),
        };
        self.act(device, action)
    }

    /// Hands an answer of a worker to the session.
    ///
    /// # Errors
    /// When the connection cannot go on.
    pub(super) fn answered<D: Device>(
        &mut self,
        device: &mut D,
        worker: u16,
        answer: Answer,
    ) -> Result<()> {
        if matches!(answer, Answer::Ended) {
            self.workers.ended(worker);
        }
        let action = self.session.answered(device, worker, answer)?;
        self.act(device, action)
    }

    /// Goes on with the transfer of the device's state.
    ///
    /// # Errors
    /// When the connection cannot go on.
    pub(super) fn continue_transfer<D: Device>(&mut self, device: &mut D) -> Result<()> {
        self.armed = None;
        let action = self.session.continue_transfer(device)?;
        self.act(device, action)
    }

    /// Tries to start rings that wait.
    ///
    /// # Errors
    /// When the connection cannot go on.
    pub(super) fn retry<D: Device>(&mut self, device: &mut D) -> Result<()> {
        self.session.retry(device, &mut self.workers)
    }

    fn act<D: Device>(&mut self, device: &D, action: Action) -> Result<()> {
        // Whoever is told that something was set may count on it.
        if self.session.take_state_changed() {
            save(&self.host, device);
        }
        // Calls as messages go first: what the reply is about has happened after them.
        self.send_backend_requests();
        if let Action::Reply { code, reply } = action {
            self.channel.queue(reply.encode(code))?;
            self.channel.flush()?;
        }
        Ok(())
    }

    /// Wakes the data side: its control side has left something for it.
    pub(super) fn nudge<D: Device>(&mut self) {
        self.session.nudge::<D::Service, _>(&mut self.workers);
    }

    /// Ends the session; the socket stays until [`Connection::leave`].
    pub(super) fn close<D: Device>(&mut self, device: &mut D) {
        self.session.close(device, &mut self.workers);
    }

    /// The front-end has answered on the back-end's channel, or the channel takes more.
    pub(super) fn backend_ready(&mut self) {
        if let Some(backend) = &mut self.backend {
            backend.go_on();
        }
    }

    fn send_backend_requests(&mut self) {
        let reply_ack = self.session.acknowledges();
        let Some(backend) = &mut self.backend else { return };
        while backend.has_room() {
            let Some(request) = self.session.next_backend_request() else { return };
            backend.send(request, reply_ack);
        }
    }

    /// Does what follows from the events since the last time, and notes what is waited for now.
    ///
    /// # Errors
    /// When the connection cannot go on.
    pub(super) fn settle<D: Device>(&mut self, device: &mut D, poller: &Poller) -> Result<()> {
        self.settle_backend(poller)?;
        self.settle_transfer(device, poller)?;
        self.channel.flush()?;
        let mut wanted = EventFlags::empty();
        wanted.set(EventFlags::OUT, self.channel.wants_write());
        wanted.set(EventFlags::IN, wanted.is_empty() && !self.session.is_waiting());
        // That the front-end is gone is told in any case, but only about what is watched.
        wanted.set(EventFlags::ERR, wanted.is_empty());
        self.front_end.set(poller, &self.channel, Source::FrontEnd(self.port), wanted)
    }

    fn settle_backend(&mut self, poller: &Poller) -> Result<()> {
        let new = self.session.take_backend_channel();
        let over = self.backend.as_ref().is_some_and(BackendChannel::is_over);
        if let Some(old) = self.backend.take_if(|_| over || new.is_some()) {
            old.leave(poller, self.port);
        }
        if let Some(fd) = new {
            self.backend = Some(BackendChannel::new(fd));
        }
        self.send_backend_requests();
        self.backend.as_mut().map_or(Ok(()), |backend| backend.watch(poller, self.port))
    }

    /// Has the loop look at the descriptor of a transfer: for one event at a time, since a session
    /// closes it when it likes, and another process may keep the same file open.
    fn settle_transfer<D: Device>(&mut self, device: &mut D, poller: &Poller) -> Result<()> {
        let Some(transfer) = self.session.transfer() else {
            self.armed = None;
            return Ok(());
        };
        if self.armed == Some(transfer.id) {
            return Ok(());
        }
        self.armed = Some(transfer.id);
        let ready = match transfer.direction {
            TransferDirection::Save => EventFlags::OUT,
            TransferDirection::Load => EventFlags::IN,
        };
        match poller.watch_once(transfer.fd, Source::Transfer(self.port), ready) {
            Ok(()) => Ok(()),
            // A regular file, which is always ready.
            Err(Errno::PERM) => self.continue_transfer(device),
            Err(errno) => {
                Err(Error::EventLoop { action: "watch a state's transfer", source: errno.into() })
            }
        }
    }

    /// Takes the connection's descriptors out of the event loop: nobody is listened to any more.
    pub(super) fn deafen(&mut self, poller: &Poller) {
        if let Some(backend) = self.backend.take() {
            backend.leave(poller, self.port);
        }
        self.front_end.clear(poller, &self.channel, Source::FrontEnd(self.port));
    }
}
