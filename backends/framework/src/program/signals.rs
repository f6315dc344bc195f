//! Signals as a descriptor for the event loop.
//!
//! The signals that end a daemon are blocked and read from a signalfd, so that they are handled between
//! two events instead of in the middle of one. `SIGPIPE` needs nothing: Rust's runtime ignores it, and
//! a peer that went away shows as `EPIPE`.
#![expect(unsafe_code, reason = "signal masks and signalfd are not wrapped by rustix")]

use std::{
    io,
    mem::{self, MaybeUninit},
    os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd},
    ptr,
};

use crate::error::{Error, Result};

/// A request from outside to end, or to look at something anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// `SIGTERM`: drain and exit.
    Terminate,
    /// `SIGINT`, as from Ctrl-C: the same.
    Interrupt,
    /// `SIGHUP`: the terminal went away, or somebody wants a reload.
    HangUp,
    /// `SIGWINCH`: the terminal has another size.
    WindowChange,
}

/// What a daemon takes from the signalfd.
const HANDLED: [(libc::c_int, Signal); 4] = [
    (libc::SIGTERM, Signal::Terminate),
    (libc::SIGINT, Signal::Interrupt),
    (libc::SIGHUP, Signal::HangUp),
    (libc::SIGWINCH, Signal::WindowChange),
];

/// The blocked signals, to be read when the descriptor is readable.
#[derive(Debug)]
pub struct Signals {
    fd: OwnedFd,
}

impl Signals {
    /// Blocks the signals in the calling thread, and in all that it starts from now on. So it is to be
    /// called before any thread is started; a thread that does not block them would be ended by them.
    ///
    /// # Errors
    /// [`Error::Signals`] with the step that failed.
    pub fn block() -> Result<Self> {
        let failed = |action| move |source| Error::Signals { action, source };
        let mask = handled_set();
        // SAFETY: the mask is an initialised set, and no old mask is asked for.
        let blocked =
            unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const mask, ptr::null_mut()) };
        if blocked != 0 {
            return Err(failed("block signals")(io::Error::from_raw_os_error(blocked)));
        }
        let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
        // SAFETY: the mask is an initialised set; -1 asks for a new descriptor.
        let fd = unsafe { libc::signalfd(-1, &raw const mask, flags) };
        if fd < 0 {
            return Err(failed("receive signals")(io::Error::last_os_error()));
        }
        // SAFETY: the descriptor was just opened and belongs to nobody else.
        Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    /// The next signal that came, without waiting.
    ///
    /// # Errors
    /// [`Error::Signals`] if reading fails, which nothing but a bug explains.
    pub fn next(&self) -> Result<Option<Signal>> {
        const NUMBER: usize = mem::offset_of!(libc::signalfd_siginfo, ssi_signo);
        let mut record = [0; size_of::<libc::signalfd_siginfo>()];
        match rustix::io::read(&self.fd, &mut record) {
            Ok(_) => {}
            Err(rustix::io::Errno::AGAIN) => return Ok(None),
            Err(errno) => {
                return Err(Error::Signals { action: "read a signal", source: errno.into() });
            }
        }
        let number = record
            .get(NUMBER..)
            .and_then(|bytes| bytes.first_chunk())
            .map(|bytes| i32::from_ne_bytes(*bytes));
        Ok(HANDLED.iter().find(|(handled, _)| Some(*handled) == number).map(|(_, signal)| *signal))
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn handled_set() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the whole set that the pointer leads to.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    for (number, _) in HANDLED {
        // SAFETY: the set is initialised, and the number is a signal's.
        unsafe { libc::sigaddset(set.as_mut_ptr(), number) };
    }
    // SAFETY: initialised above.
    unsafe { set.assume_init() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// To the calling thread only: the other tests' threads do not block the signal.
    fn raise(number: libc::c_int) {
        // SAFETY: the signal is blocked in this thread.
        assert_eq!(unsafe { libc::raise(number) }, 0);
    }

    #[test]
    fn blocked_signals_are_read_one_by_one() {
        let signals = Signals::block().unwrap();
        assert_eq!(signals.next().unwrap(), None);
        raise(libc::SIGTERM);
        assert_eq!(signals.next().unwrap(), Some(Signal::Terminate));
        raise(libc::SIGHUP);
        raise(libc::SIGINT);
        let mut both = [signals.next().unwrap().unwrap(), signals.next().unwrap().unwrap()];
        both.sort_by_key(|signal| *signal as u8);
        assert_eq!(both, [Signal::Interrupt, Signal::HangUp]);
        assert_eq!(signals.next().unwrap(), None);
    }

    #[test]
    fn a_peer_that_went_away_is_an_error_and_no_signal() {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        drop(theirs);
        assert_eq!(rustix::io::write(&ours, b"x"), Err(rustix::io::Errno::PIPE));
    }
}
