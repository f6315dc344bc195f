//! The terminal that this program was started at, and the signals that are about it.

use std::io::{self, stdin, stdout};
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};

use super::guard::Guard;

/// The size of the screen, columns and rows, if it has any.
pub(super) fn size() -> Option<(u16, u16)> {
    let size = tcgetwinsize(stdout()).ok()?;
    (size.ws_col > 0 && size.ws_row > 0).then_some((size.ws_col, size.ws_row))
}

/// A raw terminal, until this is dropped; it is then as it was.
#[derive(Debug)]
pub(super) struct Raw {
    before: Termios,
    guard: Option<Guard>,
}

impl Raw {
    /// Makes standard input raw, if it is a terminal.
    pub(super) fn enter() -> io::Result<Option<Self>> {
        if !isatty(stdin()) {
            return Ok(None);
        }
        let raw = Self { before: tcgetattr(stdin())?, guard: Some(Guard::post()?) };
        raw.again()?;
        Ok(Some(raw))
    }

    /// Makes it raw once more: somebody else had it meanwhile.
    pub(super) fn again(&self) -> io::Result<()> {
        let mut raw = self.before.clone();
        raw.make_raw();
        Ok(tcsetattr(stdin(), OptionalActions::Now, &raw)?)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // There is nothing to be done if the terminal is gone.
        let _ = tcsetattr(stdin(), OptionalActions::Now, &self.before);
        if let Some(guard) = self.guard.take() {
            guard.dismiss();
        }
    }
}

/// What a signal says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    /// The screen may have another size.
    Resized,
    /// This program was stopped, and goes on.
    Continued,
    /// It is to end.
    End,
}

/// Signals, as something to read.
#[derive(Debug)]
pub(super) struct Signs(SignalFd);

impl Signs {
    /// Blocks them, so that none ends this program before the terminal is put back.
    pub(super) fn block() -> io::Result<Self> {
        let ends = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT];
        let about = [Signal::SIGWINCH, Signal::SIGCONT];
        let set: SigSet = ends.into_iter().chain(about).collect();
        set.thread_block()?;
        Ok(Self(SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?))
    }

    /// The next one, if one has come.
    pub(super) fn take(&self) -> Option<Sign> {
        let signal = self.0.read_signal().ok().flatten()?.ssi_signo;
        Some(match i32::try_from(signal) {
            Ok(libc::SIGWINCH) => Sign::Resized,
            Ok(libc::SIGCONT) => Sign::Continued,
            _ => Sign::End,
        })
    }
}

impl AsFd for Signs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
