//! The host's end of the serial port, served by the main loop.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::error::Error;
use super::escape::Escapes;
use super::link::Link;
use super::output::Output;
use super::uart::Serial;
use super::watch::Watch;
use crate::control::rest::Rest;
use crate::devices::{Event, Report};

/// How much is written at once, in bytes.
const PIECE: usize = 4096;
/// How much is kept of what a person types while the guest does not listen.
const TYPED_AHEAD: usize = 64 << 10;
/// How much is kept of what somebody sent who has gone before the guest read it; a socket holds no
/// more.
const LEGACY: usize = 1 << 20;

/// The host's end of the serial port. Wait for its descriptor to become readable, then
/// [serve](Port::serve) it.
///
/// Dropping it restores the terminal.
pub struct Port {
    epoll: OwnedFd,
    link: Link,
    output: Arc<Output>,
    serial: Arc<Serial>,
    report: Report,
    escapes: Escapes,
    /// Read, and not yet taken by the guest.
    pending: VecDeque<u8>,
    watched: Watched,
    /// Of the listener.
    rest: Rest,
}

/// What the epoll descriptor waits for, apart from the eventfd.
#[derive(Default)]
struct Watched {
    input: Watch,
    output: Watch,
    listener: Watch,
}

impl Port {
    pub(super) fn new(
        link: Link,
        output: Arc<Output>,
        serial: Arc<Serial>,
        report: Report,
    ) -> Result<Self, Error> {
        let system = Error::system("make an epoll descriptor");
        let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(&system)?;
        epoll::add(&epoll, &*output, EventData::new_u64(0), EventFlags::IN).map_err(&system)?;
        let rest = Rest::new().map_err(&system)?;
        epoll::add(&epoll, &rest, EventData::new_u64(0), EventFlags::IN).map_err(&system)?;
        let (escapes, pending) = (Escapes::default(), VecDeque::new());
        let watched = Watched::default();
        let mut port =
            Self { epoll, link, output, serial, report, escapes, pending, watched, rest };
        port.serve();
        Ok(port)
    }

    /// Where the other end is, if somebody has to be told: a pseudoterminal, or a socket.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.link.path.as_deref()
    }

    /// Whether a person sits there, with the escape Ctrl-A x.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        self.link.cleanup.raw.is_some()
    }

    /// Moves what can be moved in both directions. It never waits.
    pub fn serve(&mut self) {
        self.output.woken();
        self.notice_departure();
        self.rest.look();
        if self.is_vacant() {
            let accepted = self.link.accept();
            self.rest_after(accepted);
        }
        let blocked = self.transmit();
        let hungry = self.receive();
        self.watch(blocked, hungry);
    }

    /// Whether somebody may connect now.
    fn is_vacant(&self) -> bool {
        self.link.input.is_none() && self.link.output.is_none() && !self.rest.is_on()
    }

    /// Leaves the listener alone for a while if somebody has come and there is no descriptor left.
    pub(super) fn rest_after(&mut self, accepted: rustix::io::Result<()>) {
        if let Err(failure) = accepted {
            self.rest.after(failure);
        }
    }

    /// Delivers the guest's last words, for no longer than `at_most`.
    pub fn flush(&mut self, at_most: Duration) {
        let end = Instant::now() + at_most;
        while self.transmit() {
            let left = end.saturating_duration_since(Instant::now());
            let (Some(output), false) = (&self.link.output, left.is_zero()) else { return };
            let mut fds = [PollFd::new(output, PollFlags::OUT)];
            let _ = poll(&mut fds, Timespec::try_from(left).ok().as_ref());
        }
    }

    /// Writes output until there is no more, or no room for it: true in that case.
    fn transmit(&mut self) -> bool {
        while let Some(end) = &self.link.output {
            let (place, bytes) = self.output.peek(PIECE);
            if bytes.is_empty() {
                return false;
            }
            match end.write(&bytes) {
                Ok(written) => self.output.take(place.wrapping_add(written as u64)),
                Err(Errno::AGAIN) => return true,
                Err(Errno::INTR) => {}
                Err(_) => self.drop_output(),
            }
        }
        match &self.link.listener {
            // It keeps the last of what was written for who comes next.
            Some(_) => self.output.give_up(),
            None => self.output.close(),
        }
        false
    }

    /// Reads input while there is some and the guest takes it; true if more is welcome.
    fn receive(&mut self) -> bool {
        loop {
            let room = self.serial.room();
            let welcome = self.welcome(room);
            let more = welcome > 0 && self.read(welcome.min(PIECE));
            let taken = if room > 0 { self.hand_over() } else { 0 };
            if !more && taken == 0 {
                return welcome > 0;
            }
        }
    }

    /// How much is to be read when the guest has this room. What a person types is read ahead, for
    /// the escape that may be in it.
    fn welcome(&self, room: usize) -> usize {
        if self.is_terminal() {
            TYPED_AHEAD.saturating_sub(self.pending.len())
        } else if self.pending.is_empty() {
            room
        } else {
            0
        }
    }

    /// Hands input to the guest, and says how much of it was taken.
    fn hand_over(&mut self) -> usize {
        let taken = self.serial.receive(self.pending.make_contiguous());
        self.pending.drain(..taken);
        taken
    }

    /// Reads at most so many bytes; false if there are none now.
    fn read(&mut self, at_most: usize) -> bool {
        let Some(end) = &self.link.input else { return false };
        let mut bytes = vec![0; at_most];
        match end.read(&mut bytes) {
            Ok(count) if count > 0 => self.typed(bytes.get(..count).unwrap_or(&[])),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return false,
            Ok(_) | Err(_) => {
                self.drop_input();
                return false;
            }
        }
        true
    }

    fn typed(&mut self, typed: &[u8]) {
        if !self.is_terminal() {
            self.pending.extend(typed);
            return;
        }
        let (input, quit) = self.escapes.filter(typed);
        self.pending.extend(input);
        if quit {
            (self.report)(Event::Quit);
        }
    }

    /// Frees a socket whose other end is gone for the next one. What was sent before is still the
    /// guest's.
    fn notice_departure(&mut self) {
        let (Some(_), Some(end)) = (&self.link.listener, &self.link.output) else { return };
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut fds = [PollFd::new(end, PollFlags::empty())];
        if matches!(poll(&mut fds, Some(&now)), Ok(1..)) {
            self.drop_output();
            while self.pending.len() < LEGACY && self.read(PIECE) {}
            self.drop_input();
        }
    }

    fn drop_input(&mut self) {
        if let Some(end) = self.link.input.take() {
            self.watched.input.set(&self.epoll, end, None);
        }
    }

    fn drop_output(&mut self) {
        if let Some(end) = self.link.output.take() {
            self.watched.output.set(&self.epoll, end, None);
        }
    }

    fn watch(&mut self, blocked: bool, hungry: bool) {
        let vacant = self.is_vacant();
        let Self { epoll, link, watched, .. } = self;
        if let Some(input) = &link.input {
            watched.input.set(epoll, input, hungry.then_some(EventFlags::IN));
        }
        if let Some(output) = &link.output {
            // Of a socket, to notice that the other end is gone.
            let gone = link.listener.is_some().then_some(EventFlags::empty());
            let events = if blocked { Some(EventFlags::OUT) } else { gone };
            watched.output.set(epoll, output, events);
        }
        if let Some(listener) = &link.listener {
            watched.listener.set(epoll, listener, vacant.then_some(EventFlags::IN));
        }
    }
}

impl AsFd for Port {
    /// Readable when there is something to serve.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}
