//! The front-end's side: a request, its answer, and a limit on every wait.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::{Channel, Error, Frame, Reply, Request, Result};

/// A front-end's end of a vhost-user connection.
///
/// Requests and answers alternate. When an answer does not come in time, or is not the one that
/// was waited for, the connection is of no more use and every further call fails.
#[derive(Debug)]
pub struct Client {
    channel: Channel,
    reply_ack: bool,
    out_of_step: bool,
}

impl Client {
    /// A client on a connected Unix stream socket.
    #[must_use]
    pub fn new(socket: OwnedFd) -> Self {
        Self { channel: Channel::new(socket), reply_ack: false, out_of_step: false }
    }

    /// Says that REPLY_ACK was negotiated: from now on [`call`](Self::call) asks for an
    /// acknowledgement of requests without a reply of their own.
    pub fn use_reply_ack(&mut self) {
        self.reply_ack = true;
    }

    /// Sends a request and waits for its answer. Without REPLY_ACK a request that has no reply of
    /// its own counts as acknowledged when it was sent.
    ///
    /// # Errors
    /// [`Error::Timeout`] at the deadline, [`Error::Refused`] for an acknowledgement that says
    /// failure, and what [`Channel`] and [`Reply::decode`] report.
    pub fn call(&mut self, request: Request, deadline: Instant) -> Result<Reply> {
        let (code, message) = (request.code(), request.name());
        let acknowledged = self.reply_ack && !request.has_reply();
        let answered = request.has_reply() || acknowledged;
        self.in_step(|client| {
            client.transmit(request.encode().needing_reply(acknowledged), &message, deadline)?;
            if !answered {
                return Ok(Reply::Ack(0));
            }
            let frame = client.receive(&message, deadline)?;
            match Reply::decode(code, frame)? {
                Reply::Ack(0) => Ok(Reply::Ack(0)),
                Reply::Ack(value) => Err(Error::Refused { message, value }),
                reply => Ok(reply),
            }
        })
    }

    /// Sends a request that has no reply, without asking for an acknowledgement.
    ///
    /// # Errors
    /// [`Error::Timeout`] when the peer does not take it by the deadline, and what [`Channel`]
    /// reports.
    pub fn send(&mut self, request: Request, deadline: Instant) -> Result<()> {
        let message = request.name();
        self.in_step(|client| client.transmit(request.encode(), &message, deadline))
    }

    /// Sends a message as it is, which need not be a valid one: for tests of back-ends.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn send_frame(&mut self, frame: Frame, deadline: Instant) -> Result<()> {
        self.in_step(|client| client.transmit(frame, "the message", deadline))
    }

    /// Waits for the next message, whatever it is.
    ///
    /// # Errors
    /// [`Error::Timeout`] at the deadline, and what [`Channel`] reports.
    pub fn receive_frame(&mut self, deadline: Instant) -> Result<Frame> {
        self.in_step(|client| client.receive("send a message", deadline))
    }

    /// Runs one exchange unless an earlier one left the stream where no one knows.
    fn in_step<T>(&mut self, exchange: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.out_of_step {
            return Err(Error::OutOfStep);
        }
        let outcome = exchange(self);
        if let Err(error) = &outcome {
            self.out_of_step = error.is_fatal();
        }
        outcome
    }

    fn transmit(&mut self, frame: Frame, message: &str, deadline: Instant) -> Result<()> {
        self.channel.queue(frame)?;
        while !self.channel.flush()? {
            self.wait(PollFlags::OUT, deadline, || format!("read {message}"))?;
        }
        Ok(())
    }

    fn receive(&mut self, message: &str, deadline: Instant) -> Result<Frame> {
        loop {
            if let Some(frame) = self.channel.receive()? {
                return Ok(frame);
            }
            self.wait(PollFlags::IN, deadline, || format!("answer {message}"))?;
        }
    }

    fn wait(&self, flags: PollFlags, deadline: Instant, what: impl Fn() -> String) -> Result<()> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Error::Timeout(what()));
        }
        let mut fds = [PollFd::new(&self.channel, flags)];
        match poll(&mut fds, Some(&timespec(left))) {
            Ok(0) => Err(Error::Timeout(what())),
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(Error::Wait(error.into())),
        }
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec::try_from(duration).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 })
}

#[cfg(test)]
#[path = "client_test.rs"]
mod tests;
