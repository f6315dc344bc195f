//! SIGWINCH: our terminal has another size. If a console's daemon has it, the daemon is told.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use supervisor::Bell;

use super::desk::{Body, Desk};
use super::watch::{Next, Visitor};

/// The terminal's size, for the daemon that has the terminal.
#[derive(Debug)]
pub struct Window {
    signals: SignalFd,
    bell: Bell,
}

impl Window {
    /// Blocks the signal in this thread and in every thread it starts from now on: one that did not would take
    /// it from us, and do nothing.
    ///
    /// # Errors
    /// None is known.
    pub fn block() -> io::Result<()> {
        Ok(Self::set().thread_block()?)
    }

    fn set() -> SigSet {
        [Signal::SIGWINCH].into_iter().collect()
    }

    /// Passes changes on to the daemon at this bell.
    ///
    /// # Errors
    /// When the kernel has no signalfd for this process.
    pub fn new(bell: Bell) -> io::Result<Self> {
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        Ok(Self { signals: SignalFd::with_flags(&Self::set(), flags)?, bell })
    }
}

impl<B: Body> Visitor<B> for Window {
    fn fd(&self) -> BorrowedFd<'_> {
        self.signals.as_fd()
    }

    fn attend(&mut self, _desk: &mut Desk<B>) -> Next {
        while self.signals.read_signal().is_ok_and(|signal| signal.is_some()) {}
        self.bell.ring();
        Next::Stay
    }
}
