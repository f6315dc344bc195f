//! SIGTERM and SIGINT as something to read.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// The signals that press the power button. Clones take from the same ones.
#[derive(Clone, Debug)]
pub struct Signals(Arc<SignalFd>);

impl Signals {
    /// Blocks them in this thread and, as they inherit the mask, in every thread it starts from now on.
    ///
    /// # Errors
    /// When the kernel has no signalfd for this process.
    pub fn new() -> io::Result<Self> {
        let set: SigSet = [Signal::SIGTERM, Signal::SIGINT].into_iter().collect();
        set.thread_block()?;
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        Ok(Self(Arc::new(SignalFd::with_flags(&set, flags)?)))
    }

    /// The next one that has come, if any.
    #[must_use]
    pub fn take(&self) -> Option<u32> {
        self.0.read_signal().ok().flatten().map(|info| info.ssi_signo)
    }
}

/// Readable when there is something to take.
impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::raise;

    use super::*;

    #[test]
    fn a_signal_is_read_instead_of_killing() {
        let signals = Signals::new().unwrap();
        assert_eq!(signals.take(), None);
        raise(Signal::SIGTERM).unwrap();
        assert_eq!(signals.take(), u32::try_from(Signal::SIGTERM as i32).ok());
        assert_eq!(signals.take(), None);
    }
}
