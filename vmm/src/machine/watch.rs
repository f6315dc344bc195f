//! The main thread: it sleeps until a signal, a vCPU, a device or a visitor has something for it.
//!
//! There is no timer while nothing is due: an idle guest's VMM does not wake.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use super::desk::{Body, Desk};
use super::error::{Error, Result};
use super::lifecycle::{Event, State};
use super::mailbox::Mailbox;
use super::outcome::Outcome;
use super::signals::Signals;

/// Whether a visitor comes again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It is attended to whenever it is readable.
    Stay,
    /// It is at its end: nobody waits for it any more.
    Leave,
}

/// Something the main thread waits for besides signals and the mailbox: the control socket, serial input.
pub trait Visitor<B> {
    /// What becomes readable when there is something to do.
    fn fd(&self) -> BorrowedFd<'_>;
    /// Does it, without blocking.
    fn attend(&mut self, desk: &mut Desk<B>) -> Next;
    /// Something may have changed: does what had to wait for it, without blocking.
    fn follow_up(&mut self, _desk: &mut Desk<B>) {}
    /// The machine is no more: does what is left to do.
    fn farewell(&mut self) {}
}

/// What the main thread waits for.
pub struct Watch<B> {
    epoll: OwnedFd,
    signals: Signals,
    mailbox: Mailbox,
    visitors: Vec<Box<dyn Visitor<B>>>,
}

/// What is being done when something fails here.
const WAITING: &str = "waiting for events";

const SIGNALS: u64 = 0;
const MAILBOX: u64 = 1;
/// The first visitor's token.
const VISITORS: u64 = 2;

impl<B: Body> Watch<B> {
    /// Waits for these; visitors can be added.
    ///
    /// # Errors
    /// When the kernel has no epoll for this process.
    pub fn new(signals: Signals, mailbox: Mailbox) -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(Error::system(WAITING))?;
        let watch = Self { epoll, signals, mailbox, visitors: Vec::new() };
        watch.add(&watch.signals, SIGNALS).map_err(Error::system(WAITING))?;
        watch.add(&watch.mailbox, MAILBOX).map_err(Error::system(WAITING))?;
        Ok(watch)
    }

    /// Also waits for this one.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn admit(&mut self, visitor: Box<dyn Visitor<B>>) -> Result<()> {
        let token = VISITORS + self.visitors.len() as u64;
        match self.add(visitor.fd(), token) {
            // A regular file is always readable, and epoll does not take it; it has no events of its own.
            Err(Errno::PERM) => return Ok(()),
            added => added.map_err(Error::system(WAITING))?,
        }
        self.visitors.push(visitor);
        Ok(())
    }

    /// Watches over a machine until its life is over.
    ///
    /// # Errors
    /// When waiting fails, which it does not do.
    pub fn run(&mut self, desk: &mut Desk<B>) -> Result<Outcome> {
        let mut ready: Vec<epoll::Event> = Vec::with_capacity(16);
        loop {
            if let State::Ended(outcome) = desk.state() {
                return Ok(outcome.clone());
            }
            ready.clear();
            let timeout = desk.leisure().map(round_up);
            match epoll::wait(&self.epoll, spare_capacity(&mut ready), timeout.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(Error::system(WAITING)(error)),
            }
            for event in &ready {
                self.attend(event.data.u64(), desk);
            }
            // If this was a reset, the vCPUs are parked by now: what they posted before belongs to it.
            self.attend(MAILBOX, desk);
            desk.tick();
            self.visitors.iter_mut().for_each(|visitor| visitor.follow_up(desk));
        }
    }

    /// Lets all visitors go.
    pub fn close(mut self) {
        self.visitors.iter_mut().for_each(|visitor| visitor.farewell());
    }

    fn attend(&mut self, token: u64, desk: &mut Desk<B>) {
        match token {
            SIGNALS => {
                while self.signals.take().is_some() {
                    tell(desk, Event::Signal);
                }
            }
            MAILBOX => self.mailbox.take().into_iter().for_each(|event| tell(desk, event)),
            _ => self.attend_visitor(token, desk),
        }
    }

    fn attend_visitor(&mut self, token: u64, desk: &mut Desk<B>) {
        let index = usize::try_from(token - VISITORS).unwrap_or(usize::MAX);
        let Some(visitor) = self.visitors.get_mut(index) else { return };
        if visitor.attend(desk) == Next::Leave {
            // It fails only for what is not waited for any more.
            let _ = epoll::delete(&self.epoll, visitor.fd());
        }
    }

    fn add(&self, fd: impl AsFd, token: u64) -> Result<(), Errno> {
        let data = epoll::EventData::new_u64(token);
        epoll::add(&self.epoll, fd, data, epoll::EventFlags::IN)
    }
}

/// An event that nobody waits for an answer to: it is refused only if it came too late to matter.
fn tell<B: Body>(desk: &mut Desk<B>, event: Event) {
    if let Err(refusal) = desk.happen(event) {
        tracing::debug!(%refusal, "event");
    }
}

/// To whole milliseconds, which is what old kernels' epoll has; less would wake too early, and often.
fn round_up(leisure: Duration) -> Timespec {
    let millis = leisure.as_millis().saturating_add(1);
    let seconds = i64::try_from(millis / 1000).unwrap_or(i64::MAX);
    let nanos = i64::try_from(millis % 1000).unwrap_or(0) * 1_000_000;
    Timespec { tv_sec: seconds, tv_nsec: nanos }
}

#[cfg(test)]
#[path = "watch_test.rs"]
mod tests;
